//! Snapshots between regions, given and taken as the server's driver does: read piece by piece, staged in
//! order, and merged with what is there in one go.
//!
//! Invariant: a region takes one snapshot at a time, whoever it is from; its place is free again when the
//! snapshot has been merged, or its link has ended and what was already handed over has been dealt with.

use super::documents::Shown;
use super::plant::Plant;
use super::wire::Way;
use super::world::{Happening, World};
use quire_protocol::ids::DocId;
use quire_protocol::link::{Input, Piece};
use quire_protocol::snapshot::{SnapshotEntry, SnapshotHead};
use quire_storage::{AppendError, Imported, Log};
use std::collections::VecDeque;

/// A disk reads or stages a piece within so many milliseconds, so that a snapshot takes long enough for
/// something to break.
const PIECE_MS: (u64, u64) = (1, 60);
/// While a snapshot is taken, something is made to break in so many of a hundred cases.
const MISHAP_PERCENT: u64 = 50;
/// A link that is cut in the middle of a snapshot is cut within so many milliseconds, and for so long.
const CUT_WITHIN_MS: u64 = 400;
const CUT_MS: (u64, u64) = (100, 3000);

/// What is to be done with a snapshot that comes.
enum Work {
    /// Entries to be staged, and the length of the piece that brought them.
    Stage(Vec<SnapshotEntry>, u64),
    Import(SnapshotHead),
}

/// A snapshot that a region is taking.
pub(super) struct Importing {
    way: Way,
    connection: u64,
    /// Bounded by the credit that the peer has.
    work: VecDeque<Work>,
    /// The disk has been given something to do.
    busy: bool,
    /// Its link has ended: what has been handed over is done all the same, as the server's thread does.
    parted: bool,
}

impl World {
    /// Whether a region can take a snapshot. If so, its place is taken.
    pub(super) fn begin_import(&mut self, way: Way) -> bool {
        let (at, from) = way;
        if self.keeps_all() {
            self.ledger.violate(format!("region {at} was offered a snapshot by region {from}"));
        }
        let Some(connection) = self.connection_number(way) else { return false };
        let region = &mut self.regions[at];
        let Some(log) = region.log.clone().filter(|_| region.importing.is_none()) else { return false };
        if log.begin_import().is_err() {
            drop(log);
            self.power_fails(at);
            return false;
        }
        let work = VecDeque::new();
        region.importing = Some(Importing { way, connection, work, busy: false, parted: false });
        self.totals.snapshots_begun += 1;
        self.say(format_args!("region {at} takes a snapshot from region {from}"));
        self.draw_mishap(way);
        true
    }

    /// Has something break while a snapshot is taken.
    fn draw_mishap(&mut self, way: Way) {
        if !self.is_active() || !self.rng.percent(MISHAP_PERCENT) {
            return;
        }
        let (at, from) = way;
        match self.rng.within(0, 6) {
            0 | 1 => self.arm_power_cut(at),
            2 => self.arm_power_cut(from),
            3 => {
                let ms = self.rng.within(CUT_MS.0, CUT_MS.1);
                let within = self.rng.within(1, CUT_WITHIN_MS);
                self.after(within, Happening::Cut(way, ms));
            }
            4 => {
                let within = self.rng.within(1, CUT_WITHIN_MS);
                self.after(within, Happening::Kill(at));
            }
            _ => {
                let within = self.rng.within(1, CUT_WITHIN_MS);
                self.after(within, Happening::Kill(from));
            }
        }
    }

    /// A region's disk is to read the next piece of a snapshot for a peer.
    pub(super) fn read_piece_soon(&mut self, way: Way, offset: u64, bytes_max: usize) {
        let Some(connection) = self.connection_number(way) else { return };
        let ms = self.rng.within(PIECE_MS.0, PIECE_MS.1);
        let bytes_max = bytes_max.min(self.workload.piece_bytes);
        self.after(ms, Happening::Piece(way, connection, offset, bytes_max));
    }

    pub(super) fn read_piece(&mut self, way: Way, connection: u64, offset: u64, bytes_max: usize) {
        if self.connection_number(way) != Some(connection) {
            return;
        }
        let (at, to) = way;
        let region = &mut self.regions[at];
        let Some(log) = region.log.clone() else { return };
        let exporting = region.exporting.remove(&to).filter(|_| offset > 0);
        let piece = match exporting.map_or_else(|| log.export(), Ok) {
            Ok(mut export) => match export.next(bytes_max) {
                Ok(Some(bytes)) => {
                    region.exporting.insert(to, export);
                    Piece::Bytes(bytes)
                }
                Ok(None) => Piece::End,
                Err(error) => Piece::Failed(error.to_string()),
            },
            Err(error) => Piece::Failed(error.to_string()),
        };
        drop(log);
        self.handle(way, Input::SnapshotRead(piece));
    }

    pub(super) fn stage_soon(&mut self, way: Way, entries: Vec<SnapshotEntry>) {
        let bytes = self.staged_piece(way);
        self.work_soon(way, Work::Stage(entries, bytes));
    }

