//! Fields that are written at their document's home, in three real regions, over HTTP.
//!
//! The first region is the home. The second reaches it over a path that can be cut, and otherwise only through the
//! third.

mod support;

use serde_json::{Value, json};
use support::regions::{JSON, is_linked, read_after, region_in, until};
use support::{Answer, Relay, Scratch, Server};

const CONFIG: &str = r#"
[[collections]]
name = "pages"
pattern = "pages/*"
[collections.fields.slug]
type = "string"
home = "reject"
[collections.fields.note]
home = "accept_and_flag"
"#;

const FIELDS: &str = "/v1/docs/pages%2F1/fields";

struct Regions {
    one: Server,
    two: Server,
    three: Server,
    path: Relay,
}

impl Regions {
    /// All are linked, and have a page that the first one made.
    fn start() -> Self {
        let one = region_in(Scratch::new(), 1, CONFIG, &[]);
        let path = Relay::to(&one);
        let two = region_in(Scratch::new(), 2, CONFIG, &["--peer", &path.peer()]);
        let peers = [&one, &two].map(|peer| peer.url.replace("http", "ws"));
        let three = region_in(Scratch::new(), 3, CONFIG, &["--peer", &peers[0], "--peer", &peers[1]]);
        let made = one.post_json("/v1/docs", r#"{"name":"pages/1"}"#);
        let regions = Self { one, two, three, path };
        for region in regions.all() {
            after(region, "/v1/docs/pages%2F1", &made);
        }
        regions.are_linked();
        regions
    }

    fn all(&self) -> [&Server; 3] {
        [&self.one, &self.two, &self.three]
    }

    /// The second region has no link to the first, and knows it.
    fn cut(&self) {
        self.path.cut();
        until(|| !is_linked(&self.two, 1));
        until(|| !is_linked(&self.one, 2));
    }

    fn heal(&self) {
        self.path.heal();
        self.are_linked();
    }

    fn are_linked(&self) {
        for (here, there) in [(0, 2), (1, 1), (0, 3), (2, 1), (1, 3), (2, 2)] {
            until(|| is_linked(self.all()[here], there));
        }
    }
}

fn patch(region: &Server, fields: &Value) -> Answer {
    region.ask("PATCH", FIELDS, &[JSON], &json!({ "fields": fields }).to_string())
}

fn after(region: &Server, path: &str, written: &Answer) -> Value {
    read_after(region, path, written).json()
}

/// What each region says of a field once it has a write.
fn everywhere(regions: &Regions, written: &Answer, field: &str) -> [Value; 3] {
    let said = regions.all().map(|region| after(region, FIELDS, written)["fields"][field].clone());
    assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
    said
}

#[test]
fn a_write_elsewhere_is_made_at_home_and_seen_where_it_was_asked_for() {
    let regions = Regions::start();
    for (at, region) in [&regions.two, &regions.three, &regions.one].into_iter().enumerate() {
        let slug = format!("s{at}");
        let written = patch(region, &json!({ "slug": { "value": slug }, "free": { "value": at } }));
        assert_eq!(written.status, 200, "{written:?}");
        for answer in [written.json(), region.get(FIELDS).json()] {
            let fields = &answer["fields"];
            assert_eq!((&fields["slug"]["value"], &fields["free"]["value"]), (&json!(slug), &json!(at)));
        }
        let [slug, ..] = everywhere(&regions, &written, "slug");
        assert_eq!(slug["away_from_home"], Value::Null, "the first region took it");
    }
}

#[test]
fn what_the_home_refuses_is_refused_in_its_words_where_it_was_asked_for() {
    let regions = Regions::start();
    let first = patch(&regions.two, &json!({ "slug": { "value": "a" } })).json();
    let version = &first["fields"]["slug"]["version"];
    assert_eq!(patch(&regions.two, &json!({ "slug": { "value": "b", "version": version } })).status, 200);
    let late = json!({ "fields": { "slug": { "value": "c", "version": version } } }).to_string();
    let exact = regions.two.ask("PATCH", FIELDS, &[JSON, ("if-match", "*")], &late);
    exact.is_problem(412, "precondition");
    patch(&regions.two, &json!({ "slug": { "value": 7 } })).is_problem(422, "unprocessable");
    let unknown = json!({ "conflict": "0".repeat(32), "value": "x" }).to_string();
    let resolved = regions.two.ask("POST", &format!("{FIELDS}/slug/resolve"), &[JSON], &unknown);
    resolved.is_problem(404, "not-found");
    let long = "x".repeat(300 << 10);
    patch(&regions.two, &json!({ "slug": { "value": long } })).is_problem(413, "too-large");
    assert_eq!(patch(&regions.one, &json!({ "slug": { "value": long } })).status, 200, "it is its own");
}

#[test]
fn a_home_that_is_cut_off_has_writes_refused_or_kept_and_flagged_as_the_schema_says() {
    let regions = Regions::start();
    let (two, both) = (&regions.two, json!({ "slug": { "value": "b" }, "free": { "value": "b" } }));
    let before = json!({ "slug": { "value": "a" }, "free": { "value": "a" }, "note": { "value": "a" } });
    assert_eq!(patch(two, &before).status, 200);
    regions.cut();
    let refused = patch(two, &both);
    refused.is_problem(503, "home-unreachable");
    let detail = refused.json()["detail"].as_str().expect("a sentence").to_owned();
    assert!(detail.contains("`slug`") && detail.contains("region 1"), "{detail}");
    assert_eq!(two.get(FIELDS).json()["fields"]["free"]["value"], "a", "all or none");
    assert_eq!(patch(&regions.three, &both).status, 200, "it has a link to the home");

    let kept = patch(two, &json!({ "note": { "value": "b" } }));
    assert_eq!(kept.json()["fields"]["note"]["away_from_home"], true, "{kept:?}");
    let [note, ..] = everywhere(&regions, &kept, "note");
    assert_eq!((&note["value"], &note["away_from_home"]), (&json!("b"), &json!(true)));
    regions.heal();
    let [note, ..] = everywhere(&regions, &kept, "note");
    assert_eq!(note["away_from_home"], true, "until somebody writes it at home");
    let confirmed = patch(two, &json!({ "note": { "value": "b" }, "slug": { "value": "c" } }));
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let [note, ..] = everywhere(&regions, &confirmed, "note");
    assert_eq!((&note["value"], &note["away_from_home"]), (&json!("b"), &Value::Null));
}

#[test]
fn a_conflict_with_what_was_written_away_from_home_is_resolved_at_home() {
    let regions = Regions::start();
    let first = patch(&regions.one, &json!({ "note": { "value": "a" } }));
    // Both write on the version that all have seen: the third region brings each what the other wrote.
    let [seen, ..] = everywhere(&regions, &first, "note");
    let write =
        |region, value| patch(region, &json!({ "note": { "value": value, "version": seen["version"] } }));
    regions.cut();
    let (there, here) = (write(&regions.one, "home"), write(&regions.two, "away"));
    regions.all().iter().for_each(|region| drop(after(region, FIELDS, &there)));
    let [note, ..] = everywhere(&regions, &here, "note");
    assert_eq!((&note["conflict"], &note["away_from_home"]), (&json!(true), &json!(true)), "{note}");
    for version in note["versions"].as_array().expect("both") {
        let is_away = version["value"] == "away";
        assert_eq!((version["away_from_home"] == true, version["replica"] == 2), (is_away, is_away));
    }
    regions.heal();
    let resolution = json!({ "conflict": note["conflict_id"], "value": "both" }).to_string();
    let resolved = regions.two.ask("POST", &format!("{FIELDS}/note/resolve"), &[JSON], &resolution);
    assert_eq!(resolved.status, 200, "{resolved:?}");
    let [note, ..] = everywhere(&regions, &resolved, "note");
    assert_eq!((&note["value"], &note["conflict"]), (&json!("both"), &json!(false)));
    assert_eq!(note["away_from_home"], Value::Null);
}
