//! A small cluster in virtual time: replicas with logs in memory, and links that delay, lose and break.
//!
//! Carries out the machines' orders as a driver does, and holds the cluster to its promises: no entry is
//! shown before its causes, none twice, and none is acknowledged before it is stored.

use bytes::Bytes;
use quire_protocol::batch::{BatchBuilder, ChainHash, EncodedBatch, Entry, EntryKind, NO_DOC, batch_range};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::{Arrival, Gate, Step};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::link::{Bye, ByeReason, Ends, Found, Input, Link, Output, Piece, Role};
use quire_protocol::snapshot::{Record, SnapshotEntry, SnapshotHead};
use quire_protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(crate) fn stream(at: usize) -> StreamId {
    StreamId { replica: ReplicaId(u16::try_from(at).expect("few")), incarnation: Incarnation(1) }
}

/// The end of a link at one replica.
pub(crate) struct End {
    pub(crate) link: Link,
    /// Frames on their way to the other end.
    way: VecDeque<(Time, Bytes)>,
    /// Batches that are being stored, and since when.
    storing: VecDeque<(Time, Arc<EncodedBatch>)>,
    wake: Option<Time>,
    reading: Option<(Dot, usize)>,
    /// The snapshot that is being given, and how much of it is to be read next.
    exporting: Bytes,
    piece: Option<usize>,
    /// Whether this end takes a snapshot, and what it has to say of that.
    pub(crate) imports: bool,
    steps: VecDeque<Input>,
    pub(crate) closed: Option<Bye>,
}

#[derive(Clone, Default)]
pub(crate) struct Replica {
    /// How often it began a new stream.
    renewals: u16,
    pub(crate) gate: Gate,
    pub(crate) log: BTreeMap<StreamId, Vec<Arc<EncodedBatch>>>,
    /// Where the log of a stream begins: the last entry before it, and the hash of its batch.
    begins: BTreeMap<StreamId, (Seq, ChainHash)>,
    pub(crate) snapshots: usize,
    /// The first entries of the batches that are shown, in order.
    pub(crate) shown: Vec<Dot>,
    pub(crate) duplicates: usize,
}

impl Replica {
    fn end_of(&self, stream: StreamId) -> (Seq, ChainHash) {
        let last = self.log.get(&stream).and_then(|batches| batches.last());
        let begins = self.begins.get(&stream).copied().unwrap_or((Seq(0), ChainHash::START));
        last.map_or(begins, |last| (last.batch.last_dot().seq, last.hash()))
    }

    /// The stream that it appends to.
    pub(crate) fn own(&self, at: usize) -> StreamId {
        let Incarnation(first) = stream(at).incarnation;
        StreamId { incarnation: Incarnation(first + self.renewals), ..stream(at) }
    }

    /// What is in its log, in no order.
    pub(crate) fn payloads(&self) -> BTreeSet<Bytes> {
        let entries = self.log.values().flatten().flat_map(|encoded| &encoded.batch.entries);
        entries.map(|entry| entry.payload.clone()).collect()
    }

    /// Ends its stream after an entry, and writes what came then again in the next. True where there was any.
    fn part(&mut self, at: usize, last: Dot) -> bool {
        self.renewals += 1;
        let old = self.log.entry(last.stream).or_default();
        let kept = old.partition_point(|encoded| encoded.batch.last_dot().seq <= last.seq);
        let parted = old.split_off(kept);
        let Some(first) = parted.first() else { return false };
        let end = Dot { stream: last.stream, seq: Seq(first.batch.first_seq.0 - 1) };
        self.gate.set_back(end);
        self.shown.retain(|dot| dot.stream != end.stream || dot.seq <= end.seq);
        for encoded in &parted {
            self.append(self.own(at), encoded.batch.entries.clone());
        }
        true
    }

    /// Forgets what is applied, but for the last batches of each stream.
    pub(crate) fn forget(&mut self, kept: usize) {
        for (stream, batches) in &mut self.log {
            let applied = self.gate.applied().get(*stream);
            let applied = batches.partition_point(|encoded| encoded.batch.last_dot().seq <= applied);
            let gone = batches.drain(..applied.saturating_sub(kept)).next_back();
            if let Some(gone) = gone {
                self.begins.insert(*stream, (gone.batch.last_dot().seq, gone.hash()));
            }
        }
    }

