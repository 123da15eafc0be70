//! The writes of one field and which of them knew which.
//!
//! Every write names what its writer saw. A write-back is transparent: who saw it saw what it renders.
//!
//! Invariant: siblings, bases and tail are a function of the set of writes and marks, not of their order.

mod chunks;
mod nearest;
mod order;
mod place;
mod tips;

use super::graph::Authorship;
use super::held::Held;
use super::tail::{Run, is_right_of};
use super::value::Value;
use super::write::{WriteBackMark, WriteId};
use crate::batch::Stamp;
use crate::update::ItemId;
use chunks::Chunks;
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use tips::Tips;

/// So many writes are looked through for a value that is valid.
const BACK_MAX: usize = 256;

/// A write's place in its register.
pub(super) type NodeIx = u32;

/// What a write was made on, which is one write nearly always.
type Parents = SmallVec<[NodeIx; 4]>;

/// One write, as entries tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// Named by its last unit.
    pub(super) id: WriteId,
    /// How many units came as one; only the last one's value counts, each replaces the one before.
    pub(super) len: u32,
    /// What its writer saw in the field.
    pub(super) origin: Option<ItemId>,
    /// Of the least-stamped entry that carries it.
    pub(super) by: Authorship,
    pub(super) held: Held,
    /// What a region says of it beside the item, which is nothing nearly always.
    pub(super) said: Option<Box<Said>>,
}

/// What a region says of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// What its writer saw beside the origin, in order.
    pub(super) sees: Vec<WriteId>,
    /// Whether it is a region's write-back.
    pub(super) write_back: Option<WriteBackMark>,
}

/// Where a write hangs.
#[derive(Debug)]
struct Node {
    /// The writes it was made on, in order, none above another; write-backs stand for what they render.
    parents: Parents,
    /// The parent with the longest way from the first write, and one further up that way, so that climbing it
    /// takes a logarithm's time. A node without parents is its own.
    above: NodeIx,
    jump: NodeIx,
    /// Units from `jump` to here, beside which the next one's is chosen; what is wrong with it costs time alone.
    span: u32,
    /// Units from the first write to here, along the longest way.
    level: u64,
    /// Bytes of the values along that way.
    weight: u64,
    settled: bool,
    /// It hangs where it belongs; what does not yet is nobody's parent.
    placed: bool,
    /// An item that stands to the left of the tail, which does not rest on it.
    aside: bool,
}

/// What was made on several writes together.
#[derive(Debug, Default)]
struct Join {
    /// The write-backs that render them.
    rendered: Vec<NodeIx>,
    /// The writes whose writers had seen them.
    resolved: Vec<NodeIx>,
}

/// The writes of one field.
#[derive(Debug, Default)]
pub(super) struct Register {
    writes: Chunks<Write>,
    /// Where each hangs: apart from them, since it is read far more often.
    nodes: Chunks<Node>,
    /// The items by the last unit of each, from when somebody first looks for one: nobody does while each write
    /// replaces the one before.
    sets: OnceLock<BTreeMap<ItemId, NodeIx>>,
    /// The deletions by the items that they deleted.
    deletions: BTreeMap<ItemId, NodeIx>,
    /// The sets of several writes that others were made on together.
    joins: BTreeMap<Box<[NodeIx]>, Join>,
    /// The writes that no other was made on.
    tips: Tips,
    /// Those of them that are deletions.
    deleted_tips: Tips,
    /// Not every write replaces the one that came before it, and nothing else is said.
    is_branched: bool,
    /// The rightmost item, whose value Yjs shows.
    tail: Option<NodeIx>,
    /// Writes that marks name and that are not here: those who saw them are placed anew when they come.
    wanted: BTreeSet<WriteId>,
    /// Something has come that changes where others hang.
    stale: bool,
}

impl Register {
    /// Takes a write that is not here; `above` is the write whose last unit its origin is, where it has one.
    pub(super) fn insert(&mut self, write: Write, above: Option<NodeIx>) -> NodeIx {
        let id = write.id;
        let before = NodeIx::try_from(self.nodes.len()).ok().and_then(|len| len.checked_sub(1));
        let is_next = matches!(id, WriteId::Set(_)) && above == before;
        self.is_branched |= !is_next || write.said.is_some();
        let ix = self.push(write);
        self.name(id, ix);
        if let WriteId::Set(_) = id {
            self.move_tail(ix, above);
        }
        self.stale |= self.wanted.remove(&id);
        if !self.stale {
            self.place(ix, above);
        }
        ix
    }

