//! `quire-loadtest compare` from outside, with shell scripts for the servers and for `live`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quire_loadtest::live::outcome::{Cores, Counts, Outcome, Spread, Told, VERSION};
use serde_json::Value;

/// Servers and a `live` that are shell scripts, in a directory of their own.
struct Stage {
    dir: tempfile::TempDir,
    peers: String,
}

/// What a stand-in for `live` does: says what it was called with, and then what its dialect stands for. `quire` and
/// `y-websocket` find what is canned, `hocuspocus` waits, `y-sweet` refuses its options.
const LIVE: &str = r#"#!/bin/sh
echo "$@" >> DIR/calls
while [ $# -gt 0 ]; do
  case "$1" in
    --json) json=$2 ;;
    --dialect) dialect=$2 ;;
    --pid) kill -0 "$2" || exit 9 ;;
  esac
  shift
done
case $dialect in
  hocuspocus) : > DIR/typing; exec sleep 1000 ;;
  y-sweet) echo "error: no such option" >&2; exit 2 ;;
  *) cp "DIR/$dialect.json" "$json" ;;
esac
"#;

/// A server that waits to be ended.
const WAITS: &str =
    "echo $$ >> DIR/pids; ls -A {data} >> DIR/found; : > {data}/mine; echo ready; exec sleep 1000";

