//! Regions that admit what clients send and exchange what they admitted, all for one document.

use crate::oracle::{Oracle, Place, Said, Values, learn};
use quire_protocol::fields::{
    Authorship, Drafted, Edit, FIELDS_ROOT, FieldState, FieldsEntry, Mark, MarkKind, Path, RESERVED_PREFIX,
    Rules, Tracker, Who, WriteId, Writer,
};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::update::{ClientId, Content, ItemId, Shape, Update};
use std::collections::BTreeSet;
use std::sync::Arc;
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Any, Doc, Map, MapPrelim, MapRef, Options, Out, ReadTxn, StateVector, Transact, TransactionMut};

pub(crate) const KEYS: [&str; 3] = ["title", "status", "tags"];

/// An entry of some region's log.
#[derive(Clone)]
pub(crate) struct Logged {
    pub(crate) by: Authorship,
    pub(crate) update: Update,
    /// None where the update writes no field.
    pub(crate) fields: Option<FieldsEntry>,
}

#[derive(Default)]
pub(crate) struct Region {
    pub(crate) tracker: Tracker,
    shape: Shape,
    pub(crate) log: Vec<Logged>,
    known: BTreeSet<Dot>,
    /// Items whose key was deleted, as far as this region has heard.
    deleted: BTreeSet<ItemId>,
    /// The fields in which the last entry made anything different.
    pub(crate) touched: BTreeSet<Path>,
    pub(crate) values: Values,
    pub(crate) said: Said,
}

pub(crate) struct Client {
    pub(crate) doc: Doc,
    region: usize,
    /// Updates that were not sent yet.
    outbox: Vec<Vec<u8>>,
}

pub(crate) struct World {
    pub(crate) regions: Vec<Region>,
    pub(crate) clients: Vec<Client>,
    pub(crate) oracle: Oracle,
    pub(crate) rules: Rules,
    value: u32,
}

/// What a client or a region does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Set {
        client: usize,
        key: usize,
        nested: bool,
    },
    SetTwo {
        client: usize,
    },
    Delete {
        client: usize,
        key: usize,
        nested: bool,
    },
    Nest {
        client: usize,
        key: usize,
    },
    /// Sends what it has, update by update or as one state without what was overwritten.
    Push {
        client: usize,
        whole: bool,
    },
    Pull {
        client: usize,
    },
    Move {
        client: usize,
        region: usize,
    },
    Exchange {
        from: usize,
        to: usize,
    },
    WriteBack {
        region: usize,
    },
}

impl World {
    pub(crate) fn new(regions: usize, clients: usize) -> Self {
        let client = |i: usize| {
            let id = 100 + u32::try_from(i).unwrap();
            let doc =
                Doc::with_options(Options { client_id: ClientID::new(id.into()), ..Options::default() });
            doc.get_or_insert_map(FIELDS_ROOT);
            Client { doc, region: i % regions, outbox: Vec::new() }
        };
        Self {
            regions: (0..regions).map(|_| Region::default()).collect(),
            clients: (0..clients).map(client).collect(),
            oracle: Oracle::default(),
            rules: Rules::default(),
            value: 0,
        }
    }

    pub(crate) fn act(&mut self, act: Act) {
        match act {
            Act::Set { client, key, nested } => self.edit(client, |edit| edit.set(KEYS[key], nested)),
            Act::SetTwo { client } => self.edit(client, |edit| {
                edit.set(KEYS[0], false);
                edit.set(KEYS[1], false);
            }),
            Act::Delete { client, key, nested } => self.edit(client, |edit| {
                let map = if nested { edit.nested() } else { Some(edit.root.clone()) };
                map.map(|map| map.remove(edit.txn, KEYS[key]));
            }),
            Act::Nest { client, key } => self.edit(client, |edit| {
                edit.root.insert(edit.txn, KEYS[key], MapPrelim::default());
            }),
            Act::Push { client, whole } => self.push(client, whole),
            Act::Pull { client } => {
                let Client { region, .. } = self.clients[client];
                for logged in self.regions[region].log.clone() {
                    self.clients[client].apply(logged.update.encoded());
                }
            }
            Act::Move { client, region } => self.clients[client].region = region,
            Act::Exchange { from, to } => self.exchange(from, to),
            Act::WriteBack { region } => self.write_back(region),
        }
    }

