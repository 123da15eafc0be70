//! How it goes with each peer, for people: what is wrong, and what to do about it.

use quire_protocol::fields::schema::SchemaHash;
use quire_protocol::ids::ReplicaId;
use quire_protocol::link::{Figures, Hello, Role};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clocks that differ by more are told of: last-writer-wins and the times people are shown suffer.
const CLOCK_OFFSET_MS_MAX: u64 = 1_000;

/// How it goes with a URL that is dialled.
#[derive(Clone, Debug, Default)]
pub(super) struct Dialling {
    /// Who answered there, once somebody has.
    pub(super) replica: Option<ReplicaId>,
    /// Why the last attempt failed; none when it did not.
    pub(super) failure: Option<Failure>,
    /// Attempts since it last worked.
    pub(super) attempts: u64,
}

impl Dialling {
    /// Takes note of a link with whoever is there.
    pub(super) fn went_well(&mut self) {
        (self.failure, self.attempts) = (None, 0);
    }
}

/// Why a peer cannot be reached, or is not let in.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// One word for metrics and scripts.
    pub(super) label: &'static str,
    pub(super) text: String,
}

/// A link as it is now.
#[derive(Clone, Debug)]
pub(crate) struct LinkStatus {
    role: Role,
    incarnation: u16,
    since_ms: u64,
    schema: SchemaHash,
    pub(super) figures: Figures,
    /// Bytes that wait here for the connection.
    pub(super) queue_bytes: u64,
}

impl LinkStatus {
    pub(super) fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    pub(super) fn new(hello: &Hello) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            role: hello.role,
            incarnation: hello.stream.incarnation.0,
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            schema: SchemaHash(hello.schema),
            figures: Figures::default(),
            queue_bytes: 0,
        }
    }
}

/// One peer as `/v1/regions` tells of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PeerStatus {
    /// The peer's number; none while nobody has answered at its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replica: Option<u16>,
    /// The URL that this region dials, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// Whether there is a link.
    pub(crate) linked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) incarnation: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) linked_since_ms: Option<u64>,
    /// The hash of its schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtt_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock_offset_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue_entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue_bytes: Option<u64>,
    /// How far this region is behind it, by its canaries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lag_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batches_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batches_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicates: Option<u64>,
    /// What is wrong with the pair, and what to do; none when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<PeerProblem>,
}

/// What is wrong between this region and a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PeerProblem {
    /// One word for scripts.
    pub(crate) kind: &'static str,
    /// What is wrong.
    pub(crate) cause: String,
    /// What to do.
    pub(crate) remedy: &'static str,
}

impl PeerStatus {
    const NOTHING: Self = Self {
        replica: None,
        url: None,
        linked: false,
        role: None,
        incarnation: None,
        linked_since_ms: None,
        schema: None,
        rtt_ms: None,
        clock_offset_ms: None,
        queue_entries: None,
        queue_bytes: None,
        lag_ms: None,
        batches_sent: None,
        bytes_sent: None,
        batches_received: None,
        bytes_received: None,
        duplicates: None,
        problem: None,
    };

    pub(super) fn linked(replica: ReplicaId, link: &LinkStatus) -> Self {
        let figures = link.figures;
        Self {
            replica: Some(replica.0),
            linked: true,
            role: Some(match link.role {
                Role::Leader => "leader",
                Role::Follower => "follower",
            }),
            incarnation: Some(link.incarnation),
            linked_since_ms: Some(link.since_ms),
            schema: Some(link.schema.to_string()),
            rtt_ms: figures.rtt_ms,
            clock_offset_ms: figures.clock_offset_ms,
            queue_entries: Some(figures.queue_entries),
            queue_bytes: Some(link.queue_bytes),
            batches_sent: Some(figures.batches_sent),
            bytes_sent: Some(figures.bytes_sent),
            batches_received: Some(figures.batches_received),
            bytes_received: Some(figures.bytes_received),
            duplicates: Some(figures.duplicates),
            problem: problem_of(link),
            ..Self::NOTHING
        }
    }

    /// A peer that had a link; `expelled` says whether it has told that this region was removed.
    pub(super) fn away(replica: ReplicaId, expelled: bool) -> Self {
        let (kind, cause) = if expelled {
            ("removed", "it says that this region was removed from the cluster")
        } else {
            ("unlinked", "it has no link to this region")
        };
        let problem = PeerProblem { kind, cause: cause.to_owned(), remedy: remedy(kind) };
        Self { replica: Some(replica.0), problem: Some(problem), ..Self::NOTHING }
    }

