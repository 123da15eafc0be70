//! Frontiers: per stream, the last entry held without gaps.
//!
//! Frontiers count log entries of every kind, deletes included, which Yjs state vectors do not.
//! The decoder takes bytes and tokens from outside and accepts one spelling of each frontier.
//!
//! Invariant: a frontier names no stream with seq 0: "none yet" is absence.

use crate::ids::{Dot, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_u64};
use std::collections::BTreeMap;

/// The most streams that a frontier from outside may name. A cluster has a few replicas, each with
/// a new stream per restored disk; the bound keeps a decoded frontier under a hundred KiB.
pub const FRONTIER_STREAMS_MAX: usize = 4096;

/// The longest token of a frontier: its largest encoding, in base64.
pub const FRONTIER_TOKEN_BYTES_MAX: usize = (FRONTIER_STREAMS_MAX * 15 + 2) * 4 / 3 + 4;

/// Per stream, the last entry held without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frontier {
    seqs: BTreeMap<StreamId, Seq>,
}

/// Why bytes or a token are not a frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// The bytes are cut short, overlong or followed by more.
    #[error("cannot read a frontier: {0}")]
    Read(#[from] ReadError),
    /// More streams than [`FRONTIER_STREAMS_MAX`].
    #[error("a frontier names at most {FRONTIER_STREAMS_MAX} streams; this one names {0}")]
    TooMany(u64),
    /// The streams do not rise, or a seq is 0.
    #[error("a frontier's streams must rise and their seqs be above 0")]
    Unordered,
    /// A token has a character outside base64url, or stray bits.
    #[error("a frontier token is base64url without padding")]
    Token,
}

impl Frontier {
    /// The frontier of someone who holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { seqs: BTreeMap::new() }
    }

    /// The last entry of a stream that is held without gaps; 0 when there is none.
    #[must_use]
    pub fn get(&self, stream: StreamId) -> Seq {
        self.seqs.get(&stream).copied().unwrap_or_default()
    }

    /// Raises a stream to an entry; never lowers it.
    pub fn raise(&mut self, dot: Dot) {
        if dot.seq > Seq(0) {
            let seq = self.seqs.entry(dot.stream).or_default();
            *seq = dot.seq.max(*seq);
        }
    }

    /// Raises every stream to what either side holds.
    pub fn merge(&mut self, other: &Self) {
        for dot in other.iter() {
            self.raise(dot);
        }
    }

    /// Whether an entry lies within the frontier.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.stream) >= dot.seq
    }

    /// Whether everything that the other holds lies within this frontier.
    #[must_use]
    pub fn covers_all(&self, other: &Self) -> bool {
        other.iter().all(|dot| self.covers(dot))
    }

    /// The frontier without one stream.
    #[must_use]
    pub fn without(&self, stream: StreamId) -> Self {
        let mut rest = self.clone();
        rest.seqs.remove(&stream);
        rest
    }

    /// The last entry of each stream, by stream.
    pub fn iter(&self) -> impl Iterator<Item = Dot> + '_ {
        self.seqs.iter().map(|(&stream, &seq)| Dot { stream, seq })
    }

    /// How many streams the frontier names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// Appends the frontier's one encoding: a count, then stream and seq of each, streams rising.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_var_u64(out, self.seqs.len() as u64);
        for dot in self.iter() {
            put_var_u64(out, u64::from(dot.stream.to_u32()));
            put_var_u64(out, dot.seq.0);
        }
    }

    /// Reads a frontier.
    ///
    /// # Errors
    /// When the bytes end, name too many streams, or spell the frontier in another way than
    /// [`Frontier::encode`] does.
    pub fn decode(reader: &mut Reader) -> Result<Self, FrontierError> {
        let count = canonical_u64(reader)?;
        if count > FRONTIER_STREAMS_MAX as u64 {
            return Err(FrontierError::TooMany(count));
        }
        let mut frontier = Self::new();
        let mut last = None;
        for _ in 0..count {
            let raw = u32::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)?;
            let seq = Seq(canonical_u64(reader)?);
            if seq == Seq(0) || last.is_some_and(|last| raw <= last) {
                return Err(FrontierError::Unordered);
            }
            last = Some(raw);
            frontier.seqs.insert(StreamId::from_u32(raw), seq);
        }
        Ok(frontier)
    }

    /// The frontier as a short text for HTTP headers: base64url of its encoding, without padding.
    #[must_use]
    pub fn to_token(&self) -> String {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        base64url(&bytes)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// When the text is not what [`Frontier::to_token`] gives for any frontier.
    pub fn from_token(token: &str) -> Result<Self, FrontierError> {
        if token.len() > FRONTIER_TOKEN_BYTES_MAX {
            return Err(FrontierError::Token);
        }
        let mut reader = Reader::new(from_base64url(token).ok_or(FrontierError::Token)?.into());
        let frontier = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(frontier)
    }
}

