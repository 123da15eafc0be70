//! Writes of fields that are made at a document's home: what another region asks of it, and what it answers.
//!
//! ```text
//! asked  = kind u8: 1 edit, 2 the same on exactly these versions, 3 resolve, 4 claim · seen, a frontier · author: length + text
//!          edit: count · count × (path: length + text · flags u8: 1 a value, 2 a version · value · version)
//!          resolve: path: length + text · conflict, 16 bytes · flags u8 · value
//!          claim: document's name: length + text · path: length + text · flags u8: 1, 2 a version · value · version
//! version = count · count × (kind u8: 1 set, 2 deleted · client · clock)
//! told   = kind u8: 1 written, 2 refused, 3 elsewhere, 4 not written, 5 not known · its fields
//! ```
//!
//! The decoders take bytes from peers: they never panic and never allocate from a length they have not checked.

use super::edit::{Edit, FieldVersion, VERSION_WRITES_MAX};
use super::entry::{put_write, read_count, read_name, read_write};
use super::path::Path;
use super::schema::HomePolicy;
use super::state::ConflictId;
use super::value::Value;
use crate::frontier::{Frontier, FrontierError, canonical_u64};
use crate::ids::{DocName, ReplicaId};
use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use bytes::Bytes;
use std::sync::Arc;

/// So many fields are written at once.
pub const EDITS_MAX: usize = 1_000;

/// The longest text in what the home tells, in bytes of UTF-8.
pub const TOLD_TEXT_BYTES_MAX: usize = 4_096;

const EDIT: u8 = 1;
const EXACT_EDIT: u8 = 2;
const RESOLVE: u8 = 3;
const CLAIM: u8 = 4;

const HAS_VALUE: u8 = 1;
const HAS_VERSION: u8 = 2;

const WRITTEN: u8 = 1;
const REFUSED: u8 = 2;
const ELSEWHERE: u8 = 3;
const NOT_WRITTEN: u8 = 4;
const NOT_KNOWN: u8 = 5;

/// The fewest bytes of a write: its path's length, a key, its flags.
const EDIT_BYTES_MIN: usize = 3;
/// The fewest bytes of a write that a version names.
const WRITE_BYTES_MIN: usize = 3;

/// Writes of fields by somebody without a session, wherever they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldsWrite {
    /// Write fields, all or none.
    Edit {
        /// The writes.
        edits: Vec<Edit>,
        /// Whether each must be made on the current version.
        is_exact: bool,
    },
    /// Resolve a conflict.
    Resolve {
        /// The field.
        path: Path,
        /// Which conflict.
        conflict: ConflictId,
        /// The value; none deletes the key.
        value: Option<Value>,
    },
}

/// Gives a field a value that no other document of its collection has. It is made where the value is reserved, which
/// may be a region that does not know the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claiming {
    /// The document.
    pub document: DocName,
    /// The field.
    pub path: Path,
    /// The value.
    pub value: Value,
    /// The version that it must be made on; without one, the current.
    pub on: Option<FieldVersion>,
}

/// What a region is asked to make as the home of a document, or of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Writes of fields that belong at their document's home.
    Write(FieldsWrite),
    /// A claim of a value that is reserved there.
    Claim(Claiming),
}

impl FieldsWrite {
    /// The fields that are written.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (edits, path) = match self {
            Self::Edit { edits, .. } => (&edits[..], None),
            Self::Resolve { path, .. } => (&[][..], Some(path)),
        };
        edits.iter().map(|edit| &edit.path).chain(path)
    }
}

/// What becomes of writes that do not reach their home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached<'p> {
    /// They are made where they came in, and flagged.
    Kept,
    /// They are refused, on account of this field.
    Refused(&'p Path),
}

/// Says what becomes of writes that did not reach their home. Of each field that is to be written there this gives
/// its policy and whether its writers' differences add up. `is_unknown` says that the home may have made them: to
/// write the same value twice does no harm, but to count the same twice does.
#[must_use]
pub fn unreached<'p>(
    fields: impl IntoIterator<Item = (&'p Path, HomePolicy, bool)>,
    is_unknown: bool,
) -> Unreached<'p> {
    let mut fields = fields.into_iter();
    let refuses = |(_, policy, adds_up): &(&Path, HomePolicy, bool)| {
        *policy == HomePolicy::Reject || *adds_up && is_unknown
    };
    fields.find(refuses).map_or(Unreached::Kept, |(path, ..)| Unreached::Refused(path))
}

