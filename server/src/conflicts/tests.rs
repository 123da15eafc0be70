//! What documents say to each other, put into a log in memory.

use super::book::{Book, Filter, Page};
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange, Stamp};
use quire_protocol::document::Derived;
use quire_protocol::fields::reference::Repair;
use quire_protocol::fields::schema::{
    Collection, Field, FieldType, Policy, Reference, ReferencePolicy, Schema,
};
use quire_protocol::fields::{Claim, Index, Path, RuleBook, Status};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocName, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_storage::{Log, MemoryLog, NewEntry};
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
        let references = next.map(|next| (path("next"), DocName::new(next).expect("a name")));
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

    fn repairs(&self, target: &DocName) -> Vec<Repair> {
        let found = self.book.to_repair(target.id(), None, false, &|_| true).expect("readable");
        found.repairs.into_iter().map(|(_, repair)| repair).collect()
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
