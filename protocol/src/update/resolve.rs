//! Which blocks of an update a document can take, and where they come to stand.
//!
//! A block can be taken when the clocks before it and the items it names are known, in the document or in a
//! part of the update that can itself be taken. Sections may rest on each other in any order: like yrs and
//! Yjs, we put a client aside and go on with the one it waits for, so every block is looked at once, and
//! once more for each item it had to wait for.

use super::block::{Anchor, Block, ClientId, Content, ItemId, Parent, Parts, TypeKind};
use super::limits::NESTING_MAX;
use super::marks::{Mark, Marks, Role, Use};
use super::{Refusal, Shape};
use smallvec::{SmallVec, smallvec};

/// How much of a block is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Take {
    /// Nothing: it is known, out of reach, or a skip.
    #[default]
    Nothing,
    /// All from this unit on.
    From(u32),
    /// All from this unit on, as a collected block: what it is attached to has been collected.
    Collected(u32),
}

/// One client's blocks on the way in.
#[derive(Debug)]
struct Progress {
    /// The index of the next block to look at.
    next: usize,
    end: usize,
    /// The first clock of the client that is not known.
    clock: u32,
    /// The first clock that the document did not know.
    known: u32,
    /// It waits for another client.
    aside: bool,
    /// What follows rests on something unknown.
    stuck: bool,
    /// Of what can be taken.
    marks: Marks,
}

/// What can be taken of an update.
pub(super) struct Resolution<'a> {
    shape: &'a Shape,
    parts: &'a Parts,
    sections: SmallVec<[Progress; 1]>,
    /// What becomes of each block of the update.
    pub(super) takes: SmallVec<[Take; 2]>,
    /// Something rests on what is not known.
    pub(super) missing: bool,
    strict: bool,
    lookups_left: u64,
}

/// What the next block of a section meets.
enum Step {
    Done,
    Taken,
    Waits(ItemId),
}

impl<'a> Resolution<'a> {
    /// Finds out what can be taken.
    ///
    /// # Errors
    /// When a block would harm a document.
    pub(super) fn of(shape: &'a Shape, parts: &'a Parts, lookups: u64) -> Result<Self, Refusal> {
        let mut resolution = Self::new(shape, parts, true, lookups);
        resolution.run()?;
        Ok(resolution)
    }

    /// Finds out where the blocks of an update stand that was admitted before.
    pub(super) fn of_admitted(shape: &'a Shape, parts: &'a Parts) -> Self {
        let mut resolution = Self::new(shape, parts, false, u64::MAX);
        resolution.run().expect("only strict resolution refuses");
        resolution
    }

    fn new(shape: &'a Shape, parts: &'a Parts, strict: bool, lookups_left: u64) -> Self {
        let sections = parts.sections.iter().map(|section| {
            let known = shape.next_clock(section.client);
            let (next, end) = (section.first as usize, section.end as usize);
            Progress { next, end, clock: known, known, aside: false, stuck: false, marks: Marks::default() }
        });
        Self {
            shape,
            parts,
            sections: sections.collect(),
            takes: smallvec![Take::Nothing; parts.blocks.len()],
            missing: false,
            strict,
            lookups_left,
        }
    }

    /// The first clock of a client that is known neither here nor in what can be taken.
    pub(super) fn clock(&self, client: ClientId) -> u32 {
        match self.parts.section_of(client) {
            Some(at) => self.sections[at].clock,
            None => self.shape.next_clock(client),
        }
    }

    /// The first clock of a section's client that the document did not know.
    pub(super) fn known(&self, section: usize) -> u32 {
        self.sections[section].known
    }

    /// Whether all that can be taken of a section is plain text in a root type.
    pub(super) fn brings_plain(&self, section: usize) -> bool {
        self.sections[section].marks.is_empty()
    }

