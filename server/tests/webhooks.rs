//! Webhooks over real sockets: a receiver that fails and comes back, and a server that is killed.

mod support;

use ring::hmac;
use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{SECRET, Scratch, Server, run, text, until};

/// A request as it came.
#[derive(Debug)]
struct Taken {
    head: String,
    body: Vec<u8>,
}

impl Taken {
    fn header(&self, name: &str) -> &str {
        let value = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.head)).trim_end()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    fn document(&self) -> String {
        self.json()["conflict"]["document"].as_str().expect("a name").to_owned()
    }

    fn id(&self) -> String {
        self.header("quire-event-id").to_owned()
    }
}

/// Somebody who is sent to, and answers as told: with these statuses first, then with the last of them.
struct Hook {
    address: SocketAddr,
    taken: Receiver<Taken>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Hook {
    fn answering(statuses: &[u16]) -> Self {
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

    fn answers_from_now_on(&self, status: u16) {
        *self.statuses.lock().expect("nobody panics while it is held") = VecDeque::from([status]);
    }

    fn next(&self) -> Taken {
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

fn configured(hook: &Hook, more: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("hook.secret", SECRET);
    let url = format!("http://{}/in?a=b", hook.address);
    let file =
        format!("region = \"eu\"\n[[webhook]]\nurl = \"{url}\"\nsecret-file = \"hook.secret\"\n{more}\n");
    scratch.write("quire.toml", &file);
    scratch
}

fn assert_signed(taken: &Taken) {
    let signature = taken.header("quire-signature").strip_prefix("v1=").expect("version 1").to_owned();
    let bytes: Vec<_> = (0..signature.len() / 2)
        .map(|at| u8::from_str_radix(&signature[at * 2..at * 2 + 2], 16).expect("hexadecimal"))
        .collect();
    let signed = [taken.header("quire-timestamp").as_bytes(), b".", &taken.body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, &signed, &bytes).expect("the signature is right");
}

fn deliveries(server: &Server, outcome: &str) -> u64 {
    let metrics = server.get("/metrics").text();
    let name = format!("quire_webhook_deliveries_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{outcome} is not in {metrics}"))
}

#[test]
fn what_changes_is_sent_in_order_signed_and_again_until_it_is_taken() {
    let hook = Hook::answering(&[500, 429, 200, 400, 200]);
    let server = Server::start_in(configured(&hook, "prefix = \"team/\""), &[]);
    let conflict = server.conflict("team/1", &[]);
    server.conflict("other", &[]);
    server.conflict("team/2", &[]);
    let first: Vec<_> = (0..3).map(|_| hook.next()).collect();
    for taken in &first {
        assert_signed(taken);
        assert_eq!((taken.document(), taken.id()), ("team/1".to_owned(), first[0].id()));
    }
    let told = first[0].json();
    assert_eq!((&told["event"], &told["region"]), (&"opened".into(), &"eu".into()));
    assert_eq!(told["id"], first[0].id());
    assert_eq!(told["conflict"], conflict);
    assert!(first[0].head.starts_with("post /in?a=b http/1.1\r\n"), "{}", first[0].head);
    assert_eq!(first[0].header("quire-event"), "opened");

    let second = hook.next();
    assert_eq!(second.document(), "team/2");
    assert_ne!(second.id(), first[0].id());
    until(|| (deliveries(&server, "refused") == 1).then_some(()));
    server.conflict("team/3", &[]);
    assert_eq!(hook.next().document(), "team/3", "what was refused is skipped");
    until(|| (deliveries(&server, "delivered") == 2).then_some(()));
    assert_eq!(deliveries(&server, "failed"), 2);

    let (status, log, scratch) = server.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("the receiver refused a change; it is skipped"), "{log}");
    let checked = run(&["check", &scratch.word("data")]);
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
}

#[test]
fn a_server_that_is_killed_goes_on_where_its_webhook_was() {
    let hook = Hook::answering(&[200]);
    let mut server = Server::start_in(configured(&hook, "statuses = [\"open\"]"), &[]);
    server.conflict("a", &[]);
    assert_eq!(hook.next().document(), "a");
    until(|| (deliveries(&server, "delivered") == 1).then_some(()));
    hook.answers_from_now_on(503);
    for document in ["b", "c", "d"] {
        server.conflict(document, &[]);
    }
    let tried = hook.next();
    assert_eq!(tried.document(), "b");
    let scratch = server.kill();

    hook.answers_from_now_on(200);
    let server = Server::start_in(scratch, &[]);
    // What a crash lost of the record is derived again, perhaps in another order; what was told may be told again.
    server.listed("", &[], 4);
    server.conflict("e", &[]);
    let mut all: Vec<Taken> = Vec::new();
    while all.last().is_none_or(|taken| taken.document() != "e") {
        all.push(hook.next());
        assert_signed(&all[all.len() - 1]);
    }
    let documents: BTreeSet<_> = all.iter().map(Taken::document).filter(|document| document != "a").collect();
    assert_eq!(documents, ["b", "c", "d", "e"].map(str::to_owned).into());
    let again = all.iter().find(|taken| taken.document() == "b").expect("it was looked for");
    assert_eq!(again.id(), tried.id(), "what is sent again has the id that it had");

    // What was taken before a clean stop does not come again.
    until(|| (deliveries(&server, "delivered") == all.len() as u64).then_some(()));
    let (status, log, scratch) = server.stop();
    assert!(status.success(), "{log}");
    let server = Server::start_in(scratch, &[]);
    server.conflict("f", &[]);
    assert_eq!(hook.next().document(), "f");
}
