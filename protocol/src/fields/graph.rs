//! All fields of one document: the registers, and which item belongs to which.
//!
//! Invariant: the graph is a function of the set of entries it has taken. Entries come in causal order; those
//! that are concurrent, or come twice, in any.

use super::held::Held;
use super::path::Path;
use super::register::{NodeIx, Register, Write};
use super::walk::{At, Keep, walk};
use super::write::{Mark, MarkKind, WriteId};
use crate::batch::Stamp;
use crate::update::{ItemId, ItemRef, TypeKind, Update};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A register's number in its graph.
pub(super) type RegisterIx = u32;

/// Where a field is: in the root map, or in a map that an item of another field holds; and its key there.
pub(super) type Place = (Option<ItemId>, Arc<str>);

/// The fields of one document.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) registers: Vec<(Place, Register)>,
    pub(super) by_place: BTreeMap<Place, RegisterIx>,
    /// By the last unit of each item.
    items: BTreeMap<ItemId, RegisterIx>,
    /// Those in which writes have turned out to hang elsewhere, and nobody has asked since.
    rebuilt: BTreeSet<RegisterIx>,
}

/// Who wrote an entry, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorship {
    /// The entry's stamp.
    pub stamp: Stamp,
    /// What the region is called that accepted it; may be empty.
    pub region: Arc<str>,
    /// Who wrote it, where its region knew.
    pub author: Option<Arc<str>>,
}

impl Graph {
    /// A document without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no field was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.registers.is_empty()
    }

    /// Takes the update of an entry with what its region said about it. Returns the registers in which
    /// anything is different then.
    pub(super) fn take(&mut self, update: &Update, marks: &[Mark], by: &Authorship) -> BTreeSet<RegisterIx> {
        let mut said: BTreeMap<WriteId, Vec<Mark>> = BTreeMap::new();
        marks.iter().for_each(|mark| said.entry(mark.write).or_default().push(mark.clone()));
        let mut taking = Taking { graph: self, by, said: &said, touched: BTreeSet::new() };
        walk(update, &mut taking);
        let mut touched = taking.touched;
        touched.extend(marks.iter().filter_map(|mark| self.note(mark, by)));
        self.settle(&touched);
        touched
    }

    /// The register and the write that an item belongs to.
    pub(super) fn find(&self, item: ItemId) -> Option<(RegisterIx, NodeIx)> {
        let (&last, &register) = self.items.range(item..).next()?;
        let node = self.registers[register as usize].1.find(WriteId::Set(last))?;
        let first = self.register(register).run(node).start;
        (last.client == item.client && first.clock <= item.clock).then_some((register, node))
    }

    /// Whether an item is a write of a field and holds a map.
    pub(super) fn holds_map(&self, item: ItemId) -> bool {
        self.find(item).is_some_and(|(register, node)| {
            self.register(register).write(node).held == Held::Shared(TypeKind::Map)
        })
    }

    /// The last units, within a range, of writes of fields.
    pub(super) fn within(&self, from: ItemId, to: ItemId) -> impl Iterator<Item = ItemId> {
        self.items.range(from..to).map(|(&last, _)| last)
    }

    pub(super) fn place(&self, ix: RegisterIx) -> &Place {
        &self.registers[ix as usize].0
    }

    pub(super) fn register_of(&self, place: &Place) -> Option<&Register> {
        Some(self.register(*self.by_place.get(place)?))
    }

    /// The item whose value Yjs shows at a place, unless it was deleted.
    pub(super) fn tail(&self, place: &Place) -> Option<ItemId> {
        let register = self.register_of(place)?;
        Some(register.write(register.tail()?).id.item())
    }

    pub(super) fn register(&self, ix: RegisterIx) -> &Register {
        &self.registers[ix as usize].1
    }

    pub(super) fn register_at(&mut self, place: Place) -> RegisterIx {
        let next = RegisterIx::try_from(self.registers.len()).expect("a document's size bounds its items");
        let ix = *self.by_place.entry(place.clone()).or_insert(next);
        if ix == next {
            self.registers.push((place, Register::default()));
        }
        ix
    }

    /// Makes a unit the last of its write, so that it can be named.
    pub(super) fn cut_after(&mut self, item: ItemId) -> Option<(RegisterIx, NodeIx)> {
        let (register, node) = self.find(item)?;
        if self.register(register).write(node).id.item() == item {
            return Some((register, node));
        }
        self.items.insert(item, register);
        Some((register, self.registers[register as usize].1.split(node, item)))
    }

    /// The clock at which the next known write after a unit that is not known begins.
    fn known_from(&self, unit: ItemId) -> Option<u32> {
        let (&last, &register) =
            self.items.range(unit..).next().filter(|(last, _)| last.client == unit.client)?;
        let node = self.register(register).find(WriteId::Set(last))?;
        Some(self.register(register).run(node).start.clock)
    }
}

/// Units of a field that were set at once, as an entry or a stored graph carries them.
pub(super) struct Carried<'a> {
    pub(super) first: ItemId,
    /// The clock after the last.
    pub(super) end: u32,
    pub(super) origin: Option<ItemId>,
    /// What the last unit holds.
    pub(super) held: &'a Held,
    pub(super) by: &'a Authorship,
    /// What is said about the last unit where it is new, so that it hangs in its place at once.
    pub(super) marks: &'a [Mark],
}

impl Graph {
    /// Takes units of a register, those that are known and those that are not.
    pub(super) fn carry(&mut self, register: RegisterIx, carried: &Carried<'_>) {
        let first = carried.first;
        let mut clock = first.clock;
        while clock < carried.end {
            let unit = ItemId { clock, ..first };
            clock = match self.find(unit) {
                Some(known) => self.carry_again(known, carried),
                None if unit == first => self.carry_first(register, unit, carried.origin, carried),
                None => self.carry_first(register, unit, Some(ItemId { clock: clock - 1, ..unit }), carried),
            };
        }
    }

