//! The real binary in a directory of its own, and requests to it over real sockets.
//!
//! Ends only the processes it has started.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod following;
pub(crate) mod hook;
pub(crate) mod regions;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const SECRET: &str = "a secret for tests only, of some length";

/// The binary with these words and none of the caller's settings.
pub(crate) fn quire(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quire"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("QUIRE_")) {
        command.env_remove(name);
    }
    command.args(words);
    command
}

/// Runs it to its end.
pub(crate) fn run(words: &[&str]) -> Output {
    quire(words).stdin(Stdio::null()).output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A directory that goes with the test.
pub(crate) struct Scratch(pub(crate) tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).expect("it can be written");
        self.word(name)
    }

    pub(crate) fn dir(&self, name: &str) -> String {
        std::fs::create_dir_all(self.path(name)).expect("it can be made");
        self.word(name)
    }

    pub(crate) fn word(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }
}

/// A server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) scratch: Scratch,
}

impl Server {
    pub(crate) fn start(words: &[&str]) -> Self {
        Self::start_in(Scratch::new(), words)
    }

    /// Starts on `data` in a directory, which is kept from an earlier server.
    pub(crate) fn start_in(scratch: Scratch, words: &[&str]) -> Self {
        let data = scratch.dir("data");
        let mut command = quire(&["serve", "--listen", "127.0.0.1:0", "--data", &data]);
        command.args(words).current_dir(scratch.0.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it prints");
        let Some(url) = line.trim_end().strip_prefix("listening on ") else {
            let output = child.wait_with_output().expect("it ends");
            panic!("it did not listen: {line:?} {}", text(&output.stderr));
        };
        Self { url: url.to_owned(), child, scratch }
    }

    pub(crate) fn address(&self) -> &str {
        self.url.split("://").nth(1).expect("an address")
    }

    /// Sends SIGTERM and waits; returns what it logged.
    pub(crate) fn stop(mut self) -> (ExitStatus, String, Scratch) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
        let status = wait(&mut self.child);
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("UTF-8");
        let scratch = std::mem::replace(&mut self.scratch, Scratch::new());
        (status, log, scratch)
    }

    /// Kills it, and returns its directory.
    pub(crate) fn kill(&mut self) -> Scratch {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it can be waited for");
        std::mem::replace(&mut self.scratch, Scratch::new())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(self.address(), method, path, headers, body.as_bytes())
    }

    pub(crate) fn post_json(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return status;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it did not end");
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        text(&self.body)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Asserts that it is a problem of this kind.
    pub(crate) fn is_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:quire:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert_ne!(problem["detail"], "");
    }
}

pub(crate) fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        request.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    // A server that refuses early may not read the whole body.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it answers");
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = text(&bytes[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// A token from `quire token`.
pub(crate) fn token(key: &Path, words: &[&str]) -> String {
    let key = key.to_str().expect("UTF-8");
    let output = run(&[&["token", "--jwt-key-file", key], words].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Carries bytes to a server, unless it is cut.
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<Carried>>,
}

#[derive(Default)]
struct Carried {
    is_cut: bool,
    connections: Vec<TcpStream>,
}

impl Relay {
    pub(crate) fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (target, state) = (server.address().to_owned(), Arc::new(Mutex::new(Carried::default())));
        let carried = state.clone();
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut carried = carried.lock().expect("nobody panics while it is held");
                let far = (!carried.is_cut).then(|| TcpStream::connect(&target)).and_then(Result::ok);
                if let Some(far) = far {
                    carry(&near, &far);
                    carry(&far, &near);
                    carried.connections.extend([near, far]);
                }
            }
        });
        Self { address, state }
    }

    pub(crate) fn peer(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends all connections, and makes none until it is healed.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().expect("nobody panics while it is held");
        state.is_cut = true;
        for connection in state.connections.drain(..) {
            // The other end may have ended it before.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn heal(&self) {
        self.state.lock().expect("nobody panics while it is held").is_cut = false;
    }
}

fn carry(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
    std::thread::spawn(move || {
        // It ends when either end does.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

impl Server {
    /// Writes a field twice on one version, and returns what is on record of the conflict.
    pub(crate) fn conflict(&self, document: &str, headers: &[(&str, &str)]) -> serde_json::Value {
        let headers = &[headers, &[("content-type", "application/json")]].concat();
        let path = format!("/v1/docs/{}/fields", document.replace('/', "%2F"));
        let write = |body: &str| {
            let answer = self.ask("PATCH", &path, headers, body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()["fields"]["title"]["version"].as_str().expect("a version").to_owned()
        };
        let version = write(r#"{"fields": {"title": {"value": "Plan"}}}"#);
        for value in ["Plan A", "Plan B"] {
            write(&format!(r#"{{"fields": {{"title": {{"value": "{value}", "version": "{version}"}}}}}}"#));
        }
        self.listed(&format!("document={}", document.replace('/', "%2F")), headers, 1).remove(0)
    }

    /// Conflicts as they are listed, once there are so many.
    pub(crate) fn listed(
        &self,
        query: &str,
        headers: &[(&str, &str)],
        count: usize,
    ) -> Vec<serde_json::Value> {
        until(|| {
            let listed = self.ask("GET", &format!("/v1/conflicts?{query}"), headers, "").json();
            listed["conflicts"].as_array().filter(|all| all.len() == count).cloned()
        })
    }
}

/// Asks until there is an answer.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it does not come about");
}