    fn run(&mut self) -> Result<(), Refusal> {
        // Sections that wait, and up to which clock the one before needs them.
        let mut waiting: SmallVec<[(usize, u32); 4]> = SmallVec::new();
        for first in 0..self.sections.len() {
            waiting.push((first, u32::MAX));
            while let Some(&(section, until)) = waiting.last() {
                let progress = &mut self.sections[section];
                progress.aside = true;
                let step =
                    if progress.stuck || progress.clock >= until { Step::Done } else { self.step(section)? };
                match step {
                    Step::Done => {
                        self.sections[section].aside = false;
                        waiting.pop();
                    }
                    Step::Taken => self.count_lookups(waiting.len() as u64 - 1)?,
                    Step::Waits(id) => match self.section_that_brings(id) {
                        Some(other) => waiting.push((other, id.clock + 1)),
                        None => self.get_stuck(section),
                    },
                }
            }
        }
        Ok(())
    }

    /// yrs looks through all it has put aside for each block that something waits for.
    fn count_lookups(&mut self, lookups: u64) -> Result<(), Refusal> {
        self.lookups_left = self.lookups_left.checked_sub(lookups).ok_or(Refusal::Tangled)?;
        Ok(())
    }

    /// The section that may bring an item if it goes on. One that was put aside waits for us: a circle.
    fn section_that_brings(&self, id: ItemId) -> Option<usize> {
        let at = self.parts.section_of(id.client)?;
        let progress = &self.sections[at];
        (!progress.aside && !progress.stuck && progress.next < progress.end).then_some(at)
    }

    fn get_stuck(&mut self, section: usize) {
        self.sections[section].stuck = true;
        self.missing = true;
    }

    fn step(&mut self, section: usize) -> Result<Step, Refusal> {
        let progress = &self.sections[section];
        if progress.next == progress.end {
            return Ok(Step::Done);
        }
        let block = &self.parts.blocks[progress.next];
        if block.content == Content::Skip || block.end() <= progress.clock {
            self.sections[section].next += 1;
            return Ok(Step::Taken);
        }
        if block.clock > progress.clock {
            self.get_stuck(section);
            return Ok(Step::Done);
        }
        if let Some(id) = self.missing_reference(block) {
            return Ok(Step::Waits(id));
        }
        let client = self.parts.sections[section].client;
        let (take, mark) = self.judge(client, block, progress.clock)?;
        let progress = &mut self.sections[section];
        self.takes[progress.next] = take;
        progress.marks.push(progress.clock, block.end(), mark);
        progress.clock = block.end();
        progress.next += 1;
        Ok(Step::Taken)
    }

    /// The first item that a block names and that is not known yet.
    fn missing_reference(&self, block: &Block) -> Option<ItemId> {
        let named = match block.anchor {
            Anchor::Nowhere | Anchor::In { parent: Parent::Root(_), .. } => [None, None],
            Anchor::Beside { left, right } => [left, right],
            Anchor::In { parent: Parent::Item(id), .. } => [Some(id), None],
        };
        named.into_iter().flatten().find(|id| id.clock >= self.clock(id.client))
    }

    /// Where a block comes to stand whose references are all known, and how much of it is new.
    fn judge(&self, client: ClientId, block: &Block, known: u32) -> Result<(Take, Mark), Refusal> {
        let (anchor, from) = if known > block.clock {
            // Cut: what is left follows the last known unit.
            let right = match block.anchor {
                Anchor::Beside { right, .. } => right,
                _ => None,
            };
            let left = Some(ItemId { client, clock: known - 1 });
            let anchor = if block.anchor == Anchor::Nowhere {
                Anchor::Nowhere
            } else {
                Anchor::Beside { left, right }
            };
            (anchor, known - block.clock)
        } else {
            (block.anchor, 0)
        };
        let Some(place) = self.place(&anchor)? else {
            let mark = Mark { role: Role::Gone, ..Mark::default() };
            let is_gc = block.content == Content::Gc;
            let take = if is_gc { Take::From(from) } else { Take::Collected(from) };
            return Ok((take, mark));
        };
        if self.strict {
            check_content(ItemId { client, clock: block.clock }, block.content, &place)?;
        }
        let role = match block.content {
            Content::Type(TypeKind::Text | TypeKind::XmlText) => Role::Container(Use::Text),
            Content::Type(_) => Role::Container(Use::Values),
            _ => Role::Leaf,
        };
        Ok((Take::From(from), Mark { role, ..place }))
    }

