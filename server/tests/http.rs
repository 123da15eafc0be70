//! HTTP as clients meet it: the real server behind a real socket.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use support::{SECRET, Scratch, Server, ask, token};

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn the_page_is_served_with_a_strict_policy_and_kept_by_its_hash() {
    let server = Server::start(&[]);
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let tag = page.header("etag").expect("a tag");
    let again = server.ask("GET", "/", &[("if-none-match", tag)], "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    server.get("/absent.js").is_problem(404, "not-found");
    server.get("/../Cargo.toml").is_problem(404, "not-found");
    server.ask("POST", "/", &[], "").is_problem(405, "method-not-allowed");
}

#[test]
fn operating_routes_answer() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/livez").text(), "ok\n");
    assert_eq!(server.get("/readyz").text(), "ok\n");
    server.post_json("/v1/docs", r#"{"name":"a"}"#);
    let metrics = server.get("/metrics").text();
    for name in [
        "quire_sessions 0",
        "quire_commit_seconds_count 1",
        "# HELP quire_commit_entries ",
        "quire_connections",
    ] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    assert_eq!(server.get("/openapi.json").json()["openapi"], "3.1.0");
    server.ask("POST", "/livez", &[], "").is_problem(405, "method-not-allowed");
    server.ask("GET", "/v1/nothing", &[], "").is_problem(404, "not-found");
}

#[test]
fn request_ids_are_kept_or_given() {
    let server = Server::start(&[]);
    let id = |given: &[(&str, &str)]| {
        server.ask("GET", "/livez", given, "").header("x-request-id").map(str::to_owned).expect("an id")
    };
    assert_eq!(id(&[("x-request-id", "abc-1")]), "abc-1");
    assert_ne!(id(&[("x-request-id", "a b\"c")]), "a b\"c");
    assert_ne!(id(&[]), id(&[]));
}

#[test]
fn a_document_is_made_once_changed_deleted_and_brought_back() {
    let server = Server::start(&[]);
    let made = server.post_json("/v1/docs", r#"{"name":"team/plan 🪶","seed":{"text":"hello"}}"#);
    let path = "/v1/docs/team%2Fplan%20%F0%9F%AA%B6";
    assert_eq!((made.status, made.header("location")), (201, Some(path)));
    let again = server.post_json("/v1/docs", r#"{"name":"team/plan 🪶","seed":{"text":"other"}}"#);
    assert_eq!((again.status, &again.json()["created"]), (200, &serde_json::Value::Bool(false)));

    let edit =
        r#"{"splices":[{"at":0,"delete":1,"insert":"H"},{"at":5,"insert":" 🪶"},{"at":7,"delete":1}]}"#;
    let text = format!("{path}/text");
    let edited = server.ask("PATCH", &text, &[JSON], edit);
    assert_eq!(edited.status, 204, "{edited:?}");
    let read =
        server.ask("GET", &text, &[("quire-after", edited.header("quire-frontier").expect("one"))], "");
    assert_eq!(read.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(read.text().starts_with("Hello"), "{}", read.text());
    assert_eq!(server.get(&format!("{text}?root=other")).text(), "");

    let info = server.get(path).json();
    assert_eq!((&info["name"], &info["deleted"]), (&"team/plan 🪶".into(), &false.into()));
    assert!(
        info["state"]["bytes"].as_u64() > Some(5)
            && info["changed_ms"].as_u64() >= info["created_ms"].as_u64()
    );

    assert_eq!(server.ask("DELETE", path, &[], "").status, 204);
    server.get(&text).is_problem(410, "deleted");
    server.ask("PATCH", &text, &[JSON], edit).is_problem(410, "deleted");
    assert_eq!(server.get(path).json()["deleted"], true);
    assert_eq!(server.get("/v1/docs").json()["documents"].as_array().map(Vec::len), Some(0));
    assert_eq!(server.get("/v1/docs?deleted=true").json()["documents"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.ask("POST", &format!("{path}/restore"), &[], "").status, 204);
    assert_eq!(server.get(&text).text(), read.text());
}

#[test]
fn updates_travel_between_documents() {
    let server = Server::start(&[]);
    server.post_json("/v1/docs", r#"{"name":"a","seed":{"text":"content of a"}}"#);
    let update = server.get("/v1/docs/a/update");
    assert_eq!(update.header("content-type"), Some("application/octet-stream"));
    let sent = ask(server.address(), "POST", "/v1/docs/b/update", &[], &update.body);
    assert_eq!(sent.status, 204, "{sent:?}");
    assert_eq!(server.get("/v1/docs/b/text").text(), "content of a");
    let vector = server.get("/v1/docs/a").json()["state"]["state_vector"].as_str().map(str::to_owned);
    let rest = server.get(&format!("/v1/docs/a/update?sv={}", vector.expect("one")));
    assert_eq!((rest.status, rest.body.as_slice()), (200, [0, 0].as_slice()));

    assert_eq!(server.post_json("/v1/docs/a/copy", r#"{"to":"c"}"#).status, 201);
    assert_eq!(server.get("/v1/docs/c/text").text(), "content of a");
    server.post_json("/v1/docs/a/copy", r#"{"to":"c"}"#).is_problem(409, "conflict");
    server.post_json("/v1/docs/none/copy", r#"{"to":"d"}"#).is_problem(404, "not-found");

    ask(server.address(), "POST", "/v1/docs/b/update", &[], b"nonsense").is_problem(400, "bad-request");
    server.get("/v1/docs/a/update?sv=%21").is_problem(400, "bad-request");
}

#[test]
fn lists_are_paged_by_name() {
    let server = Server::start(&[]);
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        assert_eq!(server.post_json("/v1/docs", &format!(r#"{{"name":"{name}"}}"#)).status, 201);
    }
    let page = server.get("/v1/docs?prefix=a%2F&limit=2").json();
    assert_eq!((&page["documents"][1]["name"], &page["next"]), (&"a/2".into(), &"a/2".into()));
    let page = server.get("/v1/docs?prefix=a%2F&limit=2&after=a%2F2").json();
    assert_eq!(page["documents"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["next"], serde_json::Value::Null);
    let named = server.post_json("/v1/docs", r#"{"prefix":"c/"}"#).json();
    assert!(named["name"].as_str().is_some_and(|name| name.starts_with("c/") && name.len() == 38), "{named}");
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let server = Server::start(&[]);
    server.post_json("/v1/docs", r#"{"name":"a","seed":{"text":"kept"}}"#);
    let (status, _, scratch) = server.stop();
    assert!(status.success());
    let server = Server::start_in(scratch, &[]);
    assert_eq!(server.get("/v1/docs/a/text").text(), "kept");
}

#[test]
fn bad_requests_are_problems() {
    let server = Server::start(&["--max-body-bytes", "1KiB"]);
    server.get("/v1/docs/none").is_problem(404, "not-found");
    server.get("/v1/docs/none/text").is_problem(404, "not-found");
    server.ask("DELETE", "/v1/docs/none", &[], "").is_problem(404, "not-found");
    server.get("/v1/docs/a%00b").is_problem(400, "bad-request");
    server.get("/v1/docs?limit=0").is_problem(400, "bad-request");
    server.ask("GET", "/v1/docs/a/text", &[("quire-after", "!")], "").is_problem(400, "bad-request");
    let large = ask(server.address(), "POST", "/v1/docs/a/update", &[], &[0; 2048]);
    assert_eq!((large.status, large.header("content-type")), (413, Some("application/problem+json")));
    for (body, status) in [("{", 400), (r#"{"nme":1}"#, 422), (r#"{"seed":{"text":1}}"#, 422)] {
        let answer = server.post_json("/v1/docs", body);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json"))
        );
    }
    let answer = server.ask("POST", "/v1/docs", &[], "{}");
    assert_eq!((answer.status, answer.header("content-type")), (415, Some("application/problem+json")));
}

#[test]
fn a_read_that_has_seen_more_than_the_region_says_so() {
    let server = Server::start(&[]);
    server.post_json("/v1/docs", r#"{"name":"a"}"#);
    // What another server's region would have returned.
    let other = Server::start(&["--replica", "2"]);
    let ahead = other.post_json("/v1/docs", r#"{"name":"a"}"#);
    let token = ahead.header("quire-frontier").expect("a frontier");
    server.ask("GET", "/v1/docs/a", &[("quire-after", token)], "").is_problem(503, "stale");
}

#[test]
fn tokens_open_what_they_cover() {
    let scratch = Scratch::new();
    let key = scratch.path("key");
    std::fs::write(&key, SECRET).expect("it can be written");
    let server = Server::start(&["--auth", "jwt", "--jwt-key-file", key.to_str().expect("UTF-8")]);
    let with = |method: &str, path: &str, token: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        server.ask(method, path, &[("authorization", &bearer), JSON], body)
    };
    let writer = token(&key, &["--write", "team/*"]);
    let reader = token(&key, &["--read", "team/*"]);
    assert_eq!(with("POST", "/v1/docs", &writer, r#"{"name":"team/a"}"#).status, 201);
    with("POST", "/v1/docs", &writer, r#"{"name":"other/a"}"#).is_problem(403, "forbidden");
    with("POST", "/v1/docs", &reader, r#"{"name":"team/b"}"#).is_problem(403, "forbidden");
    assert_eq!(with("GET", "/v1/docs/team%2Fa/text", &reader, "").status, 200);
    with("DELETE", "/v1/docs/team%2Fa", &reader, "").is_problem(403, "forbidden");
    with("GET", "/v1/docs/other", &reader, "").is_problem(403, "forbidden");
    assert_eq!(with("GET", "/v1/docs", &reader, "").json()["documents"].as_array().map(Vec::len), Some(1));
    let stranger = token(&key, &["--read", "else/**"]);
    assert_eq!(with("GET", "/v1/docs", &stranger, "").json()["documents"].as_array().map(Vec::len), Some(0));
    let refused = server.get("/v1/docs");
    refused.is_problem(401, "unauthorized");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    with("GET", "/v1/docs", &format!("{reader}x"), "").is_problem(401, "unauthorized");
    // Health and metrics are for operators, whose network decides who reaches them.
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn pages_of_other_origins_are_kept_out() {
    let server = Server::start(&["--allow-origin", "https://app.example.com"]);
    let own = server.url.clone();
    assert_eq!(server.ask("GET", "/v1/docs", &[("origin", &own)], "").status, 200);
    let allowed = server.ask("GET", "/v1/docs", &[("origin", "https://app.example.com")], "");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(allowed.header("vary"), Some("origin"));
    server.ask("GET", "/v1/docs", &[("origin", "https://evil.example")], "").is_problem(403, "origin");
    let rebound = [("origin", "http://evil.example"), ("host", "evil.example")];
    server.ask("GET", "/v1/docs", &rebound, "").is_problem(403, "origin");
    let upgrade = [
        ("origin", "https://evil.example"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    server.ask("GET", "/ws/a", &upgrade, "").is_problem(403, "origin");
    let preflight = [("origin", "https://app.example.com"), ("access-control-request-method", "PATCH")];
    let answer = server.ask("OPTIONS", "/v1/docs/a/text", &preflight, "");
    assert_eq!(answer.status, 204);
    let methods = answer.header("access-control-allow-methods").expect("methods");
    assert!(
        ["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)),
        "{methods}"
    );
    // Without it a page could only write over what it has not seen.
    assert!(answer.header("access-control-allow-headers").is_some_and(|names| names.contains("if-match,")));
}

#[test]
fn an_address_has_as_many_connections_as_it_may_and_gets_them_back() {
    let server = Server::start(&["--max-address-connections", "2"]);
    let mut held: Vec<_> = (0..2).map(|_| TcpStream::connect(server.address()).expect("room")).collect();
    for stream in &mut held {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it reads");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it answers");
    }
    let mut refused = TcpStream::connect(server.address()).expect("the backlog takes it");
    refused.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut bytes = Vec::new();
    // Closed at once: cleanly or by a reset.
    let _ = refused.read_to_end(&mut bytes);
    assert!(bytes.is_empty());
    drop(held);
    let began = std::time::Instant::now();
    let served = || {
        let mut stream = TcpStream::connect(server.address()).expect("the backlog takes it");
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes.starts_with(b"HTTP/1.1 200")
    };
    while !served() {
        assert!(began.elapsed() < Duration::from_secs(10), "the places were not given back");
    }
}