    fn edit(&mut self, client: usize, edit: impl FnOnce(&mut Editing<'_, '_>)) {
        let Client { doc, .. } = &self.clients[client];
        let root = doc.get_or_insert_map(FIELDS_ROOT);
        let mut txn = doc.transact_mut();
        edit(&mut Editing { root, txn: &mut txn, value: &mut self.value });
        let bytes = txn.encode_update_v1();
        drop(txn);
        self.oracle_hears(&Update::decode(bytes.clone().into()).unwrap());
        self.clients[client].outbox.push(bytes);
    }

    /// What was set, in place of what.
    fn oracle_hears(&mut self, update: &Update) {
        for item in update.items() {
            for clock in item.clocks().start..item.clocks().end {
                let unit = ItemId { clock, ..item.id() };
                let origin = if clock == item.id().clock {
                    item.origin()
                } else {
                    Some(ItemId { clock: clock - 1, ..unit })
                };
                let place = match (origin, item.parent()) {
                    (Some(origin), _) => self.oracle.place_of(origin).unwrap().clone(),
                    (None, Some(quire_protocol::update::ParentRef::Item(map))) => {
                        (Some(map), item.key().unwrap().to_owned())
                    }
                    (None, _) => (None, item.key().unwrap().to_owned()),
                };
                self.oracle.set(unit, place, origin);
            }
        }
    }

    fn push(&mut self, client: usize, whole: bool) {
        let region = self.clients[client].region;
        let mut updates = std::mem::take(&mut self.clients[client].outbox);
        if whole {
            updates =
                vec![self.clients[client].doc.transact().encode_state_as_update_v1(&StateVector::default())];
        }
        for update in updates {
            self.admit(region, &Update::decode(update.into()).unwrap());
        }
    }

    fn admit(&mut self, at: usize, update: &Update) {
        let admission = self.regions[at].shape.admit(update.clone()).unwrap();
        // A client that moved has not sent here what its update rests on: it sends all of it some time.
        let Some(fresh) = admission.fresh else { return };
        self.oracle_admits(at, &fresh, update);
        let marks = self.regions[at].tracker.admit(&fresh, update);
        self.commit(at, fresh, marks);
    }

    fn commit(&mut self, at: usize, update: Update, marks: Option<Vec<Mark>>) {
        let region = &mut self.regions[at];
        region.shape.record(&update);
        let seq =
            region.log.iter().filter(|logged| logged.by.stamp.1.stream == stream(at)).count() as u64 + 1;
        let total: usize = self.regions.iter().map(|region| region.log.len()).sum();
        let stamp = (Hlc(total as u64), Dot { stream: stream(at), seq: Seq(seq) });
        let who = Arc::new(Who { region: "here".into(), author: None });
        let bytes = update.encoded().clone();
        let fields =
            marks.map(|marks| FieldsEntry { region: "here".into(), author: None, marks, update: bytes });
        self.take(at, Logged { by: Authorship { stamp, who }, update, fields });
    }

    /// A region writes back what it can, and checks that it renders what the oracle says are the siblings.
    fn write_back(&mut self, at: usize) {
        let Region { tracker, shape, .. } = &self.regions[at];
        let writer = Writer { client: own_writer(at), schema: [7; 16] };
        let next_clock = |client| shape.next_clock(client);
        let paths = tracker.contested();
        let Some(drafted) = tracker.write_back(&paths, &self.rules, writer, &next_clock) else { return };
        let (known, said) = (self.known_writes(at), self.regions[at].said.clone());
        let marks = drafted.marks.clone();
        self.commit_drafted(at, drafted);
        for mark in marks {
            let seen: BTreeSet<WriteId> = mark.sees.iter().copied().collect();
            let place = self.oracle.place_of(mark.write.item()).unwrap();
            assert_eq!(seen, self.oracle.siblings(place, &known, &said), "{place:?}");
            let is_absent = matches!(mark.kind, MarkKind::WriteBack(by) if by.absent);
            let said = &mut self.regions[at].said;
            said.says_absent(mark.write.item(), (true, is_absent));
            said.write_backs.insert(mark.write, seen);
        }
    }

    /// Somebody writes over HTTP.
    pub(crate) fn edit_at(&mut self, at: usize, edits: &[Edit]) {
        let Region { tracker, shape, .. } = &self.regions[at];
        let client = own_client(at);
        let drafted = tracker.edit(edits, client, || shape.next_clock(client)).unwrap();
        let Some(drafted) = drafted else { return };
        let marks = drafted.marks.clone();
        self.commit_drafted(at, drafted);
        for mark in marks {
            self.regions[at].said.saw.extend(mark.sees.into_iter().map(|seen| (mark.write, seen)));
        }
    }

