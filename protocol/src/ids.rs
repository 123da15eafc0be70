//! Names of things: replicas, streams, entries, documents and sessions.
//!
//! Invariant: a `DocName` is valid by construction, and a `DocId` is a function of the name alone.

use std::fmt;

/// A region's number within its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u16);

/// Counts the times a replica's disk may have gone back in time: a new disk, a restored backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u16);

/// The entries that one incarnation of one replica originated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The replica that originates the stream.
    pub replica: ReplicaId,
    /// Which life of that replica.
    pub incarnation: Incarnation,
}

impl StreamId {
    /// The stream as one integer, ordered as the pair is.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        (self.replica.0 as u32) << 16 | self.incarnation.0 as u32
    }

    /// The stream that `to_u32` gave.
    #[must_use]
    pub const fn from_u32(raw: u32) -> Self {
        Self { replica: ReplicaId((raw >> 16) as u16), incarnation: Incarnation((raw & 0xffff) as u16) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.replica.0, self.incarnation.0)
    }
}

/// An entry's place in its stream: 1, 2, 3… without gaps; 0 means "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// An entry's name, unique in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The stream that holds the entry.
    pub stream: StreamId,
    /// Its place there.
    pub seq: Seq,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stream, self.seq.0)
    }
}

/// One editor's connection to one document, numbered by the server that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A document's identity: the first 128 bits of blake3 over its name, so that two regions that first
/// open the same name make the same document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(pub u128);

impl fmt::Debug for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocId({:032x})", self.0)
    }
}

/// The longest document name, in bytes of UTF-8.
pub const DOC_NAME_BYTES_MAX: usize = 512;

/// A document's name: UTF-8, 1 to 512 bytes, `/` allowed, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocName(std::sync::Arc<str>);

/// Why a text cannot name a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocNameError {
    /// There is no text.
    #[error("a document name needs at least one character")]
    Empty,
    /// More than [`DOC_NAME_BYTES_MAX`] bytes.
    #[error("a document name has at most {DOC_NAME_BYTES_MAX} bytes of UTF-8; this one has {0}")]
    TooLong(usize),
    /// A character of Unicode class Cc.
    #[error("a document name has no control characters; this one has one at byte {0}")]
    Control(usize),
}

impl DocName {
    /// Checks a name.
    ///
    /// # Errors
    /// When the text is empty, too long or holds a control character.
    pub fn new(text: &str) -> Result<Self, DocNameError> {
        if text.is_empty() {
            return Err(DocNameError::Empty);
        }
        if text.len() > DOC_NAME_BYTES_MAX {
            return Err(DocNameError::TooLong(text.len()));
        }
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(DocNameError::Control(at)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity that this name gives its document.
    #[must_use]
    pub fn id(&self) -> DocId {
        let hash = blake3::hash(self.0.as_bytes());
        let first: [u8; 16] = hash.as_bytes()[..16].try_into().expect("16 of the 32 bytes of a hash");
        DocId(u128::from_be_bytes(first))
    }
}

impl fmt::Display for DocName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_slashes_spaces_and_emoji_but_no_control_characters() {
        assert_eq!(DocName::new("team/plan 🪶").map(|n| n.to_string()), Ok("team/plan 🪶".to_owned()));
        assert_eq!(DocName::new(""), Err(DocNameError::Empty));
        assert_eq!(DocName::new("a\0b"), Err(DocNameError::Control(1)));
        assert!(DocName::new(&"é".repeat(256)).is_ok());
        assert_eq!(DocName::new(&"é".repeat(257)), Err(DocNameError::TooLong(514)));
    }

    #[test]
    fn a_stream_survives_its_integer_form() {
        let stream = StreamId { replica: ReplicaId(513), incarnation: Incarnation(65535) };
        assert_eq!(StreamId::from_u32(stream.to_u32()), stream);
    }
}