/// What the home of a document, or of a value, is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedOfHome {
    /// What the asking region shows. The home is to show it, too, before it writes.
    pub seen: Frontier,
    /// Who writes, where the asking region knows: at most [`AUTHOR_BYTES_MAX`](super::AUTHOR_BYTES_MAX) bytes.
    pub author: Option<Arc<str>>,
    /// What is to be made.
    pub asked: Asked,
}

/// What a document's home answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldByHome {
    /// It is written and durable there: whoever has this much has it.
    Written(Frontier),
    /// The document does not take it.
    Refused {
        /// One word for programs.
        kind: String,
        /// A sentence for people.
        detail: String,
    },
    /// The document's home is another region, as far as is known there; or none.
    Elsewhere(Option<ReplicaId>),
    /// It has not been written, for this reason.
    NotWritten(String),
    /// Whether it was written is not known, for this reason.
    NotKnown(String),
}

/// Why bytes are not what a home is asked, or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtHomeError {
    /// They are cut short, overlong, or hold what no release with this version of the protocol says.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// A frontier cannot be read.
    #[error("{0}")]
    Frontier(#[from] FrontierError),
    /// A text that is no field's path.
    #[error("a field's path cannot be read")]
    Path,
    /// A text that is no document's name.
    #[error("a document's name cannot be read")]
    Document,
    /// More than [`EDITS_MAX`] writes.
    #[error("at most {EDITS_MAX} fields are written at once")]
    TooMany,
    /// A kind that no release with this version of the protocol knows.
    #[error("kind {0} is unknown")]
    Unknown(u8),
}

impl AskedOfHome {
    /// What is asked, as a call carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![match &self.asked {
            Asked::Write(FieldsWrite::Edit { is_exact: false, .. }) => EDIT,
            Asked::Write(FieldsWrite::Edit { is_exact: true, .. }) => EXACT_EDIT,
            Asked::Write(FieldsWrite::Resolve { .. }) => RESOLVE,
            Asked::Claim(_) => CLAIM,
        }];
        self.seen.encode(&mut out);
        put_var_bytes(&mut out, self.author.as_deref().unwrap_or_default().as_bytes());
        match &self.asked {
            Asked::Write(FieldsWrite::Edit { edits, .. }) => {
                put_var_u64(&mut out, edits.len() as u64);
                for Edit { path, value, on } in edits {
                    put_var_bytes(&mut out, path.to_string().as_bytes());
                    put_value(&mut out, value.as_ref(), on.as_ref());
                }
            }
            Asked::Write(FieldsWrite::Resolve { path, conflict, value }) => {
                put_var_bytes(&mut out, path.to_string().as_bytes());
                out.extend_from_slice(&conflict.0);
                put_value(&mut out, value.as_ref(), None);
            }
            Asked::Claim(Claiming { document, path, value, on }) => {
                put_var_bytes(&mut out, document.as_str().as_bytes());
                put_var_bytes(&mut out, path.to_string().as_bytes());
                put_value(&mut out, Some(value), on.as_ref());
            }
        }
        out.into()
    }

    /// Reads what is asked.
    ///
    /// # Errors
    /// When the bytes are nothing that a home is asked.
    pub fn decode(payload: Bytes) -> Result<Self, AtHomeError> {
        let mut reader = Reader::new(payload);
        let kind = reader.u8()?;
        if !(EDIT..=CLAIM).contains(&kind) {
            return Err(AtHomeError::Unknown(kind));
        }
        let seen = Frontier::decode(&mut reader)?;
        let author = read_name(&mut reader)?;
        let asked = match kind {
            RESOLVE => {
                let path = read_path(&mut reader)?;
                let conflict = ConflictId(reader.array()?);
                let (value, on) = read_value(&mut reader)?;
                if on.is_some() {
                    return Err(ReadError::Overflow.into());
                }
                Asked::Write(FieldsWrite::Resolve { path, conflict, value })
            }
            CLAIM => {
                let document = DocName::new(reader.var_str()?.as_str()).map_err(|_| AtHomeError::Document)?;
                let path = read_path(&mut reader)?;
                let (value, on) = read_value(&mut reader)?;
                Asked::Claim(Claiming { document, path, value: value.ok_or(ReadError::Overflow)?, on })
            }
            _ => Asked::Write(FieldsWrite::Edit {
                edits: read_edits(&mut reader)?,
                is_exact: kind == EXACT_EDIT,
            }),
        };
        reader.finish()?;
        Ok(Self { seen, author, asked })
    }
}

fn read_edits(reader: &mut Reader) -> Result<Vec<Edit>, AtHomeError> {
    let count = read_count(reader, EDIT_BYTES_MIN)?;
    if count > EDITS_MAX {
        return Err(AtHomeError::TooMany);
    }
    let mut edits = Vec::with_capacity(count);
    for _ in 0..count {
        let path = read_path(reader)?;
        let (value, on) = read_value(reader)?;
        edits.push(Edit { path, value, on });
    }
    Ok(edits)
}