    fn commit_drafted(&mut self, at: usize, drafted: Drafted) {
        let update = Update::decode(drafted.update).unwrap();
        self.oracle_hears(&update);
        for mark in &drafted.marks {
            if let WriteId::Deleted(item) = mark.write {
                self.oracle.deleted(item);
                self.regions[at].deleted.insert(item);
            }
        }
        let fresh = self.regions[at].shape.admit(update.clone()).unwrap().fresh;
        assert!(update.is_empty() || fresh.as_ref() == Some(&update), "what a region drafts can be admitted");
        let marks = self.regions[at].tracker.admit_drafted(&update, drafted.marks);
        self.commit(at, update, Some(marks));
    }

    /// The state of a field as a region sees it.
    pub(crate) fn state(&self, at: usize, key: &str) -> FieldState {
        let path = Path::of(key);
        self.regions[at].tracker.state(&path, self.rules.policy(&path)).unwrap()
    }

    fn take(&mut self, at: usize, logged: Logged) {
        let region = &mut self.regions[at];
        if !region.known.insert(logged.by.stamp.1) {
            return;
        }
        if let Some(fields) = &logged.fields {
            let fields = FieldsEntry::decode(&fields.encode()).unwrap();
            region.tracker.take(&logged.update, &fields.marks, &logged.by);
            region.touched = region.tracker.take_touched();
        }
        region.shape.record(&logged.update);
        region.tracker.committed(0, 0);
        learn(&mut region.values, &logged.update);
        region.log.push(logged);
    }

    /// Deletions are ordered by regions: one that is known where an update is admitted was seen by a writer who had
    /// seen what it deleted.
    /// So was what is replaced without being deleted.
    fn oracle_admits(&mut self, region: usize, fresh: &Update, sent: &Update) {
        let known = self.known_writes(region);
        let sets: Vec<ItemId> = units(fresh).filter(|&unit| self.oracle.place_of(unit).is_some()).collect();
        // Of units that were set at once the last one speaks for all: the others were never to be seen.
        let lasts = fresh.items().map(|item| ItemId { clock: item.clocks().end - 1, ..item.id() });
        for item in lasts.filter(|last| sets.contains(last)) {
            let place = self.oracle.place_of(item).unwrap();
            let siblings = self.oracle.siblings(place, &known, &self.regions[region].said);
            let deletions = siblings.into_iter().filter(|write| matches!(write, WriteId::Deleted(_)));
            let deletions = deletions.filter(|deleted| self.oracle.rests_on(item, deleted.item()));
            self.regions[region].said.saw.extend(deletions.map(|deleted| (WriteId::Set(item), deleted)));
        }
        self.oracle_is_given_back(region, fresh);
        let deleted_by_writer: BTreeSet<ItemId> = deleted_units(sent).collect();
        for item in fresh.items() {
            let last = ItemId { clock: item.clocks().end - 1, ..item.id() };
            let before = item.origin().map(WriteId::Deleted).filter(|deleted| known.contains(deleted));
            let knew = before.filter(|deleted| !deleted_by_writer.contains(&deleted.item()));
            self.regions[region].said.saw.extend(knew.map(|deleted| (WriteId::Set(last), deleted)));
        }
        let all: BTreeSet<WriteId> =
            known.iter().copied().chain(sets.into_iter().map(WriteId::Set)).collect();
        let deletes: BTreeSet<ItemId> = deleted_units(fresh).collect();
        for &item in &deletes {
            // It was shown, and so were the maps it is in, which stay.
            let mut at = Some(item);
            let mut is_shown = true;
            while let Some(up) = at {
                let place = self.oracle.place_of(up).cloned();
                is_shown &= place.as_ref().is_some_and(|place| self.oracle.tail(place, &all) == Some(up));
                is_shown &= !known.contains(&WriteId::Deleted(up)) && (up == item || !deletes.contains(&up));
                at = place.and_then(|(map, _)| map);
            }
            if is_shown {
                self.oracle.deleted(item);
                self.regions[region].deleted.insert(item);
            }
        }
    }

