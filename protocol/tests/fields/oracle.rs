//! Who knew what, as told by the writers themselves: it never looks at a register.

use quire_protocol::fields::{Base, Held, Value, WriteId};
use quire_protocol::update::{Content, ItemId, ItemRef, Update};
use std::collections::{BTreeMap, BTreeSet};

/// A field: the map it is in, if not the root, and its key.
pub(crate) type Place = (Option<ItemId>, String);

/// Every write of every field and the writes it was made on.
#[derive(Default)]
pub(crate) struct Oracle {
    parents: BTreeMap<WriteId, BTreeSet<WriteId>>,
    origins: BTreeMap<ItemId, ItemId>,
    place: BTreeMap<WriteId, Place>,
}

impl Oracle {
    /// A client has set a key in place of what it saw.
    pub(crate) fn set(&mut self, item: ItemId, place: Place, origin: Option<ItemId>) {
        let id = WriteId::Set(item);
        self.origins.extend(origin.map(|origin| (item, origin)));
        self.parents.insert(id, origin.map(WriteId::Set).into_iter().collect());
        self.place.insert(id, place);
    }

    pub(crate) fn place_of(&self, item: ItemId) -> Option<&Place> {
        self.place.get(&WriteId::Set(item))
    }

    /// The write that a client replaced.
    pub(crate) fn origin(&self, item: ItemId) -> Option<WriteId> {
        self.origins.get(&item).copied().map(WriteId::Set)
    }

    /// Whether an item is another, or replaces it, at once or through others.
    pub(crate) fn rests_on(&self, item: ItemId, other: ItemId) -> bool {
        std::iter::successors(Some(item), |item| self.origins.get(item).copied()).any(|item| item == other)
    }

    /// A region has taken note of a deletion of the key under which this item was seen.
    pub(crate) fn deleted(&mut self, item: ItemId) {
        let id = WriteId::Deleted(item);
        let place = self.place[&WriteId::Set(item)].clone();
        self.parents.entry(id).or_default().insert(WriteId::Set(item));
        self.place.insert(id, place);
    }

    /// The item whose value Yjs shows at a place to who knows these writes: of what replaces the same item,
    /// the one with the greatest client, and so on down.
    pub(crate) fn tail(&self, place: &Place, known: &BTreeSet<WriteId>) -> Option<ItemId> {
        let mut tail = None;
        loop {
            let next =
                known.iter().filter(|id| self.place.get(id) == Some(place) && matches!(id, WriteId::Set(_)));
            let next = next.filter(|id| self.origin(id.item()) == tail.map(WriteId::Set));
            match next.max_by_key(|id| id.item().client) {
                Some(next) => tail = Some(next.item()),
                None => return tail,
            }
        }
    }

    pub(crate) fn places(&self) -> BTreeSet<&Place> {
        self.place.values().collect()
    }

    /// The writes of a field that are known and that no known write was made on.
    pub(crate) fn siblings(
        &self,
        place: &Place,
        known: &BTreeSet<WriteId>,
        said: &Said,
    ) -> BTreeSet<WriteId> {
        let mut all: BTreeSet<WriteId> =
            known.iter().filter(|id| self.place.get(id) == Some(place)).copied().collect();
        all.retain(|id| said.rendered(*id).is_none());
        let below: BTreeSet<WriteId> = all.iter().flat_map(|&id| self.parents(id, said)).collect();
        all.retain(|id| !below.contains(id));
        all
    }

    fn parents(&self, id: WriteId, said: &Said) -> BTreeSet<WriteId> {
        let known = |parent: WriteId| match said.rendered(parent) {
            Some(rendered) => rendered.clone(),
            None => BTreeSet::from([parent]),
        };
        let seen = said.saw.iter().filter(|(by, _)| *by == id).map(|&(_, seen)| seen);
        self.parents[&id].iter().copied().chain(seen).flat_map(known).collect()
    }

    /// The nearest write that all of these were made on, where there is one such.
    pub(crate) fn base(&self, of: &BTreeSet<WriteId>, values: &Values, said: &Said) -> Option<Base> {
        let above = |id: &WriteId| {
            let mut all = BTreeSet::from([*id]);
            let mut open = vec![*id];
            while let Some(id) = open.pop() {
                for parent in self.parents(id, said) {
                    if all.insert(parent) {
                        open.push(parent);
                    }
                }
            }
            all
        };
        let common = of.iter().map(above).reduce(|a, b| &a & &b)?;
        let nearest: Vec<WriteId> = common
            .iter()
            .filter(|id| !common.iter().any(|other| other != *id && above(other).contains(id)))
            .copied()
            .collect();
        match nearest[..] {
            [] => Some(Base::Nothing),
            [WriteId::Deleted(_)] => Some(Base::Write(Held::Deleted)),
            [WriteId::Set(item)] => Some(Base::Write(values.get(&item).cloned().unwrap_or(Held::Unknown))),
            _ => None,
        }
    }
}

/// What the regions to which writes came have said of them.
#[derive(Clone, Default)]
pub(crate) struct Said {
    /// What the writer of a write saw, beside what it replaces.
    pub(crate) saw: BTreeSet<(WriteId, WriteId)>,
    /// What regions have written back, and what it renders: who sees it has seen that.
    pub(crate) write_backs: BTreeMap<WriteId, BTreeSet<WriteId>>,
    /// Of each of them whether its own region says so, and whether it is of nothing: it knows better than who was given
    /// it by an editor.
    pub(crate) absent: BTreeMap<ItemId, (bool, bool)>,
}

impl Said {
    /// What a region's write-back renders; the deletion that comes with one of nothing says no more.
    fn rendered(&self, id: WriteId) -> Option<&BTreeSet<WriteId>> {
        let is_one = match id {
            WriteId::Set(_) => true,
            WriteId::Deleted(item) => self.absent.get(&item).is_some_and(|(_, absent)| *absent),
        };
        self.write_backs.get(&WriteId::Set(id.item())).filter(|_| is_one)
    }
}

impl Said {
    pub(crate) fn extend(&mut self, other: Self) {
        self.saw.extend(other.saw);
        for (write_back, rendered) in other.write_backs {
            self.write_backs.entry(write_back).or_default().extend(rendered);
        }
        for (write_back, absent) in other.absent {
            self.says_absent(write_back, absent);
        }
    }

    pub(crate) fn says_absent(&mut self, write_back: ItemId, absent: (bool, bool)) {
        let known = self.absent.entry(write_back).or_insert(absent);
        *known = absent.max(*known);
    }
}

/// What is known of values.
pub(crate) type Values = BTreeMap<ItemId, Held>;

/// Adds the values that an update holds.
pub(crate) fn learn(values: &mut Values, update: &Update) {
    for item in update.items() {
        let held = match item.content() {
            Content::Any => Held::Value(number(&item)),
            Content::Type(kind) => Held::Shared(kind),
            _ => continue,
        };
        values.insert(item.id(), held);
    }
}

fn number(item: &ItemRef<'_>) -> Value {
    let mut reader = quire_protocol::lib0::Reader::new(item.content_bytes().to_vec().into());
    assert_eq!(reader.var_u64(), Ok(1));
    Value::decode(&mut reader).unwrap()
}