fn read_path(reader: &mut Reader) -> Result<Path, AtHomeError> {
    reader.var_str()?.as_str().parse().map_err(|_| AtHomeError::Path)
}

fn put_value(out: &mut Vec<u8>, value: Option<&Value>, on: Option<&FieldVersion>) {
    let flag = |is_there: bool, flag| if is_there { flag } else { 0 };
    out.push(flag(value.is_some(), HAS_VALUE) | flag(on.is_some(), HAS_VERSION));
    if let Some(value) = value {
        value.encode(out);
    }
    if let Some(FieldVersion(writes)) = on {
        put_var_u64(out, writes.len() as u64);
        writes.iter().for_each(|&write| put_write(out, write, 0));
    }
}

fn read_value(reader: &mut Reader) -> Result<(Option<Value>, Option<FieldVersion>), ReadError> {
    let flags = reader.u8()?;
    if flags & !(HAS_VALUE | HAS_VERSION) != 0 {
        return Err(ReadError::Overflow);
    }
    let value = (flags & HAS_VALUE != 0).then(|| Value::decode(reader)).transpose()?;
    if flags & HAS_VERSION == 0 {
        return Ok((value, None));
    }
    let count = read_count(reader, WRITE_BYTES_MIN)?;
    if count > VERSION_WRITES_MAX {
        return Err(ReadError::Overflow);
    }
    let writes = (0..count).map(|_| read_write(reader)).collect::<Result<_, _>>()?;
    Ok((value, Some(FieldVersion(writes))))
}

impl ToldByHome {
    /// The answer, as a call's return carries it. A text beyond its limit is cut.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Written(frontier) => {
                out.push(WRITTEN);
                frontier.encode(&mut out);
            }
            Self::Refused { kind, detail } => {
                out.push(REFUSED);
                put_text(&mut out, kind);
                put_text(&mut out, detail);
            }
            Self::Elsewhere(home) => {
                out.push(ELSEWHERE);
                put_var_u64(&mut out, home.map_or(0, |home| home.0.into()));
            }
            Self::NotWritten(why) => {
                out.push(NOT_WRITTEN);
                put_text(&mut out, why);
            }
            Self::NotKnown(why) => {
                out.push(NOT_KNOWN);
                put_text(&mut out, why);
            }
        }
        out.into()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When the bytes are no answer of a home.
    pub fn decode(payload: Bytes) -> Result<Self, AtHomeError> {
        let mut reader = Reader::new(payload);
        let told = match reader.u8()? {
            WRITTEN => Self::Written(Frontier::decode(&mut reader)?),
            REFUSED => Self::Refused { kind: read_text(&mut reader)?, detail: read_text(&mut reader)? },
            ELSEWHERE => {
                let home = u16::try_from(canonical_u64(&mut reader)?).map_err(|_| ReadError::Overflow)?;
                Self::Elsewhere((home != 0).then_some(ReplicaId(home)))
            }
            NOT_WRITTEN => Self::NotWritten(read_text(&mut reader)?),
            NOT_KNOWN => Self::NotKnown(read_text(&mut reader)?),
            other => return Err(AtHomeError::Unknown(other)),
        };
        reader.finish()?;
        Ok(told)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(TOLD_TEXT_BYTES_MAX);
    put_var_bytes(out, &text.as_bytes()[..end]);
}

