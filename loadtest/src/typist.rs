//! A typist: the valid Yjs updates of one client that types letter after letter in one place.
//!
//! Updates are written by hand, byte for byte what an editor would send, so that a keystroke costs
//! the generator some twenty nanoseconds. A typist never deletes and never moves.
//!
//! Invariant: the updates of clocks `0..n` in any causal order give the first `n` letters, side by side.

use quire_protocol::lib0::{put_var_bytes, put_var_u64};

/// The root text that everyone types in.
pub const ROOT: &str = "content";

/// The letters typed, in a circle: clock `k` types letter `k % LETTERS.len()`.
pub const LETTERS: &[u8] = b"the quick brown fox jumps over the lazy dog ";

const CONTENT_STRING: u8 = 4;
const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const PARENT_IS_ROOT: u64 = 1;

/// The name of one letter in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterId {
    /// Whose letter.
    pub client: u32,
    /// The how-manieth of that client.
    pub clock: u32,
}

/// One client typing in one place.
#[derive(Clone, Debug)]
pub struct Typist {
    client: u32,
    left: Option<LetterId>,
    right: Option<LetterId>,
    clock: u32,
}

impl Typist {
    /// Types into an empty document.
    #[must_use]
    pub const fn alone(client: u32) -> Self {
        Self { client, left: None, right: None, clock: 0 }
    }

    /// Types on a line of a document that [`put_lines`] made: right before that line's end.
    #[must_use]
    pub fn on_line(client: u32, lines_client: u32, line: u32) -> Self {
        let left = line.checked_sub(1).map(|clock| LetterId { client: lines_client, clock });
        Self { client, left, right: Some(LetterId { client: lines_client, clock: line }), clock: 0 }
    }

    /// How many letters have been typed.
    #[must_use]
    pub const fn typed(&self) -> u32 {
        self.clock
    }

    /// The client id.
    #[must_use]
    pub const fn client(&self) -> u32 {
        self.client
    }

    /// Appends the update of the next letter.
    pub fn put_keystroke(&mut self, out: &mut Vec<u8>) {
        let letter = LETTERS[self.clock as usize % LETTERS.len()];
        self.put_text(&[letter], out);
    }

    /// Appends the update of a word or a paste, ASCII.
    ///
    /// # Panics
    /// When the text is not ASCII: its length in UTF-16 would not be its length in bytes.
    pub fn put_text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        assert!(text.is_ascii(), "a typist types ASCII");
        let left = match self.clock.checked_sub(1) {
            Some(clock) => Some(LetterId { client: self.client, clock }),
            None => self.left,
        };
        put_update(LetterId { client: self.client, clock: self.clock }, left, self.right, text, out);
        self.clock += u32::try_from(text.len()).expect("a paste is far below 4 GiB");
    }
}

/// Appends the update that makes a document of so many empty lines, for [`Typist::on_line`].
pub fn put_lines(client: u32, lines: u32, out: &mut Vec<u8>) {
    let text = vec![b'\n'; lines as usize];
    put_update(LetterId { client, clock: 0 }, None, None, &text, out);
}

/// What a typist has typed after so many keystrokes.
#[must_use]
pub fn typed_text(keystrokes: u32) -> String {
    LETTERS.iter().cycle().take(keystrokes as usize).map(|&letter| char::from(letter)).collect()
}

/// An update of one item: one client, one block, no deletions.
fn put_update(id: LetterId, left: Option<LetterId>, right: Option<LetterId>, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[1, 1]);
    put_letter_id(id, out);
    put_item(left, right, text, out);
    out.push(0);
}

/// One block of text between its neighbours, as it stands in an update.
pub(crate) fn put_item(left: Option<LetterId>, right: Option<LetterId>, text: &[u8], out: &mut Vec<u8>) {
    let mut info = CONTENT_STRING;
    if left.is_some() {
        info |= HAS_ORIGIN;
    }
    if right.is_some() {
        info |= HAS_RIGHT_ORIGIN;
    }
    out.push(info);
    for origin in [left, right].into_iter().flatten() {
        put_letter_id(origin, out);
    }
    if left.is_none() && right.is_none() {
        put_var_u64(out, PARENT_IS_ROOT);
        put_var_bytes(out, ROOT.as_bytes());
    }
    put_var_bytes(out, text);
}

/// A letter's name, as an update writes it.
pub(crate) fn put_letter_id(id: LetterId, out: &mut Vec<u8>) {
    put_var_u64(out, u64::from(id.client));
    put_var_u64(out, u64::from(id.clock));
}

#[cfg(test)]
mod tests {
    use super::*;
    use yrs::updates::decoder::Decode;
    use yrs::{ClientID, Doc, GetString, OffsetKind, Options, ReadTxn, Text, Transact, Update};

    fn apply(doc: &Doc, update: &[u8]) {
        let mut txn = doc.transact_mut();
        txn.apply_update(Update::decode_v1(update).unwrap()).unwrap();
        assert!(!txn.has_missing_updates());
    }

    fn text(doc: &Doc) -> String {
        let root = doc.get_or_insert_text(ROOT);
        root.get_string(&doc.transact())
    }

    #[test]
    fn a_lone_typist_sends_the_bytes_that_yrs_sends() {
        let options =
            Options { offset_kind: OffsetKind::Utf16, ..Options::with_client_id(ClientID::new(0x8123_4567)) };
        let doc = Doc::with_options(options);
        let root = doc.get_or_insert_text(ROOT);
        let mut typist = Typist::alone(0x8123_4567);
        for k in 0..300_u32 {
            let letter = char::from(LETTERS[k as usize % LETTERS.len()]).to_string();
            let mut txn = doc.transact_mut();
            root.insert(&mut txn, k, &letter);
            let mut update = Vec::new();
            typist.put_keystroke(&mut update);
            assert_eq!(update, txn.encode_update_v1());
        }
    }

    #[test]
    fn typists_on_lines_keep_to_their_lines_in_any_order() {
        let doc = Doc::new();
        let mut update = Vec::new();
        put_lines(9, 3, &mut update);
        apply(&doc, &update);
        let mut typists: Vec<_> = (0..3).map(|line| Typist::on_line(100 - line, 9, line)).collect();
        for turn in 0..90_usize {
            update.clear();
            typists[(turn * turn + turn / 7) % 3].put_keystroke(&mut update);
            apply(&doc, &update);
        }
        let lines: Vec<_> = typists.iter().map(|typist| typed_text(typist.typed()) + "\n").collect();
        assert_eq!(text(&doc), lines.concat());
    }

    #[test]
    fn a_paste_moves_the_clock_by_its_length() {
        let doc = Doc::new();
        let mut typist = Typist::alone(7);
        for piece in [&b"hello "[..], b"w", b"orld"] {
            let mut update = Vec::new();
            typist.put_text(piece, &mut update);
            apply(&doc, &update);
        }
        assert_eq!(text(&doc), "hello world");
        assert_eq!(doc.transact().state_vector().get(&ClientID::new(7)), 11);
    }
}
