//! What documents say to each other, put into a log in memory.

use super::between::{Between, DANGLERS, Dangling, OVER};
use super::book::{Book, Filter, Page};
use super::rows::CHANGES;
use super::told::{OVER_MAX, Told};
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange, Stamp};
use quire_protocol::document::Derived;
use quire_protocol::fields::reference::Repair;
use quire_protocol::fields::schema::{
    Collection, Field, FieldType, Policy, Reference, ReferencePolicy, Schema,
};
use quire_protocol::fields::{Claim, Index, Naming, Path, RuleBook, Status};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocName, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_storage::limits::LIST_LEN_MAX;
use quire_storage::{DerivedKey, Log, MemoryLog, NewEntry, Position};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const STREAM: StreamId = StreamId { replica: ReplicaId(1), incarnation: Incarnation(1) };

fn rules(unique: bool) -> Arc<RuleBook> {
    let mut pages = Collection::new("pages", "pages/*").expect("a pattern");
    let slug = Field { unique, ..Field::new(FieldType::String, Policy::Siblings) };
    let reference = Reference { collection: "pages".to_owned(), on_delete: ReferencePolicy::Null };
    let next = Field { reference: Some(reference), ..Field::new(FieldType::String, Policy::Siblings) };
    pages.fields = [("slug".to_owned(), slug), ("next".to_owned(), next)].into();
    Arc::new(RuleBook::new(Arc::new(Schema::new(vec![pages]).expect("a schema"))))
}

fn path(text: &str) -> Path {
    text.parse().expect("a path")
}

fn stamp(at: u64) -> Stamp {
    (Hlc(at), Dot { stream: STREAM, seq: Seq(at) })
}

/// A region's book, with what it has of each document's rows.
struct Region {
    log: Arc<MemoryLog>,
    book: Book,
}

impl Region {
    fn new() -> Self {
        let log = Arc::new(MemoryLog::new(STREAM));
        Self { book: Book::open(log.clone(), rules(true), 0).expect("readable"), log }
    }

    fn reopened(self, unique: bool) -> Self {
        Self { book: Book::open(self.log.clone(), rules(unique), 0).expect("readable"), ..self }
    }

    fn write(&self, name: &DocName, change: &LifecycleChange) -> u64 {
        let entry = NewEntry { doc: name.id(), kind: EntryKind::Lifecycle, payload: change.encode() };
        let committed = self.log.commit(0, &[vec![entry]], &[]).expect("it commits");
        committed.receipts[0].position.0
    }

    fn put(&self, page: &mut Page, name: &DocName, change: &LifecycleChange, index: Option<Index>) {
        let position = self.write(name, change);
        self.book.put(name, page, Derived { position, records: Vec::new(), index, turned: true });
    }

    /// A document that claims a slug and names another.
    fn says(&self, name: &str, slug: Option<(&str, u64)>, next: Option<&str>) -> (DocName, Page) {
        let name = DocName::new(name).expect("a name");
        let mut page = self.book.read(&name).expect("readable").page;
        let claim =
            |(slug, at): (&str, u64)| Claim { path: path("slug"), value: slug.into(), since: stamp(at) };
        let references = next.map(|next| Naming {
            path: path("next"),
            target: DocName::new(next).expect("a name"),
            since: stamp(1),
        });
        let index = Index {
            claims: slug.map(claim).into_iter().collect(),
            references: references.into_iter().collect(),
        };
        self.put(&mut page, &name, &LifecycleChange::Create { name: name.clone() }, Some(index));
        (name, page)
    }

    fn delete(&self, name: &DocName, page: &mut Page) {
        self.put(page, name, &LifecycleChange::Delete { frontier: Frontier::new() }, Some(Index::default()));
    }

    fn restore(&self, name: &DocName, page: &mut Page) {
        self.put(page, name, &LifecycleChange::Restore, None);
    }

    fn holder(&self, slug: &str) -> Option<String> {
        let holder = self.book.holder("pages", &path("slug"), &slug.into()).expect("readable");
        holder.map(|(name, _)| name.to_string())
    }