impl Stage {
    fn new() -> Self {
        let stage = Self { dir: tempfile::tempdir().expect("a directory"), peers: String::new() };
        stage.write("live", &LIVE.replace("DIR", &stage.dir.path().display().to_string()));
        Command::new("chmod").arg("+x").arg(stage.path("live")).status().expect("chmod");
        outcome(Vec::new()).write(&stage.path("quire.json")).expect("a file");
        outcome(vec!["3 letters are missing".to_owned()])
            .write(&stage.path("y-websocket.json"))
            .expect("a file");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn peer(mut self, name: &str, script: &str, dialect: &str) -> Self {
        let script = script.replace("DIR", &self.dir.path().display().to_string());
        self.peers.push_str(&format!(
            "[[peer]]\nname = '{name}'\ncommand = ['sh', '-c', '''{script}''']\n\
             url = 'ws://127.0.0.1:{{port}}/{name}/{{doc}}'\ndialect = '{dialect}'\nready = {{ line = 'ready' }}\n"
        ));
        self
    }

    fn compare(&self, more: &[&str]) -> Output {
        self.write("peers.toml", &self.peers);
        let mut command = Command::new(env!("CARGO_BIN_EXE_quire-loadtest"));
        command.arg("compare").arg("--peers").arg(self.path("peers.toml"));
        command.arg("--dir").arg(self.path("runs")).arg("--json").arg(self.path("all.json"));
        command.arg("--live-program").arg(self.path("live")).args(more).output().expect("the program")
    }

    /// Each run of the result file as peer, repeat, how it ended.
    fn runs(&self) -> Vec<(String, u64, String)> {
        let all: Value = serde_json::from_str(&self.read("all.json")).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let of = |run: &Value| {
            (text(&run["peer"]), run["repeat"].as_u64().expect("a number"), text(&run["ended"]))
        };
        all["runs"].as_array().expect("a list").iter().map(of).collect()
    }

    fn nothing_is_left(&self) {
        for pid in self.read("pids").lines() {
            assert!(!Path::new("/proc").join(pid).exists(), "server {pid} is still there");
        }
        assert_eq!(
            fs::read_dir(self.path("runs")).expect("a directory").count(),
            0,
            "a data directory is still there"
        );
        assert_eq!(self.read("found"), "", "a data directory was not empty");
    }
}

fn outcome(failures: Vec<String>) -> Outcome {
    let spread = || Spread { count: 9, p50: 1_500, p99: 3_500, ..Spread::default() };
    Outcome {
        version: VERSION,
        began_unix_seconds: 0,
        plan: Told {
            profile: "steady".to_owned(),
            dialect: "quire".to_owned(),
            urls: Vec::new(),
            documents: 1,
            typists: 2,
            watchers: 0,
            keystrokes_per_second: 1.0,
            warm_seconds: 1.0,
            measured_seconds: 1.0,
            seed: 1,
        },
        passed: failures.is_empty(),
        failures,
        warnings: Vec::new(),
        counts: Counts { deliveries_per_second: 1234.0, ..Counts::default() },
        delivery: spread(),
        ack: spread(),
        join: spread(),
        generator_late: spread(),
        lag: Vec::new(),
        converged_seconds: Some(0.1),
        samples: Vec::new(),
        cores: Cores { server: Some(0.5), ..Cores::default() },
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(peer: &str, repeat: u64, ended: &str) -> (String, u64, String) {
    (peer.to_owned(), repeat, ended.to_owned())
}

#[test]
fn servers_take_turns_over_fresh_directories() {
    let stage = Stage::new().peer("one", WAITS, "quire").peer("other", WAITS, "quire");
    let output = stage.compare(&["--repeats", "2", "--", "--typists", "7"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = [
        run("one", 1, "passed"),
        run("other", 1, "passed"),
        run("one", 2, "passed"),
        run("other", 2, "passed"),
    ];
    assert_eq!(stage.runs(), expected);
    let calls = stage.read("calls");
    let calls: Vec<Vec<&str>> = calls.lines().map(|line| line.split(' ').collect()).collect();
    let after = |call: &[&str], option: &str| {
        let at =
            call.iter().position(|word| *word == option).unwrap_or_else(|| panic!("no {option} in {call:?}"));
        call[at + 1].to_owned()
    };
    let seeds: Vec<String> = calls.iter().map(|call| after(call, "--seed")).collect();
    assert!(seeds[0] == seeds[1] && seeds[2] == seeds[3] && seeds[0] != seeds[2], "{seeds:?}");
    for (call, name) in calls.iter().zip(["one", "other", "one", "other"]) {
        assert_eq!((call[0], after(call, "--typists").as_str()), ("live", "7"));
        let url = call.last().unwrap();
        assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with(&format!("/{name}/{{doc}}")), "{url}");
    }
    let table = text(&output.stdout);
    let of = table.lines().find(|line| line.contains("deliveries/s")).unwrap();
    assert!(of.contains("1,234  1,234 to 1,234"), "{table}");
    stage.nothing_is_left();
}

#[test]
fn a_server_that_fails_does_not_stop_the_others() {
    let dies = "echo ready; while [ ! -e DIR/typing ]; do sleep 0.01; done; echo no more room; exit 3";
    let stage = Stage::new()
        .peer("one", WAITS, "quire")
        .peer("absent", "echo no such module >&2; exit 7", "quire")
        .peer("dies", dies, "hocuspocus")
        .peer("loses", WAITS, "y-websocket")
        .peer("last", WAITS, "quire");
    let output = stage.compare(&["--repeats", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = [
        run("one", 1, "passed"),
        run("absent", 1, "not-started"),
        run("dies", 1, "died"),
        run("loses", 1, "failed"),
        run("last", 1, "passed"),
    ];
    assert_eq!(stage.runs(), expected);
    let told = text(&output.stdout);
    for words in ["no such module", "no more room", "3 letters are missing", "exit status: 7"] {
        assert!(told.contains(words), "nothing of '{words}' in\n{told}");
    }
    stage.nothing_is_left();
}

#[test]
fn a_failure_of_the_first_server_is_one_of_the_comparison() {
    let stage = Stage::new().peer("loses", WAITS, "y-websocket").peer("other", WAITS, "quire");
    let output = stage.compare(&["--repeats", "1"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("1 of the runs of loses did not pass"), "{}", text(&output.stderr));
    assert_eq!(stage.runs(), [run("loses", 1, "failed"), run("other", 1, "passed")]);
    stage.nothing_is_left();
}

#[test]
fn options_that_live_refuses_end_it_at_once() {
    let stage = Stage::new().peer("one", WAITS, "quire").peer("strange", WAITS, "y-sweet");
    let output = stage.compare(&["--repeats", "5"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("no such option"), "{}", text(&output.stderr));
    assert_eq!(stage.runs(), [run("one", 1, "passed")], "what was found before is kept");
    stage.nothing_is_left();
    let output = stage.compare(&["--", "--typist", "7"]);
    assert!(text(&output.stderr).contains("--typist"), "{}", text(&output.stderr));
}

#[test]
fn a_run_has_a_limit_and_an_interrupt_ends_what_was_started() {
    let stage = Stage::new().peer("one", WAITS, "hocuspocus");
    let output = stage.compare(&["--repeats", "1", "--run-limit", "1"]);
    assert!(!output.status.success());
    assert_eq!(stage.runs(), [run("one", 1, "no-outcome")]);
    stage.nothing_is_left();
    fs::remove_file(stage.path("typing")).unwrap();
    let interrupts = "(while [ ! -e DIR/typing ]; do sleep 0.01; done; kill -INT $PPID) & ";
    let stage = Stage::new().peer("one", &format!("{interrupts}{WAITS}"), "hocuspocus");
    let output = stage.compare(&["--repeats", "1"]);
    assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
    stage.nothing_is_left();
}

#[test]
fn only_chooses_and_tells_what_there_is() {
    let stage = Stage::new().peer("one", WAITS, "quire").peer("other", WAITS, "quire");
    let page = stage.path("page.html");
    let output = stage.compare(&["--repeats", "1", "--only", "other", "--html", &page.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(stage.read("page.html").contains("other"));
    assert_eq!(stage.runs(), [run("other", 1, "passed")]);
    stage.write("page.html", "");
    let two = "[[scenario]]\nname = 'calm'\n[[scenario]]\nname = 'busy'\n";
    let stage = Stage { peers: format!("{two}{}", stage.peers), ..stage };
    let output = stage.compare(&["--repeats", "1", "--html", &page.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(stage.read("page-calm.html").contains("other") && stage.read("page-busy.html").contains("other"));
    assert_eq!((stage.runs().len(), stage.read("page.html").as_str()), (4, ""));
    let output = stage.compare(&["--only", "third"]);
    assert!(text(&output.stderr).contains("there are one, other, calm, busy"), "{}", text(&output.stderr));
}
