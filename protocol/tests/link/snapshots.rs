//! Snapshots over one link, by hand.

use super::stories::{Table, dot, frontier, upto};
use super::world::{World, stream};
use bytes::Bytes;
use quire_protocol::batch::{ChainHash, EntryKind};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, Dot, Seq};
use quire_protocol::link::limits::{
    CATCH_UP_AHEAD_MS, CATCH_UP_BYTES_PER_MS, CHUNK_BYTES_MAX, CREDIT_WINDOW_BYTES,
};
use quire_protocol::link::{ByeReason, Found, Input, Message, Output, Piece, Role};
use quire_protocol::snapshot::{Record, SnapshotEntry, SnapshotHead};
use quire_protocol::time::Time;

fn entry(kind: EntryKind, payload: Vec<u8>) -> Record {
    let dot = Dot { stream: stream(2), seq: Seq(0) };
    Record::Entry(SnapshotEntry { doc: DocId(5), dot, hlc: Hlc(1), kind, payload: payload.into() })
}

fn snapshot(records: &[Record]) -> Bytes {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| record.encode(&mut bytes));
    bytes.into()
}

fn head() -> SnapshotHead {
    SnapshotHead([(stream(2), (Seq(9), ChainHash([4; 16])))].into())
}

fn done(number: u64, bytes: &Bytes) -> Message {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    Message::SnapshotDone { snapshot: number, bytes: bytes.len() as u64, hash }
}

fn piece(snapshot: u64, offset: u64, bytes: &Bytes) -> Message {
    Message::SnapshotChunk { snapshot, offset, bytes: bytes.clone() }
}

/// A link whose peer has offered a snapshot that is wanted.
fn wanting() -> Table {
    let mut table = Table::new();
    table.hear(&Message::SnapshotOffer { snapshot: 3, needed: upto(&[dot(2, 7)]) });
    assert!(table.out.contains(&Output::BeginImport));
    table.handle(Input::ImportBegun(true));
    assert_eq!(table.said(), [Message::SnapshotWant { snapshot: 3 }]);
    table
}

#[test]
fn l13_a_peer_that_is_out_of_reach_is_offered_a_snapshot_and_sent_it_within_its_credit() {
    let mut table = Table::with(upto(&[dot(1, 9)]), Role::Leader);
    table.hear(&frontier(&[], &[1]));
    table.hear(&Message::Credit(2 * CHUNK_BYTES_MAX as u64));
    table.said();
    table.handle(Input::Read(Found::Truncated { first_kept: Seq(8) }));
    assert!(table.link.figures().out_of_reach);
    assert_eq!(table.said(), [Message::SnapshotOffer { snapshot: 1, needed: upto(&[dot(1, 7)]) }]);
    // Once a second it is offered anew, with a number of its own.
    table.tick(1000);
    assert_eq!(table.said(), [Message::SnapshotOffer { snapshot: 2, needed: upto(&[dot(1, 7)]) }]);
    table.hear(&Message::SnapshotWant { snapshot: 3 });
    assert_eq!(table.out, [], "that was not offered");
    // The newer offer was on its way when the older one was asked for.
    table.hear(&Message::SnapshotWant { snapshot: 1 });
    let long = Bytes::from(vec![1; CHUNK_BYTES_MAX]);
    let mut now;
    for at in 0..2 {
        let offset = at * CHUNK_BYTES_MAX as u64;
        let read = Output::ReadSnapshot { offset, bytes_max: CHUNK_BYTES_MAX };
        assert!(table.out.contains(&read), "{:?}", table.out);
        table.out.clear();
        table.handle(Input::SnapshotRead(Piece::Bytes(long.clone())));
        assert!(table.out.remove(0) == Output::Send(piece(1, offset, &long).encode()));
        // What is missed comes at its pace.
        let sent = offset + CHUNK_BYTES_MAX as u64;
        now = 1000 + sent.div_ceil(CATCH_UP_BYTES_PER_MS) - CATCH_UP_AHEAD_MS;
        assert_eq!(table.out, [Output::WakeAt(Time(now))]);
        table.out.clear();
        table.tick(now);
    }
    assert_eq!(table.out, [Output::WakeAt(Time(2000))], "it allows no more");
    table.out.clear();
    table.hear(&Message::Credit(9 * CHUNK_BYTES_MAX as u64));
    assert!(matches!(table.out[..], [Output::ReadSnapshot { .. }]));
    table.tick(2000);
    assert_eq!(table.said(), [], "nothing is offered while one is sent");
    table.handle(Input::SnapshotRead(Piece::End));
    assert_eq!(table.said(), [done(1, &Bytes::from(vec![1; 2 * CHUNK_BYTES_MAX]))]);
    // It has the rest from the log.
    table.hear(&Message::Ack(upto(&[dot(1, 7)])));
    assert_eq!((table.reads(), table.link.figures().out_of_reach), (vec![dot(1, 8)], false));
}

#[test]
fn l13_a_snapshot_is_staged_as_it_comes_and_imported_when_it_is_whole() {
    let mut table = wanting();
    let records = [Record::Head(head()), entry(EntryKind::Unknown(77), vec![1; 300])];
    let bytes = snapshot(&records);
    let (first, second) = (bytes.slice(..40), bytes.slice(40..));
    table.hear(&piece(3, 0, &first));
    assert_eq!(table.out, [], "no entry has come whole");
    table.hear(&piece(3, 40, &second));
    let Record::Entry(whole) = records[1].clone() else { panic!("an entry") };
    assert_eq!(table.out, [Output::Stage(vec![whole])]);
    table.out.clear();
    table.hear(&done(3, &bytes));
    assert_eq!(table.out, [Output::Import(head())]);
    table.handle(Input::Staged);
    table.out.clear();
    table.handle(Input::Imported(upto(&[dot(2, 9)])));
    table.tick(20);
    assert_eq!(table.said(), [Message::Ack(upto(&[dot(2, 9)]))]);
    // What is offered then is of no use any more.
    table.hear(&Message::SnapshotOffer { snapshot: 4, needed: upto(&[dot(2, 9)]) });
    assert!(!table.out.contains(&Output::BeginImport));
}

