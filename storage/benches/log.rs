//! Measures the log on a real disk: throughput, bytes written, ack latency, and how it starts.
//!
//! `cargo bench -p quire-storage --bench log -- [DIRECTORY] [throughput|lone|start|reopen|layouts]…` prints
//! one line a figure. Ratios are taken within the run, on the same disk.

use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::ids::{DocId, DocName, ReplicaId};
use quire_storage::{
    Committer, CommitterLimits, Log, NewEntry, Receipt, RedbLog, RedbLogOptions, Unobserved,
};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const WRITERS: usize = 2000;
const PAYLOAD_BYTES: usize = 60;
const THROUGHPUT_TIME: Duration = Duration::from_secs(10);
const LONE_APPENDS: usize = 1000;
const GIB: u64 = 1 << 30;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [role, directory, documents, snapshot_bytes] = &args[..]
        && role == "fill-and-die"
    {
        return fill_and_die(Path::new(directory), number(documents), number(snapshot_bytes));
    }
    let known = ["throughput", "lone", "start", "reopen", "layouts"];
    let (chosen, places): (Vec<_>, Vec<_>) = args.iter().partition(|arg| known.contains(&arg.as_str()));
    let place = places.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let runs = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| *chosen == name);
    if runs("lone") {
        lone_writer(&place);
    }
    if runs("throughput") {
        throughput(&place, 2000);
        throughput(&place, 50);
    }
    if runs("start") {
        start_up(&place);
    }
    if runs("reopen") {
        reopen_after_kill(&place);
    }
    if runs("layouts") {
        layouts(&place);
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn options() -> RedbLogOptions {
    RedbLogOptions::new(ReplicaId(1))
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock of this age")
}

fn name(i: usize) -> DocName {
    DocName::new(&format!("bench/document {i}")).expect("a valid name")
}

fn create(i: usize) -> NewEntry {
    let name = name(i);
    let doc = name.id();
    NewEntry { doc, kind: EntryKind::Lifecycle, payload: LifecycleChange::Create { name }.encode() }
}

fn update(doc: DocId, payload: &Bytes) -> NewEntry {
    NewEntry { doc, kind: EntryKind::Update, payload: payload.clone() }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

/// What has been written to the device that a directory lies on, by whomever; none where the kernel
/// does not count it. What it counts for one process is whole cached folios, which say less.
fn written_bytes(place: &Path) -> Option<u64> {
    let device = std::fs::metadata(place).expect("a directory").dev();
    let stat = format!("/sys/dev/block/{}:{}/stat", rustix::fs::major(device), rustix::fs::minor(device));
    let stat = std::fs::read_to_string(stat).ok()?;
    // In sectors of 512 bytes: https://docs.kernel.org/block/stat.html
    stat.split_ascii_whitespace().nth(6)?.parse::<u64>().ok().map(|sectors| sectors * 512)
}

/// Acks of one writer that waits for each, against single fdatasyncs in turn on the same disk.
fn lone_writer(place: &Path) {
    let dir = tempfile::tempdir_in(place).expect("a directory");
    let log: Arc<dyn Log> = Arc::new(RedbLog::open(dir.path(), &options()).expect("opens"));
    let committer =
        Committer::start(Arc::clone(&log), now_ms, CommitterLimits::default(), Unobserved).expect("a thread");
    let appender = committer.appender();
    let mut plain = File::create(dir.path().join("plain")).expect("a file");
    plain.write_all(&vec![0; 4096 * (LONE_APPENDS + 1)]).and_then(|()| plain.sync_all()).expect("room");
    let mut plain = OpenOptions::new().write(true).open(dir.path().join("plain")).expect("the file");
    let (tx, rx) = mpsc::channel();
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    log.append(now_ms(), &[vec![create(0)]]).expect("durable");
    let (mut acks, mut syncs) = (vec![], vec![]);
    for _ in 0..LONE_APPENDS {
        let started = Instant::now();
        plain.write_all(&[1; 4096]).and_then(|()| plain.sync_data()).expect("a working disk");
        syncs.push(started.elapsed());
        let started = Instant::now();
        let tx = tx.clone();
        appender.append(vec![update(name(0).id(), &payload)], move |result| {
            tx.send(result.map(|_| ())).expect("the bench listens");
        });
        rx.recv().expect("an answer").expect("durable");
        acks.push(started.elapsed());
    }
    committer.stop();
    let (ack_p99, sync_p99) = (percentile(&mut acks, 99), percentile(&mut syncs, 99));
    let (ack, sync) = (median(acks), median(syncs));
    println!(
        "lone writer: ack p50 {ack:?} p99 {ack_p99:?}; one fdatasync p50 {sync:?} p99 {sync_p99:?}; ratio of p50 {:.2}",
        ack.as_secs_f64() / sync.as_secs_f64()
    );
}

/// Writers that each wait for their ack before they write again.
fn throughput(place: &Path, documents: usize) {
    let dir = tempfile::tempdir_in(place).expect("a directory");
    let log = Arc::new(RedbLog::open(dir.path(), &options()).expect("opens"));
    log.append(now_ms(), &[(0..documents).map(create).collect()]).expect("durable");
    log.checkpoint().expect("a checkpoint");
    let committer =
        Committer::start(Arc::clone(&log) as Arc<dyn Log>, now_ms, CommitterLimits::default(), Unobserved)
            .expect("a thread");
    let appender = committer.appender();
    let docs: Vec<DocId> = (0..documents).map(|i| name(i).id()).collect();
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let (tx, rx) = mpsc::channel::<(usize, Instant, bool)>();
    let write = |writer: usize| {
        let tx = tx.clone();
        let started = Instant::now();
        let answer = move |result: Result<Receipt, _>| {
            // The bench may have gone by the time the last ones are answered.
            let _ = tx.send((writer, started, result.is_ok()));
        };
        appender.append(vec![update(docs[writer % documents], &payload)], answer);
    };
    let bytes_before = written_bytes(place);
    let started = Instant::now();
    (0..WRITERS).for_each(write);
    let mut acks = vec![];
    let mut open = WRITERS;
    while open > 0 {
        let (writer, since, durable) = rx.recv().expect("an answer");
        assert!(durable, "the log failed");
        acks.push(since.elapsed());
        if started.elapsed() < THROUGHPUT_TIME { write(writer) } else { open -= 1 }
    }
    let elapsed = started.elapsed();
    committer.stop();
    log.checkpoint().expect("a checkpoint");
    let stats = log.stats();
    drop(log);
    let updates = acks.len();
    let written = match (bytes_before, written_bytes(place)) {
        (Some(before), Some(after)) => format!("{} B written an update", (after - before) / updates as u64),
        _ => "bytes written unknown".to_owned(),
    };
    println!(
        "{WRITERS} writers, {documents} documents: {:.0} updates/s in {} commits, ack p50 {:?} p99 {:?}; {written}; {} checkpoints (last {:?}), {} stalls",
        updates as f64 / elapsed.as_secs_f64(),
        stats.commits,
        percentile(&mut acks, 50),
        percentile(&mut acks, 99),
        stats.checkpoints,
        stats.last_checkpoint,
        stats.stalls,
    );
}

/// Fills a directory with documents that have a snapshot and a tail, then dies without closing it.
fn fill_and_die(directory: &Path, documents: usize, snapshot_bytes: usize) {
    let log = RedbLog::open(directory, &options()).expect("opens");
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let state = Bytes::from(vec![5; snapshot_bytes]);
    let all: Vec<usize> = (0..documents).collect();
    for chunk in all.chunks(500) {
        let group = |i: &usize| vec![create(*i), update(name(*i).id(), &payload)];
        let receipts = log.append(now_ms(), &chunk.iter().map(group).collect::<Vec<_>>()).expect("durable");
        for (i, receipt) in chunk.iter().zip(receipts) {
            if snapshot_bytes > 0 {
                log.put_snapshot(name(*i).id(), receipt.position, state.clone(), None).expect("taken");
            }
        }
        log.append(now_ms(), &[chunk.iter().map(|i| update(name(*i).id(), &payload)).collect()])
            .expect("durable");
        log.checkpoint().expect("a checkpoint");
    }
    // What a busy server has not checkpointed when it dies: nearly as much as it ever has.
    for i in 0..100_u128 {
        let group = (0..1000).map(|k| update(name((k * 7) % documents).id(), &payload)).collect();
        log.append(now_ms() + u64::try_from(i).expect("small"), &[group]).expect("durable");
    }
    std::process::abort();
}

/// Has another process fill a directory and die.
fn filled(place: &Path, documents: usize, snapshot_bytes: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(place).expect("a directory");
    let status = std::process::Command::new(std::env::current_exe().expect("this program"))
        .arg("fill-and-die")
        .arg(dir.path())
        .args([documents.to_string(), snapshot_bytes.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
    assert!(!status.expect("it starts").success(), "it dies");
    dir
}

fn size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("the directory");
    files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |it| it.len())).sum()
}

/// Opens a directory and reads one document: what a restarted server does first.
fn opened(dir: &Path) -> (RedbLog, Duration, Duration) {
    let started = Instant::now();
    let log = RedbLog::open(dir, &options()).expect("opens");
    let open = started.elapsed();
    let started = Instant::now();
    assert!(log.load(name(3).id()).expect("readable").is_some());
    (log, open, started.elapsed())
}

fn reopen_after_kill(place: &Path) {
    let dir = filled(place, 16_000, 60_000);
    let bytes = size(dir.path());
    assert!(bytes >= GIB, "{bytes} bytes");
    let (log, open, load) = opened(dir.path());
    let replayed = log.stats().position.0 - log.stats().checkpoint.0;
    println!(
        "reopen after a kill at {} MiB: {open:?}, {replayed} entries replayed; then one document in {load:?}",
        bytes >> 20
    );
}

/// What one file for everything would cost: acks with redb's quick repair, starts without it.
fn layouts(place: &Path) {
    for quick_repair in [false, true] {
        let dir = tempfile::tempdir_in(place).expect("a directory");
        let db = redb::Database::create(dir.path().join("one.redb")).expect("creates");
        let mut plain = File::create(dir.path().join("plain")).expect("a file");
        plain.write_all(&vec![0; 4096 * 400]).and_then(|()| plain.sync_all()).expect("room");
        let mut plain = OpenOptions::new().write(true).open(dir.path().join("plain")).expect("the file");
        let table = redb::TableDefinition::<u64, &[u8]>::new("log");
        let (mut commits, mut syncs) = (vec![], vec![]);
        for i in 0..400 {
            let started = Instant::now();
            plain.write_all(&[1; 4096]).and_then(|()| plain.sync_data()).expect("a working disk");
            syncs.push(started.elapsed());
            let started = Instant::now();
            let mut txn = db.begin_write().expect("one writer");
            txn.set_quick_repair(quick_repair);
            txn.open_table(table).expect("a table").insert(i, &[7; 100][..]).expect("room");
            txn.commit().expect("a working disk");
            commits.push(started.elapsed());
        }
        let (commit, sync) = (median(commits), median(syncs));
        println!(
            "one redb file, quick repair {quick_repair}: commit p50 {commit:?}; one fdatasync p50 {sync:?}; ratio {:.2}",
            commit.as_secs_f64() / sync.as_secs_f64()
        );
    }
    let dir = filled(place, 16_000, 60_000);
    let started = Instant::now();
    let mut builder = redb::Builder::new();
    let file = dir.path().join("store.redb");
    drop(builder.set_check_integrity_on_open(true).open(file).expect("a whole file"));
    let walk = started.elapsed();
    println!(
        "a start that walks a file of {} MiB, as redb's ordinary repair does: {walk:?}",
        size(dir.path()) >> 20
    );
}

fn start_up(place: &Path) {
    let mut medians = vec![];
    for documents in [100, 100_000] {
        let dir = filled(place, documents, 0);
        let (log, killed, _) = opened(dir.path());
        drop(log);
        let clean = median((0..7).map(|_| opened(dir.path()).1).collect());
        let mib = size(dir.path()) >> 20;
        println!(
            "start with {documents} documents ({mib} MiB): after a kill {killed:?}, after an orderly stop {clean:?}"
        );
        medians.push((killed.as_secs_f64(), clean.as_secs_f64()));
    }
    println!(
        "start with 100,000 documents : with 100: after a kill {:.2}, after an orderly stop {:.2}",
        medians[1].0 / medians[0].0,
        medians[1].1 / medians[0].1
    );
}
