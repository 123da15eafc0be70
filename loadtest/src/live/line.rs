//! A typist's line: what one person writes, deletes and takes back in one place of a document, as valid Yjs updates.
//!
//! A document is a page of empty lines ([`crate::typist::put_lines`]) and each typist keeps to one, so that what the
//! document must hold in the end is known without asking anyone. Updates are written by hand, byte for byte what an
//! editor would send: a letter goes between its neighbours as they stand in the list, deleted ones among them.
//!
//! Invariant: what all updates make of the line, in any causal order, is [`Line::text`].

use std::ops::Range;

use quire_protocol::lib0::put_var_u64;

use crate::typist::{LetterId, put_item, put_letter_id};

/// How many steps can be taken back.
const UNDO_MAX: usize = 100;

/// A letter that is there, and its neighbour to the right, which may have been deleted.
#[derive(Clone, Copy, Debug)]
struct Letter {
    id: LetterId,
    right: Option<LetterId>,
    byte: u8,
}

/// An item that was written: letters of consecutive clocks.
#[derive(Clone, Debug)]
struct Item {
    letters: Range<u32>,
    left: Option<LetterId>,
    right: Option<LetterId>,
}

/// A step that can be taken back.
#[derive(Clone, Debug)]
enum Step {
    /// So many letters were typed, and are the last of the line.
    Typed(u32),
    /// These were deleted from the end of the line.
    Deleted(Vec<u8>),
}

/// One typist's text.
#[derive(Clone, Debug)]
pub(super) struct Line {
    client: u32,
    start: Option<LetterId>,
    /// The neighbour to the right of the line's start.
    first: Option<LetterId>,
    letters: Vec<Letter>,
    /// All that was written by this client: the items, and the bytes by clock.
    items: Vec<Item>,
    written: Vec<u8>,
    /// Clocks deleted, in the order of their deletion.
    deleted: Vec<LetterId>,
    steps: Vec<Step>,
}

