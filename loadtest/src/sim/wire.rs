//! The links between regions: real link machines over connections that delay, stall, damage and break.
//!
//! Carries out a machine's orders as the server's driver does. A frame on a connection comes after the
//! one before it; one that is damaged ends the connection, and so does a region that goes.

use super::plant::Plant;
use super::world::{Happening, World};
use bytes::Bytes;
use quire_protocol::batch::EncodedBatch;
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{Dot, ReplicaId};
use quire_protocol::link::hello::VERSIONS;
use quire_protocol::link::limits::CREDIT_WINDOW_BYTES;
use quire_protocol::link::{Bye, ByeReason, Ends, Found, Input, Link, Message, Output, Role};
use quire_protocol::time::Time;
use quire_storage::ReadBatchesError;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What frames begin with that carry a batch or a piece of a snapshot.
const BATCH: u8 = 5;
const CHUNK: u8 = 10;

/// How many bytes of a frame are counted against the receiver's credit: all but what says what they are.
fn weight(frame: &Bytes) -> u64 {
    match frame.first() {
        Some(&BATCH) => frame.len() as u64 - 1,
        Some(&CHUNK) => match Message::decode(frame.clone()) {
            Ok(Message::SnapshotChunk { bytes, .. }) => bytes.len() as u64,
            _ => 0,
        },
        _ => 0,
    }
}

/// One direction: from a region, to its neighbour.
pub(super) type Way = (usize, usize);

pub(super) fn pair((a, b): Way) -> Way {
    (a.min(b), a.max(b))
}

/// A region's end of a connection.
pub(super) struct End {
    link: Link,
    wake: Option<Time>,
    pub(super) closed: bool,
    /// Bytes of batches and snapshots that were sent to it and that its log has not answered for.
    in_flight: u64,
    /// The length of the piece of a snapshot that has just come.
    piece: u64,
}

/// A connection between two regions.
pub(super) struct Connection {
    pub(super) number: u64,
    /// A frame of it was damaged: it may end as malformed.
    pub(super) damaged: bool,
    /// A frame of it was lost, and it lived on.
    lossy: bool,
    /// One of its regions has applied that the other was removed: it may end for that.
    pub(super) removed: bool,
    /// When the last frame of each direction arrives.
    lanes: [Time; 2],
    /// Frames of each direction that have met deafness and come when it has ended, in their order.
    late: [VecDeque<Bytes>; 2],
    pub(super) ends: [End; 2],
}

/// What is wrong with the way between two regions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    pub(super) cut: bool,
    /// The direction in which nothing comes through, and whether it comes later or never.
    pub(super) deaf: Option<(Way, Deaf)>,
    /// The next frame with a batch is damaged.
    pub(super) damage: bool,
    pub(super) delay_ms: u64,
}

/// What becomes of frames that meet a deaf direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deaf {
    /// They come when it has ended.
    Late,
    /// They never come, though the connection may live on.
    Lost,
}

const fn side((at, to): Way) -> usize {
    if at < to { 0 } else { 1 }
}

impl World {
    /// Links two regions, where they can be.
    pub(super) fn dial(&mut self, of: Way) {
        let again = self.rng.within(200, 900);
        self.after(again, Happening::Dial(of));
        let path = &self.paths[&of];
        let up = |at: usize| self.regions[at].log.is_some() && !self.regions[at].stopping;
        if path.cut || path.deaf.is_some() || !up(of.0) || !up(of.1) || !self.may_link(of.0, of.1) {
            return;
        }
        match self.connections.get(&of) {
            Some(connection) if connection.ends.iter().all(|end| !end.closed) => return,
            Some(_) => self.drop_connection(of),
            None => {}
        }
        self.connect(of);
    }

    fn connect(&mut self, of: Way) {
        let number = self.next_number();
        let back = (of.1, of.0);
        let mut orders = Vec::new();
        let now = self.now;
        let ends = [of, back].map(|(at, to)| {
            let region = &self.regions[at];
            let log = region.log.as_ref().expect("it is up");
            let (peer, version) = (super::region::replica(to), *VERSIONS.end());
            let ends = Ends { own: log.stream(), peer, role: Role::Leader, version };
            let mut hears = self.hears(at);
            hears.insert(super::region::replica(to));
            let mut out = Vec::new();
            let link = Link::new(now, ends, log.received(), hears, region.wall_ms(now.0), &mut out);
            orders.push(((at, to), out));
            End { link, wake: None, closed: false, in_flight: 0, piece: 0 }
        });
        let connection = Connection {
            number,
            damaged: false,
            lossy: false,
            removed: false,
            lanes: [now; 2],
            late: Default::default(),
            ends,
        };
        self.connections.insert(of, connection);
        self.say(format_args!("regions {} and {} are linked", of.0, of.1));
        for (way, out) in orders {
            let found = self.carry_out(way, out);
            self.hear(way, found);
        }
        self.tell_hears(of.0);
        self.tell_hears(of.1);
    }

