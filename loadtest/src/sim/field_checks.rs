//! What regions say of fields and show of them, against who truly knew what.

use super::documents::{DOCUMENTS, Documents, Open, doc_name};
use super::editor::shown;
use super::fields::{RULES, coming};
use super::said::{FieldsWritten, History, Said, is_base};
use super::truth::{Place, Truth};
use super::world::World;
use quire_protocol::batch::Stamp;
use quire_protocol::fields::{
    CONFLICTS_KEY, ConflictId, Conflicting, Edit, FieldState, Held, Mark, MarkKind, Path, RESERVED_PREFIX,
    Shown, Value, Version, WriteId,
};
use quire_protocol::ids::{DocId, ReplicaId, Seq};
use quire_protocol::update::{Content, ItemId, Update};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a region says of one set item of an update, and which deletions it reports.
struct Reported {
    sees: BTreeMap<WriteId, BTreeSet<WriteId>>,
    deleted: BTreeSet<ItemId>,
}

/// What a region admits.
pub(super) struct Admitted<'a> {
    /// What is new.
    pub(super) fresh: &'a Update,
    /// All that an editor sent.
    pub(super) sent: Option<&'a Update>,
    /// All that is said about it.
    pub(super) all: &'a [Mark],
    /// What a region said about an update of its own as it drafted it.
    pub(super) drafted: &'a [Mark],
}

impl World {
    /// Checks what a region says of an update as it admits it: which keys it deletes, and which deletions come before
    /// what it sets.
    pub(super) fn check_marks(&mut self, at: usize, doc: DocId, admitted: &Admitted<'_>) {
        let region = &self.regions[at];
        let on_the_way: Vec<FieldsWritten> = region.writes.iter().filter_map(coming).collect();
        let Some(before) = self.ledger.said(at, doc, &region.shows.frontier, &on_the_way) else { return };
        let (wrong, given_back) = match marks_are_right(&before, admitted) {
            Ok(given_back) => (None, given_back),
            Err(wrong) => (Some(wrong), 0),
        };
        self.totals.given_back += given_back as u64;
        if let Some(wrong) = wrong {
            self.ledger.violate(format!("region {at} admits an update of {doc:?} wrongly: {wrong}"));
        }
    }

    /// Checks that write-backs render the siblings that there are, and say what they are.
    pub(super) fn check_write_back(&mut self, at: usize, doc: DocId, marks: &[Mark]) {
        let Some(said) = self.ledger.said(at, doc, &self.regions[at].shows.frontier, &[]) else { return };
        let mut wrong = None;
        for mark in marks {
            let Some(place) = said.truth.place_of(mark.write.item()) else { continue };
            let history = said.history(place);
            let (renders, siblings) = (seen_by(&history, said.truth, mark), history.siblings());
            if renders != siblings {
                wrong = Some(format!("renders {renders:?} of {place:?}, where there are {siblings:?}"));
            }
        }
        if let Some(wrong) = wrong {
            self.ledger.violate(format!("region {at} {wrong}"));
        }
    }

    /// Checks that writes over HTTP take the place of what their writer had read, and of nothing else.
    pub(super) fn check_edits(&mut self, at: usize, doc: DocId, edits: &[Edit], marks: &[Mark]) {
        let Some(said) = self.ledger.said(at, doc, &self.regions[at].shows.frontier, &[]) else { return };
        let mut wrong = None;
        for edit in edits {
            let Some(place) = said.place(&edit.path) else { continue };
            let of_it = |mark: &&Mark| said.truth.place_of(mark.write.item()) == Some(&place);
            let Some(mark) = marks.iter().find(of_it) else { continue };
            let history = said.history(&place);
            let read = match &edit.on {
                Some(version) => history.latest(&version.0.iter().copied().collect()),
                None => history.siblings(),
            };
            let seen = seen_by(&history, said.truth, mark);
            if read != seen {
                wrong = Some(format!("a write of {} on {read:?} is made on {seen:?}", edit.path));
            }
        }
        if let Some(wrong) = wrong {
            self.ledger.violate(format!("in region {at} {wrong}"));
        }
    }

    /// Checks that a region's fields are what follows from its entries.
    pub(super) fn check_fields(&mut self, at: usize) {
        if let Some(wrong) = self.fields_wrong(at, &self.regions[at].shows) {
            self.ledger.violate(format!("region {at}: {wrong}"));
        }
    }

