//! What a region commits, in one go: its editors' updates and what its peers have sent.
//!
//! Nothing is shown or acknowledged before the commit has returned.

use super::documents::{DOCUMENTS, Shown, doc_name};
use super::ledger::Acknowledged;
use super::plant::Plant;
use super::region::Write;
use super::sessions::Down;
use super::wire::Way;
use super::world::{Happening, World};
use bytes::Bytes;
use quire_protocol::batch::{EncodedBatch, EntryKind, LifecycleChange};
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{DocId, DocName, Dot, Seq};
use quire_storage::{Committed, Log, NewEntry, Receipt, Retention};
use std::collections::BTreeMap;
use std::sync::Arc;

impl World {
    /// Has a region commit what waits, when its disk comes round to it.
    pub(super) fn commit_soon(&mut self, at: usize) {
        let disk_ms = self.rng.within(1, 4);
        let region = &mut self.regions[at];
        if !std::mem::replace(&mut region.committing, true) {
            let life = region.life;
            self.after(disk_ms, Happening::Commit(at, life));
        }
    }

    pub(super) fn commit(&mut self, at: usize, life: u64) {
        if self.regions[at].life != life || !self.part_streams(at) {
            return;
        }
        let region = &mut self.regions[at];
        let Some(log) = region.log.clone() else { return };
        region.committing = false;
        let (writes, batches) = (std::mem::take(&mut region.writes), std::mem::take(&mut region.batches));
        let groups = groups(&*log, &writes);
        drop(log);
        self.write(at, &groups, writes, &batches);
    }

    /// Has a region write an entry of its own that no editor asked for. False when it cannot.
    pub(super) fn append(&mut self, at: usize, entry: NewEntry) -> bool {
        self.write(at, &[vec![entry]], Vec::new(), &[])
    }

    /// Commits groups of a region's own entries and its peers' batches. False when the disk fails.
    fn write(
        &mut self,
        at: usize,
        groups: &[Vec<NewEntry>],
        writes: Vec<Write>,
        batches: &[(Way, u64, Arc<EncodedBatch>)],
    ) -> bool {
        let wall_ms = self.regions[at].wall_ms(self.now.0);
        let Some(log) = self.regions[at].log.clone() else { return false };
        let received: Vec<Arc<EncodedBatch>> =
            batches.iter().map(|(_, _, encoded)| encoded.clone()).collect();
        match log.commit(wall_ms, groups, &received) {
            Ok(committed) => {
                self.regions[at].durable = log.received();
                self.totals.entries += self.ledger.written(at, &*log);
                self.committed(at, groups, writes, batches, committed);
                true
            }
            Err(error) => {
                self.say(format_args!("region {at} cannot commit: {error}"));
                self.power_fails(at);
                false
            }
        }
    }

    fn committed(
        &mut self,
        at: usize,
        groups: &[Vec<NewEntry>],
        writes: Vec<Write>,
        batches: &[(Way, u64, Arc<EncodedBatch>)],
        committed: Committed,
    ) {
        let mut shown: Vec<Shown> = Vec::new();
        for (group, receipt) in groups.iter().zip(&committed.receipts) {
            shown.extend(group.iter().enumerate().map(|(i, entry)| own(receipt, group.len() - 1 - i, entry)));
        }
        let received = batches.iter().map(|(_, _, encoded)| &**encoded).zip(&committed.arrivals);
        let now_shown = received.filter(|(_, arrival)| self.is_shown_early(**arrival));
        shown.extend(now_shown.flat_map(|(encoded, _)| entries(encoded)));
        if !self.planted.is(Plant::GateOff) {
            shown.extend(committed.applied.into_iter().flat_map(|batch| batch.entries).map(Shown::of));
        }
        self.show(at, &shown);
        for write in writes.iter().filter(|write| write.fresh.is_some()) {
            self.regions[at].shows.get_mut(write.doc).fields.has_committed(1);
        }
        self.look_at_fields(at);
        self.acknowledge(at, writes, &committed.receipts);
        self.answer_links(at, batches, &committed.arrivals);
        self.tell_received(at);
        if shown.iter().any(|entry| entry.kind == EntryKind::Member) {
            self.members_changed(at);
        }
        if self.planted.is(Plant::TruncateEarly)
            && let Some(log) = &self.regions[at].log
        {
            log.truncate(Retention::default());
        }
    }

    /// Whether a planted bug shows a batch although the log has not said so.
    fn is_shown_early(&self, arrival: Arrival) -> bool {
        match arrival {
            Arrival::Next => self.planted.is(Plant::GateOff),
            Arrival::Duplicate => self.planted.is(Plant::DuplicateApplied),
            Arrival::Gap { .. } => self.planted.is(Plant::GapIgnored),
            Arrival::Astray => false,
        }
    }