impl FromIterator<Dot> for Frontier {
    fn from_iter<T: IntoIterator<Item = Dot>>(dots: T) -> Self {
        let mut frontier = Self::new();
        for dot in dots {
            frontier.raise(dot);
        }
        frontier
    }
}

/// Reads an integer and refuses any but its shortest spelling, so that equal values have equal bytes.
pub(crate) fn canonical_u64(reader: &mut Reader) -> Result<u64, ReadError> {
    let start = reader.position();
    let value = reader.var_u64()?;
    let bits = u64::BITS - value.leading_zeros();
    let shortest = bits.div_ceil(7).max(1) as usize;
    if reader.position() - start == shortest { Ok(value) } else { Err(ReadError::Overflow) }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0_u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        for digit in 0..=chunk.len() {
            let index = bits >> (18 - 6 * digit) & 0x3f;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut bits = 0_u32;
        for (at, &character) in chunk.iter().enumerate() {
            bits |= digit(character)? << (18 - 6 * at);
        }
        let [_, group @ ..] = bits.to_be_bytes();
        let (kept, stray) = group.split_at(chunk.len() - 1);
        if stray.iter().any(|&byte| byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frontier() -> impl Strategy<Value = Frontier> {
        proptest::collection::vec((any::<u32>(), any::<u64>()), 0..20).prop_map(|dots| {
            dots.into_iter()
                .map(|(stream, seq)| Dot { stream: StreamId::from_u32(stream), seq: Seq(seq) })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn a_frontier_survives_its_token(frontier in frontier()) {
            let token = frontier.to_token();
            prop_assert!(token.len() <= FRONTIER_TOKEN_BYTES_MAX);
            prop_assert_eq!(Frontier::from_token(&token), Ok(frontier));
        }

        #[test]
        fn any_token_is_refused_or_the_only_one_of_its_frontier(token in "[A-Za-z0-9_-]{0,24}") {
            if let Ok(frontier) = Frontier::from_token(&token) {
                prop_assert_eq!(frontier.to_token(), token);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(token: String) {
            let _ = Frontier::from_token(&token);
        }

        #[test]
        fn a_merge_is_the_least_frontier_that_covers_both(a in frontier(), b in frontier()) {
            let mut merged = a.clone();
            merged.merge(&b);
            prop_assert!(merged.covers_all(&a) && merged.covers_all(&b));
            prop_assert!(merged.iter().all(|dot| a.get(dot.stream) == dot.seq || b.get(dot.stream) == dot.seq));
            let mut other_way = b;
            other_way.merge(&a);
            prop_assert_eq!(merged, other_way);
        }
    }

    #[test]
    fn the_longest_frontier_fits_its_token_bound() {
        let dots =
            (0..4096_u32).map(|i| Dot { stream: StreamId::from_u32(u32::MAX - i), seq: Seq(u64::MAX) });
        let frontier: Frontier = dots.collect();
        let token = frontier.to_token();
        assert!(token.len() <= FRONTIER_TOKEN_BYTES_MAX, "{} characters", token.len());
        assert_eq!(Frontier::from_token(&token), Ok(frontier));
    }

    #[test]
    fn hostile_counts_are_refused_before_anything_is_allocated() {
        let mut bytes = Vec::new();
        put_var_u64(&mut bytes, u64::MAX);
        let refused = Frontier::decode(&mut Reader::new(bytes.into()));
        assert_eq!(refused, Err(FrontierError::TooMany(u64::MAX)));
    }
}