    fn fields_wrong(&self, at: usize, shows: &Documents) -> Option<String> {
        (0..DOCUMENTS).find_map(|number| {
            let doc = doc_name(number).id();
            let said = self.ledger.said(at, doc, &shows.frontier, &[])?;
            let wrong = fields_follow(shows.get(doc), &said, self.ledger.has_parted());
            wrong.err().map(|wrong| format!("of {doc:?}, {wrong}"))
        })
    }

    /// Checks the fields of all regions when all is quiet; `again` is what each has read from its log once more.
    pub(super) fn judge_fields(&mut self, at: usize, first: usize, again: &Documents) {
        let wrong = self.fields_wrong(at, &self.regions[at].shows);
        let wrong =
            wrong.or_else(|| self.fields_wrong(at, again).map(|wrong| format!("after a restart, {wrong}")));
        if let Some(wrong) = wrong {
            return self.ledger.violate(format!("region {at}: {wrong}"));
        }
        for number in 0..DOCUMENTS {
            let doc = doc_name(number).id();
            let wrong = self.fields_differ(doc, [at, first]).or_else(|| self.is_shown_wrongly(at, doc));
            let wrong = wrong.or_else(|| self.has_vanished(at, doc));
            if let Some(wrong) = wrong {
                return self.ledger.violate(format!("region {at}: of {doc:?}, {wrong}"));
            }
        }
    }

    fn fields_differ(&mut self, doc: DocId, regions: [usize; 2]) -> Option<String> {
        let [here, there] = regions.map(|at| self.regions[at].shows.get(doc));
        let paths = here.fields.tracker.paths();
        if paths != there.fields.tracker.paths() {
            return Some(format!("it has other fields than region {}", regions[1]));
        }
        let has_parted = self.ledger.has_parted();
        for path in &paths {
            let states =
                [here, there].map(|open| open.field(path).map(|state| comparable(state, has_parted)));
            if states[0] != states[1] {
                return Some(format!("{path} is not what it is in region {}: {states:?}", regions[1]));
            }
            let records = [here, there].map(|open| on_record(open, path));
            if records[0] != records[1] {
                return Some(format!("{path} has {records:?} on record, the other in region {}", regions[1]));
            }
            let is_conflict = states[0].as_ref().is_some_and(|state| state.conflict.is_some());
            self.totals.conflicts += u64::from(is_conflict);
            self.totals.past_conflicts += here.fields.tracker.joins(path).len() as u64;
        }
        None
    }

    /// Checks that editors are shown what fields come to, and what is in conflict.
    fn is_shown_wrongly(&self, at: usize, doc: DocId) -> Option<String> {
        let open = self.regions[at].shows.get(doc);
        if open.is_deleted() {
            return None;
        }
        for path in open.fields.tracker.paths() {
            let state = open.field(&path)?;
            let editors = self.editors.iter().filter(|editor| !editor.closed && editor.of == doc);
            let everywhere = |keys: &[Arc<str>]| {
                let editors = editors.clone().map(|editor| editor.shows(keys)).collect::<Vec<_>>();
                std::iter::once(open.shows(keys)).chain(editors)
            };
            if let Shown::Value(value) = &state.shown {
                let expected = value.clone().map_or(Held::Deleted, Held::Value);
                if let Some(held) = everywhere(path.keys()).find(|held| *held != expected) {
                    return Some(format!("{path} is shown as {held:?} and comes to {expected:?}"));
                }
            }
            let told = everywhere(&[CONFLICTS_KEY.into(), path.to_string().into()]);
            let id = state.conflict.is_some().then(|| state.conflict_id(&path).to_string());
            for held in told {
                let told = match &held {
                    Held::Value(Value::Map(members)) => match members.get("id") {
                        Some(Value::String(id)) => Some(id.to_string()),
                        _ => None,
                    },
                    _ => None,
                };
                if told != id {
                    return Some(format!("editors are told {told:?} of the conflict {id:?} of {path}"));
                }
            }
        }
        None
    }

