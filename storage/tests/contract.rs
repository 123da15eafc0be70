//! The contract of a log: one suite, run against the log in memory and the one on disk.

#[macro_use]
mod support;

use bytes::Bytes;
use quire_protocol::batch::{ChainHash, EncodedBatch, EntryKind, LifecycleChange, NO_DOC, NumberLease};
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{Dot, ReplicaId, Seq};
use quire_storage::{
    Acks, AppendError, Health, LoadError, Log, MemoryLog, NewEntry, Position, ReadBatchesError, Retention,
    SnapshotError,
};
use support::{
    NOW_MS, STREAM, Subject, batches, create, dot, elsewhere, fields, id, lifecycle, load, put, update,
    updates,
};

contract! {
    fn entries_get_contiguous_dots_and_rising_stamps(subject: &mut impl Subject) {
        let log = subject.log();
        let receipts = log
            .append(NOW_MS, &[vec![create("a"), update("a", "1")], vec![update("a", "2")]])
            .expect("durable");
        let seqs: Vec<_> = receipts.iter().map(|receipt| (receipt.last.seq.0, receipt.position.0)).collect();
        assert_eq!(seqs, [(2, 2), (3, 3)]);
        assert!(receipts[0].hlc < receipts[1].hlc);
        // The wall clock may go back; stamps do not.
        let later = log.append(NOW_MS - 5000, &[vec![update("a", "3")]]).expect("durable");
        assert!(later[0].hlc > receipts[1].hlc);
        assert_eq!(log.received().get(STREAM), Seq(4));
        subject.crash();
        let after = put(subject.log(), vec![update("a", "4")]);
        assert_eq!((after.last.seq, after.position), (Seq(5), Position(5)));
        assert!(after.hlc > later[0].hlc);
        assert_eq!(subject.log().health(), Health::Serving);
    }

    fn what_is_acknowledged_survives_crashes_and_checkpoints(subject: &mut impl Subject) {
        put(subject.log(), vec![create("a"), update("a", "1")]);
        subject.crash();
        put(subject.log(), vec![update("a", "2")]);
        subject.log().checkpoint().expect("a checkpoint");
        put(subject.log(), vec![update("a", "3")]);
        assert_eq!(updates(&load(subject.log(), "a")), ["1", "2", "3"]);
        subject.crash();
        subject.crash();
        put(subject.log(), vec![create("b"), update("a", "4")]);
        let doc = load(subject.log(), "a");
        assert_eq!(updates(&doc), ["1", "2", "3", "4"]);
        assert_eq!(doc.position, Position(6));
        let seqs: Vec<_> = doc.tail.iter().map(|entry| entry.dot.seq.0).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 6]);
        assert!(doc.tail.windows(2).all(|pair| pair[0].hlc < pair[1].hlc));
    }

    fn a_long_tail_is_whole_and_begins_anywhere_after_a_snapshot(subject: &mut impl Subject) {
        let texts: Vec<String> = (0..300).map(|n| format!("{n:0>2000}")).collect();
        put(subject.log(), vec![create("a")]);
        for some in texts.chunks(100) {
            put(subject.log(), some.iter().map(|text| update("a", text)).collect());
            subject.log().checkpoint().expect("a checkpoint");
        }
        assert_eq!(updates(&load(subject.log(), "a")), texts);
        for covered in [1, 40, 41, 150, 299] {
            // The document's creation has the first position.
            let (position, state) = (Position(covered + 1), Bytes::from(covered.to_string()));
            subject.log().put_snapshot(id("a"), position, state.clone(), None).expect("taken");
            subject.log().checkpoint().expect("a checkpoint");
            subject.crash();
            let doc = load(subject.log(), "a");
            assert_eq!(doc.snapshot, Some(state));
            assert_eq!(updates(&doc), texts[usize::try_from(covered).expect("small")..]);
        }
    }

    fn an_unknown_document_is_none_and_a_nameless_one_an_error(subject: &mut impl Subject) {
        assert_eq!(subject.log().load(id("a")), Ok(None));
        assert_eq!(subject.log().info(id("a")), Ok(None));
        put(subject.log(), vec![update("a", "1")]);
        for _ in 0..2 {
            assert_eq!(subject.log().load(id("a")), Err(LoadError::Nameless(id("a"))));
            subject.log().checkpoint().expect("a checkpoint");
        }
        put(subject.log(), vec![create("a")]);
        assert_eq!(updates(&load(subject.log(), "a")), ["1"]);
    }

    fn a_snapshot_replaces_the_entries_up_to_its_position(subject: &mut impl Subject) {
        put(subject.log(), vec![create("a")]);
        put(subject.log(), vec![update("a", "1")]);
        subject.log().checkpoint().expect("a checkpoint");
        let second = put(subject.log(), vec![update("a", "2")]);
        put(subject.log(), vec![update("a", "3")]);
        subject.log().put_snapshot(id("a"), second.position, Bytes::from_static(b"12"), None).expect("taken");
        for round in 0..4 {
            let doc = load(subject.log(), "a");
            assert_eq!((doc.snapshot.as_deref(), updates(&doc)), (Some(&b"12"[..]), vec!["3".to_owned()]));
            assert_eq!(doc.info.entries, 4, "a snapshot changes nothing of what is known");
            match round {
                0 | 2 => drop(subject.log().checkpoint().expect("a checkpoint")),
                _ => subject.crash(),
            }
        }
    }

    fn an_older_snapshot_is_ignored_and_a_newer_one_replaces(subject: &mut impl Subject) {
        let first = put(subject.log(), vec![create("a"), update("a", "1")]);
        let second = put(subject.log(), vec![update("a", "2")]);
        let give = |subject: &dyn Log, at, state: &'static str| {
            subject.put_snapshot(id("a"), at, Bytes::from_static(state.as_bytes()), None).expect("taken");
        };
        give(subject.log(), second.position, "12");
        give(subject.log(), first.position, "1");
        assert_eq!(load(subject.log(), "a").snapshot.as_deref(), Some(&b"12"[..]));
        subject.log().checkpoint().expect("a checkpoint");
        give(subject.log(), first.position, "1");
        assert_eq!(load(subject.log(), "a").snapshot.as_deref(), Some(&b"12"[..]));
        subject.log().checkpoint().expect("a checkpoint");
        let third = put(subject.log(), vec![update("a", "3")]);
        give(subject.log(), third.position, "123");
        subject.log().checkpoint().expect("a checkpoint");
        let doc = load(subject.log(), "a");
        assert_eq!((doc.snapshot.as_deref(), updates(&doc)), (Some(&b"123"[..]), vec![]));
        assert_eq!(doc.position, third.position);
    }

    fn the_graph_of_the_fields_goes_with_its_state(subject: &mut impl Subject) {
        let graphs = [Some("12"), Some("123"), None, Some("")].map(|text| text.map(Bytes::from));
        put(subject.log(), vec![create("a"), fields("a", "1")]);
        assert_eq!(load(subject.log(), "a").fields, None);
        for (i, graph) in graphs.into_iter().enumerate() {
            let receipt = put(subject.log(), vec![fields("a", "more")]);
            let state = Bytes::from(vec![7; i]);
            subject.log().put_snapshot(id("a"), receipt.position, state.clone(), graph.clone()).expect("taken");
            put(subject.log(), vec![fields("a", "after")]);
            for round in 0..3 {
                let doc = load(subject.log(), "a");
                assert_eq!((doc.snapshot.as_ref(), &doc.fields), (Some(&state), &graph), "{round}");
                assert_eq!(updates(&doc), ["after"]);
                match round {
                    0 => drop(subject.log().checkpoint().expect("a checkpoint")),
                    _ => subject.crash(),
                }
            }
        }
    }

    fn a_snapshot_lost_in_a_crash_loses_no_entry(subject: &mut impl Subject) {
        let receipt = put(subject.log(), vec![create("a"), update("a", "1")]);
        subject.log().put_snapshot(id("a"), receipt.position, Bytes::from_static(b"1"), None).expect("taken");
        subject.crash();
        let doc = load(subject.log(), "a");
        assert_eq!((doc.snapshot.clone(), updates(&doc)), (None, vec!["1".to_owned()]));
    }

    fn a_snapshot_beyond_the_log_is_refused_and_one_of_nothing_makes_no_document(subject: &mut impl Subject) {
        let refused = subject.log().put_snapshot(id("a"), Position(1), Bytes::new(), None);
        assert_eq!(refused, Err(SnapshotError::Beyond { given: Position(1), head: Position(0) }));
        put(subject.log(), vec![create("b")]);
        subject.log().put_snapshot(id("a"), Position(1), Bytes::new(), None).expect("taken");
        assert_eq!(subject.log().load(id("a")), Ok(None));
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(subject.log().load(id("a")), Ok(None));
    }

    fn documents_are_listed_by_name_wherever_they_are(subject: &mut impl Subject) {
        let names = |subject: &dyn Log, prefix, after, limit| -> Vec<String> {
            let infos = subject.list(prefix, after, limit).expect("readable");
            infos.into_iter().map(|info| info.name.to_string()).collect()
        };
        put(subject.log(), vec![create("team/b"), create("team/d"), create("x")]);
        subject.log().checkpoint().expect("a checkpoint");
        put(subject.log(), vec![create("team/a"), create("team/c"), create("team"), update("team/b", "1")]);
        assert_eq!(names(subject.log(), "team/", None, 10), ["team/a", "team/b", "team/c", "team/d"]);
        assert_eq!(names(subject.log(), "team/", Some("team/a"), 2), ["team/b", "team/c"]);
        assert_eq!(names(subject.log(), "team/", Some("a"), 1), ["team/a"]);
        assert_eq!(names(subject.log(), "", None, 10).len(), 6);
        assert_eq!(names(subject.log(), "", Some("x"), 10), [""; 0]);
        assert_eq!(names(subject.log(), "", None, 0), [""; 0]);
        subject.crash();
        assert_eq!(names(subject.log(), "team", None, 10).len(), 5);
    }

    fn deletion_restoration_and_home_are_told_and_content_is_kept(subject: &mut impl Subject) {
        put(subject.log(), vec![create("a"), update("a", "1")]);
        let frontier = subject.log().received();
        put(subject.log(), vec![lifecycle("a", &LifecycleChange::Delete { frontier: frontier.clone() })]);
        put(subject.log(), vec![lifecycle("a", &LifecycleChange::Home { replica: ReplicaId(3) })]);
        subject.log().checkpoint().expect("a checkpoint");
        let doc = load(subject.log(), "a");
        assert!(doc.info.life.deletion().expect("deleted").seen.covers_all(&frontier));
        assert!(doc.info.life.is_deleted(DeletePolicy::Revive));
        assert_eq!(doc.info.home, Some(ReplicaId(3)));
        assert_eq!(updates(&doc), ["1"]);
        put(subject.log(), vec![lifecycle("a", &LifecycleChange::Restore)]);
        subject.crash();
        let info = subject.log().info(id("a")).expect("readable").expect("stored");
        assert_eq!((info.life.is_deleted(DeletePolicy::DeleteWins), info.entries), (false, 5));
        assert!(info.created < info.changed);
    }

    fn t8_numbers_that_were_taken_are_never_free_again_whatever_they_are_told_by(subject: &mut impl Subject) {
        let lease = |replica, below| {
            let payload = NumberLease { replica: ReplicaId(replica), below }.encode();
            NewEntry { doc: NO_DOC, kind: EntryKind::Lease, payload }
        };
        let below = |log: &dyn Log| [1, 2].map(|replica| log.numbers_below(ReplicaId(replica)));
        assert_eq!(below(subject.log()), [0, 0]);
        put(subject.log(), vec![lease(1, 7), lease(1, 5)]);
        let eu = elsewhere(2);
        put(&eu, vec![lease(2, 40)]);
        subject.log().commit(NOW_MS, &[], &batches(&eu, 2, 1)).expect("durable");
        for _ in 0..2 {
            assert_eq!(below(subject.log()), [7, 40]);
            subject.crash();
            subject.log().checkpoint().expect("a checkpoint");
        }
        put(subject.log(), vec![lease(1, 8)]);
        subject.crash();
        assert_eq!(below(subject.log()), [8, 40]);
    }

    fn a_bad_group_changes_nothing(subject: &mut impl Subject) {
        put(subject.log(), vec![create("a")]);
        let wrong_id = NewEntry { doc: id("b"), ..create("a") };
        let unreadable = NewEntry { payload: Bytes::new(), ..create("a") };
        for bad in [vec![], vec![wrong_id], vec![update("a", "1"), unreadable]] {
            let refused = subject.log().append(NOW_MS, &[vec![update("a", "0")], bad]);
            assert!(matches!(refused, Err(AppendError::Invalid(_))), "{refused:?}");
        }
        assert_eq!(put(subject.log(), vec![update("a", "1")]).last.seq, Seq(2));
        assert_eq!(updates(&load(subject.log(), "a")), ["1"]);
    }

    fn kinds_of_a_newer_release_and_large_payloads_are_kept_as_they_are(subject: &mut impl Subject) {
        let large = Bytes::from(vec![7; 300_000]);
        let doc = id("a");
        put(subject.log(), vec![
            create("a"),
            NewEntry { doc, kind: EntryKind::Unknown(99), payload: Bytes::from_static(b"later") },
            NewEntry { doc, kind: EntryKind::Update, payload: large.clone() },
            NewEntry { doc: NO_DOC, kind: EntryKind::Canary, payload: Bytes::new() },
            update("a", ""),
        ]);
        for _ in 0..2 {
            let tail = load(subject.log(), "a").tail;
            let kinds: Vec<_> = tail.iter().map(|entry| entry.kind).collect();
            let expected = [EntryKind::Lifecycle, EntryKind::Unknown(99), EntryKind::Update, EntryKind::Update];
            assert_eq!(kinds, expected);
            assert_eq!(tail[2].payload, large);
            assert_eq!(subject.log().load(NO_DOC), Ok(None), "canaries belong to no document");
            subject.log().checkpoint().expect("a checkpoint");
            subject.crash();
        }
    }

    fn batches_are_chained_and_read_from_any_entry(subject: &mut impl Subject) {
        subject.log().truncate(Retention { acknowledged: Some(Frontier::new()), acknowledged_age_ms: 0, bytes_max: 1 << 30, age_ms_max: 1 << 40 });
        for i in 0..6 {
            put(subject.log(), vec![create("a"), update("a", &i.to_string())]);
            if i % 2 == 1 {
                subject.log().checkpoint().expect("a checkpoint");
            }
        }
        put(subject.log(), vec![update("a", "6")]);
        let all = subject.log().read_batches(STREAM, Seq(1), usize::MAX).expect("kept");
        let (mut next, mut hash) = (Seq(1), ChainHash::START);
        for bytes in &all {
            let encoded = EncodedBatch::decode(bytes.clone()).expect("whole");
            assert_eq!((encoded.batch.first_seq, encoded.batch.prev_hash), (next, hash));
            (next, hash) = (Seq(encoded.batch.last_dot().seq.0 + 1), encoded.hash());
        }
        assert_eq!(next, Seq(14));
        for from in 1..14 {
            let read = subject.log().read_batches(STREAM, Seq(from), 1).expect("kept");
            assert_eq!(read, [all[usize::try_from(from).expect("small") / 2 + usize::from(from % 2 == 1) - 1].clone()]);
            let read = subject.log().read_batches(STREAM, Seq(from), all[0].len() * 2).expect("kept");
            assert_eq!(read.len(), if from >= 13 { 1 } else { 2 });
        }
        assert_eq!(subject.log().read_batches(STREAM, Seq(14), 1), Ok(vec![]));
        // Whatever fits, nothing is left out in between.
        for max_bytes in 1..all.iter().map(bytes::Bytes::len).sum() {
            let read = subject.log().read_batches(STREAM, Seq(1), max_bytes).expect("kept");
            assert!(all.starts_with(&read), "{max_bytes} bytes");
        }
    }

    fn without_peers_the_log_keeps_nothing_beyond_the_checkpoint(subject: &mut impl Subject) {
        put(subject.log(), vec![create("a")]);
        assert_eq!(subject.log().read_batches(STREAM, Seq(1), 1).map(|read| read.len()), Ok(1));
        subject.log().checkpoint().expect("a checkpoint");
        let truncated = Err(ReadBatchesError::Truncated { first_kept: Seq(2) });
        assert_eq!(subject.log().read_batches(STREAM, Seq(1), 1), truncated);
        put(subject.log(), vec![update("a", "1")]);
        assert_eq!(subject.log().read_batches(STREAM, Seq(1), 1), truncated);
        assert_eq!(subject.log().read_batches(STREAM, Seq(2), 1).map(|read| read.len()), Ok(1));
    }

    fn what_peers_acknowledged_or_what_is_beyond_the_cap_goes(subject: &mut impl Subject) {
        let keep = |seq, bytes_max, age_ms_max| Retention {
            acknowledged: Some([Dot { stream: STREAM, seq: Seq(seq) }].into_iter().collect()),
            acknowledged_age_ms: 0,
            bytes_max,
            age_ms_max,
        };
        let first_kept = |log: &dyn Log| match log.read_batches(STREAM, Seq(1), 1) {
            Err(ReadBatchesError::Truncated { first_kept }) => first_kept.0,
            other => panic!("{other:?}"),
        };
        subject.log().truncate(keep(0, 1 << 30, 1 << 40));
        for _ in 0..8 {
            put(subject.log(), vec![create("a")]);
        }
        subject.log().checkpoint().expect("a checkpoint");
        let kept = subject.log().stats().kept_bytes;
        subject.log().truncate(keep(2, 1 << 30, 1 << 40));
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(first_kept(subject.log()), 3);
        subject.log().truncate(keep(2, kept / 2, 1 << 40));
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(first_kept(subject.log()), 5);
        let later = subject.log().append(NOW_MS + 1000, &[vec![create("a")]]).expect("durable");
        subject.log().truncate(keep(2, 1 << 30, 10));
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(first_kept(subject.log()), later[0].last.seq.0);
        assert_eq!(updates(&load(subject.log(), "a")), [""; 0], "documents are no part of it");
    }

    fn what_peers_have_is_remembered_and_what_all_have_goes_when_it_is_old(subject: &mut impl Subject) {
        let mut acks = Acks::default();
        acks.note(ReplicaId(2), &[dot(1, 3)].into_iter().collect());
        acks.note(ReplicaId(3), &[dot(1, 2), dot(7, 1)].into_iter().collect());
        let keep = |acknowledged_age_ms| Retention {
            acknowledged: Some(acks.acknowledged()),
            acknowledged_age_ms,
            bytes_max: 1 << 30,
            age_ms_max: 1 << 40,
        };
        for at in [0, 1_000, 2_000, 3_000] {
            subject.log().append(NOW_MS + at, &[vec![create("a")]]).expect("durable");
        }
        subject.log().remember(acks.clone());
        subject.log().truncate(keep(2_500));
        subject.log().checkpoint().expect("a checkpoint");
        let first_kept = |log: &dyn Log| log.read_batches(STREAM, Seq(1), 1);
        assert_eq!(first_kept(subject.log()), Err(ReadBatchesError::Truncated { first_kept: Seq(2) }));
        subject.crash();
        assert_eq!(subject.log().acks(), acks);
        subject.log().truncate(keep(0));
        put(subject.log(), vec![create("a")]);
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(first_kept(subject.log()), Err(ReadBatchesError::Truncated { first_kept: Seq(3) }));
        // What was not part of a checkpoint is forgotten: then more is kept than is needed.
        subject.log().remember(Acks::default());
        subject.crash();
        assert_eq!(subject.log().acks(), acks);
    }

    fn the_last_batch_of_a_stream_is_kept_whatever_else_goes(subject: &mut impl Subject) {
        // What a replica whose disk went back is shown, to know its own history from its peers'.
        let acknowledged = Some([Dot { stream: STREAM, seq: Seq(3) }].into_iter().collect());
        let gone = Retention { acknowledged, acknowledged_age_ms: 0, bytes_max: 0, age_ms_max: 0 };
        subject.log().truncate(gone.clone());
        for _ in 0..3 {
            put(subject.log(), vec![create("a")]);
        }
        let all = subject.log().read_batches(STREAM, Seq(1), usize::MAX).expect("kept");
        for _ in 0..2 {
            subject.log().checkpoint().expect("a checkpoint");
            let truncated = Err(ReadBatchesError::Truncated { first_kept: Seq(3) });
            assert_eq!(subject.log().read_batches(STREAM, Seq(2), 1), truncated);
            assert_eq!(subject.log().read_batches(STREAM, Seq(3), 1), Ok(vec![all[2].clone()]));
            subject.crash();
            subject.log().truncate(gone.clone());
        }
        subject.log().truncate(Retention::default());
        put(subject.log(), vec![create("a")]);
        subject.log().checkpoint().expect("a checkpoint");
        let truncated = Err(ReadBatchesError::Truncated { first_kept: Seq(5) });
        assert_eq!(subject.log().read_batches(STREAM, Seq(3), 1), truncated, "nobody is there to be shown it");
    }

    fn no_number_of_batches_makes_it_keep_more_than_the_cap(subject: &mut impl Subject) {
        let acknowledged = Some(Frontier::new());
        subject.log().truncate(Retention { acknowledged, acknowledged_age_ms: 0, bytes_max: 10_000, age_ms_max: 1 << 40 });
        put(subject.log(), vec![create("a")]);
        for _ in 0..2 {
            for _ in 0..9_000 {
                put(subject.log(), vec![update("a", "1")]);
            }
            subject.log().checkpoint().expect("a checkpoint");
            let kept = subject.log().stats().kept_bytes;
            assert!(0 < kept && kept <= 10_000, "{kept} bytes are kept");
        }
    }
}
