//! A receiver of webhooks, which answers as it is told.

use super::{SECRET, Server};
use ring::hmac;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) head: String,
    body: Vec<u8>,
}

impl Taken {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.head)).trim_end()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn document(&self) -> String {
        self.json()["conflict"]["document"].as_str().expect("a name").to_owned()
    }

    /// It comes from a server that knows the secret.
    pub(crate) fn assert_signed(&self) {
        let signature = self.header("quire-signature").strip_prefix("v1=").expect("version 1").to_owned();
        let bytes: Vec<_> = (0..signature.len() / 2)
            .map(|at| u8::from_str_radix(&signature[at * 2..at * 2 + 2], 16).expect("hexadecimal"))
            .collect();
        let signed = [self.header("quire-timestamp").as_bytes(), b".", &self.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        hmac::verify(&key, &signed, &bytes).expect("the signature is right");
    }

    pub(crate) fn id(&self) -> String {
        self.header("quire-event-id").to_owned()
    }
}

/// Somebody who is sent to, and answers as told: with these statuses first, then with the last of them.
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    taken: Receiver<Taken>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Hook {
    pub(crate) fn answering(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (tx, taken) = channel();
        let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let script = statuses.clone();
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &script, &tx);
            }
        });
        Self { address, taken, statuses }
    }

    pub(crate) fn answers_from_now_on(&self, status: u16) {
        *self.statuses.lock().expect("nobody panics while it is held") = VecDeque::from([status]);
    }

    pub(crate) fn next(&self) -> Taken {
        self.taken.recv_timeout(Duration::from_secs(60)).expect("something is sent")
    }
}

fn answer(stream: TcpStream, script: &Mutex<VecDeque<u16>>, taken: &Sender<Taken>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut body) = (String::new(), Vec::new());
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let taking = Taken { head: head.to_ascii_lowercase(), body: Vec::new() };
    body.resize(taking.header("content-length").parse().expect("a length"), 0);
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let status = {
        let mut script = script.lock().expect("nobody panics while it is held");
        if script.len() > 1 { script.pop_front() } else { script.front().copied() }.expect("a status")
    };
    // The test may have ended.
    let _ = taken.send(Taken { body, ..taking });
    let response = format!("HTTP/1.1 {status} Told\r\ncontent-length: 2\r\n\r\nok");
    let _ = reader.into_inner().write_all(response.as_bytes());
}

/// How many deliveries have come to this.
pub(crate) fn deliveries(server: &Server, outcome: &str) -> u64 {
    let metrics = server.get("/metrics").text();
    let name = format!("quire_webhook_deliveries_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{outcome} is not in {metrics}"))
}