    /// Changes a write, and tells whether anything is different then.
    pub(super) fn change(&mut self, ix: NodeIx, change: impl FnOnce(&mut Write)) -> bool {
        let write = &mut self.writes[ix];
        let before = write.clone();
        change(write);
        let is_changed = *write != before;
        let hangs_elsewhere = write.said != before.said;
        self.stale |= hangs_elsewhere;
        self.is_branched |= hangs_elsewhere;
        is_changed
    }

    /// Cuts a write in two, so that a unit of it can be named by itself; the second part keeps its place.
    /// Returns the first, which ends with that unit.
    pub(super) fn split(&mut self, ix: NodeIx, last: ItemId) -> NodeIx {
        let write = self.write(ix);
        let rest = write.id.item().clock - last.clock;
        let first = Write {
            id: WriteId::Set(last),
            len: write.len - rest,
            held: Held::Unknown,
            said: None,
            ..write.clone()
        };
        self.stale |= write.said.is_some();
        self.is_branched = true;
        let up = self.nodes[ix].above;
        let weight = if up == ix { 0 } else { self.nodes[up].weight };
        let first_ix = self.push(first);
        let write = &mut self.writes[ix];
        (write.len, write.origin) = (rest, Some(last));
        let second = &mut self.nodes[ix];
        let parents = std::mem::replace(&mut second.parents, smallvec![first_ix]);
        if let Some(join) = self.joins.get_mut(&*parents) {
            join.resolved
                .iter_mut()
                .filter(|resolved| **resolved == ix)
                .for_each(|resolved| *resolved = first_ix);
        }
        let above = std::mem::replace(&mut second.above, first_ix);
        // What is not placed yet has no level, and is placed anew at the end of the round.
        let (jump, level) = (second.jump, second.level.saturating_sub(rest.into()));
        let span = second.span.saturating_sub(rest);
        let (settled, placed, aside) = (second.settled, second.placed, second.aside);
        // What was its own top is not any more.
        let own_top = |up: NodeIx| if up == ix { first_ix } else { up };
        if jump == ix {
            (second.jump, second.span) = (first_ix, rest);
        }
        let first = &mut self.nodes[first_ix];
        (first.parents, first.above, first.jump) = (parents, own_top(above), own_top(jump));
        (first.span, first.level, first.weight) = (span, level, weight);
        (first.settled, first.placed, first.aside) = (settled, placed, aside);
        self.name(WriteId::Set(last), first_ix);
        // Who has seen it is placed anew, as when it comes by itself.
        self.stale |= self.wanted.remove(&WriteId::Set(last));
        first_ix
    }

    /// Ends a round of changes: from here on everything hangs where it belongs. Tells whether it had to be placed anew.
    pub(super) fn settle(&mut self) -> bool {
        let is_stale = std::mem::take(&mut self.stale);
        if is_stale {
            self.rebuild();
        }
        is_stale
    }

    pub(super) fn find(&self, id: WriteId) -> Option<NodeIx> {
        match id {
            WriteId::Set(item) => self.sets().get(&item).copied(),
            WriteId::Deleted(item) => self.deletions.get(&item).copied(),
        }
    }

    pub(super) fn is_deleted(&self, item: ItemId) -> bool {
        self.deletions.contains_key(&item)
    }

    /// Whether each write replaced the one before, and that is all that ever happened: there are no siblings, none
    /// have been, and nothing else than the last value is to be shown.
    pub(super) const fn is_chain(&self) -> bool {
        !self.is_branched
    }

    fn sets(&self) -> &BTreeMap<ItemId, NodeIx> {
        self.sets.get_or_init(|| {
            let sets = (0..).zip(self.writes.iter()).filter_map(|(ix, write)| match write.id {
                WriteId::Set(item) => Some((item, ix)),
                WriteId::Deleted(_) => None,
            });
            sets.collect()
        })
    }

