//! `quire-loadtest live` as a program, at a real server: it passes where nothing is lost, and does not where something
//! is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use quire_loadtest::delivery;
use quire_loadtest::live::outcome::Outcome;
use quire_loadtest::server::{Program, Server};
use quire_loadtest::wire::{self, Frame, Message};

fn loadtest() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quire-loadtest"))
}

fn quire(data: &Path) -> Server {
    let beside = || Path::new(env!("CARGO_BIN_EXE_quire-loadtest")).with_file_name("quire");
    let path = std::env::var_os("QUIRE_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is to be built first: cargo build -p quire-server", path.display());
    Program::quire(&path, data).start().expect("quire starts")
}

/// Runs it, and returns whether it passed, what it found, and what it said of errors.
fn live(addr: SocketAddr, options: &[&str], json: &Path) -> (bool, Outcome, String) {
    let (mut command, html) = (loadtest(), json.with_extension("html"));
    command.arg("live").arg(format!("ws://{addr}/ws/{{doc}}")).args(options).arg("--json").arg(json);
    command.arg("--html").arg(&html);
    let output = command.output().expect("it runs");
    let page = std::fs::read_to_string(&html).expect("a report, whatever came of it");
    assert!(page.contains("<svg") && page.trim_end().ends_with("</html>"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), Outcome::read(json).unwrap_or_else(|error| panic!("{error:#}: {said}")), said)
}

#[test]
fn typists_who_come_and_go_lose_nothing_at_quire() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = quire(dir.path());
    let pid = server.pid().to_string();
    let options = [
        "--documents",
        "4",
        "--typists",
        "24",
        "--watchers",
        "8",
        "--rate",
        "20",
        "--warm",
        "0.5",
        "--seconds",
        "6",
        "--offline-per-minute",
        "8",
        "--closes-per-minute",
        "20",
        "--herd-every",
        "2",
        "--pid",
        &pid,
    ];
    let (passed, outcome, said) = live(server.addr(), &options, &dir.path().join("live.json"));
    assert!(passed && outcome.passed, "{said}");
    let counts = &outcome.counts;
    let happened = [
        counts.typed,
        counts.deleted,
        counts.deliveries,
        counts.cursor_moves,
        counts.offline_spells,
        counts.tab_closes,
    ];
    assert_eq!((counts.misplaced, counts.repeated, counts.refused), (0, 0, 0), "{counts:?}");
    assert!(happened.iter().all(|&count| count > 0), "{counts:?}");
    assert!(counts.joins > 32 + 40, "all came back after each herd: {counts:?}");
    assert!(outcome.delivery.count > 0 && outcome.ack.count > 0 && outcome.join.count == counts.joins);
    assert!(outcome.samples.iter().all(|sample| sample.server_bytes.is_some()));
    assert!(outcome.samples.len() >= 5 && outcome.converged_seconds.is_some());
}

#[test]
fn every_profile_passes_at_quire() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = quire(dir.path());
    for (profile, options) in [
        ("meeting", ["--typists", "8", "--watchers", "8"]),
        ("classroom", ["--typists", "2", "--watchers", "20"]),
        ("night", ["--documents", "40", "--watchers", "40"]),
        ("storm", ["--documents", "4", "--typists", "12"]),
        ("trace", ["--documents", "3", "--watchers", "3"]),
    ] {
        let timing = ["--profile", profile, "--rate", "20", "--warm", "0.2", "--seconds", "1.5"];
        let options = [&timing[..], &options[..]].concat();
        let (passed, outcome, said) = live(server.addr(), &options, &dir.path().join("live.json"));
        assert!(passed && outcome.passed, "{profile}: {said}");
        assert_eq!(outcome.plan.profile, profile);
        assert_eq!(outcome.counts.typed > 0, profile != "night", "{profile}");
    }
}

#[test]
fn a_run_of_two_processes_is_told_as_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = quire(dir.path());
    let pid = server.pid().to_string();
    let options = [
        "--documents",
        "5",
        "--typists",
        "15",
        "--rate",
        "10",
        "--warm",
        "0.5",
        "--seconds",
        "3",
        "--processes",
        "2",
        "--pid",
        &pid,
    ];
    let (passed, outcome, said) = live(server.addr(), &options, &dir.path().join("live.json"));
    assert!(passed && outcome.passed, "{said}");
    assert_eq!((outcome.plan.documents, outcome.plan.typists), (5, 15));
    assert!(
        outcome.samples.iter().any(|sample| sample.sessions == 15),
        "both processes' sessions are counted"
    );
    let typed: u64 = outcome.samples.iter().map(|sample| sample.typed).sum();
    assert!(typed > 200 && outcome.counts.typed >= typed, "{typed} {:?}", outcome.counts);
    assert!(outcome.cores.server.is_some() && outcome.samples.iter().all(|sample| sample.values.is_empty()));
}

