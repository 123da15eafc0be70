//! Conflicts between documents as they are told of, by events and by webhooks, in real regions over real sockets.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::following::{Event, Following};
use support::hook::{Hook, deliveries};
use support::regions::{JSON, read_after, region_in, until};
use support::{Relay, SECRET, Scratch, Server, token};

const SCHEMA: &str = r#"
[[collections]]
name = "pages"
pattern = "*/pages/*"
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

[[collections]]
name = "people"
pattern = "people/*"
"#;

/// A region that sends to a webhook what is open and what is over.
fn region(scratch: Scratch, replica: u16, hook: &Hook, words: &[&str]) -> Server {
    scratch.write("hook.secret", SECRET);
    let url = format!("http://{}/in", hook.address);
    let config = format!("{SCHEMA}\n[[webhook]]\nurl = \"{url}\"\nsecret-file = \"hook.secret\"\n");
    region_in(scratch, replica, &config, words)
}

fn path(document: &str) -> String {
    format!("/v1/docs/{}", document.replace('/', "%2F"))
}

fn set(region: &Server, document: &str, field: &str, value: &Value) {
    let body = json!({ "fields": { field: { "value": value } } }).to_string();
    let written = region.ask("PATCH", &format!("{}/fields", path(document)), &[JSON], &body);
    assert_eq!(written.status, 200, "{written:?}");
}

/// What a region lists, once there are so many.
fn listed(region: &Server, query: &str, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    until(|| {
        let listed = region.get(&format!("/v1/conflicts?{query}")).json();
        found.clone_from(listed["conflicts"].as_array().expect("a list"));
        found.len() == count
    });
    found
}

fn next(following: &mut Following, event: &str) -> Event {
    let next = following.next().expect("an event");
    assert_eq!(next.name, event, "{next:?}");
    assert_eq!(next.json()["change"].to_string(), next.id);
    next
}

/// The same conflict where it is over.
fn over(open: &Value, event: &Event) -> Value {
    let mut over = open.clone();
    over["status"] = "resolved".into();
    over["change"] = event.json()["change"].clone();
    over
}