    /// A write-back that its region has not told of is one all the same; it renders what it stands on.
    fn oracle_is_given_back(&mut self, region: usize, fresh: &Update) {
        let gone: BTreeSet<ItemId> = deleted_units(fresh).collect();
        for item in fresh.items().filter(|item| is_writer(item.id().client)) {
            let last = ItemId { clock: item.clocks().end - 1, ..item.id() };
            let place = self.oracle.place_of(last).filter(|place| self.is_field(place)).cloned();
            let Some(place) = place else { continue };
            let said = &mut self.regions[region].said;
            let mut renders: BTreeSet<WriteId> =
                said.saw.iter().filter(|(by, _)| *by == WriteId::Set(last)).map(|(_, seen)| *seen).collect();
            if let Some(origin) = self.oracle.origin(last) {
                let rendered = said.write_backs.get(&origin).cloned();
                renders.extend(rendered.unwrap_or_else(|| BTreeSet::from([origin])));
            }
            let mut known = self.known_writes(region);
            known.extend(units(fresh).map(WriteId::Set));
            let is_absent = gone.contains(&last) && self.oracle.tail(&place, &known) == Some(last);
            let said = &mut self.regions[region].said;
            said.says_absent(last, (false, is_absent));
            said.write_backs.entry(WriteId::Set(last)).or_default().extend(&renders);
        }
    }

    /// Whether a place, or the one that the map is in that it is in, is none of Quire's own.
    fn is_field(&self, (map, key): &Place) -> bool {
        match map.and_then(|map| self.oracle.place_of(map)) {
            Some(up) => self.is_field(up),
            None => !key.starts_with(RESERVED_PREFIX),
        }
    }

    /// The writes that a region has heard of.
    pub(crate) fn known_writes(&self, at: usize) -> BTreeSet<WriteId> {
        let mut known = BTreeSet::new();
        for logged in &self.regions[at].log {
            known.extend(
                units(&logged.update).filter(|&unit| self.oracle.place_of(unit).is_some()).map(WriteId::Set),
            );
        }
        known.extend(self.regions[at].deleted.iter().map(|&item| WriteId::Deleted(item)));
        known
    }

    fn exchange(&mut self, from: usize, to: usize) {
        let deleted = self.regions[from].deleted.clone();
        self.regions[to].deleted.extend(deleted);
        let said = self.regions[from].said.clone();
        self.regions[to].said.extend(said);
        for logged in self.regions[from].log.clone() {
            self.take(to, logged);
        }
    }

    /// Everybody sends what they have, and the regions tell each other all.
    pub(crate) fn settle(&mut self) {
        for client in 0..self.clients.len() {
            self.push(client, true);
        }
        let all = self.regions.len();
        for _ in 0..2 {
            for (from, to) in (0..all).flat_map(|from| (0..all).map(move |to| (from, to))) {
                self.exchange(from, to);
            }
        }
    }
}

struct Editing<'a, 'd> {
    root: MapRef,
    txn: &'a mut TransactionMut<'d>,
    value: &'a mut u32,
}

impl Editing<'_, '_> {
    fn set(&mut self, key: &str, nested: bool) {
        *self.value += 1;
        let map = if nested { self.nested() } else { Some(self.root.clone()) };
        if let Some(map) = map {
            map.insert(self.txn, key, Any::from(*self.value));
        }
    }

    /// The map under the first key that holds one.
    fn nested(&mut self) -> Option<MapRef> {
        KEYS.iter().find_map(|key| match self.root.get(self.txn, key) {
            Some(Out::YMap(map)) => Some(map),
            _ => None,
        })
    }
}

impl Client {
    fn apply(&self, update: &[u8]) {
        self.doc.transact_mut().apply_update(yrs::Update::decode_v1(update).unwrap()).unwrap();
    }
}

/// The units of an update, but for those of which it says no more than that they are gone: a client had let
/// go of them before it sent them.
fn deleted_units(update: &Update) -> impl Iterator<Item = ItemId> + '_ {
    let ranges =
        update.deletes().flat_map(|(client, ranges)| ranges.iter().map(move |range| (client, *range)));
    ranges.flat_map(|(client, range)| (range.start..range.end).map(move |clock| ItemId { client, clock }))
}

fn units(update: &Update) -> impl Iterator<Item = ItemId> {
    update.items().filter(|item| item.content() != Content::Gc).flat_map(|item| {
        let id = item.id();
        (item.clocks().start..item.clocks().end).map(move |clock| ItemId { clock, ..id })
    })
}

/// The Yjs client that a region writes as for others.
fn own_client(region: usize) -> ClientId {
    ClientId(900 + u32::try_from(region).unwrap())
}

fn is_writer(client: ClientId) -> bool {
    (950..1_000).contains(&client.0)
}

/// The Yjs client that a region writes back as.
fn own_writer(region: usize) -> ClientId {
    ClientId(950 + u32::try_from(region).unwrap())
}

fn stream(region: usize) -> StreamId {
    StreamId { replica: ReplicaId(u16::try_from(region).unwrap() + 1), incarnation: Incarnation(1) }
}