    /// Checks that every value stands, was overwritten by somebody who had seen it, or is among the conflicts that
    /// are kept: which these are was compared before.
    fn has_vanished(&mut self, at: usize, doc: DocId) -> Option<String> {
        let said = self.ledger.said(at, doc, &self.regions[at].shows.frontier, &[])?;
        let mut too_often = 0;
        let mut vanished = None;
        for path in self.regions[at].shows.get(doc).fields.tracker.paths() {
            let history = said.history(&said.place(&path)?);
            let siblings = history.siblings();
            let records = on_record(self.regions[at].shows.get(doc), &path);
            let recorded: BTreeSet<WriteId> = records.values().flatten().map(|(write, _)| *write).collect();
            too_often += pairs_seen(&siblings, said.truth);
            let mut kept = siblings;
            for (write, parents) in history.edits() {
                if let Some(unseen) = parents.iter().find(|parent| !said.truth.has_seen(write, **parent)) {
                    vanished = Some(format!(
                        "{unseen} of {path} made way for {write}, whose writer had not seen it"
                    ));
                }
                // What somebody took the place of together is on record, unless it was all the same.
                let left: Vec<Held> = parents.iter().map(|parent| said.held(*parent)).collect();
                let is_same = left.windows(2).all(|pair| pair[0] == pair[1]);
                if let Some(lost) =
                    parents.iter().find(|parent| !recorded.contains(parent)).filter(|_| !is_same)
                {
                    vanished =
                        Some(format!("{lost} of {path}, which {write} took the place of, is not on record"));
                }
                kept.extend(parents);
            }
            if let Some((write, _)) = history.edits().find(|(write, _)| !kept.contains(write)) {
                vanished = Some(format!("{write} of {path} has vanished"));
            }
        }
        self.totals.told_too_often += too_often;
        vanished
    }
}

/// The conflicts of a field that are on record, with what was written.
fn on_record(open: &Open, path: &Path) -> BTreeMap<ConflictId, Vec<(WriteId, Held)>> {
    let records = open.fields.tracker.records(path, RULES.policy(path), &|_, _| true);
    let all = records.current.into_iter().chain(records.over);
    let told = all.filter_map(|record| match record.of {
        Conflicting::Writes(writes) => {
            let versions = writes.versions.into_iter().map(|version| (version.write, version.held));
            let mut versions: Vec<(WriteId, Held)> = versions.collect();
            versions.sort_by_key(|(write, _)| *write);
            Some((record.id, versions))
        }
        Conflicting::Deletion(_) => None,
    });
    told.collect()
}

/// A state that is equal in two regions. What a restored region wrote again keeps its old names in its memory.
fn comparable(mut state: FieldState, has_parted: bool) -> FieldState {
    for version in state.versions.iter_mut().filter(|_| has_parted) {
        version.by.stamp = renamed(version.by.stamp);
    }
    state
}

fn renamed((hlc, mut dot): Stamp) -> Stamp {
    dot.seq = Seq(0);
    dot.stream.incarnation = quire_protocol::ids::Incarnation(0);
    let _: ReplicaId = dot.stream.replica;
    (hlc, dot)
}

/// How often a sibling was known to the editor that wrote another one beside it.
fn pairs_seen(siblings: &BTreeSet<WriteId>, truth: &Truth) -> u64 {
    let pairs = siblings.iter().flat_map(|a| siblings.iter().map(move |b| (a, b)));
    let is_seen = |(a, b): (&WriteId, &WriteId)| match (a, b) {
        (WriteId::Set(a), WriteId::Set(b)) if a != b => truth.holds(*a, *b),
        _ => false,
    };
    pairs.filter(|pair| is_seen(*pair)).count() as u64
}

/// What the writer of a drafted write had seen.
fn seen_by(history: &History, truth: &Truth, mark: &Mark) -> BTreeSet<WriteId> {
    let replaced = match mark.write {
        WriteId::Set(item) => truth.made(item).and_then(|made| made.shown),
        WriteId::Deleted(item) => Some(item),
    };
    history.latest(&replaced.map(WriteId::Set).into_iter().chain(mark.sees.iter().copied()).collect())
}

