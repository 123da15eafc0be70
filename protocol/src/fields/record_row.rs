//! A conflict's record as bytes.
//!
//! ```text
//! version u8 = 1 · id 16 bytes · since · of u8 · … · resolved: 0, or 1 and authorship · left: 0, or 1 and held
//! stamp = hlc · stream · seq
//! of 1 = path · policy · versions: count, then each write, held, authorship · left out
//!        · base u8: 0 nothing, 1 held, 2 several, 3 several and held · shown u8: 0 as Yjs, 1 absent, 2 value
//!        · merged u8: 0 yes, 1 no, 2 no and why
//! of 2 = deletions: count, then each stamp · edits: count, then each after seq, stamp · revived u8
//! ```
//!
//! The decoder takes bytes from disks: it never panics and never allocates from a length it has not checked.

use super::entry::{put_write, read_count, read_write};
use super::record::{Conflicting, Deletion, Record, Resolution, Writes};
use super::state::{Base, ConflictId, Shown, Version};
use super::stored::{put_authorship, put_held, read_authorship, read_held};
use super::value::Value;
use crate::batch::{put_stamp, read_stamp};
use crate::ids::{Dot, Seq};
use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use crate::life::Unseen;
use bytes::Bytes;

const VERSION: u8 = 1;
const WRITES: u8 = 1;
const DELETION: u8 = 2;
const VERSION_BYTES_MIN: usize = 9;
const STAMP_BYTES_MIN: usize = 3;

impl Record {
    /// The record as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.id.0);
        put_stamp(&mut out, self.since);
        match &self.of {
            Conflicting::Writes(writes) => {
                out.push(WRITES);
                put_writes(&mut out, writes);
            }
            Conflicting::Deletion(deletion) => {
                out.push(DELETION);
                put_deletion(&mut out, deletion);
            }
        }
        out.push(self.resolved.is_some().into());
        if let Some(Resolution { by, left }) = &self.resolved {
            put_authorship(&mut out, by);
            out.push(left.is_some().into());
            left.iter().for_each(|held| put_held(&mut out, held));
        }
        out.into()
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no record.
    pub fn decode(bytes: Bytes) -> Result<Self, ReadError> {
        let reader = &mut Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(ReadError::Overflow);
        }
        let id = ConflictId(reader.array()?);
        let since = read_stamp(reader)?;
        let of = match reader.u8()? {
            WRITES => Conflicting::Writes(read_writes(reader)?),
            DELETION => Conflicting::Deletion(read_deletion(reader)?),
            _ => return Err(ReadError::Overflow),
        };
        let resolved = if read_flag(reader)? {
            let by = read_authorship(reader)?;
            let left = if read_flag(reader)? { Some(read_held(reader)?) } else { None };
            Some(Resolution { by, left })
        } else {
            None
        };
        reader.finish()?;
        Ok(Self { id, since, of, resolved })
    }
}

fn put_writes(out: &mut Vec<u8>, writes: &Writes) {
    put_var_bytes(out, writes.path.to_string().as_bytes());
    put_var_bytes(out, writes.policy.as_bytes());
    put_var_u64(out, writes.versions.len() as u64);
    for version in &writes.versions {
        put_write(out, version.write, 0);
        put_held(out, &version.held);
        put_authorship(out, &version.by);
    }
    put_var_u64(out, writes.left_out as u64);
    match &writes.base {
        Base::Nothing => out.push(0),
        Base::Write(held) => {
            out.push(1);
            put_held(out, held);
        }
        Base::Several(None) => out.push(2),
        Base::Several(Some(held)) => {
            out.push(3);
            put_held(out, held);
        }
    }
    match &writes.shown {
        Shown::AsYjs => out.push(0),
        Shown::Value(None) => out.push(1),
        Shown::Value(Some(value)) => {
            out.push(2);
            value.encode(out);
        }
    }
    match &writes.merged {
        Ok(()) => out.push(0),
        Err(None) => out.push(1),
        Err(Some(reason)) => {
            out.push(2);
            put_var_bytes(out, reason.as_bytes());
        }
    }
}

fn read_writes(reader: &mut Reader) -> Result<Writes, ReadError> {
    let path = reader.var_str()?.as_str().parse().map_err(|_| ReadError::Overflow)?;
    let policy = reader.var_str()?.as_str().into();
    let count = read_count(reader, VERSION_BYTES_MIN)?;
    let versions = (0..count).map(|_| {
        let write = read_write(reader)?;
        Ok(Version { write, held: read_held(reader)?, by: read_authorship(reader)? })
    });
    let versions = versions.collect::<Result<_, ReadError>>()?;
    let left_out = usize::try_from(reader.var_u64()?).map_err(|_| ReadError::Overflow)?;
    let base = match reader.u8()? {
        0 => Base::Nothing,
        1 => Base::Write(read_held(reader)?),
        2 => Base::Several(None),
        3 => Base::Several(Some(read_held(reader)?)),
        _ => return Err(ReadError::Overflow),
    };
    let shown = match reader.u8()? {
        0 => Shown::AsYjs,
        1 => Shown::Value(None),
        2 => Shown::Value(Some(Value::decode(reader)?)),
        _ => return Err(ReadError::Overflow),
    };
    let merged = match reader.u8()? {
        0 => Ok(()),
        1 => Err(None),
        2 => Err(Some(reader.var_str()?.as_str().into())),
        _ => return Err(ReadError::Overflow),
    };
    Ok(Writes { path, policy, versions, left_out, base, shown, merged })
}

fn put_deletion(out: &mut Vec<u8>, deletion: &Deletion) {
    put_var_u64(out, deletion.deletions.len() as u64);
    deletion.deletions.iter().for_each(|&stamp| put_stamp(out, stamp));
    put_var_u64(out, deletion.edits.len() as u64);
    for edit in &deletion.edits {
        put_var_u64(out, edit.after.seq.0);
        put_stamp(out, (edit.hlc, edit.last));
    }
    out.push(deletion.is_revived.into());
}

fn read_deletion(reader: &mut Reader) -> Result<Deletion, ReadError> {
    let count = read_count(reader, STAMP_BYTES_MIN)?;
    let deletions = (0..count).map(|_| read_stamp(reader)).collect::<Result<_, _>>()?;
    let count = read_count(reader, 1 + STAMP_BYTES_MIN)?;
    let edits = (0..count).map(|_| {
        let after = Seq(reader.var_u64()?);
        let (hlc, last) = read_stamp(reader)?;
        Ok(Unseen { after: Dot { seq: after, ..last }, last, hlc })
    });
    let edits = edits.collect::<Result<_, ReadError>>()?;
    Ok(Deletion { deletions, edits, is_revived: read_flag(reader)? })
}

fn read_flag(reader: &mut Reader) -> Result<bool, ReadError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(ReadError::Overflow),
    }
}
