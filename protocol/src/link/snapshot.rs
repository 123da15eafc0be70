//! A snapshot on its way between two regions: what one gives, and what the other takes.
//!
//! A peer that lacks entries which the log no longer has is offered a snapshot. It asks for it when it has
//! room to take one, since several peers may offer theirs at once. A snapshot is sent beside the batches of
//! streams that the log still has, within the same credit.
//!
//! Invariant: at most one snapshot is given and one taken at a time, and each is taken whole or not at all.

use super::check::check_record;
use super::limits::{CHUNK_BYTES_MAX, CREDIT_WINDOW_BYTES, SNAPSHOT_PINGS_MAX};
use super::message::Message;
use super::{Bye, ByeReason, Output};
use crate::frontier::Frontier;
use crate::snapshot::{Record, SnapshotHead, SnapshotReader};
use bytes::Bytes;
use std::collections::VecDeque;

/// The next piece of the snapshot that is being given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of its bytes.
    Bytes(Bytes),
    /// There is no more.
    End,
    /// It cannot be read, for this reason.
    Failed(String),
}

fn hash_of(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    first
}

/// What is given to the peer.
#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Of the last offer.
    number: u64,
    sending: Option<Sending>,
}

#[derive(Debug, Default)]
struct Sending {
    number: u64,
    offset: u64,
    hasher: blake3::Hasher,
    reading: bool,
    /// Has been read, and waits for the peer to allow it.
    read: Option<Bytes>,
}

impl Giving {
    /// Offers a snapshot to a peer that needs so much before the log can serve it; not while it is being
    /// sent one.
    pub(super) fn offer(&mut self, needed: Frontier) -> Option<Message> {
        if self.sending.is_some() || needed.is_empty() {
            return None;
        }
        self.number += 1;
        Some(Message::SnapshotOffer { snapshot: self.number, needed })
    }

    /// The peer wants the snapshot of this number. A newer offer may be on its way: whichever is wanted, what
    /// is sent is of the moment at which it is read.
    pub(super) fn wanted(&mut self, number: u64) {
        if number <= self.number && self.sending.is_none() {
            self.sending = Some(Sending { number, ..Sending::default() });
        }
    }

    /// What to read next, or what to send of what was read, and how many bytes of the peer's credit that
    /// takes. `allowed` says whether it has any left.
    pub(super) fn go_on(&mut self, allowed: bool, out: &mut Vec<Output>) -> Option<(Message, u64)> {
        let sending = self.sending.as_mut().filter(|_| allowed)?;
        if let Some(bytes) = sending.read.take() {
            let offset = sending.offset;
            let len = bytes.len() as u64;
            sending.offset += len;
            sending.hasher.update(&bytes);
            return Some((Message::SnapshotChunk { snapshot: sending.number, offset, bytes }, len));
        }
        if !sending.reading {
            sending.reading = true;
            out.push(Output::ReadSnapshot { offset: sending.offset, bytes_max: CHUNK_BYTES_MAX });
        }
        None
    }

    /// Takes what was read.
    ///
    /// # Errors
    /// When it could not be read: a reason for the peer.
    pub(super) fn read(&mut self, piece: Piece) -> Result<Option<Message>, Bye> {
        let Some(sending) = &mut self.sending else { return Ok(None) };
        sending.reading = false;
        match piece {
            Piece::Bytes(bytes) => sending.read = Some(bytes),
            Piece::End => {
                let (snapshot, bytes, hash) = (sending.number, sending.offset, hash_of(&sending.hasher));
                self.sending = None;
                return Ok(Some(Message::SnapshotDone { snapshot, bytes, hash }));
            }
            Piece::Failed(reason) => {
                let detail = format!("this region's documents cannot be read: {reason}");
                return Err(Bye { reason: ByeReason::Disk, detail });
            }
        }
        Ok(None)
    }
}

/// What is taken from the peer.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// What the peer has offered, and what of it this replica must lack for it to be of use.
    offered: Option<(u64, Frontier)>,
    phase: Phase,
    /// Lengths of the pieces that are being staged, oldest first.
    staging: VecDeque<u64>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// The driver was asked whether a snapshot can be taken.
    Asked,
    Coming(Box<Coming>),
    /// All of it has come.
    Importing,
}

