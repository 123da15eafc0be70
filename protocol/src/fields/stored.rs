//! A graph as bytes: what a document's snapshot cannot say of its fields.
//!
//! ```text
//! version u8 = 2 · registers: count, then each
//! register = map: 0, or 1 and its item · key · writes: count, then each after those it names
//! write = kind u8 · item · length · origin: 0, or 1 and the item · seen writes · stamp · region · author
//!         · write-back: 0, or 1, or 2 where it is of nothing, and 16 bytes · held: tag and value
//! item = client · clock · stamp = hlc · stream · seq
//! ```
//!
//! A client, a stream, a region's name and an author's (an empty one for none) is its number among those that have come:
//! where that is how many there were it is a new one, which follows. Times and seqs are zigzag differences to those of
//! the write before.
//!
//! Reading bytes is taking what they say, into an empty graph or one that knows something: stored graphs of two
//! regions merge. The decoder takes bytes from disks and peers: it never panics and never allocates from a
//! length it has not checked.

use super::entry::{kind_of, read_count, read_name, write_of};
use super::graph::{Authorship, Carried, Graph, RegisterIx, Who};
use super::held::Held;
use super::register::Write;
use super::value::Value;
use super::write::{Mark, MarkKind, WriteBackMark, WriteId};
use crate::batch::{put_stamp, read_stamp};
use crate::hlc::Hlc;
use crate::ids::{Dot, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use crate::update::{ClientId, ItemId, TypeKind};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const VERSION: u8 = 2;
const REGISTER_BYTES_MIN: usize = 3;
const WRITE_BYTES_MIN: usize = 12;
const SEEN_BYTES_MIN: usize = 3;

const UNKNOWN: u8 = 0;
const VALUE: u8 = 1;
const SUBDOC: u8 = 2;
const DELETED: u8 = 3;
/// The first shared type; the others follow in the order of [`TYPES`].
const SHARED: u8 = 16;
const TYPES: [TypeKind; 6] = [
    TypeKind::Array,
    TypeKind::Map,
    TypeKind::Text,
    TypeKind::XmlElement,
    TypeKind::XmlFragment,
    TypeKind::XmlText,
];

impl Graph {
    /// The graph as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writing = Writing { out: vec![VERSION], ..Writing::default() };
        let written = self.by_place.iter().filter(|(_, ix)| self.register(**ix).tail().is_some());
        put_var_u64(&mut writing.out, written.clone().count() as u64);
        for ((map, key), &ix) in written {
            writing.origin(*map);
            put_var_bytes(&mut writing.out, key.as_bytes());
            let register = self.register(ix);
            put_var_u64(&mut writing.out, register.len() as u64);
            register.writes().for_each(|write| writing.write(write));
        }
        writing.out.into()
    }

    /// Takes what a stored graph says.
    ///
    /// # Errors
    /// When the bytes are no stored graph; part of it may have been taken then.
    pub fn merge(&mut self, bytes: Bytes) -> Result<(), ReadError> {
        let mut reading = Reading::of(bytes);
        if reading.reader.u8()? != VERSION {
            return Err(ReadError::Overflow);
        }
        let mut touched = BTreeSet::new();
        for _ in 0..read_count(&mut reading.reader, REGISTER_BYTES_MIN)? {
            let map = reading.origin()?;
            let key = Arc::from(reading.reader.var_str()?.as_str());
            let register = self.register_at((map, key));
            touched.insert(register);
            for _ in 0..read_count(&mut reading.reader, WRITE_BYTES_MIN)? {
                self.read_write(&mut reading, register)?;
            }
        }
        self.settle(touched);
        reading.reader.finish()
    }

    fn read_write(&mut self, reading: &mut Reading, register: RegisterIx) -> Result<(), ReadError> {
        let id = reading.seen()?;
        let last = id.item();
        let before =
            reading.reader.var_u32()?.checked_sub(1).and_then(|before| last.clock.checked_sub(before));
        let first = ItemId { clock: before.ok_or(ReadError::Overflow)?, ..last };
        let end = last.clock.checked_add(1).ok_or(ReadError::Overflow)?;
        let origin = reading.origin()?;
        // It may be known only with what replaced it at once, of which it is a part.
        let origin = origin.and_then(|origin| Some((origin, self.cut_after(origin)?)));
        let count = read_count(&mut reading.reader, SEEN_BYTES_MIN)?;
        let sees = (0..count).map(|_| reading.seen()).collect::<Result<Vec<_>, _>>()?;
        let by = reading.authorship()?;
        let kind = match reading.reader.u8()? {
            0 => MarkKind::Edit,
            flag @ (1 | 2) => {
                MarkKind::WriteBack(WriteBackMark { absent: flag == 2, schema: reading.reader.array()? })
            }
            _ => return Err(ReadError::Overflow),
        };
        let held = read_held(&mut reading.reader)?;
        if let WriteId::Set(_) = id {
            self.carry(register, Carried { first, end, origin, held, by: &by, marks: &[] });
            if sees.is_empty() && kind == MarkKind::Edit {
                return Ok(());
            }
        }
        // Of a deletion whose item is not there nothing can be said.
        let _register = self.note(&Mark { write: id, kind, sees }, &by);
        Ok(())
    }
}

