//! Conflicts as they change, over real sockets: who is told of what, and from where on.

mod support;

use support::following::Following;
use support::{SECRET, Server, token, until};

#[test]
fn conflicts_are_told_of_as_they_change_and_a_stream_goes_on_after_a_restart() {
    let server = Server::start(&[]);
    server.conflict("before", &[]);
    let mut following = Following::of(&server, "", &[]);
    let conflict = server.conflict("team/plan", &[]);
    let opened = following.next().expect("an event");
    assert_eq!(opened.told(), ("opened", "team/plan".to_owned()));
    assert_eq!(opened.json(), conflict);
    assert_eq!(opened.id, conflict["change"].to_string());

    let id = conflict["id"].as_str().expect("an id");
    let resolving = format!(r#"{{"conflict": "{id}", "value": "Plan A"}}"#);
    assert_eq!(server.post_json("/v1/docs/team%2Fplan/fields/title/resolve", &resolving).status, 200);
    let resolved = following.next().expect("an event");
    assert_eq!(resolved.told(), ("resolved", "team/plan".to_owned()));
    assert_eq!(resolved.json()["resolved"]["value"], "Plan A");
    server.conflict("third", &[]);
    assert_eq!(following.next().expect("an event").told(), ("opened", "third".to_owned()));

    let (status, log, scratch) = server.stop();
    assert!(status.success(), "{log}");
    assert!(following.next().is_none(), "it ends with the server");
    let server = Server::start_in(scratch, &[]);
    let mut again = Following::of(&server, "", &[("last-event-id", &opened.id)]);
    let first = again.next().expect("an event");
    assert_eq!((first.told(), &first.id), (("resolved", "team/plan".to_owned()), &resolved.id));
    assert_eq!(again.next().expect("an event").told(), ("opened", "third".to_owned()));
    let mut all = Following::of(&server, "after=0", &[]);
    assert_eq!(all.next().expect("an event").told(), ("opened", "before".to_owned()));
    let mut beyond = Following::of(&server, &format!("after={}", u64::MAX), &[]);
    server.conflict("fourth", &[]);
    assert_eq!(beyond.next().expect("an event").told(), ("opened", "fourth".to_owned()));
    server.ask("GET", "/v1/conflicts/events?after=x", &[], "").is_problem(400, "bad-request");
}

#[test]
fn a_stream_is_narrowed_by_what_is_asked_and_by_what_the_token_covers() {
    let scratch = support::Scratch::new();
    let key = scratch.write("key", SECRET);
    let server = Server::start(&["--auth", "jwt", "--jwt-key-file", &key]);
    let bearer = |words: &[&str]| format!("Bearer {}", token(&scratch.path("key"), words));
    let (all, team) = (bearer(&["--write", "**"]), bearer(&["--read", "team/**"]));
    let (all, team) = ([("authorization", all.as_str())], [("authorization", team.as_str())]);
    let mut covered = Following::of(&server, "", &team);
    let mut narrowed: Vec<_> = [
        "prefix=team%2F",
        "document=team%2Fplan",
        "field=title&status=open&prefix=team",
        "kind=write&prefix=t",
    ]
    .map(|query| Following::of(&server, query, &all))
    .into();
    narrowed.push(Following::of(&server, "policy=siblings", &team));
    server.conflict("other/plan", &all);
    server.conflict("team/plan", &all);
    for following in narrowed.iter_mut().chain([&mut covered]) {
        assert_eq!(following.next().expect("an event").told(), ("opened", "team/plan".to_owned()));
    }
    server.ask("GET", "/v1/conflicts/events", &[], "").is_problem(401, "unauthorized");
}

#[test]
fn a_server_takes_so_many_streams_and_no_more() {
    let server = Server::start(&["--max-event-streams", "1"]);
    let following = Following::of(&server, "", &[]);
    assert!(server.get("/metrics").text().contains("\nquire_event_streams 1\n"));
    server.ask("GET", "/v1/conflicts/events", &[], "").is_problem(503, "unavailable");
    drop(following);
    until(|| server.get("/metrics").text().contains("\nquire_event_streams 0\n").then_some(()));
    Following::of(&server, "", &[]);
}
