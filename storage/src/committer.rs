//! The one thread that writes to a log, and the handles through which others give it entries, and
//! batches of other replicas.
//!
//! Adaptive group commit: when it is idle an append is committed at once; while a commit is on its
//! way to the disk, what arrives is collected and makes the next one. Never waits in the hope of
//! more.
//!
//! The queues have no bound of their own, since an appender must not block an async task. Their callers
//! hold them in bounds: each editor has a permit for the bytes it has not been answered for, each peer
//! credit. What peers send queues apart, so that however much of it there is, an editor's append is in
//! the next commit.
//!
//! Invariant: every append is answered exactly once, in the order of the queue, with the log's
//! receipt or the reason why there is none; then the observer is told what else the commit applied.

use crate::error::AppendError;
use crate::log::{Applied, Committed, Imported, Log, NewEntry, Receipt, Renewal};
use crate::sequencer::check_group;
use quire_protocol::batch::EncodedBatch;
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{Dot, Incarnation};
use quire_protocol::snapshot::SnapshotHead;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What one commit may hold. What is beyond waits for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitterLimits {
    /// Appended groups.
    pub groups_max: usize,
    /// Bytes of payload; a commit holds at least one group, however large.
    pub bytes_max: usize,
    /// Bytes of other replicas' batches; a commit holds at least one delivery, however large.
    pub received_bytes_max: usize,
}

impl Default for CommitterLimits {
    /// Large enough that 2,000 waiting writers make one commit, small enough that a commit's own
    /// writing does not hold the next one up for longer than an fsync does. Less of what peers send: a
    /// long catch-up is written beside the typing here.
    fn default() -> Self {
        Self { groups_max: 16_384, bytes_max: 4 * 1024 * 1024, received_bytes_max: 256 * 1024 }
    }
}

/// One commit, as it is told to observers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// From handing the entries to the log until they were durable.
    pub duration: Duration,
    /// How many appends it answered.
    pub groups: usize,
    /// How many entries of this replica's own it held.
    pub entries: usize,
    /// How many bytes of payload they had.
    pub bytes: usize,
    /// How many bytes of other replicas' batches it was given.
    pub received_bytes: usize,
}

/// Is told of commits, on the committer's thread: quick work only.
pub trait CommitObserver: Send + 'static {
    /// A commit is durable; its callers are answered next.
    fn committed(&mut self, commit: Commit);

    /// A commit has applied these batches of other replicas, in this order; called after those who
    /// appended to it were answered, and before those whose batches it received.
    fn applied(&mut self, batches: Vec<Applied>);

    /// A snapshot has become part of the documents; whoever asked for it is answered next.
    fn imported(&mut self, imported: Imported);

    /// All that a commit has to tell has been told, but to those whose batches it received.
    fn told(&mut self);

    /// A commit failed; its callers are told next.
    fn failed(&mut self, error: &AppendError);
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl CommitObserver for Unobserved {
    fn committed(&mut self, _: Commit) {}
    fn applied(&mut self, _: Vec<Applied>) {}
    fn imported(&mut self, _: Imported) {}
    fn told(&mut self) {}
    fn failed(&mut self, _: &AppendError) {}
}

type Done<T> = Box<dyn FnOnce(Result<T, AppendError>) + Send>;

struct Waiting {
    entries: Vec<NewEntry>,
    done: Done<Receipt>,
}

/// Batches that one peer has sent.
struct Delivery {
    batches: Vec<Arc<EncodedBatch>>,
    done: Done<Vec<Arrival>>,
}

/// A stream that is to be ended, and the greatest incarnation that is known of its replica.
struct Parting {
    last: Dot,
    known: Incarnation,
    done: Done<Renewal>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    deliveries: VecDeque<Delivery>,
    partings: Vec<Parting>,
    imports: Vec<(SnapshotHead, Done<()>)>,
    /// The committer sleeps: whoever puts something in wakes it. Spares a wake per append under load.
    asleep: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change under the lock is one step; a panic elsewhere leaves a whole queue behind.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the committer if it sleeps, now that there is something in the queue.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::take(&mut queue.asleep) {
            drop(queue);
            self.wake.notify_one();
        }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.deliveries.is_empty()
            && self.partings.is_empty()
            && self.imports.is_empty()
    }
}