fn read_text(reader: &mut Reader) -> Result<String, ReadError> {
    let text = reader.var_str()?;
    if text.as_str().len() > TOLD_TEXT_BYTES_MAX {
        return Err(ReadError::Overflow);
    }
    Ok(text.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::write::WriteId;
    use super::*;
    use crate::ids::{Dot, Seq, StreamId};
    use crate::update::{ClientId, ItemId};
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Option<Value>> {
        proptest::option::of(prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            "[a-zé]{0,9}".prop_map(|text| Value::String(text.as_str().into())),
        ])
    }

    fn paths() -> impl Strategy<Value = Path> {
        "[a-z~/]{1,6}".prop_filter_map("a path", |text| text.parse().ok())
    }

    fn versions() -> impl Strategy<Value = Option<FieldVersion>> {
        let write = (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(set, client, clock)| {
            let item = ItemId { client: ClientId(client), clock };
            if set { WriteId::Set(item) } else { WriteId::Deleted(item) }
        });
        proptest::option::of(proptest::collection::vec(write, 0..3).prop_map(FieldVersion))
    }

    fn frontiers() -> impl Strategy<Value = Frontier> {
        proptest::collection::vec((any::<u32>(), 1_u64..), 0..4).prop_map(|dots| {
            let dot = |(raw, seq)| Dot { stream: StreamId::from_u32(raw), seq: Seq(seq) };
            dots.into_iter().map(dot).collect()
        })
    }

    fn asked() -> impl Strategy<Value = AskedOfHome> {
        let edit = (paths(), values(), versions()).prop_map(|(path, value, on)| Edit { path, value, on });
        let asked = prop_oneof![
            (proptest::collection::vec(edit, 0..4), any::<bool>())
                .prop_map(|(edits, is_exact)| Asked::Write(FieldsWrite::Edit { edits, is_exact })),
            (paths(), any::<[u8; 16]>(), values()).prop_map(|(path, conflict, value)| {
                Asked::Write(FieldsWrite::Resolve { path, conflict: ConflictId(conflict), value })
            }),
            ("[a-z/]{1,6}", paths(), values(), versions()).prop_filter_map(
                "a value",
                |(name, path, value, on)| {
                    let document = DocName::new(&name).ok()?;
                    Some(Asked::Claim(Claiming { document, path, value: value?, on }))
                }
            ),
        ];
        let author = proptest::option::of("[a-z]{1,9}".prop_map(|name| name.as_str().into()));
        (frontiers(), author, asked).prop_map(|(seen, author, asked)| AskedOfHome { seen, author, asked })
    }

    fn told() -> impl Strategy<Value = ToldByHome> {
        prop_oneof![
            frontiers().prop_map(ToldByHome::Written),
            ("[a-z]{0,9}", ".{0,20}").prop_map(|(kind, detail)| ToldByHome::Refused { kind, detail }),
            any::<u16>().prop_map(|raw| ToldByHome::Elsewhere((raw != 0).then_some(ReplicaId(raw)))),
            ".{0,20}".prop_map(ToldByHome::NotWritten),
            ".{0,20}".prop_map(ToldByHome::NotKnown),
        ]
    }

    proptest! {
        #[test]
        fn f8_what_a_home_is_asked_and_answers_survives_its_bytes(asked in asked(), told in told()) {
            prop_assert_eq!(AskedOfHome::decode(asked.encode()), Ok(asked));
            prop_assert_eq!(ToldByHome::decode(told.encode()), Ok(told));
        }

        #[test]
        fn f8_any_bytes_are_refused_or_read(
            asked in asked(), told in told(), at: prop::sample::Index, to: u8, bytes: Vec<u8>,
        ) {
            for payload in [asked.encode(), told.encode(), bytes.into()] {
                let mut changed = payload.to_vec();
                if !changed.is_empty() {
                    let at = at.index(changed.len());
                    changed[at] = to;
                }
                for payload in [payload, changed.into()] {
                    let _ = (AskedOfHome::decode(payload.clone()), ToldByHome::decode(payload));
                }
            }
        }
    }

    #[test]
    fn f8_a_text_beyond_its_limit_is_cut_and_too_many_writes_are_not_read() {
        let long = ToldByHome::NotKnown("é".repeat(TOLD_TEXT_BYTES_MAX));
        let cut = ToldByHome::NotKnown("é".repeat(TOLD_TEXT_BYTES_MAX / 2));
        assert_eq!(ToldByHome::decode(long.encode()), Ok(cut));
        let edits = |count| {
            let edit = Edit { path: Path::of("a"), value: None, on: None };
            let write = FieldsWrite::Edit { edits: vec![edit; count], is_exact: false };
            let asked = AskedOfHome { seen: Frontier::new(), author: None, asked: Asked::Write(write) };
            AskedOfHome::decode(asked.encode()).map(drop)
        };
        assert_eq!((edits(EDITS_MAX), edits(EDITS_MAX + 1)), (Ok(()), Err(AtHomeError::TooMany)));
    }

    #[test]
    fn f8_what_does_not_reach_its_home_is_kept_where_no_field_forbids_it() {
        let (slug, votes, note) = (Path::of("slug"), Path::of("votes"), Path::of("note"));
        let kept = (&note, HomePolicy::AcceptAndFlag, false);
        let counts = (&votes, HomePolicy::AcceptAndFlag, true);
        let rejects = (&slug, HomePolicy::Reject, false);
        assert_eq!(unreached([kept, counts], false), Unreached::Kept);
        assert_eq!(unreached([kept], true), Unreached::Kept);
        // The home may have counted it already.
        assert_eq!(unreached([kept, counts], true), Unreached::Refused(&votes));
        for is_unknown in [false, true] {
            assert_eq!(unreached([kept, rejects], is_unknown), Unreached::Refused(&slug));
        }
    }
}