    /// How many contested values and references to deleted documents are listed, and how many flags are counted.
    fn open(&self) -> (usize, usize, i64) {
        let filter = Filter {
            statuses: [Status::Open].into(),
            prefix: String::new(),
            document: None,
            field: None,
            policy: None,
            kind: None,
        };
        let listing = self.book.list(&filter, None, 100).expect("readable");
        (listing.contested.len(), listing.dangling.len(), self.book.open.load(Ordering::Relaxed))
    }

    /// What is told of after a number and a filter takes: what has become of which document's conflict with which
    /// others; and the number up to which that is all.
    fn told(&self, after: u64, filter: &Filter) -> (Vec<String>, u64) {
        let (mut told, mut up_to) = (Vec::new(), after);
        loop {
            let changes = self.book.changes(up_to, filter, 1).expect("readable");
            told.extend(changes.conflicts.iter().map(|told| {
                assert!(told.change() > after && told.change() <= changes.up_to);
                format!("{} {}", told.event(after), parties(told))
            }));
            if changes.up_to == up_to {
                return (told, up_to);
            }
            up_to = changes.up_to;
        }
    }

    /// What is told of references to one document, by name: those of one change are in the order of their keys.
    fn told_by_name(&self, after: u64) -> (Vec<String>, u64) {
        let (mut told, up_to) = self.told(after, &Filter::all());
        told.sort();
        (told, up_to)
    }

    /// The keys of a space, as many as are read at once.
    fn rows(&self, space: u8) -> Vec<Bytes> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = self.log.derived(space, all, LIST_LEN_MAX).expect("readable");
        rows.into_iter().map(|(key, _)| key).collect()
    }

    fn repairs(&self, target: &DocName) -> Vec<Repair> {
        let found = self.book.to_repair(target.id(), None, false, &|_| true).expect("readable");
        found.repairs.into_iter().map(|(_, repair)| repair).collect()
    }
}

fn parties(told: &Told) -> String {
    let Told::Between(between) = told else { panic!("{told:?}") };
    match between {
        Between::Contested(contested) => {
            let names = contested.claimants.iter().map(|claimant| claimant.document.as_str());
            names.collect::<Vec<_>>().join(" ")
        }
        Between::Dangling(Dangling { referrer, .. }) => {
            format!("{} → {}", referrer.document, referrer.target)
        }
    }
}

#[test]
fn f13_the_earliest_claim_has_a_value_whichever_was_put_first_and_the_next_when_it_goes() {
    let region = Region::new();
    region.says("pages/late", Some(("x", 30)), None);
    assert_eq!((region.holder("x").as_deref(), region.open()), (Some("pages/late"), (0, 0, 0)));
    let (early, mut page) = region.says("pages/early", Some(("x", 10)), None);
    region.says("pages/middle", Some(("x", 20)), None);
    region.says("pages/other", Some(("y", 5)), None);
    assert_eq!((region.holder("x").as_deref(), region.open()), (Some("pages/early"), (1, 0, 1)));
    let middle = DocName::new("pages/middle").expect("a name");
    let claim = |at| Claim { path: path("slug"), value: "x".into(), since: stamp(at) };
    let taken = |name, at| region.book.taken_by(name, &claim(at)).expect("readable").map(|(by, _)| by);
    assert_eq!(taken(&middle, 20), Some(early.clone()));
    assert_eq!(taken(&early, 10), None);
    // What a document has just written is not on record yet.
    assert_eq!(taken(&DocName::new("pages/new").expect("a name"), 40), Some(early.clone()));
    region.delete(&early, &mut page);
    assert_eq!((region.holder("x").as_deref(), region.open()), (Some("pages/middle"), (1, 0, 1)));
    region.says("pages/middle", Some(("z", 50)), None);
    assert_eq!((region.holder("x").as_deref(), region.open()), (Some("pages/late"), (0, 0, 0)));
    let region = region.reopened(true);
    assert_eq!((region.holder("z").as_deref(), region.open()), (Some("pages/middle"), (0, 0, 0)));
}