#[test]
fn f13_a_slug_that_two_regions_gave_at_once_is_told_of_by_both_until_it_is_over_also_after_a_restart() {
    let hooks = [Hook::answering(&[200]), Hook::answering(&[200])];
    let one = region(Scratch::new(), 1, &hooks[0], &[]);
    let relay = Relay::to(&one);
    let two = region(Scratch::new(), 2, &hooks[1], &["--peer", &relay.peer()]);
    let made = one.post_json("/v1/docs", r#"{"prefix":"met/"}"#);
    read_after(&two, "/v1/docs", &made);
    let mut followings = [&one, &two].map(|region| Following::of(region, "", &[]));
    relay.cut();
    set(&one, "en/pages/a", "slug", &json!("plan"));
    set(&two, "en/pages/b", "slug", &json!("plan"));
    relay.heal();

    let opened = followings.each_mut().map(|following| next(following, "opened"));
    let sent = hooks.each_ref().map(Hook::next);
    for ((region, event), taken) in [&one, &two].into_iter().zip(&opened).zip(&sent) {
        let listed = listed(region, "kind=unique", 1).remove(0);
        assert_eq!(event.json(), listed);
        taken.assert_signed();
        let told = taken.json();
        assert_eq!((&told["event"], &told["conflict"]), (&"opened".into(), &listed));
    }
    assert_eq!(sent[0].id(), sent[1].id(), "it is the same in every region");
    let open = opened[0].json();
    let loser = open["document"].as_str().expect("a name");

    set(&two, loser, "slug", &json!("plan-2"));
    let ended = followings.each_mut().map(|following| next(following, "resolved"));
    assert_eq!(ended[0].json(), over(&open, &ended[0]));
    let sent = hooks.each_ref().map(Hook::next);
    assert_eq!(sent[0].json()["conflict"], ended[0].json());
    assert_eq!((sent[0].header("quire-event"), sent[0].id()), ("resolved", sent[1].id()));

    until(|| deliveries(&one, "delivered") == 2);
    let (status, log, scratch) = one.stop();
    assert!(status.success(), "{log}");
    let one = region(scratch, 1, &hooks[0], &[]);
    let mut again = Following::of(&one, "", &[("last-event-id", &opened[0].id)]);
    let resumed = next(&mut again, "resolved");
    assert_eq!((&resumed.id, resumed.json()), (&ended[0].id, ended[0].json()));
    let mut narrowed = Following::of(&one, "after=0&status=open", &[]);
    set(&one, loser, "slug", &json!("plan"));
    let reopened = next(&mut again, "opened");
    assert_eq!(next(&mut narrowed, "opened").id, reopened.id, "what is over is not open");
    let sent = hooks[0].next();
    assert_eq!(
        sent.json()["conflict"],
        reopened.json(),
        "what was taken before the restart does not come again"
    );
}

#[test]
fn f13_a_region_that_is_killed_tells_of_a_contested_slug_again_and_of_its_end() {
    let hook = Hook::answering(&[200]);
    let mut server = region(Scratch::new(), 1, &hook, &[]);
    let mut following = Following::of(&server, "", &[]);
    set(&server, "en/pages/a", "slug", &json!("plan"));
    set(&server, "en/pages/b", "slug", &json!("plan"));
    let opened = next(&mut following, "opened");
    let told = hook.next();
    let server = region(server.kill(), 1, &hook, &[]);
    let mut again = Following::of(&server, "", &[("last-event-id", &opened.id)]);
    let (first, second) = (next(&mut again, "opened").json(), opened.json());
    assert_eq!((&first["id"], &first["versions"]), (&second["id"], &second["versions"]));
    assert_eq!(hook.next().id(), told.id(), "a receiver knows that it comes again");
    let deleted = server.ask("DELETE", &path("en/pages/a"), &[], "");
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert_eq!(next(&mut again, "resolved").json()["id"], second["id"]);
    assert_eq!(hook.next().header("quire-event"), "resolved");
}

#[test]
fn f14_a_reference_is_told_of_while_it_dangles_and_when_it_is_cleared_changed_or_whole_again() {
    let hook = Hook::answering(&[200]);
    let server = region(Scratch::new(), 1, &hook, &[]);
    server.post_json("/v1/docs", r#"{"name":"people/ada"}"#);
    for (document, field) in [("tasks/keep", "owner"), ("tasks/change", "owner"), ("tasks/null", "lead")] {
        set(&server, document, field, &json!("people/ada"));
    }
    let mut kept = Following::of(&server, "kind=reference&policy=keep", &[]);
    let mut cleared = Following::of(&server, "document=tasks%2Fnull&status=resolved", &[]);
    let deleted = server.ask("DELETE", &path("people/ada"), &[], "");
    assert_eq!(deleted.status, 204, "{deleted:?}");
    let opened = [next(&mut kept, "opened").json(), next(&mut kept, "opened").json()];
    let changes = |all: &[Value]| all.iter().map(|one| one["change"].as_u64()).collect::<BTreeSet<_>>();
    let list = listed(&server, "kind=reference", 2);
    assert!(list.iter().all(|one| opened.contains(one)), "{list:?} {opened:?}");
    assert_eq!(changes(&list), changes(&opened));
    // Whether one is told that what is soon cleared has been opened is a matter of time.
    let mut sent = BTreeSet::new();
    let mut sent_until = |last: &str| {
        while !sent.contains(last) {
            let taken = hook.next();
            taken.assert_signed();
            sent.insert(format!("{} {}", taken.header("quire-event"), taken.document()));
        }
    };
    ["opened tasks/keep", "opened tasks/change"].into_iter().for_each(&mut sent_until);
    let repaired = next(&mut cleared, "resolved").json();
    assert_eq!((&repaired["policy"], &repaired["target"]), (&json!("null"), &json!("people/ada")));

    set(&server, "tasks/change", "owner", &json!("people/ben"));
    let changed = next(&mut kept, "resolved");
    assert_eq!(changed.json()["document"], "tasks/change");
    let restored = server.ask("POST", &format!("{}/restore", path("people/ada")), &[], "");
    assert_eq!(restored.status, 204, "{restored:?}");
    let whole = next(&mut kept, "resolved");
    let before = opened.iter().find(|one| one["document"] == "tasks/keep").expect("it was told of");
    assert_eq!(whole.json(), over(before, &whole));

    sent_until("resolved tasks/keep");
    sent.remove("opened tasks/null");
    let expected =
        ["opened tasks/keep", "opened tasks/change", "resolved tasks/null", "resolved tasks/change"];
    assert_eq!(sent, expected.into_iter().chain(["resolved tasks/keep"]).map(str::to_owned).collect());
}

#[test]
fn of_a_contested_value_one_is_told_what_the_token_covers() {
    let scratch = Scratch::new();
    let key = scratch.write("key", SECRET);
    let config = scratch.write("quire.toml", SCHEMA);
    let server = Server::start_in(scratch, &["--config", &config, "--auth", "jwt", "--jwt-key-file", &key]);
    let bearer = |words: &[&str]| format!("Bearer {}", token(std::path::Path::new(&key), words));
    let [all, german, none] =
        [["--write", "**"], ["--read", "de/**"], ["--read", "fr/**"]].map(|words| bearer(&words));
    let header = |bearer: &str| ("authorization", bearer.to_owned());
    let follow = |bearer: &str, query: &str| Following::of(&server, query, &[("authorization", bearer)]);
    let (mut covered, mut narrowed) = (follow(&german, ""), follow(&all, "prefix=de%2F"));
    let mut other = follow(&none, "");
    let set = |document: &str| {
        let (name, bearer) = header(&all);
        let body = r#"{"fields": {"slug": {"value": "plan"}}}"#;
        let headers = [JSON, (name, bearer.as_str())];
        let written = server.ask("PATCH", &format!("{}/fields", path(document)), &headers, body);
        assert_eq!(written.status, 200, "{written:?}");
    };
    ["en/pages/a", "de/pages/b"].into_iter().for_each(set);
    let (covered, narrowed) = (next(&mut covered, "opened").json(), next(&mut narrowed, "opened").json());
    let documents = |told: &Value| {
        let versions = told["versions"].as_array().expect("a list").iter();
        versions.map(|one| one["document"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((documents(&covered), &covered["left_out"]), (vec!["de/pages/b".to_owned()], &json!(1)));
    assert_eq!(documents(&narrowed), ["en/pages/a", "de/pages/b"]);
    set("fr/pages/c");
    // The conflict was on record before a document came to it that this reader may read.
    let changed = next(&mut other, "changed").json();
    assert_eq!((documents(&changed), &changed["left_out"]), (vec!["fr/pages/c".to_owned()], &json!(2)));
}
