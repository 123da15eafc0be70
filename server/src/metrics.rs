//! Every metric of one region: its name, what it counts, and how histograms are cut.
//!
//! Names are stable: dashboards are built on them. They are recorded where things happen, by these
//! constants or by the same literal.
//!
//! What a recorder would keep beyond its time, the gauges of peers, is made for each scrape in `peers/gauges.rs`.
//!
//! Invariant: what is recorded is described here; a metric without a line here is a mistake.

use crate::conflicts::{FIRST_CLAIM, REFERENCE, UNIQUE};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use quire_protocol::fields::schema::{DeletePolicy, Policy, ReferencePolicy};
use quire_storage::LogStats;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

/// Open sockets of all kinds.
pub const CONNECTIONS: &str = "quire_connections";
/// Sockets closed at once because there were as many as allowed.
pub const CONNECTIONS_REFUSED: &str = "quire_connections_refused_total";
/// HTTP requests answered.
pub const HTTP_REQUESTS: &str = "quire_http_requests_total";
/// How long HTTP requests took.
pub const HTTP_SECONDS: &str = "quire_http_request_seconds";
/// Tokens refused.
pub const AUTH_REFUSED: &str = "quire_auth_refused_total";
/// What this server is.
pub const BUILD_INFO: &str = "quire_build_info";
/// Memory of the process.
pub const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
/// Editors' sockets.
pub const SESSIONS: &str = "quire_sessions";
/// Sessions that the server ended.
pub const SESSIONS_CLOSED: &str = "quire_sessions_closed_total";
/// Sessions that fell behind.
pub const SESSIONS_LAGGING: &str = "quire_sessions_lagging_total";
/// Entries of other regions that this one does not show as they do.
pub const DIVERGENCE: &str = "quire_divergence_total";
/// Links that ended.
pub const LINKS_ENDED: &str = "quire_links_ended_total";
/// Writes that belong at their document's home and came in elsewhere.
pub const HOME_WRITES: &str = "quire_home_writes_total";
/// Connections that became no link.
pub const PEERS_REFUSED: &str = "quire_peers_refused_total";
/// How far this region is behind another.
pub(crate) const REPLICATION_LAG: Gauge = Gauge {
    name: "quire_replication_lag_seconds",
    label: "origin",
    help: "How far this region is behind another, by its canaries",
};
/// Entries that a peer is not known to have.
pub(crate) const QUEUE_ENTRIES: Gauge = Gauge {
    name: "quire_replication_queue_entries",
    label: "peer",
    help: "Entries that are durable here and that a peer is not known to have",
};
/// Bytes that wait here for the connection to a peer.
pub(crate) const QUEUE_BYTES: Gauge = Gauge {
    name: "quire_replication_queue_bytes",
    label: "peer",
    help: "Bytes that have left the log and wait for a peer's connection",
};
/// To a peer and back.
pub(crate) const PEER_RTT: Gauge =
    Gauge { name: "quire_peer_rtt_seconds", label: "peer", help: "A ping to a peer and back, smoothed" };