#[test]
fn claims_by_another_schema_do_not_count_and_are_read_from_the_fields_anew() {
    let region = Region::new();
    let (name, _) = region.says("pages/a", Some(("x", 1)), None);
    region.says("pages/b", Some(("x", 2)), None);
    let index = region.book.read(&name).expect("readable").index;
    assert!(index.is_some_and(|index| Index::decode(index).is_ok_and(|index| index.claims.len() == 1)));
    let region = region.reopened(false);
    assert_eq!((region.holder("x"), region.open()), (None, (0, 0, 1)));
    let mut on_record = region.book.read(&name).expect("readable");
    assert_eq!(on_record.index, None::<Bytes>);
    // The document has nothing to say by this schema, so that no index comes with what is derived.
    region.put(&mut on_record.page, &name, &LifecycleChange::Restore, None);
    assert_eq!(region.reopened(true).open(), (0, 0, 0));
}

#[test]
fn f14_a_deleted_document_is_dangling_while_others_name_it_whichever_came_first() {
    let region = Region::new();
    let (target, mut page) = region.says("pages/target", None, None);
    let (first, mut first_page) = region.says("pages/first", None, Some("pages/target"));
    assert_eq!((region.open(), region.repairs(&target)), ((0, 0, 0), vec![]));
    region.delete(&target, &mut page);
    assert_eq!((region.open(), region.repairs(&target)), ((0, 1, 1), vec![Repair::Clear]));
    assert_eq!(region.book.next_dangling(), Some((target.id(), true)));
    region.says("pages/second", None, Some("pages/target"));
    assert_eq!((region.open(), region.repairs(&target).len()), ((0, 2, 1), 2));
    assert_eq!(region.book.next_dangling(), Some((target.id(), false)), "the first is not counted again");
    region.restore(&target, &mut page);
    assert_eq!((region.open(), region.repairs(&target)), ((0, 0, 0), vec![]));
    region.delete(&target, &mut page);
    region.delete(&first, &mut first_page);
    assert_eq!((region.open(), region.repairs(&target).len()), ((0, 1, 1), 1));
    let region = region.reopened(true);
    assert_eq!(region.book.dangling(None).expect("readable"), [target.id()], "a flag outlives a restart");
    region.says("pages/second", None, Some("pages/none"));
    assert_eq!((region.open(), region.book.dangling(None).expect("readable")), ((0, 0, 0), vec![]));
}

#[test]
fn a_document_that_names_itself_is_not_dangling_when_it_is_deleted() {
    let region = Region::new();
    let (name, mut page) = region.says("pages/self", None, Some("pages/self"));
    region.delete(&name, &mut page);
    assert_eq!(region.open(), (0, 0, 0));
}

#[test]
fn f13_a_contested_value_is_told_of_when_it_becomes_so_changes_and_is_over() {
    let (region, all) = (Region::new(), Filter::all());
    region.says("pages/a", Some(("x", 10)), None);
    let (none, seen) = region.told(0, &all);
    assert_eq!(none, [""; 0]);
    region.says("pages/b", Some(("x", 20)), None);
    assert_eq!(region.told(seen, &all).0, ["opened pages/a pages/b"]);
    let (_, seen) = region.told(seen, &all);
    region.says("pages/c", Some(("x", 30)), None);
    assert_eq!(region.told(0, &all).0, ["opened pages/a pages/b pages/c"], "once, as it is now");
    let (changed, seen) = region.told(seen, &all);
    assert_eq!(changed, ["changed pages/a pages/b pages/c"]);

    region.says("pages/a", Some(("y", 40)), None);
    region.says("pages/c", None, None);
    let (over, late) = region.told(seen, &all);
    assert_eq!(over, ["resolved pages/b pages/c"], "those who claimed it before the end");
    let region = region.reopened(true);
    assert_eq!(region.told(seen, &all).0, over, "it outlives a restart");
    assert_eq!(region.told(0, &all).0, over, "what was over before it was told of is told of as over");
    region.says("pages/c", Some(("x", 50)), None);
    assert_eq!(region.told(late, &all).0, ["opened pages/b pages/c"], "it is another one");
}

