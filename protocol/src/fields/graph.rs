//! All fields of one document: the registers, and which item belongs to which.
//!
//! Invariant: the graph is a function of the set of entries it has taken. Entries come in causal order; those
//! that are concurrent, or come twice, in any.

use super::held::Held;
use super::path::Path;
use super::register::{NodeIx, Register, Write};
use super::walk::{At, Keep, walk};
use super::write::{Mark, MarkKind, WriteId};
use super::write_back::{CONFLICTS_KEY, WRITERS_KEY};
use crate::batch::Stamp;
use crate::update::{ItemId, ItemRef, TypeKind, Update};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// A register's number in its graph.
pub(super) type RegisterIx = u32;

/// Where a write is: its register, and its place there.
pub(super) type Found = (RegisterIx, NodeIx);

/// So many items are found without a search.
const RECENT: usize = 32;

/// Registers that an update writes in, which are few.
pub(super) type Touched = SmallVec<[RegisterIx; 4]>;

/// Where a field is: in the root map, or in a map that an item of another field holds; and its key there.
pub(super) type Place = (Option<ItemId>, Arc<str>);

/// The fields of one document.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) registers: Vec<(Place, Register)>,
    pub(super) by_place: BTreeMap<Place, RegisterIx>,
    /// The writes by the last unit of each.
    items: BTreeMap<ItemId, Found>,
    /// Who wrote last, and the clock after all that is known of that client, which is where it mostly goes on.
    newest: Option<ItemId>,
    /// Some of the items, by their clocks modulo [`RECENT`]: what is replaced was mostly written not long before.
    recent: Vec<Option<(ItemId, Found)>>,
    /// Who wrote last: entries that were read by themselves share it, too.
    who: Arc<Who>,
    /// Where those who write back say so.
    writers: Option<RegisterIx>,
    /// Where editors are told of conflicts.
    conflicts: Option<RegisterIx>,
    /// Those in which writes have turned out to hang elsewhere, and nobody has asked since.
    rebuilt: BTreeSet<RegisterIx>,
}

/// Who wrote an entry, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorship {
    /// The entry's stamp.
    pub stamp: Stamp,
    /// Whose it is: many entries share one.
    pub who: Arc<Who>,
}