    /// Makes a write known by its name.
    fn name(&mut self, id: WriteId, ix: NodeIx) {
        match id {
            WriteId::Set(item) => drop(self.sets.get_mut().map(|sets| sets.insert(item, ix))),
            WriteId::Deleted(item) => drop(self.deletions.insert(item, ix)),
        }
    }

    /// Every write, in the order of their names.
    fn by_name(&self) -> impl DoubleEndedIterator<Item = NodeIx> {
        self.sets().values().chain(self.deletions.values()).copied()
    }

    pub(super) fn write(&self, ix: NodeIx) -> &Write {
        &self.writes[ix]
    }

    /// What is still known of what a write left, for who merges on it.
    pub(super) fn left(&self, ix: NodeIx) -> &Held {
        if self.nodes[ix].settled { &Held::Unknown } else { self.write(ix).left() }
    }

    /// How many writes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Every write, each after those it names.
    pub(super) fn writes(&self) -> impl Iterator<Item = &Write> {
        self.in_causal_order().into_iter().map(|ix| self.write(ix))
    }

    /// The run of units that an item is.
    pub(super) fn run(&self, ix: NodeIx) -> Run {
        let Write { id, len, origin, .. } = self.write(ix);
        let last = id.item();
        Run { start: ItemId { clock: last.clock - (len - 1), ..last }, origin: *origin }
    }

    /// The siblings: what was written and not yet overwritten by somebody who saw it, in the order of their
    /// names.
    pub(super) fn siblings(&self) -> Vec<NodeIx> {
        let mut tips: Vec<NodeIx> = self.tips.iter().collect();
        tips.sort_unstable_by_key(|&ix| self.write(ix).id);
        tips
    }

    /// The deletions among the siblings, in no set order.
    pub(super) fn deletions(&self) -> impl Iterator<Item = WriteId> {
        self.deleted_tips.iter().map(|ix| self.write(ix).id)
    }

    /// The item whose value Yjs shows, if any was set; it may have been deleted.
    pub(super) const fn tail(&self) -> Option<NodeIx> {
        self.tail
    }

    /// Whether an item stands to the left of the tail, which does not rest on it.
    pub(super) fn is_aside(&self, ix: NodeIx) -> bool {
        self.nodes[ix].aside
    }

    fn move_tail(&mut self, ix: NodeIx, above: Option<NodeIx>) {
        let Some(tail) = self.tail else { return self.tail = Some(ix) };
        let (item, last) = (self.write(ix).id.item(), self.write(tail).id.item());
        if above == Some(tail) {
            self.tail = Some(ix);
        } else if above.is_some_and(|above| self.nodes[above].aside) {
            self.nodes[ix].aside = true;
        } else {
            let right = is_right_of(item, last, |unit| self.run_of(unit));
            let left = if right { self.tail.replace(ix) } else { Some(ix) };
            if let Some(left) = left {
                self.nodes[left].aside = true;
            }
        }
    }

    /// The run that a unit belongs to.
    pub(super) fn run_of(&self, unit: ItemId) -> Option<Run> {
        let (last, &ix) = self.sets().range(unit..).next()?;
        (last.client == unit.client).then(|| self.run(ix))
    }

    /// The conflicts that somebody has seen: sets of writes that others were made on together.
    pub(super) fn joins(&self) -> impl Iterator<Item = &[NodeIx]> {
        self.joins.keys().map(|of| &**of)
    }

    /// The conflicts that somebody has resolved, those last that have the newest writes here; each with the
    /// least-stamped write that did.
    pub(super) fn resolved(&self) -> impl DoubleEndedIterator<Item = (&[NodeIx], &Write)> {
        self.joins.iter().filter_map(|(of, join)| {
            let writes = join.resolved.iter().map(|&ix| self.write(ix));
            Some((&**of, writes.min_by_key(|write| (write.by.stamp, write.id))?))
        })
    }

    /// Since when a field has held what this write left, as far as its writers saw nothing else meanwhile.
    pub(super) fn held_since(&self, ix: NodeIx) -> Stamp {
        let mut since = ix;
        for _ in 0..BACK_MAX {
            match *self.nodes[since].parents {
                [above] if self.left(above) == self.left(ix) => since = above,
                _ => break,
            }
        }
        self.write(since).by.stamp
    }