#[test]
fn what_is_between_documents_is_told_of_to_whom_a_filter_takes_it() {
    let region = Region::new();
    let (_, mut page) = region.says("pages/people", None, None);
    region.says("pages/a", Some(("x", 10)), None);
    region.says("pages/b", Some(("x", 20)), Some("pages/people"));
    region.delete(&DocName::new("pages/people").expect("a name"), &mut page);
    let (unique, reference) = ("opened pages/a pages/b", "opened pages/b → pages/people");
    let all = Filter::all;
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (all(), vec![unique, reference]),
        (Filter { kind: some("unique"), ..all() }, vec![unique]),
        (Filter { kind: some("reference"), ..all() }, vec![reference]),
        (Filter { document: some("pages/a"), ..all() }, vec![unique]),
        (Filter { document: some("pages/b"), ..all() }, vec![unique, reference]),
        (Filter { field: some("next"), ..all() }, vec![reference]),
        (Filter { policy: some("first_claim"), ..all() }, vec![unique]),
        (Filter { policy: some("null"), prefix: "pages/".to_owned(), ..all() }, vec![reference]),
        (Filter { prefix: "tasks/".to_owned(), ..all() }, vec![]),
        (Filter { statuses: [Status::Resolved, Status::Merged].into(), ..all() }, vec![]),
    ] {
        assert_eq!(region.told(0, &filter).0, expected, "{filter:?}");
    }
    region.says("pages/b", None, None);
    let open = Filter { statuses: [Status::Open].into(), ..all() };
    assert_eq!(region.told(0, &open).0, [""; 0], "it is over by then");
    assert_eq!(region.told(0, &Filter { kind: some("unique"), ..all() }).0, ["resolved pages/a pages/b"]);
}

#[test]
fn f14_a_reference_is_told_of_when_it_begins_to_dangle_and_when_it_is_over_each_by_itself() {
    let region = Region::new();
    let (target, mut page) = region.says("pages/target", None, None);
    region.says("pages/first", None, Some("pages/target"));
    region.says("pages/second", None, Some("pages/target"));
    let (_, seen) = region.told_by_name(0);
    region.delete(&target, &mut page);
    let (opened, seen) = region.told_by_name(seen);
    assert_eq!(opened, ["opened pages/first → pages/target", "opened pages/second → pages/target"]);
    let listed = |region: &Region| region.book.list(&Filter::all(), None, 100).expect("readable").dangling;
    assert_eq!(listed(&region).iter().map(|one| one.standing.change).max(), Some(seen));

    region.says("pages/third", None, Some("pages/target"));
    let (opened, seen) = region.told_by_name(seen);
    assert_eq!(opened, ["opened pages/third → pages/target"], "nothing has changed of the others");
    region.says("pages/first", None, None);
    let (over, seen) = region.told_by_name(seen);
    assert_eq!(over, ["resolved pages/first → pages/target"]);
    let region = region.reopened(true);
    region.put(&mut page, &target, &LifecycleChange::Delete { frontier: Frontier::new() }, None);
    let (again, seen) = region.told_by_name(seen);
    assert_eq!(again, ["changed pages/second → pages/target", "changed pages/third → pages/target"]);
    region.restore(&target, &mut page);
    let (over, seen) = region.told_by_name(seen);
    assert_eq!(over, ["resolved pages/second → pages/target", "resolved pages/third → pages/target"]);
    assert_eq!((region.open(), region.told_by_name(seen).0), ((0, 0, 0), vec![]));
    assert_eq!([DANGLERS, OVER, CHANGES].map(|space| region.rows(space).len()), [0, 3, 3]);
}

#[test]
fn what_has_been_over_for_longest_is_let_go() {
    let region = Region::new();
    let (name, _) = region.says("pages/a", Some(("x", 10)), None);
    let old = |at: i64| {
        let key = Bytes::copy_from_slice(&at.to_be_bytes());
        [OVER, CHANGES].map(|space| (DerivedKey { space, key: key.clone() }, Some(Bytes::from_static(&[3]))))
    };
    let position = Position(region.write(&name, &LifecycleChange::Restore));
    region.log.put_derived(name.id(), position, (1..=OVER_MAX).flat_map(old).collect()).expect("room");
    let region = region.reopened(true);
    region.says("pages/b", Some(("x", 20)), None);
    region.says("pages/b", None, None);
    let oldest = |space| region.rows(space)[0].clone();
    assert_eq!(
        [oldest(OVER), oldest(CHANGES)],
        [2_i64, 2].map(|at| Bytes::copy_from_slice(&at.to_be_bytes()))
    );
    let over = region.told(OVER_MAX.unsigned_abs(), &Filter::all()).0;
    assert_eq!(over, ["resolved pages/a pages/b"]);
    assert_eq!(region.book.over.load(Ordering::Relaxed), OVER_MAX);
}