#[derive(Debug, Default)]
struct Coming {
    number: u64,
    offset: u64,
    /// Pings since the last piece.
    pings: u32,
    hasher: blake3::Hasher,
    reader: SnapshotReader,
    head: Option<SnapshotHead>,
}

fn malformed(detail: impl std::fmt::Display) -> Bye {
    Bye { reason: ByeReason::Malformed, detail: detail.to_string() }
}

impl Taking {
    pub(super) fn offered(&mut self, number: u64, needed: Frontier) {
        self.offered = Some((number, needed));
    }

    /// Asks whether a snapshot can be taken, when one is offered that is of use.
    pub(super) fn look(&mut self, received: &Frontier, out: &mut Vec<Output>) {
        if self.offered.as_ref().is_some_and(|(_, needed)| received.covers_all(needed)) {
            self.offered = None;
        }
        if self.offered.is_some() && matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Asked;
            out.push(Output::BeginImport);
        }
    }

    /// A ping later.
    ///
    /// # Errors
    /// When the snapshot that was asked for has stopped coming.
    pub(super) fn pulse(&mut self) -> Result<(), Bye> {
        if let Phase::Coming(coming) = &mut self.phase
            && self.staging.is_empty()
        {
            coming.pings += 1;
            if coming.pings > SNAPSHOT_PINGS_MAX {
                let detail = format!("a snapshot stopped after {} bytes", coming.offset);
                return Err(Bye { reason: ByeReason::Silent, detail });
            }
        }
        Ok(())
    }

    /// The driver says whether a snapshot can be taken. Where it cannot, it is asked again later.
    pub(super) fn begun(&mut self, can: bool) -> Option<Message> {
        self.phase = Phase::Idle;
        let (number, _) = self.offered.take_if(|_| can)?;
        self.phase = Phase::Coming(Box::new(Coming { number, ..Coming::default() }));
        Some(Message::SnapshotWant { snapshot: number })
    }

    /// Takes a piece. Returns how many bytes of it need no staging.
    ///
    /// # Errors
    /// When it is not the next piece of the snapshot that was asked for, or holds what cannot be taken.
    pub(super) fn piece(
        &mut self,
        number: u64,
        offset: u64,
        bytes: &Bytes,
        out: &mut Vec<Output>,
    ) -> Result<u64, Bye> {
        let Phase::Coming(coming) = &mut self.phase else {
            return Err(malformed("a piece of a snapshot that was not asked for"));
        };
        if (number, offset) != (coming.number, coming.offset) {
            return Err(malformed("a piece of a snapshot that is not the next one"));
        }
        let len = bytes.len() as u64;
        coming.offset += len;
        coming.pings = 0;
        coming.hasher.update(bytes);
        let records = coming.reader.take(bytes).map_err(malformed)?;
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            match record {
                Record::Head(head) => coming.head = Some(head),
                Record::Entry(entry) => {
                    check_record(&entry).map_err(malformed)?;
                    entries.push(entry);
                }
            }
        }
        if entries.is_empty() {
            return Ok(len);
        }
        self.staging.push_back(len);
        out.push(Output::Stage(entries));
        Ok(0)
    }

    /// The oldest piece has been staged. Returns how many bytes it had.
    pub(super) fn staged(&mut self) -> u64 {
        self.staging.pop_front().unwrap_or_default()
    }

    /// The peer says that the snapshot is whole.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn done(
        &mut self,
        number: u64,
        bytes: u64,
        hash: [u8; 16],
        out: &mut Vec<Output>,
    ) -> Result<(), Bye> {
        let Phase::Coming(coming) = &mut self.phase else {
            return Err(malformed("the end of a snapshot that was not asked for"));
        };
        if (number, bytes) != (coming.number, coming.offset) || hash != hash_of(&coming.hasher) {
            return Err(malformed("a snapshot did not come as it was sent"));
        }
        coming.reader.finish().map_err(malformed)?;
        let head = coming.head.take().ok_or_else(|| malformed("a snapshot without a head"))?;
        self.phase = Phase::Importing;
        out.push(Output::Import(head));
        Ok(())
    }

    /// The snapshot is part of this region's documents.
    pub(super) fn imported(&mut self) {
        self.phase = Phase::Idle;
    }
}

// A peer that allows a window and a piece more lets every piece begin.
const _: () = assert!(CHUNK_BYTES_MAX as u64 <= CREDIT_WINDOW_BYTES);
