//! One link over its connection: a dumb loop around its machine.
//!
//! Frames, commits, reads and the passing of time go in; what comes out is carried out in order. A writer
//! of its own keeps a slow connection from holding up what the peer sends.

use super::calls::Calls;
use super::links::{Mail, Peers, Place};
use super::snapshots::{self, Exporting, Importing};
use super::wire::{self, Socket};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use quire_protocol::batch::EncodedBatch;
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{Dot, Incarnation, StreamId};
use quire_protocol::link::{Bye, ByeReason, Ends, Found, Hello, Input, Link, Message, Output, Piece};
use quire_protocol::time::Time;
use quire_storage::{AppendError, Log, ReadBatchesError};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite;

/// Awareness is dropped while so many bytes wait for the connection.
const EPHEMERAL_QUEUE_BYTES_MAX: usize = 64 << 10;
/// The log is read no further for a peer while more bytes than this wait for its connection. Its credit is no
/// bound: a peer may give as much as it likes and read nothing.
const SEND_QUEUE_BYTES_MAX: usize = 1 << 20;
/// A peer's connection that takes nothing for this long is given up.
const STALL_MAX: Duration = Duration::from_secs(10);
/// A closing connection gets this long for its last words.
const CLOSE_MAX: Duration = Duration::from_secs(2);

type Stored = Result<Vec<Arrival>, AppendError>;

/// Something that is being read from the disk, one at a time.
type Reading<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// What waits for the connection.
#[derive(Default)]
struct Queue {
    bytes: AtomicUsize,
    /// Told whenever some of it has been written.
    written: Notify,
}

struct Driver<'a> {
    peers: &'a Arc<Peers>,
    place: &'a Place,
    link: Link,
    began: Instant,
    frames: mpsc::UnboundedSender<Bytes>,
    queue: Arc<Queue>,
    /// Batches of this turn, which go to the log together.
    batches: Vec<Arc<EncodedBatch>>,
    stored: mpsc::UnboundedSender<Stored>,
    reading: Reading<Found>,
    /// Reads that wait until less is queued.
    put_off: Vec<Output>,
    /// The snapshot that the peer is given, and the read of its next piece.
    exporting: Exporting,
    exported: Reading<(Exporting, Piece)>,
    /// The snapshot that comes from the peer, and whom it tells.
    importing: Option<Importing>,
    imported: mpsc::UnboundedSender<Input>,
    calls: Calls,
    /// Whether the peer has said what it has.
    met: bool,
    wake: Option<Time>,
    alarm: Pin<Box<Sleep>>,
    closed: Option<Bye>,
}

/// Serves a link until it ends, and says why it did.
pub(super) async fn run(peers: &Arc<Peers>, place: &Place, socket: Socket, hello: &Hello, mail: Mail) -> Bye {
    let Mail { mut stop, mut presence, calls: mut asked } = mail;
    let (sink, mut stream) = socket.split();
    let (frames, to_write) = mpsc::unbounded_channel();
    let (stored, mut answers) = mpsc::unbounded_channel();
    let (imported, mut steps) = mpsc::unbounded_channel();
    let (calls, mut answered) = Calls::new();
    let queue = Arc::new(Queue::default());
    let mut writer = tokio::spawn(write(sink, to_write, queue.clone()));
    let mut received = peers.received.subscribe();
    let mut hears = peers.hears.subscribe();
    let mut own = peers.stream.subscribe();

    let mut out = Vec::new();
    let began = Instant::now();
    let ends =
        Ends { own: *own.borrow_and_update(), peer: place.peer, role: hello.role, version: hello.version() };
    let durable = peers.log.received();
    received.mark_unchanged();
    let heard = hears.borrow_and_update().clone();
    let link = Link::new(Time(0), ends, durable, heard, crate::run::unix_ms(), &mut out);
    let mut driver = Driver {
        peers,
        place,
        link,
        began,
        frames,
        queue: queue.clone(),
        batches: Vec::new(),
        stored,
        reading: None,
        exporting: None,
        exported: None,
        importing: None,
        imported,
        calls,
        put_off: Vec::new(),
        met: false,
        wake: None,
        alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
        closed: None,
    };
    driver.carry_out(&mut out);
    // What was committed while the link was made.
    driver.handle(Input::Received(peers.log.received()));

    let bye = loop {
        if let Some(bye) = driver.closed.take() {
            break bye;
        }
        let leaving = peers.leaving.is_cancelled();
        if leaving && driver.is_delivered() {
            driver.stop();
            continue;
        }
        let has_room = peers.documents.has_room();
        tokio::select! {
            frame = wire::next(&mut stream), if has_room => match frame {
                Some(Ok(frame)) => driver.handle(Input::Frame { frame, wall_ms: crate::run::unix_ms() }),
                Some(Err(error)) => break gone(error.to_string()),
                None => break gone("the peer closed the connection".to_owned()),
            },
            () = peers.documents.caught_up(), if !has_room => {}
            Some(answer) = answers.recv() => driver.handle(match answer {
                Ok(arrivals) => Input::Stored(arrivals),
                Err(_) => Input::StoreFailed,
            }),
            found = found(&mut driver.reading) => driver.handle(Input::Read(found)),
            (exporting, piece) = found(&mut driver.exported) => {
                driver.exporting = exporting;
                driver.handle(Input::SnapshotRead(piece));
            }
            Some(step) = steps.recv() => {
                if matches!(step, Input::Imported(_)) {
                    driver.importing = None;
                }
                driver.handle(step);
            }
            () = queue.written.notified(), if !driver.put_off.is_empty() => driver.read_on(),
            Ok(()) = received.changed() => {
                let durable = received.borrow_and_update().clone();
                driver.handle(Input::Received(durable));
            }
            Ok(()) = hears.changed() => {
                let heard = hears.borrow_and_update().clone();
                driver.handle(Input::Hears(heard));
            }
            Ok(()) = own.changed() => {
                let stream = *own.borrow_and_update();
                // Of the one before there may be less than there was.
                driver.handle(Input::Received(peers.log.received()));
                driver.handle(Input::Renewed(stream));
            }
            Some((doc, payload)) = presence.recv() => driver.handle(Input::Ephemeral { doc, payload }),
            Some(asked) = asked.recv() => {
                let call = driver.calls.make(asked);
                driver.handle(call);
            }
            Some((call, payload)) = answered.recv() => driver.handle(Input::Return { call, payload }),
            () = driver.alarm.as_mut(), if driver.wake.is_some() => {
                driver.wake = None;
                driver.handle(Input::Tick { wall_ms: crate::run::unix_ms() });
                driver.note();
            }
            Ok(bye) = &mut stop => driver.handle(Input::Stop(bye)),
            ended = &mut writer => break gone(ended.unwrap_or_else(|error| error.to_string())),
            () = peers.leaving.cancelled(), if !leaving => {}
            () = peers.closing.cancelled() => driver.stop(),
        }
    };
    driver.note();
    // Ends the writer, once it has written the last words. It may be what has ended the link, and a task must
    // not be asked again for how it ended.
    drop(driver);
    if !writer.is_finished() && tokio::time::timeout(CLOSE_MAX, &mut writer).await.is_err() {
        writer.abort();
    }
    bye
}