    /// A snapshot: nothing but its head, and something long that belongs to it.
    fn export(&self) -> Bytes {
        let end = |dot: Dot| {
            let waits = dot.seq < self.gate.received().get(dot.stream);
            let next = Dot { seq: Seq(dot.seq.0 + 1), ..dot };
            (dot.seq, if waits { self.held(next).batch.prev_hash } else { self.end_of(dot.stream).1 })
        };
        let ends = self.gate.applied().iter().map(|dot| (dot.stream, end(dot))).collect();
        let mut bytes = Vec::new();
        Record::Head(SnapshotHead(ends)).encode(&mut bytes);
        for _ in 0..3 {
            let dot = Dot { stream: stream(0), seq: Seq(0) };
            let (kind, payload) = (EntryKind::Unknown(99), vec![7; 200_000].into());
            let entry = SnapshotEntry { doc: DocId(1), dot, hlc: Hlc(0), kind, payload };
            Record::Entry(entry).encode(&mut bytes);
        }
        bytes.into()
    }

    fn import(&mut self, snapshot: &SnapshotHead) {
        self.snapshots += 1;
        for (&stream, &(seq, hash)) in &snapshot.0 {
            if seq > self.gate.received().get(stream) {
                self.log.remove(&stream);
                self.begins.insert(stream, (seq, hash));
            }
        }
        self.gate.skip_to(&snapshot.frontier());
        self.drain();
    }

    fn append(&mut self, stream: StreamId, entries: Vec<Entry>) {
        let (last, hash) = self.end_of(stream);
        let deps = self.gate.applied().without(stream);
        let mut builder = BatchBuilder::new(stream, Seq(last.0 + 1), Hlc(0), deps, hash);
        entries.into_iter().for_each(|entry| builder.push(entry).expect("a few small entries fit"));
        let encoded = builder.finish();
        self.gate.commit(encoded.batch.last_dot());
        self.shown.push(Dot { stream, seq: encoded.batch.first_seq });
        self.log.entry(stream).or_default().push(Arc::new(encoded));
    }

    fn held(&self, first: Dot) -> Arc<EncodedBatch> {
        let batches = &self.log[&first.stream];
        let found = batches.iter().find(|encoded| encoded.batch.first_seq == first.seq);
        Arc::clone(found.expect("what was received is kept"))
    }

    fn store(&mut self, at: usize, encoded: &Arc<EncodedBatch>) -> Arrival {
        let dot = encoded.batch.last_dot();
        if dot.stream == self.own(at) && !self.gate.received().covers(dot) {
            return Arrival::Astray;
        }
        let (last, hash) = self.end_of(encoded.batch.stream);
        let repeats = encoded.batch.last_dot().seq == last;
        if encoded.batch.first_seq.0 == last.0 + 1 && encoded.batch.prev_hash != hash
            || repeats && encoded.hash() != hash
        {
            return Arrival::Astray;
        }
        let arrival = self.gate.receive(&encoded.batch);
        if arrival == Arrival::Duplicate {
            self.duplicates += 1;
        }
        if arrival != Arrival::Next {
            return arrival;
        }
        self.log.entry(encoded.batch.stream).or_default().push(Arc::clone(encoded));
        self.drain();
        arrival
    }

    fn drain(&mut self) {
        while let Some(step) = self.gate.next_step() {
            match step {
                Step::LookAt(first) => {
                    let held = self.held(first);
                    self.gate.look_at(&held.batch);
                }
                Step::Apply(first) => {
                    let deps = self.held(first).batch.deps.clone();
                    assert!(self.gate.applied().covers_all(&deps), "an effect before its cause");
                    self.gate.apply(first.stream).expect("its turn");
                    assert!(!self.shown.contains(&first), "shown twice");
                    self.shown.push(first);
                }
            }
        }
    }

    pub(crate) fn read(&self, from: Dot, bytes_max: usize) -> Found {
        let begins = self.begins.get(&from.stream).map_or(0, |(last, _)| last.0);
        if from.seq.0 <= begins {
            return Found::Truncated { first_kept: Seq(begins + 1) };
        }
        let mut bytes = 0;
        let batches = self.log.get(&from.stream).into_iter().flatten();
        let wanted = batches.filter(|encoded| encoded.batch.last_dot().seq >= from.seq);
        let mut taken = Vec::new();
        for encoded in wanted {
            bytes += encoded.bytes.len();
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(encoded.bytes.clone());
        }
        Found::Batches(taken)
    }
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) ends: BTreeMap<(usize, usize), End>,
    /// Milliseconds from one replica to another.
    pub(crate) delays: BTreeMap<(usize, usize), u64>,
    /// Directions in which everything vanishes.
    pub(crate) mute: BTreeSet<(usize, usize)>,
    /// Batches sent over all links.
    pub(crate) sent: usize,
    /// Entries written, each of which has its number for a payload.
    written: u64,
    /// Replicas that had to part with a stream, in order, and where.
    pub(crate) parted: Vec<(usize, Dot)>,
    /// Why links ended.
    pub(crate) ended: Vec<ByeReason>,
    /// Frames that vanish one by one, the next of which come first.
    pub(crate) lose: u32,
}