    /// Takes the units from `unit` on that are not known yet; returns the clock after them.
    fn carry_first(
        &mut self,
        register: RegisterIx,
        unit: ItemId,
        origin: Option<ItemId>,
        carried: &Carried<'_>,
    ) -> u32 {
        let end = self.known_from(unit).map_or(carried.end, |known| carried.end.min(known));
        // What comes of an update or of a stored graph comes after its origin. Anything else would be a circle.
        let origin = origin.filter(|&origin| self.cut_after(origin).is_some_and(|(of, _)| of == register));
        let by = carried.by.clone();
        let held = if end == carried.end { carried.held.clone() } else { Held::Unknown };
        let last = ItemId { clock: end - 1, ..unit };
        let (id, len) = (WriteId::Set(last), end - unit.clock);
        self.items.insert(last, register);
        let mut write = Write { id, len, origin, sees: Vec::new(), by, held, write_back: None };
        if end == carried.end {
            carried.marks.iter().for_each(|mark| write.marked(mark));
        }
        self.registers[register as usize].1.insert(write);
        end
    }

    /// Takes again what is known: this may be the earlier entry, or know the value. Returns the clock after
    /// what it says of the write.
    fn carry_again(&mut self, (register, mut node): (RegisterIx, NodeIx), carried: &Carried<'_>) -> u32 {
        let end = self.register(register).write(node).id.item().clock + 1;
        let held = if end < carried.end { &Held::Unknown } else { carried.held };
        if carried.end < end {
            // Only a value is worth a write of its own, or that it came earlier than what replaced it: a unit that
            // is replaced at once has no say.
            let is_earlier = carried.by.stamp < self.register(register).write(node).by.stamp;
            if *held == Held::Unknown && !is_earlier {
                return carried.end;
            }
            let last = ItemId { clock: carried.end - 1, ..carried.first };
            node = self.cut_after(last).map_or(node, |(_, first)| first);
        }
        self.registers[register as usize].1.change(node, |write| {
            write.carried(carried.by);
            if write.held == Held::Unknown {
                write.held = held.clone();
            }
        });
        carried.end.min(end)
    }

    /// Takes what is said of a write beside its update. Returns its register; none when it is no field's here.
    pub(super) fn note(&mut self, mark: &Mark, by: &Authorship) -> Option<RegisterIx> {
        let (register, set) = self.cut_after(mark.write.item())?;
        let writes = &mut self.registers[register as usize].1;
        match (mark.write, writes.find(mark.write)) {
            (WriteId::Set(_), _) => {
                writes.change(set, |write| write.marked(mark));
            }
            (WriteId::Deleted(_), Some(node)) => {
                writes.change(node, |write| {
                    write.carried(by);
                    write.marked(mark);
                });
            }
            (WriteId::Deleted(item), None) => {
                let (id, origin, held) = (mark.write, Some(item), Held::Deleted);
                let mut sees = mark.sees.clone();
                sees.sort_unstable();
                sees.dedup();
                writes.insert(Write { id, len: 1, origin, sees, by: by.clone(), held, write_back: None });
            }
        }
        Some(register)
    }

    /// Ends a round of changes of these registers.
    pub(super) fn settle(&mut self, touched: &BTreeSet<RegisterIx>) {
        for &ix in touched {
            if self.registers[ix as usize].1.settle() {
                self.rebuilt.insert(ix);
            }
        }
    }

    /// The fields of which more was learnt about who had seen what than new writes say, since this was last asked.
    pub(super) fn take_rebuilt(&mut self) -> BTreeSet<Path> {
        std::mem::take(&mut self.rebuilt).into_iter().filter_map(|ix| self.path(ix)).collect()
    }
}

struct Taking<'g> {
    graph: &'g mut Graph,
    by: &'g Authorship,
    said: &'g BTreeMap<WriteId, Vec<Mark>>,
    touched: BTreeSet<RegisterIx>,
}

impl Keep for Taking<'_> {
    fn is_empty(&self) -> bool {
        self.graph.is_empty()
    }

    fn holds(&self, item: ItemId) -> bool {
        self.graph.find(item).is_some()
    }

    fn holds_map(&self, item: ItemId) -> bool {
        self.graph.holds_map(item)
    }

    fn keep(&mut self, item: &ItemRef<'_>, at: At<'_>) {
        let register = match at {
            At::Root(key) => self.graph.register_at((None, key.into())),
            At::Map(map, key) => self.graph.register_at((Some(map), key.into())),
            At::Origin(origin) => match self.graph.cut_after(origin) {
                Some((register, _)) => register,
                None => return,
            },
        };
        self.touched.insert(register);
        let (first, end, origin) = (item.id(), item.clocks().end, item.origin());
        let marks =
            self.said.get(&WriteId::Set(ItemId { clock: end - 1, ..first })).map_or(&[][..], |marks| marks);
        self.graph
            .carry(register, &Carried { first, end, origin, held: &Held::of(item), by: self.by, marks });
    }
}

impl Write {
    /// Another entry carries it.
    fn carried(&mut self, by: &Authorship) {
        if by.stamp < self.by.stamp {
            self.by = by.clone();
        }
    }

    /// A region says something about it.
    fn marked(&mut self, mark: &Mark) {
        self.sees.extend(&mark.sees);
        self.sees.sort_unstable();
        self.sees.dedup();
        if let MarkKind::WriteBack(by) = mark.kind {
            self.write_back = self.write_back.max(Some(by));
        }
    }
}