fn gone(detail: String) -> Bye {
    Bye { reason: ByeReason::Silent, detail }
}

/// The answer to the read that is under way; never where there is none.
async fn found<T>(reading: &mut Reading<T>) -> T {
    match reading {
        Some(read) => {
            let found = read.as_mut().await;
            *reading = None;
            found
        }
        None => std::future::pending().await,
    }
}

impl Driver<'_> {
    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether the peer has acknowledged all that this region wrote.
    fn is_delivered(&self) -> bool {
        let own = *self.peers.stream.borrow();
        self.link.acknowledged().get(own) >= self.peers.log.received().get(own)
    }

    fn stop(&mut self) {
        let detail = "the region stops".to_owned();
        self.handle(Input::Stop(Bye { reason: ByeReason::Stopping, detail }));
    }

    fn handle(&mut self, input: Input) {
        self.hear(VecDeque::from([input]));
    }

    /// Has the machine hear of things in order, and of what is found on the way.
    fn hear(&mut self, mut inputs: VecDeque<Input>) {
        let mut out = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.link.handle(self.now(), input, &mut out);
            inputs.extend(self.carry_out(&mut out));
        }
        if !self.met && self.link.figures().rtt_ms.is_some() {
            self.met = true;
            self.note();
        }
        if !self.batches.is_empty() {
            let stored = self.stored.clone();
            let batches = std::mem::take(&mut self.batches);
            // Where the link has ended nobody waits for the answer; the batches are kept all the same.
            self.peers.appender.receive(batches, move |answer| drop(stored.send(answer)));
        }
    }

    /// Carries out what the machine ordered. Returns what was found where that took no waiting.
    fn carry_out(&mut self, out: &mut Vec<Output>) -> VecDeque<Input> {
        let mut found = VecDeque::new();
        for output in out.drain(..) {
            match output {
                Output::Send(frame) => self.send(frame),
                Output::SendEphemeral(frame) => {
                    if self.queued() <= EPHEMERAL_QUEUE_BYTES_MAX {
                        self.send(frame);
                    } else {
                        metrics::counter!(crate::metrics::AWARENESS_DROPPED).increment(1);
                    }
                }
                read @ (Output::Read { .. } | Output::ReadSnapshot { .. })
                    if self.queued() > SEND_QUEUE_BYTES_MAX =>
                {
                    self.put_off.push(read);
                }
                Output::Read { from, bytes_max } => found.extend(self.read(from, bytes_max)),
                Output::ReadSnapshot { offset, bytes_max } => self.read_piece(offset, bytes_max),
                Output::Store(encoded) => self.batches.push(encoded),
                Output::BeginImport => {
                    self.importing = Importing::begin(self.peers, self.imported.clone());
                    found.push_back(Input::ImportBegun(self.importing.is_some()));
                }
                Output::Stage(entries) => self.import(|importing| importing.stage(entries)),
                Output::Import(snapshot) => self.import(|importing| importing.import(snapshot)),
                Output::Ephemeral { doc, payload } => {
                    self.peers.pass_on(&self.peers.documents, self.place.peer, doc, &payload);
                }
                Output::Called { call, doc, payload } => {
                    self.calls.called(self.peers, self.place.peer, call, doc, payload);
                }
                Output::Returned { call, answer } => self.calls.returned(call, answer),
                Output::Truncated { stream, first_kept } => {
                    let (peer, first_kept) = (self.place.peer.0, first_kept.0);
                    tracing::info!(peer, %stream, first_kept, "the log begins later: offering a snapshot");
                }
                Output::WentBack { held } => {
                    let known = self.known_incarnation(held.stream);
                    self.peers.went_back(self.place.peer, held, known);
                }
                Output::WakeAt(time) => self.set_alarm(time),
                Output::Close(bye) => {
                    self.send(Message::Bye(bye.clone()).encode());
                    self.closed = Some(bye);
                }
            }
        }
        found
    }

    /// The greatest incarnation of this region that it or the peer has entries of.
    fn known_incarnation(&self, own: StreamId) -> Incarnation {
        let here = self.peers.log.received();
        let streams = here.iter().chain(self.link.held().iter()).map(|dot| dot.stream);
        let of_it = streams.filter(|stream| stream.replica == own.replica).map(|stream| stream.incarnation);
        of_it.max().unwrap_or(own.incarnation)
    }

    /// Does something with the snapshot that comes; the machine orders nothing of it without one.
    fn import(&self, step: impl FnOnce(&Importing)) {
        if let Some(importing) = &self.importing {
            step(importing);
        }
    }

    /// Reads what the machine asked for. Returns what was found where that took no waiting.
    fn read(&mut self, from: Dot, bytes_max: usize) -> Option<Input> {
        let recent = self.peers.log.read_recent(from, bytes_max);
        if recent.is_none() {
            self.reading = Some(Box::pin(read(self.peers.log.clone(), from, bytes_max)));
        }
        recent.map(|batches| Input::Read(Found::Batches(batches)))
    }

    fn read_piece(&mut self, offset: u64, bytes_max: usize) {
        let exporting = self.exporting.take().filter(|_| offset > 0);
        let read = snapshots::read(self.peers.log.clone(), exporting, bytes_max);
        self.exported = Some(Box::pin(read));
    }

    /// Some of the queue has been written: what was put off may go on.
    fn read_on(&mut self) {
        let mut put_off = std::mem::take(&mut self.put_off);
        let found = self.carry_out(&mut put_off);
        self.hear(found);
    }

    fn queued(&self) -> usize {
        self.queue.bytes.load(Ordering::Relaxed)
    }

    fn send(&self, frame: Bytes) {
        self.queue.bytes.fetch_add(frame.len(), Ordering::Relaxed);
        // Where the writer has ended, the loop is about to see it.
        let _ended = self.frames.send(frame);
    }

    fn set_alarm(&mut self, time: Time) {
        if self.wake.is_none_or(|wake| time < wake) {
            self.wake = Some(time);
            let at = self.began + Duration::from_millis(time.0);
            self.alarm.as_mut().reset(at.into());
        }
    }

    fn note(&self) {
        let figures = self.link.figures();
        self.peers.kept.acknowledged(self.place.peer, &self.link.acknowledged());
        self.place.note(&self.link, |status| {
            let duplicates = figures.duplicates - status.figures.duplicates;
            metrics::counter!(crate::metrics::DUPLICATES).increment(duplicates);
            status.figures = figures;
            status.queue_bytes = self.queued() as u64;
        });
    }
}