#[test]
fn l13_one_snapshot_is_taken_at_a_time_and_the_others_asked_for_later() {
    let mut table = Table::new();
    table.hear(&Message::SnapshotOffer { snapshot: 1, needed: upto(&[dot(2, 7)]) });
    table.out.clear();
    table.handle(Input::ImportBegun(false));
    assert_eq!(table.said(), []);
    table.hear(&Message::SnapshotOffer { snapshot: 2, needed: upto(&[dot(2, 8)]) });
    assert!(table.out.contains(&Output::BeginImport));
    table.handle(Input::ImportBegun(false));
    table.out.clear();
    table.tick(1000);
    assert!(table.out.contains(&Output::BeginImport));
    table.handle(Input::ImportBegun(true));
    assert_eq!(table.said(), [Message::SnapshotWant { snapshot: 2 }]);
    // Another one has come from elsewhere meanwhile.
    let mut table = Table::new();
    table.hear(&Message::SnapshotOffer { snapshot: 1, needed: upto(&[dot(2, 7)]) });
    table.handle(Input::ImportBegun(false));
    table.handle(Input::Received(upto(&[dot(2, 7)])));
    table.out.clear();
    table.tick(1000);
    assert!(!table.out.contains(&Output::BeginImport));
}

#[test]
fn l13_what_is_no_snapshot_ends_the_link() {
    let bytes = snapshot(&[Record::Head(head()), entry(EntryKind::Update, vec![0xff; 9])]);
    let reason = |messages: &[Message], mut table: Table| {
        messages.iter().for_each(|message| table.hear(message));
        table.reason()
    };
    let malformed = Some(ByeReason::Malformed);
    assert_eq!(reason(&[piece(3, 0, &bytes)], Table::new()), malformed, "not asked for");
    assert_eq!(reason(&[done(3, &bytes)], Table::new()), malformed, "not asked for");
    assert_eq!(reason(&[piece(4, 0, &bytes)], wanting()), malformed, "another one");
    assert_eq!(reason(&[piece(3, 1, &bytes)], wanting()), malformed, "not the next piece");
    assert_eq!(reason(&[piece(3, 0, &bytes)], wanting()), malformed, "an update that cannot be read");
    let good = snapshot(&[Record::Head(head())]);
    let ended = |end: Message| reason(&[piece(3, 0, &good), end], wanting());
    assert_eq!(ended(done(3, &good)), None);
    assert_eq!(ended(done(3, &bytes)), malformed, "another length and hash");
    let cut = good.slice(..good.len() - 1);
    assert_eq!(reason(&[piece(3, 0, &cut), done(3, &cut)], wanting()), malformed, "cut within a record");
    // More than is allowed, while nothing is staged.
    let long = snapshot(&[Record::Head(head()), entry(EntryKind::Unknown(77), vec![0; 250_000])]);
    let mut table = wanting();
    table.hear(&piece(3, 0, &long));
    let next = snapshot(&[entry(EntryKind::Unknown(77), vec![0; 250_000])]);
    let mut offset = long.len() as u64;
    while table.reason().is_none() && offset < 3 * CREDIT_WINDOW_BYTES {
        table.hear(&piece(3, offset, &next));
        offset += next.len() as u64;
    }
    assert_eq!(table.reason(), Some(ByeReason::Credit));
    assert!(offset > CREDIT_WINDOW_BYTES, "a window is allowed");
}

#[test]
fn l13_a_snapshot_that_stops_is_given_up() {
    let mut table = wanting();
    let bytes = snapshot(&[Record::Head(head())]);
    for at in 1..=40 {
        // The peer is there, and answers.
        table.tick(at * 1000);
        table.hear(&Message::Pong { nonce: 0, at_ms: 0, digest: [0; 16] });
        if at == 9 {
            table.hear(&piece(3, 0, &bytes));
        }
        let given_up = table.reason() == Some(ByeReason::Silent);
        assert_eq!(given_up, at >= 40, "at {at}: {:?}", table.out);
    }
}

#[test]
fn l13_a_refused_snapshot_ends_the_link_as_a_fork() {
    let mut table = wanting();
    table.handle(Input::ImportRefused("stream 2.1 differs".to_owned()));
    assert_eq!(table.reason(), Some(ByeReason::Fork));
}

#[test]
fn l13_a_region_that_lacks_what_all_have_forgotten_gets_it_by_snapshot() {
    let mut world = World::new(3);
    for _ in 0..5 {
        world.write(0, 2);
    }
    world.connect(0, 1);
    world.pass(3000);
    world.write(1, 1);
    world.pass(3000);
    world.replicas[0].forget(0);
    world.replicas[1].forget(0);
    world.write(0, 1);
    world.write(2, 3);
    world.connect(2, 1);
    world.connect(2, 0);
    world.pass(6000);
    assert!(world.is_equal());
    assert_eq!(world.replicas[2].snapshots, 1, "both offered theirs, one was taken");
    assert_eq!(*world.received(2), [dot(0, 11), dot(1, 1), dot(2, 3)].into_iter().collect::<Frontier>());
}