    pub(super) fn drop_connection(&mut self, of: Way) {
        self.note_acknowledged(of);
        self.note_acknowledged((of.1, of.0));
        self.count_paced(of);
        if let Some(connection) = self.connections.remove(&of) {
            self.part_snapshots(of, connection.number);
            self.part_snapshots((of.1, of.0), connection.number);
            self.tell_hears(of.0);
            self.tell_hears(of.1);
        }
    }

    pub(super) fn drop_connections_of(&mut self, at: usize) {
        let of_it: Vec<Way> =
            self.connections.keys().copied().filter(|of| of.0 == at || of.1 == at).collect();
        of_it.into_iter().for_each(|of| self.drop_connection(of));
    }

    /// The replicas that a region has live links with.
    pub(super) fn hears(&self, at: usize) -> BTreeSet<ReplicaId> {
        let live =
            self.neighbours(at).into_iter().filter(|to| self.end((at, *to)).is_some_and(|end| !end.closed));
        live.map(super::region::replica).collect()
    }

    pub(super) fn neighbours(&self, at: usize) -> Vec<usize> {
        let of_it = self.paths.keys().filter(|of| of.0 == at || of.1 == at);
        of_it.map(|of| if of.0 == at { of.1 } else { of.0 }).collect()
    }

    fn end(&self, way: Way) -> Option<&End> {
        Some(&self.connections.get(&pair(way))?.ends[side(way)])
    }

    /// What a region knows its peer to have, over a live link.
    pub(super) fn held(&self, way: Way) -> Option<&Frontier> {
        self.end(way).filter(|end| !end.closed).map(|end| end.link.held())
    }

    /// What a region need not keep for its peer, over a live link.
    pub(super) fn acknowledged(&self, way: Way) -> Option<Frontier> {
        self.end(way).filter(|end| !end.closed).map(|end| end.link.acknowledged().into_owned())
    }

    /// How many entries of a region its peer is not known to have, over a live link.
    pub(super) fn queued(&self, way: Way) -> Option<u64> {
        self.end(way).filter(|end| !end.closed).map(|end| end.link.figures().queue_entries)
    }

    /// Takes note of how often the ends of a connection held something back to keep the pace.
    pub(super) fn count_paced(&mut self, of: Way) {
        let ends = self.connections.get(&of).into_iter().flat_map(|connection| &connection.ends);
        self.totals.paced += ends.map(|end| end.link.figures().paced).sum::<u64>();
    }

    /// The number of the connection that a way is part of.
    pub(super) fn connection_number(&self, way: Way) -> Option<u64> {
        self.connections.get(&pair(way)).map(|connection| connection.number)
    }

    fn end_mut(&mut self, way: Way) -> Option<&mut End> {
        Some(&mut self.connections.get_mut(&pair(way))?.ends[side(way)])
    }

    pub(super) fn tell_all(&mut self, at: usize, input: &Input) {
        for to in self.neighbours(at) {
            self.handle((at, to), input.clone());
        }
    }

    fn tell_hears(&mut self, at: usize) {
        // The links of a region that goes down end one by one: those that are left hear no more.
        if self.regions[at].log.is_none() {
            return;
        }
        let hears = self.hears(at);
        self.tell_all(at, &Input::Hears(hears));
        self.look_at_fields(at);
    }

    /// Tells a region's links what is durable there.
    pub(super) fn tell_received(&mut self, at: usize) {
        let received = self.regions[at].durable.clone();
        self.tell_all(at, &Input::Received(received));
    }

    /// Has a machine hear of something, and of what is found on the way.
    pub(super) fn handle(&mut self, way: Way, input: Input) {
        self.hear(way, VecDeque::from([input]));
    }

    fn hear(&mut self, way: Way, mut inputs: VecDeque<Input>) {
        let now = self.now;
        while let Some(input) = inputs.pop_front() {
            let Some(end) = self.end_mut(way).filter(|end| !end.closed) else { return };
            let mut out = Vec::new();
            end.link.handle(now, input, &mut out);
            inputs.extend(self.carry_out(way, out));
        }
    }

