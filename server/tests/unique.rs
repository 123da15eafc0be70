//! Values that no two documents may have, and documents that others refer to, in real regions that are cut off from
//! each other and healed, over HTTP.

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::regions::{JSON, read_after, region_in};
use support::{Answer, Relay, Scratch, Server};

const CONFIG: &str = r#"
[[collections]]
name = "pages"
pattern = "pages/*"
[collections.fields.slug]
type = "string"
unique = true

[[collections]]
name = "tasks"
pattern = "tasks/*"
[collections.fields.owner]
reference = { collection = "people", on-delete = "keep" }
[collections.fields.lead]
reference = { collection = "people", on-delete = "null" }
[collections.fields.parent]
reference = { collection = "tasks", on-delete = "cascade" }
[collections.fields.client]
reference = { collection = "people", on-delete = "cascade" }

[[collections]]
name = "people"
pattern = "people/*"
"#;

/// Three regions of one cluster. The second dials the others, and the third the first.
struct Trio {
    regions: [Server; 3],
    /// From the second to the first and the third, and from the third to the first.
    paths: [Relay; 3],
}

impl Trio {
    fn start() -> Self {
        let one = region(Scratch::new(), 1, &[]);
        let third = Relay::to(&one);
        let three = region(Scratch::new(), 3, &["--peer", &third.peer()]);
        let paths = [Relay::to(&one), Relay::to(&three), third];
        let two = region(Scratch::new(), 2, &["--peer", &paths[0].peer(), "--peer", &paths[1].peer()]);
        let trio = Self { regions: [one, two, three], paths };
        for here in &trio.regions {
            let made = here.post_json("/v1/docs", r#"{"prefix":"meeting/"}"#);
            trio.regions.iter().for_each(|there| drop(read_after(there, "/v1/docs", &made)));
        }
        trio
    }

    fn cut(&self) {
        self.paths.iter().for_each(Relay::cut);
    }

    fn heal(&self) {
        self.paths.iter().for_each(Relay::heal);
    }

    /// Kills the second region and starts it again.
    fn crash(&mut self) {
        let scratch = self.regions[1].kill();
        let peers = [self.paths[0].peer(), self.paths[1].peer()];
        self.regions[1] = region(scratch, 2, &["--peer", &peers[0], "--peer", &peers[1]]);
    }

    /// Waits until every region says so.
    fn all(&self, what: &str, says: impl Fn(&Server) -> bool) {
        self.regions.iter().for_each(|region| until(what, region, &says));
    }
}

fn region(scratch: Scratch, replica: u16, words: &[&str]) -> Server {
    region_in(scratch, replica, CONFIG, words)
}

fn alone() -> Server {
    let scratch = Scratch::new();
    let config = scratch.write("quire.toml", CONFIG);
    Server::start_in(scratch, &["--config", &config])
}

fn until(what: &str, region: &Server, says: impl Fn(&Server) -> bool) {
    let began = Instant::now();
    while !says(region) {
        let listed = region.get("/v1/conflicts").text();
        assert!(began.elapsed() < Duration::from_secs(90), "{}: {what}: {listed}", region.url);
        std::thread::yield_now();
    }
}

fn path(document: &str) -> String {
    format!("/v1/docs/{}", document.replace('/', "%2F"))
}

fn set(region: &Server, document: &str, field: &str, value: &Value) -> Answer {
    let body = json!({ "fields": { field: { "value": value } } }).to_string();
    let written = region.ask("PATCH", &format!("{}/fields", path(document)), &[JSON], &body);
    assert_eq!(written.status, 200, "{written:?}");
    written
}

fn field(region: &Server, document: &str, field: &str) -> Value {
    region.get(&format!("{}/fields/{field}", path(document))).json()
}

fn listed(region: &Server, query: &str) -> Vec<Value> {
    let mut listed = region.get(&format!("/v1/conflicts?{query}")).json();
    let Value::Array(conflicts) = listed["conflicts"].take() else { panic!("{listed}") };
    conflicts
}

fn is_deleted(region: &Server, document: &str) -> bool {
    region.get(&path(document)).json()["deleted"] == true
}

fn delete(region: &Server, document: &str) -> Answer {
    let deleted = region.ask("DELETE", &path(document), &[], "");
    assert_eq!(deleted.status, 204, "{deleted:?}");
    deleted
}

fn open_conflicts(region: &Server) -> String {
    let metrics = region.get("/metrics").text();
    let line = metrics.lines().find(|line| line.starts_with("quire_conflicts_open"));
    line.and_then(|line| line.split(' ').nth(1)).expect("a gauge").to_owned()
}

#[test]
fn f13_one_of_two_regions_that_give_one_slug_at_once_has_it_everywhere_and_the_other_is_told_until_it_is_renamed()
 {
    let mut trio = Trio::start();
    trio.cut();
    set(&trio.regions[1], "pages/a", "slug", &json!("plan"));
    set(&trio.regions[2], "pages/b", "slug", &json!("plan"));
    set(&trio.regions[2], "pages/c", "slug", &json!("another"));
    assert_eq!(listed(&trio.regions[2], "status=all"), [Value::Null; 0], "nobody knows");
    trio.crash();
    trio.heal();
    trio.all("the value is contested", |region| listed(region, "kind=unique").len() == 1);
    let first = listed(&trio.regions[0], "kind=unique").remove(0);
    let [winner, loser] =
        [0, 1].map(|at| first["versions"][at]["document"].as_str().expect("a name").to_owned());
    assert_eq!(first["document"], loser.as_str(), "{first}");
    assert_eq!((&first["field"], &first["value"]), (&json!("slug"), &json!("plan")), "{first}");
    let stamp = |at: usize| first["versions"][at]["timestamp"].as_u64().expect("a time");
    assert!(stamp(0) <= stamp(1) && first["since_ms"] == stamp(1), "{first}");
    let told = |region: &Server| {
        until("the loser is told", region, |region| {
            field(region, &loser, "slug")["taken_by"]["document"] == winner.as_str()
        });
        assert_eq!(field(region, &winner, "slug")["taken_by"], Value::Null);
        assert_eq!(field(region, "pages/c", "slug")["taken_by"], Value::Null);
        assert_eq!(field(region, &loser, "slug")["value"], "plan", "it keeps its value");
        let conflict = listed(region, "kind=unique").remove(0);
        assert_eq!((&conflict["id"], &conflict["versions"]), (&first["id"], &first["versions"]));
        assert_eq!(open_conflicts(region), "1");
    };
    trio.regions.iter().for_each(told);
    trio.crash();
    until("it is still contested", &trio.regions[1], |region| listed(region, "kind=unique").len() == 1);
    told(&trio.regions[1]);

    let renamed = set(&trio.regions[0], &loser, "slug", &json!("plan-2"));
    assert_eq!(renamed.json()["fields"]["slug"]["taken_by"], Value::Null);
    trio.all("nothing is contested", |region| listed(region, "kind=unique").is_empty());
    for region in &trio.regions {
        assert_eq!(field(region, &loser, "slug")["taken_by"], Value::Null);
        assert_eq!(open_conflicts(region), "0");
    }
}

#[test]
fn f14_a_reference_to_a_document_that_was_deleted_at_once_becomes_what_its_policy_says_in_every_region() {
    let mut trio = Trio::start();
    for document in ["people/ada", "tasks/keep", "tasks/null", "tasks/cascade"] {
        let made = trio.regions[1].post_json("/v1/docs", &json!({ "name": document }).to_string());
        trio.regions.iter().for_each(|region| drop(read_after(region, &path(document), &made)));
    }
    trio.cut();
    delete(&trio.regions[0], "people/ada");
    for (document, of) in [("tasks/keep", "owner"), ("tasks/null", "lead"), ("tasks/cascade", "client")] {
        set(&trio.regions[1], document, of, &json!("people/ada"));
    }
    assert_eq!(listed(&trio.regions[1], "kind=reference"), [Value::Null; 0], "nobody knows");
    trio.crash();
    trio.heal();
    trio.all("the field is cleared", |region| field(region, "tasks/null", "lead")["value"] == Value::Null);
    trio.all("the document is deleted", |region| is_deleted(region, "tasks/cascade"));
    trio.all("what stays is listed", |region| listed(region, "kind=reference").len() == 1);
    for region in &trio.regions {
        let conflict = listed(region, "kind=reference").remove(0);
        assert_eq!(conflict["document"], "tasks/keep", "{conflict}");
        assert_eq!((&conflict["field"], &conflict["target"]), (&json!("owner"), &json!("people/ada")));
        assert_eq!((&conflict["policy"], &conflict["status"]), (&json!("keep"), &json!("open")));
        assert_eq!(field(region, "tasks/keep", "owner")["value"], "people/ada");
        assert_eq!(open_conflicts(region), "1");
        assert!(!is_deleted(region, "tasks/keep") && !is_deleted(region, "tasks/null"));
    }
    trio.crash();
    until("it is still listed", &trio.regions[1], |region| listed(region, "kind=reference").len() == 1);
    let restored = trio.regions[2].ask("POST", &format!("{}/restore", path("people/ada")), &[], "");
    assert_eq!(restored.status, 204, "{restored:?}");
    trio.all("the reference is whole again", |region| listed(region, "kind=reference").is_empty());
    trio.all("nothing is open", |region| open_conflicts(region) == "0");
    assert_eq!(field(&trio.regions[0], "tasks/keep", "owner")["value"], "people/ada");
}

#[test]
fn a_circle_of_cascades_ends_and_whoever_is_brought_back_stays() {
    let region = alone();
    for (document, parent) in [("tasks/1", "tasks/3"), ("tasks/2", "tasks/1"), ("tasks/3", "tasks/2")] {
        set(&region, document, "parent", &json!(parent));
    }
    set(&region, "tasks/self", "parent", &json!("tasks/self"));
    delete(&region, "tasks/1");
    delete(&region, "tasks/self");
    until("all are deleted", &region, |region| {
        is_deleted(region, "tasks/2") && is_deleted(region, "tasks/3")
    });
    until("nothing is open", &region, |region| open_conflicts(region) == "0");
    assert_eq!(region.ask("POST", &format!("{}/restore", path("tasks/2")), &[], "").status, 204);
    until("its reference is listed", &region, |region| listed(region, "kind=reference").len() == 1);
    let mut conflict = listed(&region, "kind=reference").remove(0);
    assert_eq!(
        (conflict["document"].take(), conflict["target"].take()),
        ("tasks/2".into(), "tasks/1".into())
    );
    // One that is referred to only now, after it was deleted, is repaired, too; then what came before it has been.
    set(&region, "tasks/late", "parent", &json!("tasks/3"));
    until("the late one is deleted", &region, |region| is_deleted(region, "tasks/late"));
    assert!(!is_deleted(&region, "tasks/2"));
}

#[test]
fn what_is_open_between_documents_is_listed_page_by_page_behind_what_is_open_in_them() {
    let region = alone();
    for (document, slug) in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"), ("e", "y"), ("f", "z")] {
        set(&region, &format!("pages/{document}"), "slug", &json!(slug));
    }
    for document in ["tasks/1", "tasks/2"] {
        set(
            &region,
            document,
            "owner",
            &json!(["people/ada", "people/bob"][usize::from(document == "tasks/2")]),
        );
    }
    for document in ["people/ada", "people/bob"] {
        region.post_json("/v1/docs", &json!({ "name": document }).to_string());
        delete(&region, document);
    }
    until("all are listed", &region, |region| listed(region, "limit=100").len() == 4);
    let all = listed(&region, "status=all&limit=100");
    let kinds: Vec<_> = all.iter().map(|one| one["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["unique", "unique", "reference", "reference"]);
    let (mut pages, mut query) = (Vec::new(), "limit=1".to_owned());
    while pages.len() < 9 {
        let page = region.get(&format!("/v1/conflicts?{query}")).json();
        pages.extend(page["conflicts"].as_array().expect("a list").clone());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=1&after={next}");
    }
    assert_eq!(pages, all);
    assert_eq!(listed(&region, "document=pages/e").len(), 1);
    assert_eq!(listed(&region, "document=pages/f").len(), 0);
    assert_eq!(listed(&region, "kind=reference&prefix=tasks/2").len(), 1);
    assert_eq!(listed(&region, "field=slug&policy=first_claim").len(), 2);
    assert_eq!(listed(&region, "status=merged,resolved").len(), 0);
    let metrics = region.get("/metrics").text();
    for counted in [r#"{kind="unique",policy="first_claim"} 2"#, r#"{kind="reference",policy="keep"} 2"#] {
        assert!(metrics.contains(&format!("quire_conflicts_total{counted}")), "{counted}");
    }
}