/// How far a peer's clock is ahead.
pub(crate) const CLOCK_OFFSET: Gauge = Gauge {
    name: "quire_clock_offset_seconds",
    label: "peer",
    help: "How far a peer's clock is ahead of this region's",
};
/// Whether a peer has a link.
pub(crate) const PEER_LINKED: Gauge = Gauge {
    name: "quire_peer_linked",
    label: "peer",
    help: "1 while there is a link to a peer, 0 while there is none",
};
/// Batches that came and were known.
pub const DUPLICATES: &str = "quire_duplicates_total";
/// Snapshots of other regions that became part of the documents here.
pub const SNAPSHOTS_IMPORTED: &str = "quire_snapshots_imported_total";
/// How long batches waited for their causes.
pub const CAUSAL_WAIT: &str = "quire_causal_wait_seconds";
/// Entries that wait for their causes.
pub const WAITING_ENTRIES: &str = "quire_causal_waiting_entries";
/// Documents in memory.
pub const DOCUMENTS_OPEN: &str = "quire_documents_open";
/// Updates that were not admitted.
pub const UPDATES_REFUSED: &str = "quire_updates_refused_total";
/// Awareness frames that a full outbox did not take.
pub const AWARENESS_DROPPED: &str = "quire_awareness_dropped_total";
/// One commit.
pub const COMMIT_SECONDS: &str = "quire_commit_seconds";
/// Entries in one commit.
pub const COMMIT_ENTRIES: &str = "quire_commit_entries";
/// Payload that commits held.
pub const COMMIT_BYTES: &str = "quire_commit_bytes_total";
/// Commits that failed.
pub const COMMITS_FAILED: &str = "quire_commits_failed_total";
/// Sockets that editors were refused.
pub const SESSIONS_REFUSED: &str = "quire_sessions_refused_total";
/// Documents that could not be read.
pub const LOADS_FAILED: &str = "quire_documents_load_failed_total";
/// The log's figures.
pub const LOG_MEMORY_BYTES: &str = "quire_log_memory_bytes";
/// Entries that a restart would replay.
pub const LOG_REPLAY_ENTRIES: &str = "quire_log_replay_entries";
/// Checkpoints.
pub const LOG_CHECKPOINTS: &str = "quire_log_checkpoints_total";
/// Commits that waited for a checkpoint.
pub const LOG_STALLS: &str = "quire_log_stalls_total";
/// Documents in the store.
pub const LOG_DOCUMENTS: &str = "quire_documents_stored";
/// Batches kept for peers.
pub const LOG_KEPT_BYTES: &str = "quire_log_kept_bytes";
/// Conflicts that came on record.
pub const CONFLICTS: &str = "quire_conflicts_total";
/// How long conflicts last.
pub const CONFLICT_RESOLUTION: &str = "quire_conflict_resolution_seconds";
/// Conflicts that somebody is to decide.
pub const CONFLICTS_OPEN: &str = "quire_conflicts_open";
/// Streams of events.
pub const EVENT_STREAMS: &str = "quire_event_streams";
/// Attempts to tell a webhook of a change.
pub const WEBHOOK_DELIVERIES: &str = "quire_webhook_deliveries_total";
/// How long a webhook has been waiting for.
pub const WEBHOOK_BEHIND: &str = "quire_webhook_behind_seconds";
/// From an update's arrival to its ack.
pub const ACK_SECONDS: &str = "quire_ack_seconds";
/// From a commit's return to the frame in every outbox.
pub const FANOUT_SECONDS: &str = "quire_fanout_seconds";

/// A gauge that is made anew for each scrape, with one sample for each value of a label.
pub(crate) struct Gauge {
    name: &'static str,
    label: &'static str,
    help: &'static str,
}

/// From a tenth of a millisecond, which only memory reaches, to ten seconds, which is an outage.
const SECONDS_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// From a lone typist to the largest commit.
const ENTRIES_BUCKETS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];
/// Histograms keep every sample until they are folded into their buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Makes the process record, once; later calls share the first recorder.
///
/// # Panics
/// When another library has installed a recorder of its own, or a bucket list is empty: both are
/// mistakes in the program.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(make).clone()
}

