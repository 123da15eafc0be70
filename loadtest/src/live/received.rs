//! What one session has received of each writer, letter by letter.

use std::ops::Range;

/// The letters of each writer that a session has.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    /// By writer: all letters before this one are there, but for the holes.
    next: Vec<u32>,
    /// Letters that were left out when later ones came.
    holes: Vec<(usize, Range<u32>)>,
}

/// What came of some letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Those from here on are new, and came in order.
    pub(super) new_from: u32,
    pub(super) new: u32,
    /// Those that were left out before and came now.
    pub(super) late: u32,
    /// Those that were there already.
    pub(super) again: u32,
}

impl Received {
    /// Takes letters of a writer.
    pub(super) fn take(&mut self, writer: usize, letters: Range<u32>) -> Taken {
        if self.next.len() <= writer {
            self.next.resize(writer + 1, 0);
        }
        let next = self.next[writer];
        let mut taken = Taken { new_from: letters.start.max(next), ..Taken::default() };
        if letters.start > next {
            self.holes.push((writer, next..letters.start));
        }
        if letters.start < next {
            taken.late = self.fill(writer, letters.start..letters.end.min(next));
            taken.again = letters.end.min(next) - letters.start - taken.late;
        }
        taken.new = letters.end.saturating_sub(taken.new_from);
        self.next[writer] = next.max(letters.end);
        taken
    }

    fn fill(&mut self, writer: usize, letters: Range<u32>) -> u32 {
        let (mut filled, mut left) = (0, Vec::new());
        for (of, hole) in std::mem::take(&mut self.holes) {
            let common = hole.start.max(letters.start)..hole.end.min(letters.end);
            if of != writer || common.is_empty() {
                left.push((of, hole));
                continue;
            }
            filled += common.end - common.start;
            let rest = [hole.start..common.start, common.end..hole.end];
            left.extend(rest.into_iter().filter(|rest| !rest.is_empty()).map(|rest| (of, rest)));
        }
        self.holes = left;
        filled
    }

    /// How many letters are there of a writer who wrote `clock` of them.
    pub(super) fn count(&self, writer: usize, clock: u32) -> u32 {
        let holes = self.holes.iter().filter(|(of, _)| *of == writer).map(|(_, hole)| hole.end - hole.start);
        self.next.get(writer).copied().unwrap_or(0).min(clock) - holes.sum::<u32>()
    }

    /// By writer, up to where all letters are there: what a state vector tells.
    pub(super) fn known(&self) -> impl Iterator<Item = (usize, u32)> {
        let first_hole = |writer: usize| {
            self.holes.iter().filter(move |(of, _)| *of == writer).map(|(_, hole)| hole.start).min()
        };
        let known = self.next.iter().enumerate();
        known
            .map(move |(writer, &next)| (writer, first_hole(writer).unwrap_or(next)))
            .filter(|(_, next)| *next > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn what_is_there_is_the_set_of_what_came(pieces in proptest::collection::vec((0..3_usize, 0..30_u32, 1..9_u32), 0..30)) {
            let (mut received, mut there) = (Received::default(), BTreeSet::new());
            for (writer, from, len) in pieces {
                let before = there.len();
                let taken = received.take(writer, from..from + len);
                there.extend((from..from + len).map(|letter| (writer, letter)));
                prop_assert_eq!((taken.new + taken.late) as usize, there.len() - before);
                prop_assert_eq!(taken.new + taken.late + taken.again, len);
            }
            for writer in 0..3 {
                let have: Vec<u32> = there.range((writer, 0)..(writer + 1, 0)).map(|(_, letter)| *letter).collect();
                prop_assert_eq!(received.count(writer, 100) as usize, have.len());
                let known = (0..).zip(&have).take_while(|(at, letter)| at == *letter).count();
                let told = received.known().find(|(of, _)| *of == writer).map_or(0, |(_, next)| next);
                prop_assert_eq!(told as usize, known);
            }
        }
    }
}