    /// A peer that dials this region and is refused.
    pub(super) fn unfit(replica: ReplicaId, failure: Failure) -> Self {
        let problem = PeerProblem { kind: failure.label, cause: failure.text, remedy: remedy(failure.label) };
        Self { replica: Some(replica.0), problem: Some(problem), ..Self::NOTHING }
    }

    pub(super) fn unknown(url: &str, dialling: &Dialling) -> Self {
        let mut peer = Self { replica: dialling.replica.map(|replica| replica.0), ..Self::NOTHING };
        peer.dialled(url, dialling);
        peer
    }

    /// The peer's name for operators.
    pub(crate) fn who(&self) -> String {
        self.replica.map_or_else(|| self.label(), |replica| format!("region {replica}"))
    }

    /// The peer's name for metrics: its number, and its URL while nobody has answered there.
    pub(super) fn label(&self) -> String {
        let number = self.replica.map(|replica| replica.to_string());
        number.or_else(|| self.url.clone()).unwrap_or_default()
    }

    /// Adds what is known from dialling it.
    pub(super) fn dialled(&mut self, url: &str, dialling: &Dialling) {
        self.url = Some(url.to_owned());
        if !self.linked {
            self.problem = Some(match &dialling.failure {
                Some(failure) => PeerProblem {
                    kind: failure.label,
                    cause: failure.text.clone(),
                    remedy: remedy(failure.label),
                },
                None => PeerProblem {
                    kind: "dialling",
                    cause: "it is being dialled".to_owned(),
                    remedy: "wait a moment",
                },
            });
        }
    }
}

fn problem_of(link: &LinkStatus) -> Option<PeerProblem> {
    if link.figures.out_of_reach {
        let cause = "it lacks entries that this region's log no longer has".to_owned();
        return Some(PeerProblem { kind: "snapshot", cause, remedy: remedy("snapshot") });
    }
    let offset = link.figures.clock_offset_ms?;
    let (ms, side) = (offset.unsigned_abs(), if offset > 0 { "ahead of" } else { "behind" });
    (ms > CLOCK_OFFSET_MS_MAX).then(|| PeerProblem {
        kind: "clock",
        cause: format!("its clock is {}.{} s {side} this region's", ms / 1000, ms % 1000 / 100),
        remedy: remedy("clock"),
    })
}

/// What to do about a kind of problem.
pub(super) fn remedy(kind: &str) -> &'static str {
    match kind {
        "resolve" => "correct the peer's URL, or the name in DNS",
        "connect" => "see whether the peer runs, and whether a firewall lets its port through",
        "tls" => {
            "have the peer use a certificate that this machine trusts, or name its authority in SSL_CERT_FILE"
        }
        "http" => {
            "see whether the URL is that of a Quire region with a cluster-secret-file, wss where it has a \
             certificate, and whether something on the way ends connections"
        }
        "version" => "upgrade the older of the two regions",
        "cluster" => "give both regions the same cluster name",
        "schema" => "give both regions one schema, or name the other's as previous-schema: see schema.md",
        "same_replica" => "give each region its own replica number, and let none dial itself",
        "secret" => "give both regions the same cluster-secret-file",
        "fork" => "one of the two has a disk that went back in time: see losing-a-region.md",
        "clock" => "set both clocks by NTP",
        "snapshot" => "wait: it is sent a snapshot of all documents, and then what came since",
        "disk" => "see the disk of the region that says so",
        "unlinked" => "see whether it runs and can reach this region",
        "removed" => "take the removed region out of the peer lists, or let it in again: quire region add",
        _ => "see the log of both regions",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(clock_offset_ms: i64) -> LinkStatus {
        let figures = Figures { clock_offset_ms: Some(clock_offset_ms), ..Figures::default() };
        LinkStatus {
            role: Role::Leader,
            incarnation: 1,
            since_ms: 0,
            schema: SchemaHash::default(),
            figures,
            queue_bytes: 0,
        }
    }

    #[test]
    fn clocks_that_differ_by_seconds_are_told_of_in_both_directions() {
        for (offset, cause) in [
            (10_040, "its clock is 10.0 s ahead of this region's"),
            (-1_999, "its clock is 1.9 s behind this region's"),
        ] {
            let problem = PeerStatus::linked(ReplicaId(2), &link(offset)).problem.expect("a problem");
            assert_eq!((problem.kind, problem.remedy), ("clock", "set both clocks by NTP"));
            assert_eq!(problem.cause, cause);
        }
        assert_eq!(PeerStatus::linked(ReplicaId(2), &link(900)).problem, None);
    }
}