/// The thread that writes to a log.
pub struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A handle for giving entries to the committer.
#[derive(Clone)]
pub struct Appender {
    shared: Arc<Shared>,
}

impl Appender {
    /// Queues entries that belong together, and calls `done` once they are durable or refused: on
    /// the committer's thread, so it must be quick, or at once when the entries break a rule or the
    /// committer has stopped. Never blocks on the disk.
    pub fn append(
        &self,
        entries: Vec<NewEntry>,
        done: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static,
    ) {
        // Checked here so that a bad group is refused alone and does not fail its whole commit.
        if let Err(error) = check_group(&entries) {
            return done(Err(error));
        }
        let mut queue = self.shared.queue();
        if queue.closed {
            drop(queue);
            return done(Err(AppendError::Closed));
        }
        queue.waiting.push_back(Waiting { entries, done: Box::new(done) });
        self.shared.wake(queue);
    }

    /// Queues batches of other replicas, and calls `done` with what each was once they are durable or
    /// refused, as [`Appender::append`] does.
    pub fn receive(
        &self,
        batches: Vec<Arc<EncodedBatch>>,
        done: impl FnOnce(Result<Vec<Arrival>, AppendError>) + Send + 'static,
    ) {
        let mut queue = self.shared.queue();
        if queue.closed {
            drop(queue);
            return done(Err(AppendError::Closed));
        }
        queue.deliveries.push_back(Delivery { batches, done: Box::new(done) });
        self.shared.wake(queue);
    }

    /// Has the log's stream ended after an entry and the next one begun, before the next commit, and calls
    /// `done` with what became of it. Does nothing where the stream is no longer the log's: several peers may
    /// find at once that it is to be renewed.
    pub fn part_stream(
        &self,
        last: Dot,
        known: Incarnation,
        done: impl FnOnce(Result<Renewal, AppendError>) + Send + 'static,
    ) {
        let mut queue = self.shared.queue();
        if queue.closed {
            drop(queue);
            return done(Err(AppendError::Closed));
        }
        queue.partings.push(Parting { last, known, done: Box::new(done) });
        self.shared.wake(queue);
    }

    /// Has a snapshot whose entries are staged made part of the documents before the next commit, and calls
    /// `done` when it is, or was refused. Commits wait meanwhile.
    pub fn import(
        &self,
        snapshot: SnapshotHead,
        done: impl FnOnce(Result<(), AppendError>) + Send + 'static,
    ) {
        let mut queue = self.shared.queue();
        if queue.closed {
            drop(queue);
            return done(Err(AppendError::Closed));
        }
        queue.imports.push((snapshot, Box::new(done)));
        self.shared.wake(queue);
    }
}