    /// Carries out what a machine ordered. Returns what was found where that took no waiting.
    fn carry_out(&mut self, way: Way, out: Vec<Output>) -> VecDeque<Input> {
        let mut found = VecDeque::new();
        for output in out {
            match output {
                Output::Send(frame) | Output::SendEphemeral(frame) => self.send(way, frame),
                Output::Read { from, bytes_max } => {
                    found.push_back(Input::Read(self.read(way.0, from, bytes_max)));
                }
                Output::Store(encoded) => self.store(way, encoded),
                Output::Ephemeral { .. } | Output::Called { .. } | Output::Returned { .. } => {}
                Output::Truncated { stream, .. } => {
                    self.say(format_args!("region {} has no more of {stream} what {} lacks", way.0, way.1));
                }
                Output::BeginImport => found.push_back(Input::ImportBegun(self.begin_import(way))),
                Output::ReadSnapshot { offset, bytes_max } => self.read_piece_soon(way, offset, bytes_max),
                Output::Stage(entries) => self.stage_soon(way, entries),
                Output::Import(snapshot) => self.import_soon(way, snapshot),
                Output::WentBack { held } => self.went_back(way, held),
                Output::WakeAt(at) => self.set_alarm(way, at),
                Output::Close(bye) => self.close(way, &bye),
            }
        }
        found
    }

    fn read(&self, at: usize, from: Dot, bytes_max: usize) -> Found {
        let Some(log) = &self.regions[at].log else { return Found::Failed("the region is down".to_owned()) };
        match log.read_batches(from.stream, from.seq, bytes_max) {
            Ok(batches) => Found::Batches(batches),
            Err(ReadBatchesError::Truncated { first_kept }) => Found::Truncated { first_kept },
            Err(error) => Found::Failed(error.to_string()),
        }
    }

    fn store(&mut self, way: Way, encoded: Arc<EncodedBatch>) {
        let Some(number) = self.connection_number(way) else { return };
        self.regions[way.0].batches.push((way, number, encoded));
        self.commit_soon(way.0);
    }

    fn set_alarm(&mut self, way: Way, at: Time) {
        let Some(number) = self.connection_number(way) else { return };
        if let Some(end) = self.end_mut(way).filter(|end| end.wake.is_none_or(|wake| at < wake)) {
            end.wake = Some(at);
            self.at(at, Happening::Wake(way, number));
        }
    }

    pub(super) fn wake(&mut self, way: Way, number: u64) {
        let (now, wall_ms) = (self.now, self.regions[way.0].wall_ms(self.now.0));
        if self.connection_number(way) != Some(number) {
            return;
        }
        if let Some(end) = self.end_mut(way).filter(|end| end.wake.is_some_and(|wake| wake <= now)) {
            end.wake = None;
            self.handle(way, Input::Tick { wall_ms });
            self.note_acknowledged(way);
        }
    }

    fn close(&mut self, way: Way, bye: &Bye) {
        self.send(way, Message::Bye(bye.clone()).encode());
        self.note_acknowledged(way);
        let Some(connection) = self.connections.get_mut(&pair(way)) else { return };
        connection.ends[side(way)].closed = true;
        let number = connection.number;
        let (damaged, lossy, removed) = (connection.damaged, connection.lossy, connection.removed);
        self.part_snapshots(way, number);
        let (at, to) = way;
        self.say(format_args!("region {at} ends its link to {to}: {} ({})", bye.reason.name(), bye.detail));
        let has_reason = match bye.reason {
            ByeReason::Silent => true,
            ByeReason::Malformed => damaged,
            ByeReason::Fork => lossy && self.is_of_restored(bye),
            ByeReason::Stopping => self.regions[at].stopping || self.regions[to].stopping,
            ByeReason::Removed => removed,
            ByeReason::Renewed => [at, to].map(Some).contains(&self.workload.restored),
            _ => false,
        };
        if !has_reason {
            let reason = bye.reason.name();
            self.ledger.violate(format!("regions {at} and {to} are parted as {reason}: {}", bye.detail));
        }
        self.tell_hears(at);
    }

    /// Whether a link ends for the two histories of a region whose disk went back. What is compared when a link
    /// begins may have been lost, as on no real connection; the next link begins with it again.
    fn is_of_restored(&self, bye: &Bye) -> bool {
        let own = |at| format!("stream {}.", super::region::replica(at).0);
        let restored = self.workload.restored.map(own);
        restored.is_some_and(|own| bye.detail.starts_with(&own))
    }