fn make() -> PrometheusHandle {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full(COMMIT_ENTRIES.to_owned()), &ENTRIES_BUCKETS)
        })
        .expect("no bucket list is empty")
        .install_recorder()
        .expect("the server installs the only recorder");
    describe();
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
    // Counters that nobody has touched are there from the start, so that alerts can watch them.
    for name in [
        CONNECTIONS_REFUSED,
        SESSIONS_REFUSED,
        SESSIONS_LAGGING,
        AWARENESS_DROPPED,
        COMMITS_FAILED,
        DIVERGENCE,
        DUPLICATES,
        SNAPSHOTS_IMPORTED,
    ] {
        metrics::counter!(name).absolute(0);
    }
    for name in [CONNECTIONS, SESSIONS, DOCUMENTS_OPEN, EVENT_STREAMS] {
        metrics::gauge!(name).set(0);
    }
    for outcome in ["delivered", "refused", "failed"] {
        metrics::counter!(WEBHOOK_DELIVERIES, "outcome" => outcome).absolute(0);
    }
    let merged = Policy::PLAIN.iter().map(Policy::name).chain(["rank", "custom"]);
    let across = ReferencePolicy::ALL.iter().map(|policy| (REFERENCE, policy.name()));
    let of_documents = DeletePolicy::ALL.iter().map(|policy| ("delete", policy.name()));
    let conflicts = merged.map(|policy| ("write", policy)).chain(of_documents).chain(across);
    for (kind, policy) in conflicts.chain([(UNIQUE, FIRST_CLAIM)]) {
        metrics::counter!(CONFLICTS, "kind" => kind, "policy" => policy).absolute(0);
    }
    for by in ["policy", "person"] {
        let _empty = metrics::histogram!(CONFLICT_RESOLUTION, "by" => by);
    }
    for name in [CAUSAL_WAIT, COMMIT_SECONDS, ACK_SECONDS, FANOUT_SECONDS] {
        // Asking for it is enough to have it shown.
        let _empty = metrics::histogram!(name);
    }
    handle
}

fn describe() {
    describe_gauge!(CONNECTIONS, "Open sockets of all kinds");
    describe_counter!(CONNECTIONS_REFUSED, "Sockets closed at once because there were as many as allowed");
    describe_counter!(HTTP_REQUESTS, "HTTP requests answered, by route, method and status");
    describe_histogram!(HTTP_SECONDS, Unit::Seconds, "From an HTTP request's head to its answer, by route");
    describe_counter!(AUTH_REFUSED, "Tokens that gave no access, by reason");
    describe_gauge!(BUILD_INFO, "1, with the version that runs");
    describe_gauge!(RESIDENT_BYTES, Unit::Bytes, "Memory of the process that is in RAM");
    describe_gauge!(SESSIONS, "Editors' sockets");
    describe_counter!(SESSIONS_CLOSED, "Sessions that the server ended, by reason");
    describe_counter!(DUPLICATES, "Batches that came from a peer and were known");
    describe_counter!(
        SNAPSHOTS_IMPORTED,
        "Snapshots of other regions that became part of the documents here"
    );
    describe_histogram!(CAUSAL_WAIT, Unit::Seconds, "How long a stream waited for what it depends on");
    describe_gauge!(WAITING_ENTRIES, "Entries that have come and wait for what they depend on");
    describe_counter!(LINKS_ENDED, "Links to other regions that ended, by reason");
    describe_counter!(
        HOME_WRITES,
        "Writes that belong at their document's home and came in here: made at home, made away from it, or refused"
    );
    describe_counter!(PEERS_REFUSED, "Connections between regions that became no link, by reason");
    describe_counter!(CONFLICTS, "Conflicts that came on record here, by kind and policy");
    describe_histogram!(
        CONFLICT_RESOLUTION,
        Unit::Seconds,
        "From the last of what conflicts to its merge here by the policy, or to a person's write that ended it"
    );
    describe_gauge!(CONFLICTS_OPEN, "Conflicts that somebody is to decide");
    describe_gauge!(EVENT_STREAMS, "Open streams of events");
    describe_counter!(WEBHOOK_DELIVERIES, "Attempts to tell a webhook of a change, by outcome");
    describe_gauge!(
        WEBHOOK_BEHIND,
        Unit::Seconds,
        "How long a webhook has been trying to deliver the change it is at, by its number in the configuration"
    );
    describe_counter!(DIVERGENCE, "Entries of other regions that this one does not show as they do");
    describe_counter!(SESSIONS_LAGGING, "Sessions whose outbox was full and that were resynced");
    describe_gauge!(DOCUMENTS_OPEN, "Documents in memory");
    describe_counter!(UPDATES_REFUSED, "Updates that were not admitted, by reason");
    describe_counter!(AWARENESS_DROPPED, "Awareness frames that a full outbox did not take");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "One commit, its fsync included");
    describe_histogram!(COMMIT_ENTRIES, "Entries in one commit");
    describe_counter!(COMMIT_BYTES, Unit::Bytes, "Payload that commits held");
    describe_counter!(COMMITS_FAILED, "Commits that failed; the first one stops all writes");
    describe_counter!(SESSIONS_REFUSED, "Editors' sockets refused because there were as many as allowed");
    describe_counter!(LOADS_FAILED, "Documents that could not be read from the log");
    describe_gauge!(LOG_MEMORY_BYTES, Unit::Bytes, "Entries in memory since the last checkpoint");
    describe_gauge!(LOG_REPLAY_ENTRIES, "Entries that a restart would replay");
    describe_counter!(LOG_CHECKPOINTS, "Checkpoints");
    describe_counter!(LOG_STALLS, "Commits that waited because a checkpoint was behind");
    describe_gauge!(LOG_DOCUMENTS, "Documents in the store, deleted ones included");
    describe_gauge!(LOG_KEPT_BYTES, Unit::Bytes, "Batches kept for peers");
    describe_histogram!(ACK_SECONDS, Unit::Seconds, "From an update's arrival to its ack");
    describe_histogram!(FANOUT_SECONDS, Unit::Seconds, "From a commit's return to the frame in every outbox");
}