impl Line {
    /// A line of a page that `lines_client` made, which is empty.
    pub(super) fn new(client: u32, lines_client: u32, line: u32) -> Self {
        let at = |clock| LetterId { client: lines_client, clock };
        Self {
            client,
            start: line.checked_sub(1).map(at),
            first: Some(at(line)),
            letters: Vec::new(),
            items: Vec::new(),
            written: Vec::new(),
            deleted: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// The same line for somebody who has just opened it: the Yjs client is another, and nothing can be taken back.
    pub(super) fn reopened(&self, client: u32) -> Self {
        let (items, written) = (Vec::new(), Vec::new());
        let (deleted, steps) = (Vec::new(), Vec::new());
        Self { client, items, written, deleted, steps, letters: self.letters.clone(), ..*self }
    }

    /// The Yjs client that writes.
    pub(super) const fn client(&self) -> u32 {
        self.client
    }

    /// How many letters this client has written.
    pub(super) fn clock(&self) -> u32 {
        u32::try_from(self.written.len()).expect("a run is far below 4 G letters")
    }

    /// How many letters stand in the line.
    pub(super) const fn len(&self) -> usize {
        self.letters.len()
    }

    /// What the line holds.
    pub(super) fn text(&self) -> String {
        self.letters.iter().map(|letter| char::from(letter.byte)).collect()
    }

    /// The last letter, where a cursor stands behind it.
    pub(super) fn cursor(&self) -> Option<LetterId> {
        self.letters.last().map(|letter| letter.id).or(self.start)
    }

    /// Types at the end of the line, ASCII, and appends the update to `out`.
    pub(super) fn put_text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let len = self.write(text, out);
        self.remember(Step::Typed(len));
    }

    /// Deletes so many letters before the end of the line, at most those there are, and appends the update.
    pub(super) fn put_deletion(&mut self, count: usize, out: &mut Vec<u8>) {
        let taken = self.delete(count, out);
        self.remember(Step::Deleted(taken));
    }

    /// Takes the last step back and appends the update. Returns how many letters it deleted; none when there is no
    /// step.
    pub(super) fn put_undo(&mut self, out: &mut Vec<u8>) -> Option<u64> {
        match self.steps.pop()? {
            Step::Typed(len) => Some(self.delete(len as usize, out).len() as u64),
            Step::Deleted(text) => {
                self.write(&text, out);
                Some(0)
            }
        }
    }

    /// What a server lacks that has so many letters of this client: one update, deletions included.
    pub(super) fn put_since(&self, clock: u32, out: &mut Vec<u8>) {
        let first = self.items.partition_point(|item| item.letters.end <= clock);
        let items = &self.items[first..];
        put_var_u64(out, u64::from(!items.is_empty()));
        if let Some(item) = items.first() {
            put_var_u64(out, items.len() as u64);
            let from = item.letters.start.max(clock);
            put_letter_id(LetterId { client: self.client, clock: from }, out);
            for item in items {
                let letters = item.letters.start.max(clock)..item.letters.end;
                let left = match letters.start.checked_sub(1) {
                    Some(before) if letters.start > item.letters.start => {
                        Some(LetterId { client: self.client, clock: before })
                    }
                    _ => item.left,
                };
                let text = &self.written[letters.start as usize..letters.end as usize];
                put_item(left, item.right, text, out);
            }
        }
        self.put_deleted(&self.deleted, out);
    }

    fn remember(&mut self, step: Step) {
        match (self.steps.last_mut(), step) {
            // An undo takes back a run of typing, not a letter.
            (Some(Step::Typed(len)), Step::Typed(more)) if *len < 20 => *len += more,
            (_, Step::Deleted(text)) if text.is_empty() => {}
            (_, step) => {
                if self.steps.len() == UNDO_MAX {
                    self.steps.remove(0);
                }
                self.steps.push(step);
            }
        }
    }

    fn write(&mut self, text: &[u8], out: &mut Vec<u8>) -> u32 {
        assert!(text.is_ascii() && !text.is_empty(), "a typist types ASCII");
        let from = self.clock();
        self.written.extend_from_slice(text);
        let letters = from..self.clock();
        let id = |clock| LetterId { client: self.client, clock };
        let (left, right) = match self.letters.last_mut() {
            Some(last) => (Some(last.id), last.right.replace(id(from))),
            None => (self.start, self.first.replace(id(from))),
        };
        for (clock, &byte) in letters.clone().zip(text) {
            let right = if clock + 1 == letters.end { right } else { Some(id(clock + 1)) };
            self.letters.push(Letter { id: id(clock), right, byte });
        }
        out.extend_from_slice(&[1, 1]);
        put_letter_id(id(from), out);
        put_item(left, right, text, out);
        out.push(0);
        self.items.push(Item { letters: letters.clone(), left, right });
        letters.end - letters.start
    }

    fn delete(&mut self, count: usize, out: &mut Vec<u8>) -> Vec<u8> {
        let at = self.letters.len() - count.min(self.letters.len());
        let taken = self.letters.split_off(at);
        let ids: Vec<LetterId> = taken.iter().map(|letter| letter.id).collect();
        out.push(0);
        self.put_deleted(&ids, out);
        self.deleted.extend(ids);
        taken.iter().map(|letter| letter.byte).collect()
    }

    fn put_deleted(&self, letters: &[LetterId], out: &mut Vec<u8>) {
        let mut letters = letters.to_vec();
        letters.sort_unstable_by_key(|letter| (letter.client, letter.clock));
        let clients: Vec<&[LetterId]> = letters.chunk_by(|a, b| a.client == b.client).collect();
        put_var_u64(out, clients.len() as u64);
        for of_client in clients {
            let ranges: Vec<&[LetterId]> = of_client.chunk_by(|a, b| a.clock + 1 == b.clock).collect();
            put_var_u64(out, of_client[0].client.into());
            put_var_u64(out, ranges.len() as u64);
            for range in ranges {
                put_var_u64(out, range[0].clock.into());
                put_var_u64(out, range.len() as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::typist::{ROOT, put_lines};
    use proptest::prelude::*;
    use yrs::updates::decoder::Decode;
    use yrs::{Doc, GetString, ReadTxn, Transact, Update};

    const LINES: u32 = 3;

    fn apply(doc: &Doc, update: &[u8]) {
        let mut txn = doc.transact_mut();
        txn.apply_update(Update::decode_v1(update).unwrap()).unwrap();
        assert!(!txn.has_missing_updates());
    }

    fn page(doc: &Doc) -> String {
        let root = doc.get_or_insert_text(ROOT);
        root.get_string(&doc.transact())
    }

    fn lines() -> Vec<Line> {
        (0..LINES).map(|line| Line::new(100 - line, 9, line)).collect()
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Type(u8),
        Delete(u8),
        Undo,
        Reopen,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (1..9_u8).prop_map(Act::Type),
            2 => (1..5_u8).prop_map(Act::Delete),
            1 => Just(Act::Undo),
            1 => Just(Act::Reopen),
        ]
    }

    proptest! {
        #[test]
        fn the_page_is_its_lines_whatever_is_written_deleted_and_taken_back(
            acts in proptest::collection::vec((0..LINES as usize, act()), 1..80),
            known in any::<prop::sample::Index>(),
        ) {
            let doc = Doc::new();
            let mut empty = Vec::new();
            put_lines(9, LINES, &mut empty);
            apply(&doc, &empty);
            let mut lines = lines();
            // What a line had written when somebody last looked, in case it goes on offline.
            let mut clocks = Vec::new();
            for (at, act) in acts {
                let (line, mut update) = (&mut lines[at], Vec::new());
                match act {
                    Act::Type(len) => line.put_text(&b"the quick"[..len as usize], &mut update),
                    Act::Delete(count) => line.put_deletion(count.into(), &mut update),
                    Act::Undo if line.put_undo(&mut update).is_none() => continue,
                    Act::Undo => {}
                    Act::Reopen => {
                        *line = line.reopened(line.client() + 1_000);
                        continue;
                    }
                }
                apply(&doc, &update);
                clocks.push((at, line.client(), line.clock()));
                let whole: Vec<String> = lines.iter().map(|line| line.text() + "\n").collect();
                prop_assert_eq!(page(&doc), whole.concat());
            }
            // Whoever has part of a line is given the rest of it at once.
            if let Some(&(at, client, clock)) = (!clocks.is_empty()).then(|| known.get(&clocks)) {
                let state = doc.transact().encode_state_as_update_v1(&yrs::StateVector::default());
                let other = Doc::new();
                apply(&other, &state);
                if client == lines[at].client() {
                    let mut rest = Vec::new();
                    lines[at].put_since(clock, &mut rest);
                    apply(&other, &rest);
                }
                prop_assert_eq!(page(&other), page(&doc));
            }
        }
    }

    #[test]
    fn what_was_written_offline_comes_at_once_to_who_has_part_of_it() {
        let (doc, mut line, mut update) = (Doc::new(), Line::new(7, 9, 0), Vec::new());
        put_lines(9, 1, &mut update);
        apply(&doc, &update);
        update.clear();
        line.put_text(b"seen", &mut update);
        apply(&doc, &update);
        let (known, mut lost) = (line.clock(), Vec::new());
        line.put_deletion(2, &mut lost);
        line.put_text(b"a paste", &mut lost);
        line.put_text(b"!", &mut lost);
        line.put_undo(&mut lost);
        update.clear();
        line.put_since(known, &mut update);
        apply(&doc, &update);
        assert_eq!(page(&doc), line.text() + "\n");
        assert_eq!(line.text(), "se");
        // Part of an item, as a server may have it that joins items.
        let half = Doc::new();
        for until in [2, 6] {
            let whole = doc.transact().encode_state_as_update_v1(&yrs::StateVector::default());
            apply(&half, &whole);
            update.clear();
            line.put_since(until, &mut update);
            apply(&half, &update);
        }
        assert_eq!(page(&half), line.text() + "\n");
    }
}