    /// Whether something else than the one write there is may have to be shown.
    pub(super) fn is_contested(&self) -> bool {
        let Some(tail) = self.tail else { return false };
        let mut tips = self.tips.iter();
        match (tips.next(), tips.next()) {
            (Some(one), None) => one != tail && !self.is_deletion_of(&[one], tail),
            _ => true,
        }
    }

    /// Whether all these are is the deletion of the key while an item was shown.
    pub(super) fn is_deletion_of(&self, of: &[NodeIx], shown: NodeIx) -> bool {
        let item = self.write(shown).id.item();
        matches!(of, [one] if self.write(*one).id == WriteId::Deleted(item))
    }

    /// The least write-back that renders these writes.
    pub(super) fn rendered(&self, of: &[NodeIx]) -> Option<&Write> {
        let rendered = self.joins.get(of)?.rendered.iter().map(|&ix| self.write(ix));
        rendered.min_by_key(|write| write.id)
    }

    /// The write-backs that render these writes.
    pub(super) fn write_backs(&self, of: &[NodeIx]) -> Vec<NodeIx> {
        let mut of = of.to_vec();
        of.sort_unstable();
        match self.joins.get(&*of) {
            Some(join) => join.rendered.clone(),
            None if of.len() > 1 => Vec::new(),
            // Of a lone write that Yjs does not show, which is rare.
            None => {
                let is_of = |ix: &NodeIx| self.is_write_back(*ix) && *self.nodes[*ix].parents == *of;
                self.by_name().filter(is_of).collect()
            }
        }
    }

    fn push(&mut self, write: Write) -> NodeIx {
        let ix = NodeIx::try_from(self.nodes.len()).expect("a document's size bounds its items");
        let (parents, above, jump) = (Parents::new(), ix, ix);
        let (span, level, weight, settled, placed, aside) = (0, 0, 0, false, false, false);
        self.nodes.push(Node { parents, above, jump, span, level, weight, settled, placed, aside });
        self.writes.push(write);
        ix
    }

    /// Whether a region's write-back, or the deletion that comes with one of nothing.
    fn is_write_back(&self, ix: NodeIx) -> bool {
        let write = self.write(ix);
        match write.id {
            WriteId::Set(_) => write.write_back().is_some(),
            WriteId::Deleted(item) => {
                let set = self.find(WriteId::Set(item)).and_then(|set| self.write(set).write_back());
                set.is_some_and(|by| by.absent)
            }
        }
    }

    /// The last value that satisfies a condition, going back from the siblings by [`BACK_MAX`] writes at most.
    pub(super) fn last_left(&self, is_wanted: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let key = |ix: NodeIx| (self.nodes[ix].level, self.write(ix).id, ix);
        let mut open: BTreeSet<_> = self.tips.iter().map(key).collect();
        for _ in 0..BACK_MAX {
            let (_, _, ix) = open.pop_last()?;
            match self.left(ix) {
                Held::Value(value) if is_wanted(Some(value)) => return Some(value.clone()),
                Held::Deleted if is_wanted(None) => return None,
                _ => {}
            }
            open.extend(self.nodes[ix].parents.iter().map(|&parent| key(parent)));
        }
        None
    }

    /// What all of these were made on, where that is the same.
    pub(super) fn same_parents(&self, writes: &[NodeIx]) -> Option<&[NodeIx]> {
        let (first, rest) = writes.split_first()?;
        let parents = &*self.nodes[*first].parents;
        rest.iter().all(|&ix| *self.nodes[ix].parents == *parents).then_some(parents)
    }
}

impl Write {
    /// What its writer saw beside its origin, in order.
    pub(super) fn sees(&self) -> &[WriteId] {
        self.said.as_ref().map_or(&[], |said| &said.sees)
    }

    /// Whether it is a region's write-back.
    pub(super) fn write_back(&self) -> Option<WriteBackMark> {
        self.said.as_ref()?.write_back
    }

    /// What it left.
    pub(super) fn left(&self) -> &Held {
        match self.write_back() {
            Some(WriteBackMark { absent: true, .. }) => &Held::Deleted,
            _ => &self.held,
        }
    }

    /// The writes that its writer saw, as far as it says.
    fn named(&self) -> impl Iterator<Item = WriteId> {
        self.origin.map(WriteId::Set).into_iter().chain(self.sees().iter().copied())
    }
}
