//! What a region commits, in one go: its editors' updates and what its peers have sent.
//!
//! Nothing is shown or acknowledged before the commit has returned.

use super::ledger::Acknowledged;
use super::plant::Plant;
use super::region::{Shown, Write, doc_name};
use super::sessions::Down;
use super::wire::Way;
use super::world::{Happening, World};
use bytes::Bytes;
use quire_protocol::batch::{EncodedBatch, EntryKind, LifecycleChange};
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{Dot, Seq};
use quire_storage::{Committed, NewEntry, Receipt, Retention};
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
        let wall_ms = self.regions[at].wall_ms(self.now.0);
        let region = &mut self.regions[at];
        let Some(log) = region.log.clone().filter(|_| region.life == life) else { return };
        region.committing = false;
        let (writes, batches) = (std::mem::take(&mut region.writes), std::mem::take(&mut region.batches));
        let doc = doc_name().id();
        let mut is_new = log.info(doc).is_ok_and(|info| info.is_none());
        let mut groups = Vec::new();
        for update in writes.iter().filter_map(|write| write.fresh.as_ref()) {
            let mut group = Vec::new();
            if std::mem::take(&mut is_new) {
                let payload = LifecycleChange::Create { name: doc_name() }.encode();
                group.push(NewEntry { doc, kind: EntryKind::Lifecycle, payload });
            }
            group.push(NewEntry { doc, kind: EntryKind::Update, payload: update.encoded().clone() });
            groups.push(group);
        }
        let received: Vec<Arc<EncodedBatch>> =
            batches.iter().map(|(_, _, encoded)| encoded.clone()).collect();
        match log.commit(wall_ms, &groups, &received) {
            Ok(committed) => {
                self.regions[at].durable = log.received();
                self.totals.entries += self.ledger.written(&*log);
                self.committed(at, &groups, writes, &batches, committed);
            }
            Err(error) => {
                self.say(format_args!("region {at} cannot commit: {error}"));
                self.power_fails(at);
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
            let applied =
                committed.applied.into_iter().flat_map(|batch| batch.entries).map(|(_, entry)| entry);
            shown.extend(applied.map(|it| Shown {
                dot: it.dot,
                hlc: it.hlc,
                kind: it.kind,
                payload: it.payload,
            }));
        }
        self.show(at, &shown);
        self.acknowledge(at, writes, &committed.receipts);
        self.answer_links(at, batches, &committed.arrivals);
        self.tell_received(at);
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

    fn show(&mut self, at: usize, shown: &[Shown]) {
        let (region, planted) = (&mut self.regions[at], self.planted);
        let mut news: Vec<Bytes> = Vec::new();
        for entry in shown {
            news.extend(region.open.show(at, entry, planted, &mut self.ledger));
            self.totals.shown += 1;
        }
        let sessions: Vec<(usize, u64)> = region.sessions.iter().map(|(&editor, &it)| (editor, it)).collect();
        for (editor, session) in sessions {
            for update in &news {
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
        let saved = Acknowledged { region: at, update: write.sent, dot, gone: false, elsewhere: false };
        self.ledger.acknowledged.push(saved);
        self.totals.acknowledged += 1;
        self.send_down(write.editor, write.session, Down::Saved);
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

/// An own entry, which comes so many before the last of its group.
fn own(receipt: &Receipt, before: usize, entry: &NewEntry) -> Shown {
    let Dot { stream, seq } = receipt.last;
    let dot = Dot { stream, seq: Seq(seq.0 - before as u64) };
    Shown { dot, hlc: receipt.hlc, kind: entry.kind, payload: entry.payload.clone() }
}

fn entries(encoded: &EncodedBatch) -> Vec<Shown> {
    let batch = &encoded.batch;
    let seqs = batch.first_seq.0..;
    let dots = seqs.map(|seq| Dot { stream: batch.stream, seq: Seq(seq) });
    let shown = dots.zip(&batch.entries);
    shown.map(|(dot, it)| Shown { dot, hlc: it.hlc, kind: it.kind, payload: it.payload.clone() }).collect()
}
