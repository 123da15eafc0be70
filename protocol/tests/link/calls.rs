//! What one region asks another over their link.

use super::stories::Table;
use bytes::Bytes;
use quire_protocol::ids::DocId;
use quire_protocol::link::limits::{CALL_BYTES_MAX, CALLS_MAX};
use quire_protocol::link::{ByeReason, CallRefused, Input, Message, Output};

const DOC: DocId = DocId(7);

fn ask(call: u64) -> Input {
    Input::Call { call, doc: DOC, payload: Bytes::from_static(b"ask") }
}

fn asked(call: u64) -> Message {
    Message::Call { call, doc: DOC, payload: Bytes::from_static(b"ask") }
}

fn told(call: u64) -> Message {
    Message::Return { call, payload: Bytes::from_static(b"told") }
}

/// The answers to calls made here, since it was last asked.
fn returned(table: &mut Table) -> Vec<(u64, Result<Bytes, CallRefused>)> {
    let returned = table.out.drain(..).filter_map(|output| match output {
        Output::Returned { call, answer } => Some((call, answer)),
        _ => None,
    });
    returned.collect()
}

#[test]
fn l17_a_call_is_answered_once_by_its_number_in_any_order() {
    let mut table = Table::new();
    table.handle(ask(1));
    table.handle(ask(2));
    assert_eq!(table.said(), [asked(1), asked(2)]);
    table.hear(&told(2));
    assert_eq!(returned(&mut table), [(2, Ok(Bytes::from_static(b"told")))]);
    table.hear(&told(1));
    assert_eq!(returned(&mut table).len(), 1);
    table.hear(&told(1));
    assert_eq!(table.reason(), Some(ByeReason::Malformed));
}

#[test]
fn l17_a_peers_call_is_handed_over_and_answered_to_it() {
    let mut table = Table::new();
    table.hear(&asked(9));
    let called = Output::Called { call: 9, doc: DOC, payload: Bytes::from_static(b"ask") };
    assert!(table.out.contains(&called));
    assert_eq!(table.said(), []);
    table.handle(Input::Return { call: 9, payload: Bytes::from_static(b"told") });
    assert_eq!(table.said(), [told(9)]);
    // The number is free again.
    table.hear(&asked(9));
    assert_eq!(table.reason(), None);
    table.hear(&asked(9));
    assert_eq!(table.reason(), Some(ByeReason::Malformed));
}

#[test]
fn l17_so_many_calls_are_under_way_and_one_more_is_refused_here_and_ends_the_link_there() {
    let mut table = Table::new();
    let max = CALLS_MAX as u64;
    (1..=max + 1).for_each(|call| table.handle(ask(call)));
    assert_eq!(returned(&mut table), [(max + 1, Err(CallRefused::Full))]);
    table.hear(&told(1));
    table.out.clear();
    table.handle(ask(max + 2));
    assert_eq!(table.said(), [asked(max + 2)], "an answer makes room");

    (1..=max).for_each(|call| table.hear(&asked(call)));
    assert_eq!(table.reason(), None, "the peer's calls count by themselves");
    table.hear(&asked(max + 1));
    assert_eq!(table.reason(), Some(ByeReason::Credit));
}

#[test]
fn l17_what_is_too_long_to_ask_is_not_asked() {
    let mut table = Table::new();
    let long = |call, len| Input::Call { call, doc: DOC, payload: vec![0; len].into() };
    table.handle(long(1, CALL_BYTES_MAX));
    assert_eq!(table.said().len(), 1);
    table.handle(long(2, CALL_BYTES_MAX + 1));
    assert_eq!(returned(&mut table), [(2, Err(CallRefused::TooLong(CALL_BYTES_MAX + 1)))]);
}

#[test]
fn l17_a_peer_of_an_earlier_version_is_not_called_and_does_not_call() {
    let mut table = Table::of_version(1);
    table.handle(ask(1));
    assert_eq!(returned(&mut table), [(1, Err(CallRefused::Older))]);
    assert_eq!(table.reason(), None, "the link goes on");
    table.hear(&asked(1));
    assert_eq!(table.reason(), Some(ByeReason::Malformed));
}
