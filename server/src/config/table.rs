//! The table of settings: one row makes a flag, a variable, a key, its help and its bounds.
//!
//! Invariant: names are unique; `name` is the flag without its dashes and the key in `quire.toml`.

use super::field::Field;
use super::settings::Settings;

/// One setting.
pub(crate) struct Setting {
    /// The key in `quire.toml`; the flag is the same behind two dashes.
    pub(crate) name: &'static str,
    /// Where its value lives, and what is accepted.
    pub(crate) field: Field,
    /// One line for `--help`.
    pub(crate) help: &'static str,
}

impl Setting {
    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The default as text, if there is one.
    pub(crate) fn default(&self) -> Option<String> {
        self.field.show(&mut Settings::default())
    }
}

/// What every variable of the server starts with.
pub(crate) const VARIABLE_PREFIX: &str = "QUIRE_";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// A day: no stop and no idle document is worth waiting longer for.
const DAY_SECONDS: u64 = 86_400;
/// More of anything than one machine holds.
const MANY: usize = 10_000_000;

const fn row(name: &'static str, field: Field, help: &'static str) -> Setting {
    Setting { name, field, help }
}

/// Every setting of `quire serve`, in the order of its help.
pub(crate) const SETTINGS: &[Setting] = &[
    row("listen", Field::Address(|s| &mut s.listen), "Address to listen on"),
    row("data", Field::Path(|s| &mut s.data), "Data directory; it must exist"),
    row("region", Field::Name(|s| &mut s.region), "Name of this region"),
    row("replica", Field::Replica(|s| &mut s.replica), "Number of this replica, unique in its cluster"),
    row("cluster", Field::Name(|s| &mut s.cluster), "Name of the cluster, the same in all its regions"),
    row("role", Field::Role(|s| &mut s.role), "Whether this region takes writes"),
    row("peer", Field::Peers(|s| &mut s.peers), "Another region to dial; may be given several times"),
    row(
        "cluster-secret-file",
        Field::OptionalPath(|s| &mut s.cluster_secret_file),
        "Secret that all regions of the cluster share: at least 32 bytes",
    ),
    row(
        "previous-schema",
        Field::Hashes(|s| &mut s.previous_schemas),
        "Hash of another schema that a peer may have while this one spreads; may be given several times",
    ),
    row("auth", Field::Auth(|s| &mut s.auth), "Who may come in"),
    row(
        "jwt-key-file",
        Field::OptionalPath(|s| &mut s.jwt_key_file),
        "Key that JWTs are verified with: an Ed25519 key in PEM, or a secret of at least 32 bytes for HS256",
    ),
    row("tls-cert", Field::OptionalPath(|s| &mut s.tls_cert), "TLS certificate chain in PEM"),
    row("tls-key", Field::OptionalPath(|s| &mut s.tls_key), "TLS private key in PEM"),
    row("insecure", Field::Switch(|s| &mut s.insecure), "Serve a public address without authentication"),
    row("log-format", Field::Log(|s| &mut s.log_format), "How log lines are written to stderr"),
    row("log-level", Field::Level(|s| &mut s.log_level), "How much is logged"),
    row(
        "allow-origin",
        Field::Origins(|s| &mut s.allow_origin),
        "Origin whose pages may connect besides the server's own; may be given several times",
    ),
    row(
        "max-frame-bytes",
        Field::Bytes(|s| &mut s.limits.frame_bytes, 4 * KIB..=256 * MIB),
        "Bytes in one WebSocket message",
    ),
    row(
        "max-update-bytes",
        Field::Bytes(|s| &mut s.limits.update_bytes, KIB..=256 * MIB),
        "Bytes in one update",
    ),
    row(
        "max-document-bytes",
        Field::Bytes(|s| &mut s.limits.document_bytes, KIB..=4 * GIB),
        "Bytes of a document's encoded state",
    ),
    row(
        "max-body-bytes",
        Field::Bytes(|s| &mut s.limits.body_bytes, KIB..=256 * MIB),
        "Bytes in one HTTP request body",
    ),
    row("max-connections", Field::Count(|s| &mut s.limits.connections, 1..=MANY), "Open sockets"),
    row(
        "max-address-connections",
        Field::Count(|s| &mut s.limits.address_connections, 1..=MANY),
        "Open sockets from one address; a proxy counts as one address",
    ),
    row("max-sessions", Field::Count(|s| &mut s.limits.sessions, 1..=MANY), "Editors' sockets on the server"),
    row(
        "max-address-sessions",
        Field::Count(|s| &mut s.limits.address_sessions, 1..=MANY),
        "Editors' sockets from one address; a proxy counts as one address",
    ),
    row(
        "max-document-sessions",
        Field::Count(|s| &mut s.limits.document_sessions, 1..=MANY),
        "Sessions of one document",
    ),
    row(
        "max-open-documents",
        Field::Count(|s| &mut s.limits.open_documents, 1..=MANY),
        "Documents in memory at once",
    ),
    row(
        "session-messages-per-second",
        Field::Count(|s| &mut s.limits.session_messages_per_second, 1..=MANY),
        "Messages one session may send a second",
    ),
    row(
        "session-bytes-per-second",
        Field::Bytes(|s| &mut s.limits.session_bytes_per_second, KIB..=GIB),
        "Bytes one session may send a second",
    ),
    row(
        "max-outbox-bytes",
        Field::Bytes(|s| &mut s.limits.outbox_bytes, 4 * KIB..=GIB),
        "Bytes queued toward one session before it is resynced instead",
    ),
    row(
        "max-ingest-bytes",
        Field::Bytes(|s| &mut s.limits.ingest_bytes, MIB..=64 * GIB),
        "Bytes read from sessions and not committed yet",
    ),
    row(
        "max-preauth-messages",
        Field::Count(|s| &mut s.limits.preauth_messages, 1..=MANY),
        "Messages one socket may queue before it is authenticated",
    ),
    row(
        "max-preauth-bytes",
        Field::Bytes(|s| &mut s.limits.preauth_bytes, KIB..=GIB),
        "Bytes one socket may queue before it is authenticated",
    ),
    row(
        "max-preauth-documents",
        Field::Count(|s| &mut s.limits.preauth_documents, 1..=MANY),
        "Documents one socket may name before it is authenticated",
    ),
    row(
        "preauth-seconds",
        Field::Seconds(|s| &mut s.limits.preauth, 1..=DAY_SECONDS),
        "How long a socket may stay without authentication",
    ),
    row(
        "max-kept-bytes",
        Field::Bytes(|s| &mut s.limits.kept_bytes, MIB..=1024 * GIB),
        "Bytes of the log kept for peers that are behind or begin anew",
    ),
    row(
        "max-kept-seconds",
        Field::Seconds(|s| &mut s.limits.kept, 60..=365 * DAY_SECONDS),
        "How long the log is kept for peers that are behind or begin anew",
    ),
    row(
        "kept-acknowledged-seconds",
        Field::Seconds(|s| &mut s.limits.kept_acknowledged, 0..=365 * DAY_SECONDS),
        "How long the log is kept after all regions have it, for one whose disk is restored",
    ),
    row(
        "home-seconds",
        Field::Seconds(|s| &mut s.limits.home, 1..=60),
        "How long a write of a field that is written at its document's home waits for that",
    ),
    row(
        "max-event-streams",
        Field::Count(|s| &mut s.limits.event_streams, 0..=MANY),
        "Open streams of events",
    ),
    row(
        "drain-seconds",
        Field::Seconds(|s| &mut s.limits.drain, 0..=DAY_SECONDS),
        "How long a stop may take to close its sessions",
    ),
    row(
        "unload-seconds",
        Field::Seconds(|s| &mut s.limits.unload, 0..=DAY_SECONDS),
        "How long a document nobody uses stays in memory",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_named_once_and_reads_its_own_default() {
        let mut names = BTreeSet::new();
        for setting in SETTINGS {
            assert!(names.insert(setting.name), "{} is there twice", setting.name);
            assert!(!setting.field.accepted().is_empty());
            if let Some(default) = setting.default() {
                let mut settings = Settings::default();
                assert!(setting.field.set(&mut settings, &default).is_ok(), "{}", setting.name);
                assert_eq!(settings, Settings::default(), "{}", setting.name);
            }
        }
    }

    #[test]
    fn no_two_rows_share_a_value() {
        for setting in SETTINGS {
            let mut settings = Settings::default();
            let other = [
                "192.0.2.1:1",
                "ws://a:1",
                "follower",
                "jwt",
                "json",
                "debug",
                "true",
                "https://a",
                "a",
                "2",
                "3",
                "70000",
                "2MiB",
                "912a30f0c85fd87e159b5f5ac0e28a4c",
            ];
            let before: Vec<_> = SETTINGS.iter().map(|row| row.field.show(&mut settings)).collect();
            for text in other {
                let _ = setting.field.set(&mut settings, text);
            }
            let after: Vec<_> = SETTINGS.iter().map(|row| row.field.show(&mut settings)).collect();
            let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            assert_eq!(changed, 1, "{}", setting.name);
        }
    }
}
