//! A graph as bytes: what a document's snapshot cannot say of its fields.
//!
//! ```text
//! version u8 = 1 · registers: count, then each
//! register = map: 0, or 1 and its item · key · writes: count, then each after those it names
//! write = kind u8 · item · length · origin: 0, or 1 and the item · seen writes · hlc · stream · seq
//!         · region · author · write-back: 0, or 1, or 2 where it is of nothing, and 16 bytes · held: tag and value
//! ```
//!
//! Reading bytes is taking what they say, into an empty graph or one that knows something: stored graphs of two
//! regions merge. The decoder takes bytes from disks and peers: it never panics and never allocates from a
//! length it has not checked.

use super::entry::{put_write, read_count, read_name, read_write};
use super::graph::{Authorship, Carried, Graph, RegisterIx};
use super::held::Held;
use super::register::Write;
use super::value::Value;
use super::write::{Mark, MarkKind, WriteBackMark, WriteId};
use crate::hlc::Hlc;
use crate::ids::{Dot, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use crate::update::{ClientId, ItemId, TypeKind};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

const VERSION: u8 = 1;
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
        let mut out = vec![VERSION];
        let written = self.by_place.iter().filter(|(_, ix)| self.register(**ix).tail().is_some());
        put_var_u64(&mut out, written.clone().count() as u64);
        for ((map, key), &ix) in written {
            put_origin(&mut out, *map);
            put_var_bytes(&mut out, key.as_bytes());
            let writes: Vec<&Write> = self.register(ix).writes().collect();
            put_var_u64(&mut out, writes.len() as u64);
            writes.into_iter().for_each(|write| put(&mut out, write));
        }
        out.into()
    }

    /// Takes what a stored graph says.
    ///
    /// # Errors
    /// When the bytes are no stored graph; part of it may have been taken then.
    pub fn merge(&mut self, bytes: Bytes) -> Result<(), ReadError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(ReadError::Overflow);
        }
        let mut touched = BTreeSet::new();
        for _ in 0..read_count(&mut reader, REGISTER_BYTES_MIN)? {
            let map = read_origin(&mut reader)?;
            let key = Arc::from(reader.var_str()?.as_str());
            let register = self.register_at((map, key));
            touched.insert(register);
            for _ in 0..read_count(&mut reader, WRITE_BYTES_MIN)? {
                self.read_write(&mut reader, register)?;
            }
        }
        self.settle(touched);
        reader.finish()
    }

    fn read_write(&mut self, reader: &mut Reader, register: RegisterIx) -> Result<(), ReadError> {
        let id = read_write(reader)?;
        let last = id.item();
        let before = reader.var_u32()?.checked_sub(1).and_then(|before| last.clock.checked_sub(before));
        let first = ItemId { clock: before.ok_or(ReadError::Overflow)?, ..last };
        let end = last.clock.checked_add(1).ok_or(ReadError::Overflow)?;
        let origin = read_origin(reader)?;
        // It may be known only with what replaced it at once, of which it is a part.
        let origin = origin.and_then(|origin| Some((origin, self.cut_after(origin)?)));
        let count = read_count(reader, SEEN_BYTES_MIN)?;
        let sees = (0..count).map(|_| read_write(reader)).collect::<Result<Vec<_>, _>>()?;
        let by = read_authorship(reader)?;
        let kind = match reader.u8()? {
            0 => MarkKind::Edit,
            flag @ (1 | 2) => {
                MarkKind::WriteBack(WriteBackMark { absent: flag == 2, schema: reader.array()? })
            }
            _ => return Err(ReadError::Overflow),
        };
        let held = read_held(reader)?;
        if let WriteId::Set(_) = id {
            self.carry(register, &Carried { first, end, origin, held: &held, by: &by, marks: &[] });
            if sees.is_empty() && kind == MarkKind::Edit {
                return Ok(());
            }
        }
        // Of a deletion whose item is not there nothing can be said.
        let _register = self.note(&Mark { write: id, kind, sees }, &by);
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, write: &Write) {
    put_write(out, write.id, 0);
    put_var_u64(out, write.len.into());
    put_origin(out, write.origin);
    put_var_u64(out, write.sees.len() as u64);
    write.sees.iter().for_each(|&seen| put_write(out, seen, 0));
    put_authorship(out, &write.by);
    match write.write_back {
        None => out.push(0),
        Some(by) => {
            out.push(if by.absent { 2 } else { 1 });
            out.extend_from_slice(&by.schema);
        }
    }
    put_held(out, &write.held);
}

pub(super) fn put_authorship(out: &mut Vec<u8>, by: &Authorship) {
    let (Hlc(hlc), Dot { stream, seq: Seq(seq) }) = by.stamp;
    put_var_u64(out, hlc);
    put_var_u64(out, stream.to_u32().into());
    put_var_u64(out, seq);
    put_var_bytes(out, by.region.as_bytes());
    put_var_bytes(out, by.author.as_deref().unwrap_or_default().as_bytes());
}

pub(super) fn read_authorship(reader: &mut Reader) -> Result<Authorship, ReadError> {
    let hlc = Hlc(reader.var_u64()?);
    let stream = StreamId::from_u32(reader.var_u32()?);
    let stamp = (hlc, Dot { stream, seq: Seq(reader.var_u64()?) });
    Ok(Authorship { stamp, region: read_name(reader)?.unwrap_or_default(), author: read_name(reader)? })
}

fn put_origin(out: &mut Vec<u8>, origin: Option<ItemId>) {
    match origin {
        None => out.push(0),
        Some(ItemId { client, clock }) => {
            out.push(1);
            put_var_u64(out, client.0.into());
            put_var_u64(out, clock.into());
        }
    }
}

fn read_origin(reader: &mut Reader) -> Result<Option<ItemId>, ReadError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(ItemId { client: ClientId(reader.var_u32()?), clock: reader.var_u32()? })),
        _ => Err(ReadError::Overflow),
    }
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