/// A server between that keeps one edit from each session.
fn lossy(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) =
                (client.expect("a client"), TcpStream::connect(server).expect("the server"));
            let (mut from, mut to) =
                (client.try_clone().expect("a clone"), server.try_clone().expect("a clone"));
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || pass_on(server, client));
        }
    });
    addr
}

fn has_letters(frame: Frame<'_>) -> bool {
    let Frame::Binary(body) = frame else { return false };
    let Ok(Message::Update(update)) = wire::message(body) else { return false };
    let mut letters = 0;
    delivery::scan(update, |range| letters += range.to - range.from).expect("an update");
    letters > 0
}

/// Hands on what a server sends, but for the fifth edit that has letters.
fn pass_on(mut server: TcpStream, mut client: TcpStream) {
    let (mut held, mut piece, mut edits, mut is_open) = (Vec::new(), [0; 4096], 0, false);
    while let Ok(len @ 1..) = server.read(&mut piece) {
        held.extend_from_slice(&piece[..len]);
        let mut used = 0;
        if !is_open {
            let Ok(Some(len)) = wire::upgrade_answer(&held) else { continue };
            (used, is_open) = (len, true);
        }
        let mut kept = held[..used].to_vec();
        while let Ok(Some((frame, len))) = wire::next_frame(&held[used..]) {
            let is_edit = has_letters(frame);
            edits += u32::from(is_edit);
            if !(is_edit && edits == 5) {
                kept.extend_from_slice(&held[used..used + len]);
            }
            used += len;
        }
        held.drain(..used);
        if client.write_all(&kept).is_err() {
            return;
        }
    }
}

#[test]
fn a_run_that_loses_an_edit_fails_and_says_how_many() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = quire(dir.path());
    let options = [
        "--documents",
        "1",
        "--typists",
        "3",
        "--watchers",
        "1",
        "--rate",
        "10",
        "--warm",
        "0.2",
        "--seconds",
        "3",
        "--drain",
        "1",
    ];
    let (passed, outcome, said) = live(lossy(server.addr()), &options, &dir.path().join("live.json"));
    assert!(!passed && !outcome.passed, "{said}");
    assert!(outcome.counts.missing > 0 && outcome.counts.misplaced == 0, "{:?}", outcome.counts);
    assert!(said.contains("letters did not arrive"), "{said}");
    assert!(said.contains("does not make what was written"), "a session's own document shows it: {said}");
}

#[test]
fn a_server_that_dies_is_told_and_what_was_found_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let json = dir.path().join("live.json");
    let server = quire(dir.path());
    let (addr, pid) = (server.addr(), server.pid().to_string());
    let mut command = loadtest();
    command.arg("live").arg(format!("ws://{addr}/ws/{{doc}}")).args(["--documents", "2", "--typists", "6"]);
    command.args(["--warm", "0.1", "--seconds", "60", "--pid", &pid]).arg("--json").arg(&json);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("sessions"), "{first}");
    server.kill().expect("killed");
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(!child.wait().expect("it ends").success());
    assert!(
        said.last().is_some_and(|line| line.contains("the process that is watched has ended")),
        "{said:?}"
    );
    let outcome = Outcome::read(&json).expect("what was found is kept");
    assert!(!outcome.passed && !outcome.samples.is_empty());
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let said = |url: &str, options: &[&str]| {
        let output = loadtest().arg("live").arg(url).args(options).output().expect("it runs");
        assert!(!output.status.success(), "{url}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let nobody = said(&format!("ws://{free}/"), &[]);
    assert!(nobody.contains(&format!("no server answers at ws://{free}/")), "{nobody}");
    assert!(said("http://127.0.0.1:1/", &[]).contains("does not begin with ws://"));
    assert!(
        said("ws://127.0.0.1:1/", &["--documents", "9", "--typists", "3"])
            .contains("more documents than sessions")
    );
    let dir = tempfile::tempdir().expect("a directory");
    let server = quire(dir.path());
    let wrong = said(
        &format!("ws://{}/nothing-here/{{doc}}", server.addr()),
        &["--documents", "1", "--typists", "1"],
    );
    assert!(wrong.contains("the server refused the upgrade: HTTP/1.1 404"), "{wrong}");
    let many = said(&format!("ws://{}/", server.addr()), &["--documents", "1", "--watchers", "1000000"]);
    assert!(many.contains("open files"), "{many}");
}