    /// The mark of a leaf at an anchor; none when what it is attached to has been collected, as in Yjs.
    fn place(&self, anchor: &Anchor) -> Result<Option<Mark>, Refusal> {
        match *anchor {
            Anchor::Nowhere => Ok(None),
            Anchor::In { parent: Parent::Root(_), key } => {
                Ok(Some(Mark { keyed: key.is_some(), ..Mark::default() }))
            }
            Anchor::In { parent: Parent::Item(id), key } => {
                let mark = self.mark(id);
                match mark.role {
                    Role::Container(within) => {
                        let depth = mark.depth.saturating_add(1);
                        let keyed = key.is_some();
                        Ok(Some(Mark { depth, keyed, container: Some(id), within, role: Role::Leaf }))
                    }
                    // Only a shared type has ever had children: this one was deleted before we saw it.
                    _ if self.is_deleted(id) => Ok(None),
                    Role::Gone => Ok(None),
                    // yrs would stop in the middle of the update.
                    Role::Leaf if self.strict => Err(Refusal::Parent(id)),
                    Role::Leaf => Ok(None),
                }
            }
            Anchor::Beside { left, right } => self.place_beside(left, right),
        }
    }

    /// The mark of a leaf beside other items; none when one of them has been collected.
    fn place_beside(&self, left: Option<ItemId>, right: Option<ItemId>) -> Result<Option<Mark>, Refusal> {
        let left = left.map(|id| self.mark(id));
        let Some(right_id) = right else {
            let alive = left.filter(|mark| mark.role != Role::Gone);
            return Ok(alive.map(|mark| Mark { role: Role::Leaf, ..mark }));
        };
        let right = self.mark(right_id);
        if self.strict && right.keyed {
            return Err(Refusal::RightOfEntry(right_id));
        }
        let left = left.unwrap_or(right);
        if left.role == Role::Gone || right.role == Role::Gone {
            return Ok(None);
        }
        // When one of two containers is collected, Yjs collects the block and yrs shows it in the other.
        if self.strict && left.container != right.container {
            return Err(Refusal::Apart(right_id));
        }
        Ok(Some(Mark { role: Role::Leaf, ..left }))
    }

    /// The mark of a known item.
    pub(super) fn mark(&self, id: ItemId) -> Mark {
        match self.section_with(id) {
            Some((_, progress)) => progress.marks.get(id.clock),
            None => self.shape.mark(id),
        }
    }

    /// Whether a known item was deleted before the update, or comes deleted with it.
    pub(super) fn is_deleted(&self, id: ItemId) -> bool {
        let Some((section, progress)) = self.section_with(id) else { return self.shape.is_deleted(id) };
        let seen = &self.parts.blocks[self.parts.sections[section].first as usize..progress.next];
        let at = seen.partition_point(|block| block.end() <= id.clock);
        seen.get(at).is_some_and(|block| block.content == Content::Deleted)
    }

    /// The section that brings a known item; none when the document knew it.
    fn section_with(&self, id: ItemId) -> Option<(usize, &Progress)> {
        let at = self.parts.section_of(id.client)?;
        let progress = &self.sections[at];
        (id.clock >= progress.known).then_some((at, progress))
    }

    /// What becomes of each block, and the marks that each section brings.
    pub(super) fn into_taken(self) -> (SmallVec<[Take; 2]>, impl Iterator<Item = Marks> + use<>) {
        (self.takes, self.sections.into_iter().map(|progress| progress.marks))
    }
}

/// Refuses content that no Yjs version puts in such a place and that would harm those who read it.
fn check_content(id: ItemId, content: Content, place: &Mark) -> Result<(), Refusal> {
    match content {
        Content::Type(_) if place.depth >= NESTING_MAX => Err(Refusal::Nesting),
        // yrs counts text by UTF-16 units and reads it by characters: printing an array that holds a
        // surrogate pair never ends.
        Content::String | Content::Embed | Content::Format if place.keyed || place.within == Use::Values => {
            Err(Refusal::Misplaced(id))
        }
        _ => Ok(()),
    }
}