/// Who wrote entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// What the region is called that accepted them; may be empty.
    pub region: Arc<str>,
    /// Who wrote them, where that region knew.
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
        self.items.is_empty()
    }

    /// Takes the update of an entry with what its region said about it. Returns the registers in which
    /// anything is different then, some of them twice.
    pub(super) fn take(&mut self, update: &Update, marks: &[Mark], by: &Authorship) -> Touched {
        let by = &self.shared(by);
        let mut said: BTreeMap<WriteId, Vec<Mark>> = BTreeMap::new();
        marks.iter().for_each(|mark| said.entry(mark.write).or_default().push(mark.clone()));
        let mut taking = Taking { graph: self, by, said: &said, touched: Touched::new() };
        walk(update, &mut taking);
        let mut touched = taking.touched;
        touched.extend(marks.iter().filter_map(|mark| self.note(mark, by)));
        self.settle(touched.iter().copied());
        touched
    }

    /// The same authorship, with a name that is known.
    fn shared(&mut self, by: &Authorship) -> Authorship {
        if self.who != by.who {
            self.who = by.who.clone();
        }
        Authorship { who: self.who.clone(), ..*by }
    }

    /// The register and the write that an item belongs to.
    pub(super) fn find(&self, item: ItemId) -> Option<Found> {
        self.look_for(item).ok()
    }

    /// Whether an item is a write of a field and holds a map.
    pub(super) fn holds_map(&self, item: ItemId) -> bool {
        self.find(item).is_some_and(|(register, node)| {
            self.register(register).write(node).held == Held::Shared(TypeKind::Map)
        })
    }

    /// The last units, within a range, of writes of fields, and the registers that they are in.
    pub(super) fn within(&self, from: ItemId, to: ItemId) -> impl Iterator<Item = (ItemId, RegisterIx)> {
        self.items.range(from..to).map(|(&last, &(register, _))| (last, register))
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

    pub(super) const fn writers(&self) -> Option<RegisterIx> {
        self.writers
    }

    pub(super) const fn conflicts(&self) -> Option<RegisterIx> {
        self.conflicts
    }

    pub(super) fn register(&self, ix: RegisterIx) -> &Register {
        &self.registers[ix as usize].1
    }

    /// The register of a place, which may be one that has no write yet.
    pub(super) fn register_at(&mut self, place: Place) -> RegisterIx {
        let next = RegisterIx::try_from(self.registers.len()).expect("a document's size bounds its items");
        let ix = *self.by_place.entry(place.clone()).or_insert(next);
        if ix == next {
            match &*place.1 {
                WRITERS_KEY if place.0.is_none() => self.writers = Some(ix),
                CONFLICTS_KEY if place.0.is_none() => self.conflicts = Some(ix),
                _ => {}
            }
            self.registers.push((place, Register::default()));
        }
        ix
    }

    /// Makes a unit the last of its write, so that it can be named.
    pub(super) fn cut_after(&mut self, item: ItemId) -> Option<Found> {
        let found = self.find(item)?;
        Some(self.cut_found(found, item))
    }

    /// The same of a unit of a write that was found.
    fn cut_found(&mut self, (register, node): Found, item: ItemId) -> Found {
        if self.register(register).write(node).id.item() == item {
            return (register, node);
        }
        let first = self.registers[register as usize].1.split(node, item);
        self.name(item, (register, first));
        (register, first)
    }

    /// The write that a unit belongs to; else the clock at which the next known one of its client begins.
    fn look_for(&self, unit: ItemId) -> Result<Found, Option<u32>> {
        if self.newest.is_some_and(|end| end.client == unit.client && end.clock <= unit.clock) {
            return Err(None);
        }
        if let Some(Some((last, found))) = self.recent.get(unit.clock as usize % RECENT)
            && *last == unit
        {
            return Ok(*found);
        }
        let next = self.items.range(unit..).next().filter(|(last, _)| last.client == unit.client);
        let Some((_, &found)) = next else { return Err(None) };
        let first = self.register(found.0).run(found.1).start.clock;
        if first <= unit.clock { Ok(found) } else { Err(Some(first)) }
    }
}

/// Units of a field that were set at once, as an entry or a stored graph carries them.
pub(super) struct Carried<'a> {
    pub(super) first: ItemId,
    /// The clock after the last.
    pub(super) end: u32,
    /// What the first replaces, and the write that this belongs to, where that is known.
    pub(super) origin: Option<(ItemId, Found)>,
    /// What the last unit holds, until it is kept.
    pub(super) held: Held,
    pub(super) by: &'a Authorship,
    /// What is said about the last unit where it is new, so that it hangs in its place at once.
    pub(super) marks: &'a [Mark],
}

impl Graph {
    /// Takes units of a register, those that are known and those that are not.
    pub(super) fn carry(&mut self, register: RegisterIx, mut carried: Carried<'_>) {
        let first = carried.first;
        let mut clock = first.clock;
        while clock < carried.end {
            let unit = ItemId { clock, ..first };
            clock = match self.look_for(unit) {
                Ok(known) => self.carry_again(known, &carried),
                Err(until) => {
                    let above = if unit == first {
                        carried.origin.map(|(origin, found)| (origin, self.cut_found(found, origin)))
                    } else {
                        let before = ItemId { clock: clock - 1, ..unit };
                        self.cut_after(before).map(|found| (before, found))
                    };
                    // What comes of an update or of a stored graph comes after its origin. Anything else would be a
                    // circle.
                    let above = above.filter(|(_, (of, _))| *of == register);
                    let end = until.map_or(carried.end, |known| carried.end.min(known));
                    self.carry_first(register, unit..ItemId { clock: end, ..unit }, above, &mut carried);
                    if until.is_none() {
                        self.newest = Some(ItemId { clock: end, ..unit });
                    }
                    end
                }
            };
        }
    }