/// Reads batches where the disk may have to be waited for.
async fn read(log: Arc<dyn Log>, from: Dot, bytes_max: usize) -> Found {
    let read = tokio::task::spawn_blocking(move || log.read_batches(from.stream, from.seq, bytes_max)).await;
    match read {
        Ok(Ok(batches)) => Found::Batches(batches),
        Ok(Err(ReadBatchesError::Truncated { first_kept })) => Found::Truncated { first_kept },
        Ok(Err(error)) => Found::Failed(error.to_string()),
        Err(error) => Found::Failed(error.to_string()),
    }
}

/// Writes frames as they come, those that wait together in one go; says why it ended.
async fn write(
    mut sink: SplitSink<Socket, tungstenite::Message>,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    queue: Arc<Queue>,
) -> String {
    while let Some(first) = frames.recv().await {
        let mut bytes = 0;
        let all = async {
            let mut next = Some(first);
            while let Some(frame) = next {
                bytes += frame.len();
                sink.feed(tungstenite::Message::Binary(frame)).await?;
                next = frames.try_recv().ok();
            }
            sink.flush().await
        };
        match tokio::time::timeout(STALL_MAX, all).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the connection takes nothing".to_owned(),
        }
        queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
        queue.written.notify_one();
    }
    let _closed = tokio::time::timeout(CLOSE_MAX, sink.close()).await;
    "closed".to_owned()
}
