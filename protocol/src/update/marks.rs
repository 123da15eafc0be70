//! What an item's place in the document means for those that name it.

use super::block::ItemId;

/// What must be known of an item for as long as others may name it. Plain text in a root type has the
/// default mark, which costs nothing to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many shared types enclose the container that holds it.
    pub(super) depth: u8,
    /// It is a map entry.
    pub(super) keyed: bool,
    /// The shared type that holds it; none for a root type, whichever.
    pub(super) container: Option<ItemId>,
    /// What the container that holds it is for.
    pub(super) within: Use,
    pub(super) role: Role,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Use {
    /// A root type: what it is for shows only when somebody reads it.
    #[default]
    Anything,
    /// Text, embeds and formats.
    Text,
    /// Values and shared types.
    Values,
}

/// What an item is to those that name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Content that holds nothing.
    #[default]
    Leaf,
    /// A shared type: others may be in it.
    Container(Use),
    /// Collected: who names it is collected too.
    Gone,
}

/// The marks of one client's units.
///
/// Invariant: runs are in order, do not overlap, and none has the default mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(Vec<Run>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u32,
    end: u32,
    mark: Mark,
}

impl Marks {
    pub(super) fn get(&self, clock: u32) -> Mark {
        let after = self.0.partition_point(|run| run.start <= clock);
        match self.0[..after].last() {
            Some(run) if clock < run.end => run.mark,
            _ => Mark::default(),
        }
    }

    /// Whether all units are plain text in a root type.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Marks units that come after all that were marked before.
    pub(super) fn push(&mut self, start: u32, end: u32, mark: Mark) {
        if mark == Mark::default() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.end == start && last.mark == mark => last.end = end,
            _ => self.0.push(Run { start, end, mark }),
        }
    }

    /// Adds those of units that come after all that were marked before.
    pub(super) fn append(&mut self, later: Self) {
        if self.0.is_empty() {
            *self = later;
        } else {
            later.0.into_iter().for_each(|run| self.push(run.start, run.end, run.mark));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_equal_marks_are_one_and_plain_text_is_none() {
        let entry = Mark { depth: 1, keyed: true, ..Mark::default() };
        let mut marks = Marks::default();
        marks.push(0, 1_000, Mark::default());
        marks.push(1_000, 1_001, entry);
        marks.push(1_001, 1_002, entry);
        marks.push(1_005, 1_006, Mark { role: Role::Gone, ..Mark::default() });
        assert_eq!(marks.0.len(), 2);
        assert_eq!([marks.get(999), marks.get(1_001)], [Mark::default(), entry]);
        assert_eq!([marks.get(1_002), marks.get(1_006)], [Mark::default(); 2]);
        assert_eq!(marks.get(1_005).role, Role::Gone);
    }
}