impl Committer {
    /// Starts the thread. `clock` gives the wall clock's milliseconds since 1970.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        log: Arc<dyn Log>,
        clock: impl Fn() -> u64 + Send + 'static,
        limits: CommitterLimits,
        observer: impl CommitObserver,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut work = Work {
            shared: Arc::clone(&shared),
            log,
            clock,
            limits,
            observer,
            groups: Vec::new(),
            answers: Vec::new(),
            batches: Vec::new(),
            deliveries: Vec::new(),
            partings: Vec::new(),
            imports: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
            let closing = CloseAtEnd(Arc::clone(&work.shared));
            while work.collect() {
                work.commit();
            }
            drop(closing);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A handle for giving entries.
    #[must_use]
    pub fn appender(&self) -> Appender {
        Appender { shared: Arc::clone(&self.shared) }
    }

    /// Commits what is queued, answers everyone and ends the thread.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic on that thread has been reported by the panic hook, and `CloseAtEnd` has
            // answered whoever waited.
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Answers whoever waits when the thread ends, by a panic too: nobody waits for a dead thread.
struct CloseAtEnd(Arc<Shared>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.closed = true;
        let rest = std::mem::take(&mut *queue);
        queue.closed = true;
        drop(queue);
        rest.waiting.into_iter().for_each(|waiting| (waiting.done)(Err(AppendError::Closed)));
        rest.deliveries.into_iter().for_each(|delivery| (delivery.done)(Err(AppendError::Closed)));
        rest.partings.into_iter().for_each(|parting| (parting.done)(Err(AppendError::Closed)));
        rest.imports.into_iter().for_each(|(_, done)| done(Err(AppendError::Closed)));
    }
}

struct Work<C, O> {
    shared: Arc<Shared>,
    log: Arc<dyn Log>,
    clock: C,
    limits: CommitterLimits,
    observer: O,
    /// The next commit's entries and whom to answer, kept between commits for their capacity.
    groups: Vec<Vec<NewEntry>>,
    answers: Vec<Done<Receipt>>,
    /// All deliveries' batches, and for each how many of them are its own.
    batches: Vec<Arc<EncodedBatch>>,
    deliveries: Vec<(usize, Done<Vec<Arrival>>)>,
    partings: Vec<Parting>,
    imports: Vec<(SnapshotHead, Done<()>)>,
}

impl<C, O> Drop for Work<C, O> {
    /// Only a panic leaves answers behind: the log's, or one of theirs.
    fn drop(&mut self) {
        self.refuse(&AppendError::Closed);
        self.partings.drain(..).for_each(|parting| (parting.done)(Err(AppendError::Closed)));
        self.imports.drain(..).for_each(|(_, done)| done(Err(AppendError::Closed)));
    }
}

impl<C, O> Work<C, O> {
    /// Answers everyone whose entries or batches the next commit would have held.
    fn refuse(&mut self, error: &AppendError) {
        self.answers.drain(..).for_each(|done| done(Err(error.clone())));
        self.deliveries.drain(..).for_each(|(_, done)| done(Err(error.clone())));
    }
}

impl<C: Fn() -> u64, O: CommitObserver> Work<C, O> {
    /// Takes what is queued, up to the limits, and waits while that is nothing. False at the end.
    fn collect(&mut self) -> bool {
        let mut queue = self.shared.queue();
        while queue.is_empty() {
            if queue.closed {
                return false;
            }
            queue.asleep = true;
            queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.asleep = false;
        let mut bytes = 0;
        while let Some(next) = queue.waiting.front() {
            bytes += payload_bytes(&next.entries);
            let full = self.groups.len() >= self.limits.groups_max || bytes > self.limits.bytes_max;
            if full && !self.groups.is_empty() {
                break;
            }
            let Some(Waiting { entries, done }) = queue.waiting.pop_front() else { break };
            self.groups.push(entries);
            self.answers.push(done);
        }
        let mut bytes = 0;
        while let Some(next) = queue.deliveries.front() {
            bytes += encoded_bytes(&next.batches);
            if bytes > self.limits.received_bytes_max && !self.deliveries.is_empty() {
                break;
            }
            let Some(Delivery { batches, done }) = queue.deliveries.pop_front() else { break };
            self.deliveries.push((batches.len(), done));
            self.batches.extend(batches);
        }
        self.partings.append(&mut queue.partings);
        self.imports.append(&mut queue.imports);
        true
    }

    fn commit(&mut self) {
        self.part();
        for (snapshot, done) in std::mem::take(&mut self.imports) {
            match self.log.import(&snapshot) {
                Ok(imported) => {
                    self.observer.imported(imported);
                    self.observer.told();
                    done(Ok(()));
                }
                Err(error) => {
                    if matches!(error, AppendError::Failed(_)) {
                        self.observer.failed(&error);
                    }
                    done(Err(error));
                }
            }
        }
        if self.groups.is_empty() && self.batches.is_empty() && self.deliveries.is_empty() {
            return;
        }
        let started = Instant::now();
        match self.log.commit((self.clock)(), &self.groups, &self.batches) {
            Ok(committed) => {
                self.observer.committed(Commit {
                    duration: started.elapsed(),
                    groups: self.groups.len(),
                    entries: self.groups.iter().map(Vec::len).sum(),
                    bytes: self.groups.iter().map(|group| payload_bytes(group)).sum(),
                    received_bytes: encoded_bytes(&self.batches),
                });
                self.answer(committed);
            }
            Err(error) => {
                self.observer.failed(&error);
                self.refuse(&error);
            }
        }
        self.groups.clear();
        self.batches.clear();
    }

    fn part(&mut self) {
        for Parting { last, known, done } in std::mem::take(&mut self.partings) {
            let stream = self.log.stream();
            let parted = if last.stream == stream {
                self.log.part_stream(last.seq, known)
            } else {
                Ok(Renewal { stream, moved: 0 })
            };
            if let Err(error @ AppendError::Failed(_)) = &parted {
                self.observer.failed(error);
            }
            self.observer.told();
            done(parted);
        }
    }

    fn answer(&mut self, committed: Committed) {
        let Committed { receipts, arrivals, applied } = committed;
        assert_eq!(receipts.len(), self.answers.len(), "a receipt for each group");
        assert_eq!(arrivals.len(), self.batches.len(), "an arrival for each batch");
        for (done, receipt) in self.answers.drain(..).zip(receipts) {
            done(Ok(receipt));
        }
        if !applied.is_empty() {
            self.observer.applied(applied);
        }
        self.observer.told();
        let mut arrivals = arrivals.into_iter();
        for (count, done) in self.deliveries.drain(..) {
            done(Ok(arrivals.by_ref().take(count).collect()));
        }
    }
}

fn encoded_bytes(batches: &[Arc<EncodedBatch>]) -> usize {
    batches.iter().map(|encoded| encoded.bytes.len()).sum()
}

fn payload_bytes(group: &[NewEntry]) -> usize {
    group.iter().map(|entry| entry.payload.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Failure, FailureKind};
    use crate::memory::{AppendFault, MemoryLog};
    use bytes::Bytes;
    use quire_protocol::batch::EntryKind;
    use quire_protocol::ids::{DocId, Seq, StreamId};
    use std::sync::mpsc;

    fn entry(doc: u128) -> NewEntry {
        NewEntry { doc: DocId(doc), kind: EntryKind::Update, payload: Bytes::from_static(b"update") }
    }

    fn committer(limits: CommitterLimits) -> (Arc<MemoryLog>, Committer) {
        let log = Arc::new(MemoryLog::new(StreamId::from_u32(1)));
        let committer = Committer::start(Arc::clone(&log) as Arc<dyn Log>, || 7, limits, Unobserved);
        (log, committer.expect("a thread"))
    }

    #[test]
    fn every_append_is_answered_in_order_and_before_stop_returns() {
        let (log, committer) =
            committer(CommitterLimits { groups_max: 3, bytes_max: 1, received_bytes_max: 1 });
        let (tx, rx) = mpsc::channel();
        let appender = committer.appender();
        for i in 0..100 {
            let tx = tx.clone();
            let answer = move |result: Result<Receipt, AppendError>| {
                tx.send((i, result.expect("durable").last.seq)).expect("the test listens");
            };
            appender.append(vec![entry(i.into())], answer);
        }
        committer.stop();
        drop(tx);
        let answers: Vec<_> = rx.iter().collect();
        let expected: Vec<_> = (0..100_u32).map(|i| (i, Seq(u64::from(i) + 1))).collect();
        assert_eq!(answers, expected);
        assert_eq!(log.stats().position.0, 100);

        let (tx, rx) = mpsc::channel();
        appender.append(vec![entry(1)], move |result| tx.send(result).expect("the test listens"));
        assert_eq!(rx.recv().expect("an answer"), Err(AppendError::Closed));
    }

    #[test]
    fn what_peers_sent_is_told_after_the_appends_of_its_commit_and_before_its_senders() {
        struct Told(mpsc::Sender<String>);
        impl CommitObserver for Told {
            fn committed(&mut self, _: Commit) {}
            fn imported(&mut self, _: Imported) {}
            fn told(&mut self) {}
            fn failed(&mut self, _: &AppendError) {}
            fn applied(&mut self, batches: Vec<Applied>) {
                let entries = batches.iter().flat_map(|batch| &batch.entries);
                let seqs: Vec<_> = entries.map(|(_, entry)| entry.dot.seq.0).collect();
                self.0.send(format!("applied {seqs:?}")).expect("the test listens");
            }
        }
        let elsewhere = MemoryLog::new(StreamId::from_u32(0x7_0001));
        elsewhere.append(7, &[vec![entry(1)], vec![entry(2)]]).expect("durable");
        elsewhere.append(7, &[vec![entry(1)]]).expect("durable");
        let stream = StreamId::from_u32(0x7_0001);
        let batches = elsewhere.read_batches(stream, Seq(1), usize::MAX).expect("kept").into_iter();
        let batches: Vec<_> =
            batches.map(|bytes| Arc::new(EncodedBatch::decode(bytes).expect("a batch"))).collect();

        let (tx, rx) = mpsc::channel();
        let log = Arc::new(MemoryLog::new(StreamId::from_u32(1)));
        let limits = CommitterLimits::default();
        let committer = Committer::start(log, || 7, limits, Told(tx.clone())).expect("a thread");
        let appender = committer.appender();
        // The first commit holds the committer until all the rest is in the queue.
        let (queued, wait) = mpsc::channel::<()>();
        appender.append(vec![entry(9)], move |_| assert!(wait.recv().is_err()));
        let [first, second] = [&batches[..1], &batches[..]].map(<[_]>::to_vec);
        for delivery in [first, second] {
            let tx = tx.clone();
            let told = move |arrivals: Result<Vec<Arrival>, AppendError>| {
                tx.send(format!("{:?}", arrivals.expect("durable"))).expect("the test listens");
            };
            appender.receive(delivery, told);
        }
        // Two peers find at once that the disk went back: the stream is renewed once.
        for _ in 0..2 {
            let told = tx.clone();
            let last = Dot { stream: StreamId::from_u32(1), seq: Seq(9) };
            appender.part_stream(last, Incarnation(1), move |renewal| {
                let stream = renewal.expect("renewed").stream;
                told.send(format!("{}", stream.incarnation.0)).expect("the test listens");
            });
        }
        appender.append(vec![entry(1)], move |receipt| {
            let position = receipt.expect("durable").position.0;
            tx.send(format!("appended {position}")).expect("the test listens");
        });
        drop(queued);
        committer.stop();
        let told: Vec<_> = rx.iter().collect();
        assert_eq!(told, ["2", "2", "appended 2", "applied [1, 2, 3]", "[Next]", "[Duplicate, Next]"]);
    }

    #[test]
    fn a_bad_group_is_refused_alone_and_a_failure_reaches_everyone() {
        let (log, committer) = committer(CommitterLimits::default());
        let (tx, rx) = mpsc::channel();
        let append = |entries| {
            let tx = tx.clone();
            committer.appender().append(entries, move |result| tx.send(result).expect("the test listens"));
            rx.recv().expect("an answer")
        };
        assert!(matches!(append(vec![]), Err(AppendError::Invalid(_))));
        assert!(append(vec![entry(1), entry(2)]).is_ok_and(|receipt| receipt.last.seq == Seq(2)));
        let failure = Failure { kind: FailureKind::DiskFull, text: "no space".into() };
        log.fail_next_append(AppendFault::Lost(failure.clone()));
        assert_eq!(append(vec![entry(1)]), Err(AppendError::Failed(failure.clone())));
        assert_eq!(append(vec![entry(1)]), Err(AppendError::Failed(failure)));
    }
}
