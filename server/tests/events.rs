//! Conflicts as they change, over real sockets: who is told of what, and from where on.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{SECRET, Server, token, until};

/// An event as a browser takes it.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    data: String,
}

impl Event {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).expect("the data is JSON")
    }

    fn told(&self) -> (&str, String) {
        (&self.name, self.json()["document"].as_str().expect("a name").to_owned())
    }
}

/// A stream that is read event by event.
struct Following {
    lines: BufReader<TcpStream>,
    /// What has come of the body and is no whole event yet.
    text: String,
}

impl Following {
    /// Follows, once the server has said from where on.
    fn of(server: &Server, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut following = Self::asked(server, query, headers);
        let mut head = Vec::new();
        while !head.ends_with(&["\r\n".to_owned()]) {
            let mut line = String::new();
            assert_ne!(following.lines.read_line(&mut line).expect("it answers"), 0, "{head:?}");
            head.push(line.to_ascii_lowercase());
        }
        assert!(head[0].starts_with("http/1.1 200"), "{head:?}");
        for expected in ["content-type: text/event-stream\r\n", "x-accel-buffering: no\r\n"] {
            assert!(head.iter().any(|line| line == expected), "{head:?}");
        }
        let begin = following.block().expect("where it begins");
        assert!(begin.data.is_empty() && !begin.id.is_empty(), "{begin:?}");
        following
    }

    fn asked(server: &Server, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET /v1/conflicts/events?{query} HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        Self { lines: BufReader::new(stream), text: String::new() }
    }

    /// The next event; none at the end.
    fn next(&mut self) -> Option<Event> {
        let began = Instant::now();
        loop {
            // What keeps the connection open must not keep a test waiting.
            assert!(began.elapsed() < Duration::from_secs(30), "no event comes");
            let block = self.block()?;
            if !block.data.is_empty() {
                return Some(block);
            }
        }
    }

    fn block(&mut self) -> Option<Event> {
        while !self.text.contains("\n\n") {
            let mut size = String::new();
            if self.lines.read_line(&mut size).expect("chunks") == 0 || size == "0\r\n" {
                return None;
            }
            let size = usize::from_str_radix(size.trim_end(), 16).expect("the size of a chunk");
            let mut chunk = vec![0; size + 2];
            self.lines.read_exact(&mut chunk).expect("a chunk");
            self.text.push_str(std::str::from_utf8(&chunk[..size]).expect("UTF-8"));
        }
        let (block, rest) = self.text.split_once("\n\n").expect("it was looked for");
        let mut event = Event::default();
        for line in block.lines() {
            match line.split_once(": ").expect("a field") {
                ("event", name) => event.name = name.to_owned(),
                ("id", id) => event.id = id.to_owned(),
                ("data", data) => event.data.push_str(data),
                ("", _comment) => {}
                other => panic!("{other:?}"),
            }
        }
        self.text = rest.to_owned();
        Some(event)
    }
}

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
