//! A reader of Server-Sent Events, which takes them as a browser does.

use super::Server;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// An event as a browser takes it.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).expect("the data is JSON")
    }

    pub(crate) fn told(&self) -> (&str, String) {
        (&self.name, self.json()["document"].as_str().expect("a name").to_owned())
    }
}

/// A stream that is read event by event.
pub(crate) struct Following {
    lines: BufReader<TcpStream>,
    /// What has come of the body and is no whole event yet.
    text: String,
}

impl Following {
    /// Follows, once the server has said from where on.
    pub(crate) fn of(server: &Server, query: &str, headers: &[(&str, &str)]) -> Self {
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
    pub(crate) fn next(&mut self) -> Option<Event> {
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