/// Folds samples into their buckets for as long as it is polled.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        handle.run_upkeep();
    }
}

impl Gauge {
    /// Adds the samples to what Prometheus reads. Where there are none, there is no gauge.
    pub(crate) fn write(&self, text: &mut String, samples: impl Iterator<Item = (String, f64)>) {
        let Self { name, label, help } = self;
        // Of two samples of one label's value Prometheus would refuse the whole scrape.
        let samples: BTreeMap<_, _> = samples.collect();
        if !samples.is_empty() {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        }
        for (value_of_label, value) in samples {
            let value_of_label =
                value_of_label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            text.push_str(&format!("{name}{{{label}=\"{value_of_label}\"}} {value}\n"));
        }
    }
}

/// What the recorder holds, as Prometheus reads it.
pub(crate) fn render(handle: &PrometheusHandle, log: &LogStats) -> String {
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!(RESIDENT_BYTES).set(bytes);
    }
    set(LOG_MEMORY_BYTES, log.memory_bytes + log.pending_snapshot_bytes);
    set(LOG_REPLAY_ENTRIES, log.position.0.saturating_sub(log.checkpoint.0));
    set(LOG_DOCUMENTS, log.documents);
    set(LOG_KEPT_BYTES, log.kept_bytes);
    set(WAITING_ENTRIES, log.waiting);
    metrics::counter!(LOG_CHECKPOINTS).absolute(log.checkpoints);
    metrics::counter!(LOG_STALLS).absolute(log.stalls);
    handle.render()
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 53 bits")]
fn set(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}

/// Linux alone says this in a file; elsewhere the metric is absent.
#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 53 bits")]
fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((pages * rustix::param::page_size() as u64) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_has_one_sample_for_each_value_and_nothing_where_there_is_none() {
        let mut text = String::new();
        PEER_LINKED.write(&mut text, std::iter::empty());
        assert_eq!(text, "");
        let samples =
            [("2", 1.0), ("ws://a\"b\\", 0.0), ("2", 0.5)].map(|(peer, value)| (peer.to_owned(), value));
        PEER_LINKED.write(&mut text, samples.into_iter());
        let expected = "# HELP quire_peer_linked 1 while there is a link to a peer, 0 while there is none\n\
            # TYPE quire_peer_linked gauge\nquire_peer_linked{peer=\"2\"} 0.5\n\
            quire_peer_linked{peer=\"ws://a\\\"b\\\\\"} 0\n";
        assert_eq!(text, expected);
    }
}
