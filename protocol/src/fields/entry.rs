//! The payload of an entry that writes fields: an update, and what its region says about it.
//!
//! ```text
//! region: length + text · author: length + text, empty for none · count of marks · marks · the update, to the end
//! mark = kind u8 · client · clock · (a write-back: schema 16 bytes) · count of seen · seen writes
//! seen write = kind u8 · client · clock
//! kind = 1 set · 2 deleted · +16 a write-back · +32 one that comes to nothing
//! ```
//!
//! The decoder takes bytes from disks and peers: it never panics and never allocates from a length it has not
//! checked.

use super::write::{Mark, MarkKind, WriteBackMark, WriteId};
use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use crate::update::{ClientId, ItemId};
use bytes::Bytes;
use std::sync::Arc;

/// The longest name of a region, and the longest author, in bytes.
pub const AUTHOR_BYTES_MAX: usize = 256;

const SET: u8 = 1;
const DELETED: u8 = 2;
const WRITE_BACK: u8 = 16;
const ABSENT: u8 = 32;
/// The fewest bytes of a mark, and of a write that one names.
const MARK_BYTES_MIN: usize = 4;
const SEEN_BYTES_MIN: usize = 3;
/// What is set aside for each of them, and for the lengths and the count before: nearly all take less.
const MARK_BYTES: usize = 32;
const COUNTS_BYTES: usize = 8;

/// An update that writes fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldsEntry {
    /// What the region that admitted it is called: at most [`AUTHOR_BYTES_MAX`] bytes.
    pub region: Arc<str>,
    /// Who wrote it, where that region knows: at most [`AUTHOR_BYTES_MAX`] bytes.
    pub author: Option<Arc<str>>,
    /// What that region says about its writes.
    pub marks: Vec<Mark>,
    /// The Yjs update.
    pub update: Bytes,
}

impl FieldsEntry {
    /// The entry as a payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let names = self.region.len() + self.author.as_ref().map_or(0, |author| author.len());
        let marks: usize = self.marks.iter().map(|mark| (1 + mark.sees.len()) * MARK_BYTES).sum();
        let mut out = Vec::with_capacity(names + COUNTS_BYTES + marks + self.update.len());
        put_var_bytes(&mut out, self.region.as_bytes());
        put_var_bytes(&mut out, self.author.as_deref().unwrap_or_default().as_bytes());
        put_var_u64(&mut out, self.marks.len() as u64);
        for mark in &self.marks {
            match mark.kind {
                MarkKind::Edit => put_write(&mut out, mark.write, 0),
                MarkKind::WriteBack(by) => {
                    put_write(&mut out, mark.write, WRITE_BACK | if by.absent { ABSENT } else { 0 });
                    out.extend_from_slice(&by.schema);
                }
            }
            put_var_u64(&mut out, mark.sees.len() as u64);
            mark.sees.iter().for_each(|&seen| put_write(&mut out, seen, 0));
        }
        out.extend_from_slice(&self.update);
        out.into()
    }

    /// Reads a payload. The update shares its memory and is not looked at.
    ///
    /// # Errors
    /// When the bytes are no such payload.
    pub fn decode(payload: &Bytes) -> Result<Self, ReadError> {
        let mut reader = Reader::new(payload.clone());
        let region = read_name(&mut reader)?.unwrap_or_default();
        let author = read_name(&mut reader)?;
        let count = read_count(&mut reader, MARK_BYTES_MIN)?;
        let marks = (0..count).map(|_| read_mark(&mut reader)).collect::<Result<_, _>>()?;
        let update = reader.bytes(reader.remaining())?;
        Ok(Self { region, author, marks, update })
    }
}

/// Reads a name; none when it is empty.
pub(super) fn read_name(reader: &mut Reader) -> Result<Option<Arc<str>>, ReadError> {
    let name = reader.var_str()?;
    let name = name.as_str();
    if name.len() > AUTHOR_BYTES_MAX {
        return Err(ReadError::Overflow);
    }
    Ok(Some(name).filter(|name| !name.is_empty()).map(Arc::from))
}

/// Appends a write's kind and item.
pub(super) fn put_write(out: &mut Vec<u8>, write: WriteId, flags: u8) {
    out.push(kind_of(write) | flags);
    let ItemId { client, clock } = write.item();
    put_var_u64(out, client.0.into());
    put_var_u64(out, clock.into());
}

fn read_mark(reader: &mut Reader) -> Result<Mark, ReadError> {
    let code = reader.u8()?;
    let write = read_item_of(reader, code & !(WRITE_BACK | ABSENT))?;
    let kind = match code & (WRITE_BACK | ABSENT) {
        0 => MarkKind::Edit,
        ABSENT => return Err(ReadError::Overflow),
        flags => MarkKind::WriteBack(WriteBackMark { schema: reader.array()?, absent: flags & ABSENT != 0 }),
    };
    let count = read_count(reader, SEEN_BYTES_MIN)?;
    let sees = (0..count).map(|_| read_write(reader)).collect::<Result<_, _>>()?;
    Ok(Mark { write, kind, sees })
}

/// Reads a write's kind and item.
pub(super) fn read_write(reader: &mut Reader) -> Result<WriteId, ReadError> {
    let code = reader.u8()?;
    read_item_of(reader, code)
}

fn read_item_of(reader: &mut Reader, kind: u8) -> Result<WriteId, ReadError> {
    write_of(kind, ItemId { client: ClientId(reader.var_u32()?), clock: reader.var_u32()? })
}

/// The code of a write's kind.
pub(super) const fn kind_of(write: WriteId) -> u8 {
    match write {
        WriteId::Set(_) => SET,
        WriteId::Deleted(_) => DELETED,
    }
}

/// The write of a kind that an item is.
pub(super) const fn write_of(kind: u8, item: ItemId) -> Result<WriteId, ReadError> {
    match kind {
        SET => Ok(WriteId::Set(item)),
        DELETED => Ok(WriteId::Deleted(item)),
        _ => Err(ReadError::Overflow),
    }
}

/// Reads a count of things that take at least `bytes_each` bytes.
pub(super) fn read_count(reader: &mut Reader, bytes_each: usize) -> Result<usize, ReadError> {
    let count = usize::try_from(reader.var_u64()?).map_err(|_| ReadError::Overflow)?;
    if count > reader.remaining() / bytes_each { Err(ReadError::End) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writes() -> impl Strategy<Value = WriteId> {
        (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(set, client, clock)| {
            let item = ItemId { client: ClientId(client), clock };
            if set { WriteId::Set(item) } else { WriteId::Deleted(item) }
        })
    }

    fn marks() -> impl Strategy<Value = Mark> {
        let kind = prop_oneof![
            Just(MarkKind::Edit),
            (any::<[u8; 16]>(), any::<bool>())
                .prop_map(|(schema, absent)| MarkKind::WriteBack(WriteBackMark { schema, absent })),
        ];
        (writes(), kind, proptest::collection::vec(writes(), 0..4)).prop_map(|(write, kind, sees)| Mark {
            write,
            kind,
            sees,
        })
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_payload(
            region in "[a-z]{0,9}",
            author in proptest::option::of("[a-z]{1,9}"),
            marks in proptest::collection::vec(marks(), 0..4),
            update: Vec<u8>,
        ) {
            let entry = FieldsEntry { region: region.into(), author: author.map(Arc::from), marks, update: update.into() };
            prop_assert_eq!(FieldsEntry::decode(&entry.encode()), Ok(entry));
        }

        #[test]
        fn any_payload_is_read_or_refused(bytes: Vec<u8>) {
            let _ = FieldsEntry::decode(&bytes.into());
        }
    }
}