/// Checks what a region says of an update; tells how many write-backs it is given back.
fn marks_are_right(before: &Said<'_>, admitted: &Admitted<'_>) -> Result<usize, String> {
    let &Admitted { fresh: update, sent, all, drafted } = admitted;
    let own: BTreeSet<ItemId> = drafted.iter().map(|mark| mark.write.item()).collect();
    let deleted = deletions(all).filter(|item| !own.contains(item)).collect();
    let mut reported = Reported { sees: BTreeMap::new(), deleted };
    for mark in all {
        reported.sees.entry(mark.write).or_default().extend(&mark.sees);
    }
    // A region may be given its own or another one's write-back by an editor, and is to know it as one.
    let is_given_back = |item: &ItemId| before.truth.is_write_back(*item) && !own.contains(item);
    let given_back: BTreeSet<ItemId> = lasts(update).filter(is_given_back).collect();
    let mut expected = deleted_by(before, update);
    expected.retain(|item| !own.contains(item));
    if reported.deleted != expected {
        return Err(format!("it deletes the keys of {expected:?}, and {:?} are reported", reported.deleted));
    }
    let write_backs = all.iter().filter(|mark| mark.kind != MarkKind::Edit).map(|mark| mark.write.item());
    let taken: BTreeSet<ItemId> = write_backs.filter(|item| !own.contains(item)).collect();
    if taken != given_back {
        return Err(format!("{taken:?} are taken for write-backs, which {given_back:?} are"));
    }
    for item in update.items().filter(|item| item.content() != Content::Gc) {
        let last = ItemId { clock: item.clocks().end - 1, ..item.id() };
        let Some(place) = before.truth.place_of(last) else { continue };
        // While a deletion stands, it comes before what is written in the place of what it deleted. Later an update
        // that does not delete what it replaces still tells that its writer had seen it gone.
        let stands =
            |write: &WriteId| matches!(write, WriteId::Deleted(gone) if before.truth.rests_on(last, *gone));
        let mut standing = before.history(place).siblings();
        standing.retain(stands);
        let replaced = item.origin().filter(|origin| before.is_deleted(*origin));
        standing
            .extend(replaced.filter(|it| sent.is_some_and(|sent| !deletes(sent, *it))).map(WriteId::Deleted));
        let sees = reported.sees.get(&WriteId::Set(last)).cloned().unwrap_or_default();
        if let Some(missed) = standing.into_iter().find(|write| !sees.contains(write)) {
            return Err(format!("{last} is not said to come after {missed}"));
        }
        // What a region drafts may say more: it was checked when it was drafted.
        let is_known = |write: &&WriteId| match write {
            _ if own.contains(&last) => true,
            WriteId::Deleted(gone) => before.is_deleted(*gone) && before.truth.rests_on(last, *gone),
            WriteId::Set(_) => false,
        };
        if let Some(wrong) = sees.iter().find(|write| !is_known(write)) {
            return Err(format!("{last} is said to come after {wrong}"));
        }
    }
    Ok(given_back.len())
}

fn deletions(marks: &[Mark]) -> impl Iterator<Item = ItemId> {
    marks.iter().filter_map(|mark| match mark.write {
        WriteId::Deleted(item) => Some(item),
        WriteId::Set(_) => None,
    })
}

/// The last unit of each item of an update whose content may be known.
fn lasts(update: &Update) -> impl Iterator<Item = ItemId> {
    let items = update.items().filter(|item| item.content() != Content::Gc);
    items.map(|item| ItemId { clock: item.clocks().end - 1, ..item.id() })
}

fn deletes(update: &Update, item: ItemId) -> bool {
    let mut of_client = update.deletes().filter(|(client, _)| *client == item.client);
    of_client.any(|(_, ranges)| ranges.iter().any(|it| it.start <= item.clock && item.clock < it.end))
}

/// The items that an update deletes whose value was shown, in maps that are shown and stay.
fn deleted_by(before: &Said<'_>, update: &Update) -> BTreeSet<ItemId> {
    let truth = before.truth;
    let comes = |item: ItemId| {
        update.clients().any(|(client, clocks)| {
            client == item.client && clocks.start <= item.clock && item.clock < clocks.end
        })
    };
    let is_set = |item: ItemId| before.is_set(item) || comes(item);
    let goes = |item: ItemId| deletes(update, item);
    let stays = |map: ItemId| {
        let mut at = Some(map);
        while let Some(map) = at {
            let Some(place) = truth.place_of(map) else { return false };
            if truth.tail(place, is_set) != Some(map) || goes(map) || before.is_deleted(map) {
                return false;
            }
            at = place.0;
        }
        true
    };
    let tails = truth.places().filter_map(|place| Some((place, truth.tail(place, is_set)?)));
    let gone =
        tails.filter(|(place, tail)| goes(*tail) && !before.is_deleted(*tail) && place.0.is_none_or(stays));
    gone.map(|(_, tail)| tail).collect()
}