    pub(super) fn send(&mut self, way: Way, frame: Bytes) {
        let of = pair(way);
        let path = self.paths.get_mut(&of).expect("only neighbours are linked");
        let delay = path.delay_ms;
        let weight = weight(&frame);
        let mut frame = frame;
        let Some(connection) = self.connections.get_mut(&of) else { return };
        if weight > 0 {
            self.batch_bytes_max = self.batch_bytes_max.max(weight);
            connection.ends[1 - side(way)].in_flight += weight;
            if std::mem::take(&mut path.damage) {
                let mut bytes = frame.to_vec();
                let at = bytes.len() / 2;
                bytes[at] ^= 0x10;
                (frame, connection.damaged) = (bytes.into(), true);
            }
        }
        let in_flight = connection.ends[1 - side(way)].in_flight;
        let jitter = self.rng.within(0, 1 + delay / 4);
        let lane = &mut connection.lanes[side(way)];
        *lane = (*lane).max(self.now.after(delay + jitter));
        let (arrives, number) = (*lane, connection.number);
        self.at(arrives, Happening::Frame(way, number, frame));
        if in_flight > CREDIT_WINDOW_BYTES + self.batch_bytes_max {
            let (from, to) = way;
            self.ledger.violate(format!("{in_flight} bytes are on their way from region {from} to {to}"));
        }
    }

    /// A frame comes to the end of its way.
    pub(super) fn arrive(&mut self, way: Way, number: u64, frame: Bytes) {
        let of = pair(way);
        let Some(connection) = self.connections.get_mut(&of).filter(|it| it.number == number) else { return };
        match self.paths[&of].deaf {
            Some((deaf, Deaf::Lost)) if deaf == way => {
                connection.ends[1 - side(way)].in_flight -= weight(&frame);
                connection.lossy = true;
                // No real connection loses a frame and lives on. Batches are asked for again; what comes
                // of a snapshot then does not fit together.
                connection.damaged |= matches!(frame.first(), Some(&CHUNK));
                return;
            }
            Some((deaf, Deaf::Late)) if deaf == way => {
                return connection.late[side(way)].push_back(frame);
            }
            _ => {}
        }
        let (from, at) = way;
        if self.planted.is(Plant::ForwardWithoutCheck) && frame.first() == Some(&BATCH) {
            for other in self.neighbours(at).into_iter().filter(|other| *other != from) {
                if self.end((at, other)).is_some_and(|end| !end.closed) {
                    self.send((at, other), frame.clone());
                }
            }
        }
        if let Ok(Message::Frontier { received, .. }) = Message::decode(frame.clone()) {
            self.meets(at, from, &received);
        }
        let mut frame = frame;
        if self.planted.is(Plant::CreditIgnored)
            && matches!(Message::decode(frame.clone()), Ok(Message::Credit(_)))
        {
            frame = Message::Credit(1 << 40).encode();
        }
        let wall_ms = self.regions[at].wall_ms(self.now.0);
        if let Some(end) = self.end_mut((at, from)).filter(|_| frame.first() == Some(&CHUNK)) {
            end.piece = weight(&frame);
        }
        self.handle((at, from), Input::Frame { frame, wall_ms });
        // A piece without a whole entry waits for nothing.
        let bytes = self.staged_piece((at, from));
        self.has_taken((at, from), bytes);
    }

    /// A path is whole again: what is late comes now, before all else.
    pub(super) fn mend(&mut self, of: Way) {
        let path = self.paths.get_mut(&of).expect("only paths break");
        (path.cut, path.deaf) = (false, None);
        let Some(connection) = self.connections.get_mut(&of) else { return };
        let number = connection.number;
        for (way, late) in [of, (of.1, of.0)].into_iter().zip(std::mem::take(&mut connection.late)) {
            late.into_iter().for_each(|frame| self.arrive(way, number, frame));
        }
    }

    /// The length of the piece of a snapshot that has just come, and is to be staged.
    pub(super) fn staged_piece(&mut self, way: Way) -> u64 {
        self.end_mut(way).map_or(0, |end| std::mem::take(&mut end.piece))
    }

    /// A region's log has answered for so many bytes of a peer.
    pub(super) fn has_taken(&mut self, way: Way, bytes: u64) {
        if let Some(end) = self.end_mut(way) {
            end.in_flight = end.in_flight.saturating_sub(bytes);
        }
    }

    /// Tells a link what its batches were to the log.
    pub(super) fn answer(&mut self, way: Way, number: u64, stored: &[(Arrival, u64)]) {
        if self.connection_number(way) != Some(number) {
            return;
        }
        self.has_taken(way, stored.iter().map(|(_, bytes)| bytes).sum());
        self.handle(way, Input::Stored(stored.iter().map(|(arrival, _)| *arrival).collect()));
    }

    /// Whether every two neighbours that belong to the cluster are linked.
    pub(super) fn is_linked(&self) -> bool {
        let members = self.members();
        let mut of_members =
            self.paths.keys().filter(|of| members.contains(&of.0) && members.contains(&of.1));
        of_members.all(|of| {
            self.connections.get(of).is_some_and(|connection| connection.ends.iter().all(|end| !end.closed))
        })
    }
}