impl World {
    pub(crate) fn new(replicas: usize) -> Self {
        Self {
            now: Time(0),
            replicas: (0..replicas).map(|_| Replica::default()).collect(),
            ends: BTreeMap::new(),
            delays: BTreeMap::new(),
            mute: BTreeSet::new(),
            sent: 0,
            written: 0,
            parted: Vec::new(),
            ended: Vec::new(),
            lose: 0,
        }
    }

    pub(crate) fn write(&mut self, at: usize, entries: usize) {
        let entries = (0..entries).map(|_| {
            self.written += 1;
            let payload = self.written.to_le_bytes().to_vec().into();
            Entry { doc: NO_DOC, kind: EntryKind::Unknown(200), hlc: Hlc(0), payload }
        });
        let (entries, own) = (entries.collect(), self.replicas[at].own(at));
        self.replicas[at].append(own, entries);
        self.tell_received(at);
    }

    fn hears(&self, at: usize) -> BTreeSet<ReplicaId> {
        self.ends.keys().filter(|ends| ends.0 == at).map(|ends| stream(ends.1).replica).collect()
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        if a == b || self.ends.contains_key(&(a, b)) {
            return;
        }
        for (at, to) in [(a, b), (b, a)] {
            let mut out = Vec::new();
            let ends = Ends {
                own: self.replicas[at].own(at),
                peer: stream(to).replica,
                role: Role::Leader,
                version: 2,
            };
            let received = self.replicas[at].gate.received().clone();
            let mut hears = self.hears(at);
            hears.insert(stream(to).replica);
            let link = Link::new(self.now, ends, received, hears, self.now.0, &mut out);
            let (way, storing) = (VecDeque::new(), VecDeque::new());
            let end = End {
                link,
                way,
                storing,
                wake: None,
                reading: None,
                exporting: Bytes::new(),
                piece: None,
                imports: false,
                steps: VecDeque::new(),
                closed: None,
            };
            self.ends.insert((at, to), end);
            self.carry_out((at, to), out);
        }
        self.tell_hears(a);
        self.tell_hears(b);
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        for ends in [(a, b), (b, a)] {
            self.ends.remove(&ends);
            self.mute.remove(&ends);
        }
        self.tell_hears(a);
        self.tell_hears(b);
    }

    fn tell_hears(&mut self, at: usize) {
        let hears = self.hears(at);
        for to in 0..self.replicas.len() {
            self.handle((at, to), Input::Hears(hears.clone()));
        }
    }

    fn tell_received(&mut self, at: usize) {
        let received = self.replicas[at].gate.received().clone();
        for to in 0..self.replicas.len() {
            self.handle((at, to), Input::Received(received.clone()));
        }
    }

    fn handle(&mut self, ends: (usize, usize), input: Input) {
        let Some(end) = self.ends.get_mut(&ends) else { return };
        let mut out = Vec::new();
        end.link.handle(self.now, input, &mut out);
        self.carry_out(ends, out);
    }

    fn carry_out(&mut self, ends: (usize, usize), out: Vec<Output>) {
        let arrives = self.now.after(self.delays.get(&ends).copied().unwrap_or(1));
        let stores = self.now.after(1);
        let busy = self.ends.iter().any(|(other, end)| other.0 == ends.0 && end.imports);
        let replica = &mut self.replicas[ends.0];
        let (mut imported, mut went_back) = (false, None);
        let Some(end) = self.ends.get_mut(&ends) else { return };
        for output in out {
            assert!(end.closed.is_none(), "nothing comes out of a closed link");
            match output {
                Output::Send(frame) | Output::SendEphemeral(frame) => {
                    if frame[0] == 5 {
                        self.sent += 1;
                        assert!(batch_range(&frame.slice(1..)).is_some());
                    }
                    if self.lose > 0 {
                        self.lose -= 1;
                    } else {
                        end.way.push_back((arrives, frame));
                    }
                }
                Output::Read { from, bytes_max } => {
                    assert!(end.reading.is_none(), "one read at a time");
                    end.reading = Some((from, bytes_max));
                }
                Output::Store(encoded) => end.storing.push_back((stores, encoded)),
                Output::ReadSnapshot { offset, bytes_max } => {
                    if offset == 0 {
                        end.exporting = replica.export();
                    }
                    assert!(end.piece.replace(bytes_max).is_none(), "one read at a time");
                }
                Output::BeginImport => {
                    end.imports = !busy;
                    end.steps.push_back(Input::ImportBegun(!busy));
                }
                Output::Stage(_) => end.steps.push_back(Input::Staged),
                Output::Import(snapshot) => {
                    replica.import(&snapshot);
                    end.imports = false;
                    end.steps.push_back(Input::Imported(replica.gate.received().clone()));
                    imported = true;
                }
                Output::WakeAt(at) => end.wake = Some(end.wake.map_or(at, |wake| wake.min(at))),
                Output::Close(bye) => {
                    self.ended.push(bye.reason);
                    end.closed = Some(bye);
                }
                Output::WentBack { held } => went_back = Some(held),
                // Who calls is tried by hand.
                Output::Called { .. } | Output::Returned { .. } => {}
                Output::Ephemeral { .. } | Output::Truncated { .. } => {}
            }
        }
        if imported {
            self.tell_received(ends.0);
        }
        if let Some(held) = went_back {
            self.went_back(ends.0, held);
        }
    }

