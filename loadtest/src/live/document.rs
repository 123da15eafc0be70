//! One document of a run: who writes in it, and when each letter was due.

use crate::delivery::Range;
use crate::rates::Dice;
use crate::trace::TRACE_CLIENT;

/// The most Yjs clients that write in one document, those of closed tabs among them: their number is kept in 12 bits
/// of their client id.
pub(super) const WRITERS_MAX: usize = LINES as usize;

const LINES: u32 = 0xfff;
const NUMBER: u32 = 0xfff;
const HIGH_BIT: u32 = 0x8000_0000;

/// Marks a letter that was written without a network: when it arrives says nothing of the server.
const OFFLINE: u64 = 1 << 63;

/// One Yjs client that writes.
#[derive(Debug)]
pub(super) struct Writer {
    /// The number of the region that it is connected to.
    pub(super) region: usize,
    /// By clock: when the letter was due, in microseconds.
    due: Vec<u64>,
}

/// A document.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    /// Empty lines that its page has.
    pub(super) lines: u32,
    base: u32,
    /// Its one writer is the client of a recorded trace.
    pub(super) is_trace: bool,
    pub(super) writers: Vec<Writer>,
}

/// Whose letters a range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The empty lines of the page.
    Lines,
    /// This writer's.
    Writer(usize),
    /// Nobody's of this run.
    Stranger,
}

impl Document {
    /// A document of a run, its name and its clients drawn from the run's seed.
    pub(super) fn new(seed: u64, number: u32) -> Self {
        let mixed = Dice::new(seed ^ (u64::from(number) << 32)).next_u64();
        let base = HIGH_BIT | ((mixed & 0x7fff_f000) as u32);
        Self { name: format!("live-{seed:x}-{number}"), lines: 0, base, is_trace: false, writers: Vec::new() }
    }

    /// The client that makes the page's lines.
    pub(super) const fn lines_client(&self) -> u32 {
        self.base | LINES
    }

    /// Adds a writer; none where there are [`WRITERS_MAX`].
    pub(super) fn add_writer(&mut self, region: usize) -> Option<usize> {
        let number = self.writers.len();
        if number >= WRITERS_MAX {
            return None;
        }
        self.writers.push(Writer { region, due: Vec::new() });
        Some(number)
    }

    /// The client id of a writer.
    pub(super) fn client(&self, writer: usize) -> u32 {
        if self.is_trace {
            return TRACE_CLIENT;
        }
        self.base | u32::try_from(writer).expect("there are at most WRITERS_MAX")
    }

    /// Whose a client's letters are.
    pub(super) fn whose(&self, client: u32) -> Whose {
        if client == self.lines_client() {
            return Whose::Lines;
        }
        let number = if self.is_trace { 0 } else { (client & NUMBER) as usize };
        let is_ours = if self.is_trace { client == TRACE_CLIENT } else { client & !NUMBER == self.base };
        if is_ours && number < self.writers.len() { Whose::Writer(number) } else { Whose::Stranger }
    }
}

impl Writer {
    /// Takes note of letters that are due at a moment.
    pub(super) fn writes(&mut self, letters: u32, due: u64, is_offline: bool) {
        let due = if is_offline { due | OFFLINE } else { due };
        self.due.extend(std::iter::repeat_n(due, letters as usize));
    }

    /// How many letters have been written.
    pub(super) fn clock(&self) -> u32 {
        u32::try_from(self.due.len()).expect("a run is far below 4 G letters")
    }

    /// When letters were due that were written with a network.
    pub(super) fn due(&self, range: Range) -> impl Iterator<Item = u64> {
        let all = self.due.get(range.from as usize..range.to as usize).unwrap_or_default();
        all.iter().copied().filter(|due| due & OFFLINE == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_known_by_their_clients() {
        let mut document = Document::new(5, 3);
        let (first, second) = (document.add_writer(0).unwrap(), document.add_writer(1).unwrap());
        assert_eq!(document.whose(document.client(second)), Whose::Writer(1));
        assert_eq!(document.whose(document.client(first)), Whose::Writer(0));
        assert_eq!(document.whose(document.lines_client()), Whose::Lines);
        assert_eq!(document.whose(document.client(first) + 2), Whose::Stranger);
        assert_eq!(document.whose(7), Whose::Stranger);
    }

    #[test]
    fn letters_written_offline_are_not_timed() {
        let mut document = Document::new(5, 3);
        let writer = document.add_writer(0).unwrap();
        let writer = &mut document.writers[writer];
        writer.writes(1, 10, false);
        writer.writes(2, 20, true);
        writer.writes(1, 30, false);
        assert_eq!(writer.clock(), 4);
        assert_eq!(writer.due(Range { client: 0, from: 0, to: 4 }).collect::<Vec<_>>(), [10, 30]);
        assert_eq!(writer.due(Range { client: 0, from: 3, to: 9 }).count(), 0);
    }
}