/// What was written before, by number.
#[derive(Debug)]
struct Numbers<T> {
    all: BTreeMap<T, u64>,
    /// The one that was written last, which is often the next, too.
    last: Option<(T, u64)>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), last: None }
    }
}

impl<T: Ord + Copy> Numbers<T> {
    /// Writes something's number; tells whether it is new, and is to follow.
    fn put(&mut self, out: &mut Vec<u8>, of: T) -> bool {
        if let Some((_, number)) = self.last.filter(|(last, _)| *last == of) {
            put_var_u64(out, number);
            return false;
        }
        let count = self.all.len() as u64;
        let number = *self.all.entry(of).or_insert(count);
        self.last = Some((of, number));
        put_var_u64(out, number);
        number == count
    }
}

/// Writes a graph.
#[derive(Default)]
struct Writing<'g> {
    out: Vec<u8>,
    clients: Numbers<ClientId>,
    streams: Numbers<StreamId>,
    regions: Numbers<&'g str>,
    authors: Numbers<&'g str>,
    hlc: u64,
    seq: u64,
}

impl<'g> Writing<'g> {
    fn write(&mut self, write: &'g Write) {
        self.seen(write.id);
        put_var_u64(&mut self.out, write.len.into());
        self.origin(write.origin);
        put_var_u64(&mut self.out, write.sees().len() as u64);
        write.sees().iter().for_each(|&seen| self.seen(seen));
        self.authorship(&write.by);
        match write.write_back() {
            None => self.out.push(0),
            Some(by) => {
                self.out.push(if by.absent { 2 } else { 1 });
                self.out.extend_from_slice(&by.schema);
            }
        }
        put_held(&mut self.out, &write.held);
    }

    fn seen(&mut self, write: WriteId) {
        self.out.push(kind_of(write));
        self.item(write.item());
    }

    fn origin(&mut self, origin: Option<ItemId>) {
        self.out.push(origin.is_some().into());
        origin.into_iter().for_each(|item| self.item(item));
    }

    fn item(&mut self, ItemId { client, clock }: ItemId) {
        if self.clients.put(&mut self.out, client) {
            put_var_u64(&mut self.out, client.0.into());
        }
        put_var_u64(&mut self.out, clock.into());
    }

    fn authorship(&mut self, by: &'g Authorship) {
        let (Hlc(hlc), Dot { stream, seq: Seq(seq) }) = by.stamp;
        put_var_u64(&mut self.out, zigzag(std::mem::replace(&mut self.hlc, hlc), hlc));
        if self.streams.put(&mut self.out, stream) {
            put_var_u64(&mut self.out, stream.to_u32().into());
        }
        put_var_u64(&mut self.out, zigzag(std::mem::replace(&mut self.seq, seq), seq));
        let author = by.who.author.as_deref().unwrap_or_default();
        for (names, name) in [(&mut self.regions, &*by.who.region), (&mut self.authors, author)] {
            if names.put(&mut self.out, name) {
                put_var_bytes(&mut self.out, name.as_bytes());
            }
        }
    }
}

/// Reads a graph.
struct Reading {
    reader: Reader,
    clients: Vec<ClientId>,
    streams: Vec<StreamId>,
    regions: Vec<Option<Arc<str>>>,
    authors: Vec<Option<Arc<str>>>,
    hlc: u64,
    seq: u64,
    /// Who made the write before, which is often who made the next.
    who: Arc<Who>,
}