    /// Takes units that are not known yet.
    fn carry_first(
        &mut self,
        register: RegisterIx,
        units: Range<ItemId>,
        above: Option<(ItemId, Found)>,
        carried: &mut Carried<'_>,
    ) {
        let end = units.end.clock;
        let is_last = end == carried.end;
        let last = ItemId { clock: end - 1, ..units.start };
        let mut write = Write {
            id: WriteId::Set(last),
            len: end - units.start.clock,
            origin: above.map(|(origin, _)| origin),
            by: carried.by.clone(),
            held: if is_last { std::mem::replace(&mut carried.held, Held::Unknown) } else { Held::Unknown },
            said: None,
        };
        if is_last {
            carried.marks.iter().for_each(|mark| write.marked(mark));
        }
        let above = above.map(|(_, (_, node))| node);
        let node = self.registers[register as usize].1.insert(write, above);
        self.name(last, (register, node));
    }

    /// Makes a write known by its last unit, once and for all.
    fn name(&mut self, last: ItemId, found: Found) {
        self.items.insert(last, found);
        self.recent.resize(RECENT, None);
        self.recent[last.clock as usize % RECENT] = Some((last, found));
    }

    /// Takes again what is known: this may be the earlier entry, or know the value. Returns the clock after
    /// what it says of the write.
    fn carry_again(&mut self, (register, mut node): Found, carried: &Carried<'_>) -> u32 {
        let end = self.register(register).write(node).id.item().clock + 1;
        let held = if end < carried.end { &Held::Unknown } else { &carried.held };
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
                let mut write = Write { id, len: 1, origin, by: by.clone(), held, said: None };
                write.seen(&mark.sees);
                writes.insert(write, Some(set));
            }
        }
        Some(register)
    }

    /// Ends a round of changes of these registers.
    pub(super) fn settle(&mut self, touched: impl IntoIterator<Item = RegisterIx>) {
        for ix in touched {
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
    touched: Touched,
}

impl Keep for Taking<'_> {
    type Found = Found;

    fn is_empty(&self) -> bool {
        self.graph.is_empty()
    }

    fn find(&self, item: ItemId) -> Option<Found> {
        self.graph.find(item)
    }

    fn holds_map(&self, item: ItemId) -> bool {
        self.graph.holds_map(item)
    }

    fn keep(&mut self, item: &ItemRef<'_>, at: At<'_, Found>) {
        let (register, above) = match at {
            At::Root(key) => (self.graph.register_at((None, key.into())), None),
            At::Map(map, key) => (self.graph.register_at((Some(map), key.into())), None),
            At::Origin(found) => (found.0, Some(found)),
        };
        self.touched.push(register);
        let (first, end, origin) = (item.id(), item.clocks().end, item.origin().zip(above));
        let said = self.said.get(&WriteId::Set(ItemId { clock: end - 1, ..first }));
        let (marks, held) = (said.map_or(&[][..], |marks| marks), Held::of(item));
        self.graph.carry(register, Carried { first, end, origin, held, by: self.by, marks });
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
        self.seen(&mark.sees);
        if let MarkKind::WriteBack(by) = mark.kind {
            let said = self.said.get_or_insert_default();
            said.write_back = said.write_back.max(Some(by));
        }
    }

    /// Its writer saw these.
    fn seen(&mut self, writes: &[WriteId]) {
        if writes.is_empty() {
            return;
        }
        let sees = &mut self.said.get_or_insert_default().sees;
        sees.extend(writes);
        sees.sort_unstable();
        sees.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Hlc;
    use crate::ids::{Dot, Seq, StreamId};

    #[test]
    fn writes_share_who_made_them_though_each_entry_was_read_by_itself() {
        // Client 7 sets `k` of the root map to null, and again in place of that.
        let first = [&[1, 1, 7, 0, 0x28, 1, 6], &b"fields"[..], &[1, b'k', 1, 126, 0]].concat();
        let second = vec![1, 1, 7, 1, 0x88, 7, 0, 1, 126, 1, 7, 1, 0, 1];
        let mut graph = Graph::new();
        for (seq, bytes) in (1..).zip([first, second]) {
            let update = Update::decode(bytes.into()).unwrap();
            let dot = Dot { stream: StreamId::from_u32(1), seq: Seq(seq) };
            let who = Arc::new(Who { region: "there".into(), author: Some("Ada".into()) });
            graph.take(&update, &[], &Authorship { stamp: (Hlc(seq), dot), who });
        }
        let register = graph.register(0);
        assert_eq!(register.len(), 2);
        assert!(Arc::ptr_eq(&register.write(0).by.who, &register.write(1).by.who));
    }
}
