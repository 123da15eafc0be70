//! Which parts of a text several versions left alone, and which any of them changed.
//!
//! The differences come from the library `similar`, without its features: they hash with fixed keys and know no
//! deadline, so that every region finds the same. Here they are laid side by side, for any number of versions at once.

use similar::{Algorithm, DiffTag, capture_diff_slices};
use std::collections::BTreeMap;
use std::ops::Range;

/// A part of the base, and what each version made of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// The tokens of the base. The regions of a text cover its base, in order.
    pub base: Range<usize>,
    /// The tokens of each version in its place; none when no version changed it.
    pub changed: Option<Vec<Range<usize>>>,
}

/// How many tokens merges may still compare. It bounds the time that texts can cost which have little in common
/// or repeat themselves: there it grows faster than they do. What texts begin and end with alike costs nothing.
pub(super) struct Budget(pub usize);

/// Parts the base into what no version changed and what some did. Changes that overlap or touch are one region.
/// None when there is more to compare than the budget allows.
pub(super) fn regions(base: &[&str], versions: &[Vec<&str>], budget: &mut Budget) -> Option<Vec<Region>> {
    // The differences of numbers are the same as those of the texts, and no text decides how long hashing takes.
    let mut numbers = BTreeMap::new();
    let base_numbers = number(base, &mut numbers);
    let mut readers = Vec::new();
    for version in versions {
        let version = number(version, &mut numbers);
        budget.0 = budget.0.checked_sub(compared(&base_numbers, &version))?;
        readers.push(Changes::new(&base_numbers, &version));
    }
    let mut regions = Vec::new();
    let mut done = 0;
    while let Some(start) = readers.iter().filter_map(Changes::next_start).min() {
        if done < start {
            regions.push(Region { base: done..start, changed: None });
        }
        let starts: Vec<_> = readers.iter().map(|reader| reader.place_of(start)).collect();
        let mut end = start;
        while let Some(reader) =
            readers.iter_mut().find(|reader| reader.next_start().is_some_and(|next| next <= end))
        {
            end = end.max(reader.take());
        }
        let places = readers.iter().zip(starts).map(|(reader, start)| start..reader.place_of(end));
        regions.push(Region { base: start..end, changed: Some(places.collect()) });
        done = end;
    }
    if done < base.len() {
        regions.push(Region { base: done..base.len(), changed: None });
    }
    Some(regions)
}

fn number<'a>(tokens: &[&'a str], numbers: &mut BTreeMap<&'a str, usize>) -> Vec<usize> {
    let number = |token: &&'a str| {
        let next = numbers.len();
        *numbers.entry(token).or_insert(next)
    };
    tokens.iter().map(number).collect()
}

/// How many tokens there are between what two texts begin and end with alike.
fn compared(one: &[usize], other: &[usize]) -> usize {
    let begin = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[begin..], &other[begin..]);
    let end = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    one.len() + other.len() - 2 * end
}

/// One version's changes, read from the front.
struct Changes {
    /// Places in the base and in the version.
    changes: std::vec::IntoIter<(Range<usize>, Range<usize>)>,
    /// Where what comes after the last change read begins, in the base and in the version.
    after: (usize, usize),
}

impl Changes {
    fn new(base: &[usize], version: &[usize]) -> Self {
        let differences = capture_diff_slices(Algorithm::Myers, base, version);
        let changes = differences.iter().filter(|difference| difference.tag() != DiffTag::Equal);
        let places: Vec<_> = changes.map(|change| (change.old_range(), change.new_range())).collect();
        Self { changes: places.into_iter(), after: (0, 0) }
    }

    /// Where the next change begins in the base.
    fn next_start(&self) -> Option<usize> {
        self.changes.as_slice().first().map(|(base, _)| base.start)
    }

    /// Reads the next change and says where it ends in the base.
    fn take(&mut self) -> usize {
        if let Some((base, version)) = self.changes.next() {
            self.after = (base.end, version.end);
        }
        self.after.0
    }

    /// Where a place of the base is in the version, when it lies between the last change read and the next.
    const fn place_of(&self, base: usize) -> usize {
        self.after.1 + (base - self.after.0)
    }
}
