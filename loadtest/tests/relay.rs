//! Typists meet in bare relays over real sockets: everything arrives, once and in order.

use std::time::Duration;

use quire_loadtest::rooms::{self, Plan};
use quire_loadtest::server::Program;

fn relayed(kind: &str) {
    let args = vec!["relay".to_owned(), kind.to_owned()];
    let path = env!("CARGO_BIN_EXE_quire-loadtest").into();
    let server = Program { name: "relay", path, args, stores: false }.start().expect("a relay starts");
    let (warm, measured) = (Duration::from_millis(100), Duration::from_millis(400));
    let plan = Plan { documents: 3, typists: 5, rate: 500.0, warm, measured, seed: 7 };
    let outcome = rooms::run(&server, false, plan).expect("a trial runs");
    assert_eq!((outcome.failure, outcome.missing, outcome.misplaced), (None, 0, 0));
    assert!(outcome.typed > 100, "{} letters typed", outcome.typed);
    assert_eq!(outcome.latency.len() % 4, 0, "four others received each letter");
}

#[test]
fn an_axum_relay_delivers_everything_once() {
    relayed("axum");
}

#[test]
fn a_tungstenite_relay_delivers_everything_once() {
    relayed("tungstenite");
}