    /// Does what a server does: a new stream, and where something was written again, new links.
    fn went_back(&mut self, at: usize, held: Dot) {
        if self.replicas[at].own(at) != held.stream {
            return;
        }
        self.parted.push((at, held));
        if self.replicas[at].part(at, held) {
            (0..self.replicas.len()).for_each(|to| self.cut(at, to));
        }
        let own = self.replicas[at].own(at);
        for to in 0..self.replicas.len() {
            self.handle((at, to), Input::Renewed(own));
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Time> {
        let times = self.ends.values().flat_map(|end| {
            let way = end.way.front().map(|(at, _)| *at);
            let storing = end.storing.front().map(|(at, _)| *at);
            let reads = end.reading.is_some() || end.piece.is_some() || !end.steps.is_empty();
            let reading = reads.then_some(self.now);
            let closed = end.closed.as_ref().map(|_| self.now);
            [way, storing, reading, closed, end.wake].into_iter().flatten()
        });
        times.min()
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now.after(ms);
        let mut steps = 0;
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            let all: Vec<_> = self.ends.keys().copied().collect();
            all.into_iter().for_each(|ends| self.happen(ends));
            steps += 1;
            assert!(steps < 1_000_000, "links talk without end");
        }
        self.now = until;
    }

    fn happen(&mut self, ends: (usize, usize)) {
        let (at, to) = ends;
        let now = self.now;
        let Some(end) = self.ends.get_mut(&ends) else { return };
        if end.closed.is_some() {
            return self.cut(at, to);
        }
        if let Some((from, bytes_max)) = end.reading.take() {
            let found = self.replicas[at].read(from, bytes_max);
            self.handle(ends, Input::Read(found));
        }
        let Some(end) = self.ends.get_mut(&ends) else { return };
        if let Some(bytes_max) = end.piece.take() {
            let piece = end.exporting.split_to(end.exporting.len().min(bytes_max));
            let piece = if piece.is_empty() { Piece::End } else { Piece::Bytes(piece) };
            self.handle(ends, Input::SnapshotRead(piece));
        }
        let Some(end) = self.ends.get_mut(&ends) else { return };
        if let Some(step) = end.steps.pop_front() {
            self.handle(ends, step);
        }
        let Some(end) = self.ends.get_mut(&ends) else { return };
        if end.storing.front().is_some_and(|(due, _)| *due <= now) {
            let (_, encoded) = end.storing.pop_front().expect("looked at just now");
            let arrival = self.replicas[at].store(at, &encoded);
            self.handle(ends, Input::Stored(vec![arrival]));
            self.tell_received(at);
        }
        let Some(end) = self.ends.get_mut(&ends) else { return };
        if end.wake.is_some_and(|wake| wake <= now) {
            end.wake = None;
            self.handle(ends, Input::Tick { wall_ms: now.0 });
        }
        let Some(end) = self.ends.get_mut(&ends) else { return };
        if end.way.front().is_some_and(|(due, _)| *due <= now) {
            let (_, frame) = end.way.pop_front().expect("looked at just now");
            if !self.mute.contains(&ends) {
                self.handle((to, at), Input::Frame { frame, wall_ms: now.0 });
            }
        }
    }

    /// Whether all replicas have received and show the same.
    pub(crate) fn is_equal(&self) -> bool {
        let first = self.replicas[0].gate.received();
        self.replicas
            .iter()
            .all(|replica| replica.gate.received() == first && replica.gate.applied() == first)
    }

    /// Per stream, what every replica has received.
    pub(crate) fn received(&self, at: usize) -> &Frontier {
        self.replicas[at].gate.received()
    }
}