/// Checks every field that a region has against the entries that it has.
fn fields_follow(open: &Open, said: &Said<'_>, has_parted: bool) -> Result<(), String> {
    let tracker = &open.fields.tracker;
    let mut found: BTreeSet<Place> = BTreeSet::new();
    for path in tracker.paths() {
        let state = open.field(&path).ok_or_else(|| format!("{path} has no state"))?;
        let place = said.place(&path).ok_or_else(|| format!("nobody has written {path}"))?;
        let history = said.history(&place);
        let siblings: BTreeSet<WriteId> = state.versions.iter().map(|version| version.write).collect();
        if siblings != history.siblings() {
            return Err(format!("{path} has the siblings {siblings:?}, and not {:?}", history.siblings()));
        }
        for version in &state.versions {
            version_follows(version, said, has_parted).map_err(|wrong| format!("{path}: {wrong}"))?;
        }
        let base = history.base(&siblings);
        if !is_base(&state.base, &base, said) {
            return Err(format!("{path} has the base {:?}, and not {base:?}", state.base));
        }
        let joins = tracker.joins(&path);
        let writes = |join: &Vec<Version>| join.iter().map(|version| version.write).collect();
        let (kept, seen) = (said.told(joins.iter().map(writes)), said.told(history.joins()));
        if kept != seen {
            return Err(format!("{path} keeps the conflicts {kept:?}, and not {seen:?}"));
        }
        let is_left = |version: &&Version| version.held == said.held(version.write);
        if let Some(Version { write, held, .. }) = joins.iter().flatten().find(|version| !is_left(version)) {
            return Err(format!("{write}, once in {path}, is said to have left {held:?}"));
        }
        let tail = said.tail(&place).ok_or_else(|| format!("nothing was set in {path}"))?;
        let expected = if said.is_absent(tail) { Held::Deleted } else { said.held(WriteId::Set(tail)) };
        let shows = tracker.shows(&path);
        if shows.as_ref() != Some(&expected)
            || open.shows(path.keys()) != expected && expected != Held::Unknown
        {
            return Err(format!(
                "{path} shows {shows:?}, Yjs {:?}, and not {expected:?}",
                open.shows(path.keys())
            ));
        }
        found.insert(place);
    }
    let missed = said.places_shown().find(|place| !found.contains(*place));
    missed.map_or(Ok(()), |place| Err(format!("{place:?} is no field")))
}

fn version_follows(version: &Version, said: &Said<'_>, has_parted: bool) -> Result<(), String> {
    let Version { write, held, by } = version;
    if *held != said.held(*write) {
        return Err(format!("{write} left {:?} and is said to have left {held:?}", said.held(*write)));
    }
    let (expected, stamp) = (said.stamp(*write), Some(by.stamp));
    let is_right = if has_parted { expected.map(renamed) == stamp.map(renamed) } else { expected == stamp };
    if is_right { Ok(()) } else { Err(format!("{write} is stamped {stamp:?} and not {expected:?}")) }
}

impl Said<'_> {
    /// Where a field is, if anything was written there.
    pub(super) fn place(&self, path: &Path) -> Option<Place> {
        let (last, way) = path.keys().split_last()?;
        let mut map = None;
        for key in way {
            map = Some(self.tail(&(map, key.clone()))?);
        }
        let place = (map, last.clone());
        self.tail(&place).map(|_| place)
    }

    /// Conflicts without the units that had no say.
    fn told(&self, joins: impl IntoIterator<Item = BTreeSet<WriteId>>) -> BTreeSet<BTreeSet<WriteId>> {
        let told = joins.into_iter().map(|mut join| {
            join.retain(|&write| !self.is_idle(write));
            join
        });
        told.filter(|join| join.len() > 1).collect()
    }

    /// The fields that are to be found, by where they are.
    fn places_shown(&self) -> impl Iterator<Item = &Place> {
        self.truth.places().filter(|place| {
            let mut at: Place = (*place).clone();
            let is_written = self.tail(&at).is_some();
            while let Some(map) = at.0 {
                let Some(up) = self.truth.place_of(map).cloned() else { return false };
                let is_map = matches!(self.held(WriteId::Set(map)), Held::Shared(_));
                if self.tail(&up) != Some(map) || self.is_absent(map) || !is_map {
                    return false;
                }
                at = up;
            }
            is_written && !at.1.starts_with(RESERVED_PREFIX)
        })
    }
}

impl Open {
    /// What Yjs shows in a field.
    fn shows(&self, keys: &[Arc<str>]) -> Held {
        shown(self.doc(), keys)
    }
}