    pub(super) fn show(&mut self, at: usize, shown: &[Shown]) {
        let (region, planted) = (&mut self.regions[at], self.planted);
        let mut news: Vec<(DocId, Bytes)> = Vec::new();
        for entry in shown {
            let update = region.shows.show(at, entry, planted, &mut self.ledger);
            news.extend(update.map(|update| (entry.doc, update)));
            self.totals.shown += 1;
        }
        self.tell_sessions(at, &news);
        self.lives_changed(at);
    }

    /// Sends a region's sessions what is news in their documents.
    pub(super) fn tell_sessions(&mut self, at: usize, news: &[(DocId, Bytes)]) {
        let sessions: Vec<(usize, u64)> =
            self.regions[at].sessions.iter().map(|(&it, &of)| (it, of)).collect();
        for (editor, session) in sessions {
            let of = self.editors[editor].of;
            for (_, update) in news.iter().filter(|(doc, _)| *doc == of) {
                self.send_down(editor, session, Down::Update(update.clone()));
            }
        }
    }

    fn acknowledge(&mut self, at: usize, writes: Vec<Write>, receipts: &[Receipt]) {
        let mut receipts = receipts.iter();
        for write in writes {
            let dot = write.fresh.as_ref().and_then(|_| receipts.next()).map(|receipt| receipt.last);
            if !write.told {
                self.tell_saved(at, write, dot);
            }
        }
    }

    /// Tells an editor that its update is saved, and holds the cluster to it from now on.
    pub(super) fn tell_saved(&mut self, at: usize, write: Write, dot: Option<Dot>) {
        let saved = Acknowledged {
            region: at,
            doc: write.doc,
            update: write.sent,
            dot,
            gone: false,
            elsewhere: false,
        };
        self.ledger.acknowledged.push(saved);
        self.totals.acknowledged += 1;
        if let Some((editor, session)) = write.from {
            self.send_down(editor, session, Down::Saved);
        }
    }

    fn answer_links(&mut self, at: usize, batches: &[(Way, u64, Arc<EncodedBatch>)], arrivals: &[Arrival]) {
        let mut answers: BTreeMap<(Way, u64), Vec<(Arrival, u64)>> = BTreeMap::new();
        for ((way, number, encoded), arrival) in batches.iter().zip(arrivals) {
            let mut arrival = *arrival;
            self.totals.duplicates += u64::from(arrival == Arrival::Duplicate);
            if matches!(arrival, Arrival::Gap { .. }) {
                self.totals.gaps += 1;
                self.say(format_args!("region {at} is given {} behind a gap", encoded.batch.last_dot()));
                if self.planted.is(Plant::GapIgnored) {
                    arrival = Arrival::Next;
                }
            }
            answers.entry((*way, *number)).or_default().push((arrival, encoded.bytes.len() as u64));
        }
        for ((way, number), stored) in answers {
            self.answer(way, number, &stored);
        }
    }
}

/// What is new in the writes, a group for each; the first of a document says that there is one.
fn groups(log: &dyn Log, writes: &[Write]) -> Vec<Vec<NewEntry>> {
    let names = (0..DOCUMENTS).map(doc_name);
    let mut new: BTreeMap<DocId, DocName> = names
        .map(|name| (name.id(), name))
        .filter(|(doc, _)| log.info(*doc).is_ok_and(|info| info.is_none()))
        .collect();
    let mut groups = Vec::new();
    for write in writes {
        let (Some(update), doc) = (&write.fresh, write.doc) else { continue };
        let mut group = Vec::new();
        if let Some(name) = new.remove(&doc) {
            let payload = LifecycleChange::Create { name }.encode();
            group.push(NewEntry { doc, kind: EntryKind::Lifecycle, payload });
        }
        group.push(match &write.noted {
            Some(noted) => NewEntry { doc, kind: EntryKind::Fields, payload: noted.encode() },
            None => NewEntry { doc, kind: EntryKind::Update, payload: update.encoded().clone() },
        });
        groups.push(group);
    }
    groups
}

/// An own entry, which comes so many before the last of its group.
fn own(receipt: &Receipt, before: usize, entry: &NewEntry) -> Shown {
    let Dot { stream, seq } = receipt.last;
    let dot = Dot { stream, seq: Seq(seq.0 - before as u64) };
    Shown { doc: entry.doc, dot, hlc: receipt.hlc, kind: entry.kind, payload: entry.payload.clone() }
}

fn entries(encoded: &EncodedBatch) -> Vec<Shown> {
    let batch = &encoded.batch;
    let seqs = batch.first_seq.0..;
    let dots = seqs.map(|seq| Dot { stream: batch.stream, seq: Seq(seq) });
    let shown = dots.zip(&batch.entries).map(|(dot, it)| {
        let (kind, payload) = (it.kind, it.payload.clone());
        Shown { doc: it.doc, dot, hlc: it.hlc, kind, payload }
    });
    shown.collect()
}
