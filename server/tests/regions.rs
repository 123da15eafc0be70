//! Two real regions that are cut off from each other and healed, over HTTP.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use support::regions::{JSON, read_after, region_in};
use support::{Answer, Relay, Scratch, Server, run, text};

const CONFIG: &str = r#"
[[collections]]
name = "bills"
pattern = "bills/*"
on-delete = "delete_wins"
ids = "range"

[[collections]]
name = "tasks"
pattern = "tasks/*"
ids = { short = "T" }
"#;

/// Two regions of one cluster, the second of which dials the first.
struct Pair {
    one: Server,
    two: Server,
    path: Relay,
}

impl Pair {
    fn start() -> Self {
        let one = region(Scratch::new(), 1, &[]);
        let path = Relay::to(&one);
        let two = region(Scratch::new(), 2, &["--peer", &path.peer()]);
        let pair = Self { one, two, path };
        pair.meet();
        pair
    }

    /// Each has what the other had.
    fn meet(&self) {
        for (here, there) in [(&self.one, &self.two), (&self.two, &self.one)] {
            let made = here.post_json("/v1/docs", r#"{"prefix":"meeting/"}"#);
            read_after(there, "/v1/docs", &made);
        }
    }
}

fn region(scratch: Scratch, replica: u16, words: &[&str]) -> Server {
    region_in(scratch, replica, CONFIG, words)
}

fn insert(region: &Server, doc: &str, what: &str) -> Answer {
    let edit = format!(r#"{{"splices":[{{"at":0,"insert":"{what}"}}]}}"#);
    region.ask("PATCH", &format!("/v1/docs/{doc}/text"), &[JSON], &edit)
}

/// Asks until a region says that this one makes a document's write-backs: it hears of links by itself.
fn has_writer(region: &Server, replica: u64) {
    let began = Instant::now();
    while region.get("/v1/docs/a").json()["writer"].as_u64() != Some(replica) {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", region.get("/v1/docs/a"));
        std::thread::yield_now();
    }
}

#[test]
fn an_edit_that_a_deletion_had_not_seen_revives_the_document_in_both_regions_until_somebody_settles_it() {
    let Pair { one, two, path } = Pair::start();
    let made = one.post_json("/v1/docs", r#"{"name":"a","seed":{"text":"text"}}"#);
    read_after(&two, "/v1/docs/a", &made);
    path.cut();
    let deleted = one.ask("DELETE", "/v1/docs/a", &[], "");
    let edited = insert(&two, "a", "more ");
    assert_eq!(one.get("/v1/docs/a").json()["deleted"], true);
    path.heal();
    for (region, written) in [(&two, &deleted), (&one, &edited)] {
        let info = read_after(region, "/v1/docs/a", written).json();
        assert_eq!((&info["deleted"], &info["revived"]), (&Value::Bool(false), &Value::Bool(true)), "{info}");
        let contested = &info["contested"];
        assert_eq!((&contested["deleted_by"], &contested["edited_by"]), (&1.into(), &2.into()), "{info}");
        assert!(contested["edits"][0]["last"].is_string() && contested["edited_ms"].is_u64(), "{info}");
        assert_eq!(region.get("/v1/docs/a/text").text(), "more text");
    }
    let shown = run(&["doc", "show", "a", "--url", &one.url]);
    assert!(text(&shown.stdout).contains("revived by edits"), "{shown:?}");

    let restored = one.ask("POST", "/v1/docs/a/restore", &[], "");
    let settled = read_after(&two, "/v1/docs/a", &restored).json();
    assert_eq!((&settled["revived"], &settled["contested"]), (&Value::Null, &Value::Null), "{settled}");
    let deleted = two.ask("DELETE", "/v1/docs/a", &[], "");
    assert_eq!(read_after(&one, "/v1/docs/a", &deleted).json()["deleted"], true);
}

#[test]
fn where_deletions_win_an_edit_that_one_had_not_seen_is_on_record_and_there_when_it_is_taken_back() {
    let Pair { one, two, path } = Pair::start();
    let made = one.post_json("/v1/docs", r#"{"name":"bills/7","seed":{"text":"text"}}"#);
    read_after(&two, "/v1/docs/bills%2F7", &made);
    path.cut();
    let deleted = one.ask("DELETE", "/v1/docs/bills%2F7", &[], "");
    let edited = insert(&two, "bills%2F7", "more ");
    path.heal();
    for (region, written) in [(&two, &deleted), (&one, &edited)] {
        let info = read_after(region, "/v1/docs/bills%2F7", written).json();
        assert_eq!((&info["deleted"], &info["revived"]), (&Value::Bool(true), &Value::Null), "{info}");
        assert_eq!(
            (&info["contested"]["deleted_by"], &info["contested"]["edited_by"]),
            (&1.into(), &2.into())
        );
        insert(region, "bills%2F7", "x").is_problem(410, "deleted");
    }
    let restored = two.ask("POST", "/v1/docs/bills%2F7/restore", &[], "");
    assert_eq!(read_after(&one, "/v1/docs/bills%2F7/text", &restored).text(), "more text");
}

#[test]
fn a_documents_home_writes_while_it_is_reached_and_else_the_lowest_leader() {
    let Pair { one, two, path } = Pair::start();
    let made = two.post_json("/v1/docs", r#"{"name":"a"}"#);
    let home_of = |info: &Answer| info.json()["home"].as_u64();
    for region in [&one, &two] {
        assert_eq!(home_of(&read_after(region, "/v1/docs/a", &made)), Some(2), "who made it");
        has_writer(region, 2);
    }
    let home = |region: &Server, body: &str| region.ask("PUT", "/v1/docs/a/home", &[JSON], body);
    let named = home(&two, r#"{"replica":1}"#);
    assert_eq!(home_of(&read_after(&one, "/v1/docs/a", &named)), Some(1));
    [&one, &two].into_iter().for_each(|region| has_writer(region, 1));
    path.cut();
    has_writer(&two, 2);
    assert_eq!(home_of(&two.get("/v1/docs/a")), Some(1));
    path.heal();
    let named = home(&one, r#"{"replica":2}"#);
    assert_eq!(home_of(&read_after(&two, "/v1/docs/a", &named)), Some(2));
    [&one, &two].into_iter().for_each(|region| has_writer(region, 2));
    home(&one, r#"{"replica":0}"#).is_problem(400, "bad-request");
    assert_eq!(home(&one, r#"{"region":1}"#).status, 422);
    one.ask("PUT", "/v1/docs/none/home", &[JSON], r#"{"replica":1}"#).is_problem(404, "not-found");
}

fn create(region: &Server, body: &str) -> Answer {
    region.post_json("/v1/docs", body)
}

fn name_of(made: &Answer) -> String {
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["name"].as_str().expect("a name").to_owned()
}

#[test]
fn every_region_names_documents_by_itself_and_no_two_get_one_name() {
    let Pair { one, two, path } = Pair::start();
    path.cut();
    assert_eq!(name_of(&create(&two, r#"{"collection":"tasks"}"#)), "tasks/T-2-1");
    assert_eq!(name_of(&create(&one, r#"{"prefix":"tasks/"}"#)), "tasks/T-1-1", "the collection says how");
    assert_eq!(name_of(&create(&one, r#"{"prefix":"tasks/","id":"integer"}"#)), "tasks/1001");
    assert_eq!(name_of(&create(&two, r#"{"collection":"bills"}"#)), "bills/2001");
    assert_eq!(name_of(&create(&two, r#"{"id":"short"}"#)), "2-3");
    let uuid = name_of(&create(&one, r#"{"collection":"tasks","id":"uuid"}"#));
    assert_eq!((uuid.len(), &uuid[20..21]), ("tasks/".len() + 36, "7"), "{uuid}");
    // Somebody has made the next one by hand.
    create(&two, r#"{"name":"tasks/T-2-4"}"#);
    assert_eq!(name_of(&create(&two, r#"{"collection":"tasks","seed":{"text":"do"}}"#)), "tasks/T-2-5");
    assert_eq!(two.get("/v1/docs/tasks%2FT-2-5/text").text(), "do");
    for bad in
        [r#"{"collection":"none"}"#, r#"{"name":"a","id":"uuid"}"#, r#"{"collection":"tasks","prefix":"x/"}"#]
    {
        create(&one, bad).is_problem(400, "bad-request");
    }
    assert_eq!(create(&one, r#"{"id":"guess"}"#).status, 422);

    let names = |count: usize| {
        let made = |_| name_of(&create(&one, r#"{"collection":"tasks"}"#));
        std::thread::scope(|scope| {
            let made: Vec<_> = (0..count).map(|i| scope.spawn(move || made(i))).collect();
            made.into_iter().map(|one| one.join().expect("made")).collect::<BTreeSet<_>>()
        })
    };
    assert_eq!(names(20).len(), 20, "at once");
}

#[test]
fn numbers_are_not_given_again_after_a_kill_or_by_a_restored_disk() {
    let mut pair = Pair::start();
    let next = |region: &Server| name_of(&create(region, r#"{"collection":"tasks"}"#));
    assert_eq!([next(&pair.two), next(&pair.two)], ["tasks/T-2-1", "tasks/T-2-2"]);
    let kept = |region: &Server, at: &str| {
        // A copy of a running region's files is what a crash at that moment would leave.
        copy(&region.scratch.path("data"), &region.scratch.path(at));
    };
    kept(&pair.two, "backup");
    let last = create(&pair.two, r#"{"collection":"tasks"}"#);
    assert_eq!(name_of(&last), "tasks/T-2-3");
    read_after(&pair.one, "/v1/docs", &last);

    let scratch = pair.two.kill();
    let words = ["--peer".to_owned(), pair.path.peer()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    pair.two = region(scratch, 2, &words);
    pair.path.cut();
    let scratch = pair.two.kill();
    // Cut off, it cannot know whether its disk is the one it had.
    pair.two = region(scratch, 2, &words);
    create(&pair.two, r#"{"collection":"tasks"}"#).is_problem(503, "unavailable");
    assert_eq!(create(&pair.two, r#"{"collection":"tasks","id":"uuid"}"#).status, 201);
    pair.path.heal();
    assert_eq!(soon(&pair.two), "tasks/T-2-4");

    let scratch = pair.two.kill();
    std::fs::remove_dir_all(scratch.path("data")).expect("it is there");
    std::fs::rename(scratch.path("backup"), scratch.path("data")).expect("a copy");
    pair.two = region(scratch, 2, &words);
    assert_eq!(soon(&pair.two), "tasks/T-2-5", "what its peer remembers is not given again");
}

/// Asks for a short name until a region gives one.
fn soon(region: &Server) -> String {
    let began = Instant::now();
    loop {
        let made = create(region, r#"{"collection":"tasks"}"#);
        if made.status == 201 {
            return name_of(&made);
        }
        made.is_problem(503, "unavailable");
        assert!(began.elapsed() < Duration::from_secs(60), "{made:?}");
        std::thread::yield_now();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for file in std::fs::read_dir(from).expect("readable").map(|file| file.expect("readable")) {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

#[test]
fn two_regions_that_seed_one_name_at_once_give_its_text_once() {
    let Pair { one, two, path } = Pair::start();
    path.cut();
    let seed = r#"{"name":"welcome","seed":{"text":"hello to all"}}"#;
    let made = [create(&one, seed), create(&two, seed)];
    assert_eq!(made.each_ref().map(|made| made.status), [201, 201]);
    let edited = insert(&two, "welcome", "again, ");
    path.heal();
    assert_eq!(read_after(&one, "/v1/docs/welcome/text", &edited).text(), "again, hello to all");
    assert_eq!(read_after(&two, "/v1/docs/welcome/text", &made[0]).text(), "again, hello to all");
    assert_eq!(create(&two, seed).status, 200);
    let home = |region: &Server| region.get("/v1/docs/welcome").json()["home"].as_u64();
    assert_eq!(home(&one), home(&two), "who made it first is one question");
}
