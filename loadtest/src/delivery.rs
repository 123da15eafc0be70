//! Recognises what an update delivers: for each client, the range of clocks its blocks cover.
//!
//! Servers may merge several updates into one frame, join blocks or encode them anew; the clocks of
//! the content stay, so a delivery is known by them whatever carries it. The scanner keeps nothing
//! and allocates nothing. It reads the content that typists write; an update with other content is
//! refused, never guessed at.

use crate::cursor::{Cursor, Malformed};

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_PARENT_SUB: u8 = 0x20;
const CONTENT_MASK: u8 = 0x1f;

const GC: u8 = 0;
const DELETED: u8 = 1;
const BINARY: u8 = 3;
const STRING: u8 = 4;
const EMBED: u8 = 5;
const FORMAT: u8 = 6;
const TYPE: u8 = 7;
const SKIP: u8 = 10;
const TYPE_XML_ELEMENT: u64 = 3;
const TYPE_XML_HOOK: u64 = 5;

/// Why an update cannot be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// It ends early.
    #[error("an update: {0}")]
    Malformed(#[from] Malformed),
    /// A kind of content that typists do not write.
    #[error("an update holds content of kind {0}, which typists do not write")]
    Content(u8),
}

/// Some content of one client: the clocks from `from` up to, not including, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whose content.
    pub client: u32,
    /// The first clock.
    pub from: u32,
    /// One past the last clock.
    pub to: u32,
}

/// Calls `found` with each run of blocks in an update, in its order; returns the bytes of its delete set.
///
/// # Errors
/// When the update ends early or holds content that typists do not write.
pub fn scan(update: &[u8], mut found: impl FnMut(Range)) -> Result<&[u8], ScanError> {
    let mut cursor = Cursor::new(update);
    for _ in 0..cursor.var_u64()? {
        let blocks = cursor.var_u64()?;
        let client = cursor.var_u32()?;
        let mut from = cursor.var_u32()?;
        let mut to = from;
        for _ in 0..blocks {
            let info = cursor.u8()?;
            let len = block_len(info, &mut cursor)?;
            let end = to.checked_add(len).ok_or(Malformed)?;
            if info == SKIP {
                if from < to {
                    found(Range { client, from, to });
                }
                from = end;
            }
            to = end;
        }
        if from < to {
            found(Range { client, from, to });
        }
    }
    Ok(cursor.rest())
}

/// Reads one block and tells how many clocks it covers.
fn block_len(info: u8, cursor: &mut Cursor<'_>) -> Result<u32, ScanError> {
    if info == GC || info == SKIP {
        return Ok(cursor.var_u32()?);
    }
    if info & HAS_ORIGIN != 0 {
        skip_id(cursor)?;
    }
    if info & HAS_RIGHT_ORIGIN != 0 {
        skip_id(cursor)?;
    }
    if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
        match cursor.var_u64()? {
            1 => _ = cursor.var_bytes()?,
            _ => skip_id(cursor)?,
        }
        if info & HAS_PARENT_SUB != 0 {
            cursor.var_bytes()?;
        }
    }
    match info & CONTENT_MASK {
        DELETED => return Ok(cursor.var_u32()?),
        STRING => return Ok(utf16_len(cursor.var_bytes()?)),
        BINARY | EMBED => _ = cursor.var_bytes()?,
        FORMAT => {
            cursor.var_bytes()?;
            cursor.var_bytes()?;
        }
        TYPE => {
            if matches!(cursor.var_u64()?, TYPE_XML_ELEMENT | TYPE_XML_HOOK) {
                cursor.var_bytes()?;
            }
        }
        other => return Err(ScanError::Content(other)),
    }
    Ok(1)
}

fn skip_id(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    cursor.var_u64()?;
    cursor.var_u64()?;
    Ok(())
}

/// The length of UTF-8 in UTF-16 units: one per character, two where it takes four bytes.
#[expect(clippy::cast_possible_truncation, reason = "a frame is far below 4 GiB")]
fn utf16_len(utf8: &[u8]) -> u32 {
    let units = |&byte: &u8| match byte {
        0x80..0xc0 => 0,
        0xf0.. => 2,
        _ => 1,
    };
    if utf8.len() < 8 || !utf8.is_ascii() { utf8.iter().map(units).sum() } else { utf8.len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typist::{Typist, put_lines};
    use proptest::prelude::*;
    use yrs::{Doc, Text, Transact};

    fn ranges(update: &[u8]) -> Result<Vec<Range>, ScanError> {
        let mut ranges = Vec::new();
        scan(update, |range| ranges.push(range))?;
        Ok(ranges)
    }

    #[test]
    fn a_keystroke_delivers_its_clock() {
        let mut typist = Typist::on_line(4_000_000_000, 9, 2);
        for clock in 0..200 {
            let mut update = Vec::new();
            typist.put_keystroke(&mut update);
            let wanted = Range { client: 4_000_000_000, from: clock, to: clock + 1 };
            assert_eq!(ranges(&update), Ok(vec![wanted]));
        }
    }

    #[test]
    fn merged_and_squashed_updates_deliver_the_same_clocks() {
        let mut updates = vec![Vec::new()];
        put_lines(9, 2, &mut updates[0]);
        let mut typists = [Typist::on_line(70, 9, 0), Typist::on_line(80, 9, 1)];
        for turn in 0..40 {
            let mut update = Vec::new();
            typists[turn % 2].put_keystroke(&mut update);
            updates.push(update);
        }
        let wanted = [(80, 20), (70, 20), (9, 2)].map(|(client, to)| Range { client, from: 0, to });
        let merged = yrs::merge_updates_v1(&updates).unwrap();
        assert_eq!(ranges(&merged), Ok(wanted.to_vec()));
    }

    #[test]
    fn letters_outside_the_basic_plane_count_two() {
        let doc = Doc::with_client_id(5);
        let root = doc.get_or_insert_text("content");
        root.insert(&mut doc.transact_mut(), 0, "aé€🪶, long enough to take the other path");
        let update = yrs::ReadTxn::encode_state_as_update_v1(&doc.transact(), &yrs::StateVector::default());
        assert_eq!(ranges(&update), Ok(vec![Range { client: 5, from: 0, to: 41 }]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned_or_refused(bytes in proptest::collection::vec(0_u8..16, 0..64)) {
            let _ = ranges(&bytes);
        }
    }
}