impl Reading {
    fn of(bytes: Bytes) -> Self {
        Self {
            reader: Reader::new(bytes),
            clients: Vec::new(),
            streams: Vec::new(),
            regions: Vec::new(),
            authors: Vec::new(),
            hlc: 0,
            seq: 0,
            who: Arc::default(),
        }
    }

    fn seen(&mut self) -> Result<WriteId, ReadError> {
        let kind = self.reader.u8()?;
        write_of(kind, self.item()?)
    }

    fn origin(&mut self) -> Result<Option<ItemId>, ReadError> {
        match self.reader.u8()? {
            0 => Ok(None),
            1 => self.item().map(Some),
            _ => Err(ReadError::Overflow),
        }
    }

    fn item(&mut self) -> Result<ItemId, ReadError> {
        let client = numbered(&mut self.reader, &mut self.clients, |reader| reader.var_u32().map(ClientId))?;
        Ok(ItemId { client, clock: self.reader.var_u32()? })
    }

    fn authorship(&mut self) -> Result<Authorship, ReadError> {
        self.hlc = unzigzag(self.hlc, self.reader.var_u64()?);
        let read_stream = |reader: &mut Reader| reader.var_u32().map(StreamId::from_u32);
        let stream = numbered(&mut self.reader, &mut self.streams, read_stream)?;
        self.seq = unzigzag(self.seq, self.reader.var_u64()?);
        let stamp = (Hlc(self.hlc), Dot { stream, seq: Seq(self.seq) });
        let region = numbered(&mut self.reader, &mut self.regions, read_name)?.unwrap_or_default();
        let author = numbered(&mut self.reader, &mut self.authors, read_name)?;
        let who = Who { region, author };
        if *self.who != who {
            self.who = Arc::new(who);
        }
        Ok(Authorship { stamp, who: self.who.clone() })
    }
}

/// Reads what came before, by its number, or something new.
fn numbered<T: Clone>(
    reader: &mut Reader,
    known: &mut Vec<T>,
    read: impl FnOnce(&mut Reader) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let number = usize::try_from(reader.var_u64()?).map_err(|_| ReadError::Overflow)?;
    if number == known.len() {
        known.push(read(reader)?);
    }
    known.get(number).cloned().ok_or(ReadError::Overflow)
}

/// The difference of two numbers, around the end of their range too; small where they are near each other.
const fn zigzag(from: u64, to: u64) -> u64 {
    let difference = to.wrapping_sub(from).cast_signed();
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

const fn unzigzag(from: u64, difference: u64) -> u64 {
    from.wrapping_add((difference >> 1) ^ 0_u64.wrapping_sub(difference & 1))
}

pub(super) fn put_authorship(out: &mut Vec<u8>, by: &Authorship) {
    put_stamp(out, by.stamp);
    put_var_bytes(out, by.who.region.as_bytes());
    put_var_bytes(out, by.who.author.as_deref().unwrap_or_default().as_bytes());
}

pub(super) fn read_authorship(reader: &mut Reader) -> Result<Authorship, ReadError> {
    let stamp = read_stamp(reader)?;
    let region = read_name(reader)?.unwrap_or_default();
    Ok(Authorship { stamp, who: Arc::new(Who { region, author: read_name(reader)? }) })
}

pub(super) fn put_held(out: &mut Vec<u8>, held: &Held) {
    match held {
        Held::Unknown => out.push(UNKNOWN),
        Held::Value(value) => {
            out.push(VALUE);
            value.encode(out);
        }
        Held::Subdoc => out.push(SUBDOC),
        Held::Deleted => out.push(DELETED),
        Held::Shared(kind) => {
            let tags = (SHARED..).zip(TYPES);
            out.extend(tags.filter(|(_, known)| known == kind).map(|(tag, _)| tag));
        }
    }
}

pub(super) fn read_held(reader: &mut Reader) -> Result<Held, ReadError> {
    Ok(match reader.u8()? {
        UNKNOWN => Held::Unknown,
        VALUE => Held::Value(Value::decode(reader)?),
        SUBDOC => Held::Subdoc,
        DELETED => Held::Deleted,
        tag => {
            let kind = tag.checked_sub(SHARED).and_then(|at| TYPES.get(usize::from(at)));
            Held::Shared(*kind.ok_or(ReadError::Overflow)?)
        }
    })
}
