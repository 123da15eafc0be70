//! Writes of fields by who is no Yjs editor: over HTTP.
//!
//! A write says on which version it is made. On the current one it replaces all siblings; on an older one it
//! becomes a sibling of what came since, as an edit of an editor would that was offline meanwhile.

use super::compose::Holds;
use super::entry::{put_write, read_write};
use super::graph::{Graph, RegisterIx};
use super::path::Path;
use super::register::{NodeIx, Register};
use super::tail::is_right_of;
use super::value::Value;
use super::write::{Mark, MarkKind, WriteId};
use super::write_back::{Draft, is_deleted};
use crate::lib0::Reader;
use crate::update::ClientId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;

/// So many writes make up a version at most; it is as long as the siblings are many.
pub const VERSION_WRITES_MAX: usize = 1_024;

/// A version of a field: the siblings that somebody has seen. Empty where the field had never been written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldVersion(pub Vec<WriteId>);

/// A text that is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version that this server has given out")]
pub struct FieldVersionError;

impl fmt::Display for FieldVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::new();
        self.0.iter().for_each(|&write| put_write(&mut bytes, write, 0));
        // Never an empty string, which would be mistaken for none.
        write!(f, "v{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for FieldVersion {
    type Err = FieldVersionError;

    fn from_str(text: &str) -> Result<Self, FieldVersionError> {
        let text = text.strip_prefix('v').ok_or(FieldVersionError)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| FieldVersionError)?;
        let mut reader = Reader::new(bytes.into());
        let mut writes = Vec::new();
        while reader.remaining() > 0 {
            if writes.len() == VERSION_WRITES_MAX {
                return Err(FieldVersionError);
            }
            writes.push(read_write(&mut reader).map_err(|_| FieldVersionError)?);
        }
        Ok(Self(writes))
    }
}

/// One write of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which field.
    pub path: Path,
    /// The value; none deletes the key.
    pub value: Option<Value>,
    /// The version that it is made on; none for the current one, whatever it is.
    pub on: Option<FieldVersion>,
}

/// Why a write cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditRefused {
    /// The path leads through something that is no map.
    #[error("field `{0}` is in a map that is not there")]
    NoMap(Path),
    /// The version names a write that this region does not have, or that is of another field.
    #[error("the version given for field `{0}` is none that this region knows: read the field again")]
    UnknownVersion(Path),
    /// A field is written twice at once.
    #[error("field `{0}` is written twice in one request")]
    Twice(Path),
}

impl Graph {
    /// Adds a write to a draft, as the Yjs client `client`, whose next clock `next_clock` tells.
    pub(super) fn edit(
        &self,
        edit: &Edit,
        client: ClientId,
        next_clock: impl FnOnce() -> u32,
        draft: &mut Draft,
    ) -> Result<(), EditRefused> {
        let place = self.place_for(&edit.path).ok_or_else(|| EditRefused::NoMap(edit.path.clone()))?;
        let known = self.by_place.get(&place).copied();
        let seen = self.seen(known, edit)?;
        let register = known.map(|ix| self.register(ix));
        let replaced = register.and_then(|register| replaced(register, &seen, edit.on.is_none()));
        let origin = replaced.zip(register).map(|(ix, register)| register.write(ix).id.item());
        let write = match (&edit.value, origin) {
            (Some(value), _) => {
                let item = draft.next(client, next_clock);
                draft.composer.set(item, &place, origin, Holds::Value(value));
                WriteId::Set(item)
            }
            (None, Some(origin)) => WriteId::Deleted(origin),
            // What was never there is deleted already.
            (None, None) => return Ok(()),
        };
        if let Some((ix, register)) = replaced.zip(register)
            && register.tail() == Some(ix)
            && !is_deleted(register, ix)
        {
            draft.composer.delete(register.write(ix).id.item());
        }
        let sees: Vec<WriteId> =
            seen.into_iter().filter(|&seen| Some(seen) != origin.map(WriteId::Set)).collect();
        draft.marks.push(Mark { write, kind: MarkKind::Edit, sees });
        Ok(())
    }

    /// The writes that a write is made on.
    fn seen(&self, register: Option<RegisterIx>, edit: &Edit) -> Result<Vec<WriteId>, EditRefused> {
        let register = register.map(|ix| self.register(ix));
        match (&edit.on, register) {
            (None, None) => Ok(Vec::new()),
            (None, Some(register)) => {
                Ok(register.siblings().into_iter().map(|ix| register.write(ix).id).collect())
            }
            (Some(on), register) => {
                let is_known = |id: &WriteId| register.is_some_and(|register| register.find(*id).is_some());
                if on.0.iter().all(is_known) {
                    Ok(on.0.clone())
                } else {
                    Err(EditRefused::UnknownVersion(edit.path.clone()))
                }
            }
        }
    }
}

/// The item that a write takes the place of: the last one there is, or of those that its writer saw.
fn replaced(register: &Register, seen: &[WriteId], is_current: bool) -> Option<NodeIx> {
    let tail = register.tail()?;
    let all_seen = register.siblings().iter().all(|&ix| seen.contains(&register.write(ix).id));
    if is_current || all_seen {
        return Some(tail);
    }
    let items = seen.iter().filter_map(|id| register.find(WriteId::Set(id.item())));
    items.reduce(|a, b| {
        let (left, right) = (register.write(a).id.item(), register.write(b).id.item());
        if is_right_of(right, left, |unit| register.run_of(unit)) { b } else { a }
    })
}