    pub(super) fn import_soon(&mut self, way: Way, snapshot: SnapshotHead) {
        self.work_soon(way, Work::Import(snapshot));
    }

    fn work_soon(&mut self, way: Way, work: Work) {
        let connection = self.connection_number(way);
        let importing = self.regions[way.0].importing.as_mut();
        match importing.filter(|it| it.way == way && Some(it.connection) == connection) {
            Some(importing) => importing.work.push_back(work),
            None => self.ledger.violate("a snapshot comes that nobody has asked for".to_owned()),
        }
        self.go_on_importing(way.0);
    }

    /// Has the disk do what is next, or frees the place of a snapshot that nothing more comes of.
    fn go_on_importing(&mut self, at: usize) {
        let ms = self.rng.within(PIECE_MS.0, PIECE_MS.1);
        let region = &mut self.regions[at];
        let (life, importing) = (region.life, &mut region.importing);
        match importing {
            Some(it) if it.busy => {}
            Some(it) if !it.work.is_empty() => {
                it.busy = true;
                self.after(ms, Happening::Import(at, life));
            }
            Some(it) if it.parted => *importing = None,
            _ => {}
        }
    }

    /// A region's end of a connection is no more.
    pub(super) fn part_snapshots(&mut self, way: Way, connection: u64) {
        let region = &mut self.regions[way.0];
        region.exporting.remove(&way.1);
        let importing = region.importing.as_mut();
        if let Some(it) = importing.filter(|it| it.way == way && it.connection == connection) {
            it.parted = true;
            self.go_on_importing(way.0);
        }
    }

    /// A region's disk comes round to what is next of a snapshot.
    pub(super) fn import_on(&mut self, at: usize, life: u64) {
        let region = &mut self.regions[at];
        let Some(log) = region.log.clone().filter(|_| region.life == life) else { return };
        let Some(importing) = &mut region.importing else { return };
        importing.busy = false;
        let (way, connection) = (importing.way, importing.connection);
        let done = match importing.work.pop_front() {
            Some(Work::Stage(entries, bytes)) => {
                log.stage(entries).map(|()| self.tell_staged(way, connection, bytes))
            }
            Some(Work::Import(snapshot)) => self.import(way, connection, &*log, &snapshot),
            None => Ok(()),
        };
        if let Err(error) = done {
            self.say(format_args!("region {at} cannot take the snapshot: {error}"));
            drop(log);
            return self.power_fails(at);
        }
        self.go_on_importing(at);
    }

    fn tell_staged(&mut self, way: Way, connection: u64, bytes: u64) {
        if self.connection_number(way) == Some(connection) {
            self.has_taken(way, bytes);
            self.handle(way, Input::Staged);
        }
    }

    fn import(
        &mut self,
        way: Way,
        connection: u64,
        log: &dyn Log,
        snapshot: &SnapshotHead,
    ) -> Result<(), AppendError> {
        let (at, from) = way;
        self.ledger.imports(at);
        let answer = match log.import(snapshot) {
            Ok(imported) => {
                self.totals.snapshots_taken += 1;
                let docs = imported.docs.len();
                self.say(format_args!("region {at} has merged region {from}'s snapshot of {docs} documents"));
                self.regions[at].importing = None;
                self.regions[at].durable = log.received();
                self.show_imported(at, log, snapshot, imported);
                Input::Imported(log.received())
            }
            Err(AppendError::Refused(reason)) => Input::ImportRefused(reason.to_string()),
            Err(error) => return Err(error),
        };
        if self.connection_number(way) == Some(connection) {
            self.handle(way, answer);
        }
        self.tell_received(at);
        self.members_changed(at);
        Ok(())
    }

    /// Shows what a snapshot has brought, as it is in the log now, and then what it let through.
    fn show_imported(&mut self, at: usize, log: &dyn Log, snapshot: &SnapshotHead, imported: Imported) {
        let (after, last) = imported.positions;
        let mut entries: Vec<Shown> = Vec::new();
        for doc in imported.docs {
            if self.planted.is(Plant::SnapshotReplaces) {
                self.regions[at].shows.empty(doc);
            }
            let tail = match log.load(doc) {
                Ok(stored) => stored.into_iter().flat_map(|stored| stored.tail),
                Err(error) => {
                    return self.ledger.violate(format!("region {at} cannot read a document: {error}"));
                }
            };
            let fresh = tail.filter(|entry| entry.position > after && entry.position <= last);
            entries.extend(fresh.map(|entry| Shown::of((doc, entry))));
        }
        let planted = self.planted;
        let shows = &mut self.regions[at].shows;
        shows.read_lives(log);
        let news: Vec<(DocId, _)> = shows.merge(at, &entries, planted, &mut self.ledger);
        shows.frontier.merge(&snapshot.frontier());
        self.ledger.check_snapshot(at, snapshot, shows);
        self.tell_sessions(at, &news);
        let applied: Vec<Shown> =
            imported.applied.into_iter().flat_map(|batch| batch.entries).map(Shown::of).collect();
        self.show(at, &applied);
        self.look_at_fields(at);
        self.check_fields(at);
    }
}
