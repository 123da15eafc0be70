//! `quire status`: a running region, and how it goes between it and each of the others.

use super::client::{ClientError, Server};
use super::table;
use axum::http::Method;
use clap::Args;
use serde::Deserialize;
use std::io::Write as _;

/// What `quire status` takes.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(Deserialize)]
struct Regions {
    region: Here,
    peers: Vec<Peer>,
    #[serde(default)]
    refused: Vec<Refused>,
    #[serde(default)]
    removed: Vec<u16>,
}

#[derive(Deserialize)]
struct Here {
    name: String,
    replica: u16,
    incarnation: u16,
    cluster: String,
    role: String,
    schema: String,
    unready: Option<String>,
    waiting_entries: u64,
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    replica: u16,
    incarnation: u16,
    received: u64,
    applied: u64,
}

#[derive(Deserialize)]
struct Peer {
    replica: Option<u16>,
    url: Option<String>,
    linked: bool,
    role: Option<String>,
    schema: Option<String>,
    rtt_ms: Option<u64>,
    clock_offset_ms: Option<i64>,
    queue_entries: Option<u64>,
    lag_ms: Option<u64>,
    problem: Option<Problem>,
}

#[derive(Deserialize)]
struct Refused {
    address: String,
    times: u64,
    problem: Problem,
}

#[derive(Deserialize)]
struct Problem {
    kind: String,
    cause: String,
    remedy: String,
}

/// Asks, and prints the answer.
pub(super) async fn run(status: Status) -> Result<(), ClientError> {
    let client = status.server.client()?;
    let (_, body) = client.ask(Method::GET, "/v1/regions", None).await?;
    let text = told(&serde_json::from_slice(&body)?);
    // Whoever reads the first line may have closed stdout.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn told(Regions { region, peers, refused, removed }: &Regions) -> String {
    let Here { name, replica, incarnation, cluster, role, schema, unready, waiting_entries, streams } =
        region;
    let mut text = format!("{name}: replica {replica}.{incarnation}, {role} in cluster {cluster}\n");
    text.push_str(&format!("schema {}\n\n", short(schema)));
    if let Some(reason) = unready {
        text.push_str(&format!("not ready: {reason}\n\n"));
    }
    let mut rows = vec![["stream", "received", "applied"].map(str::to_owned).to_vec()];
    rows.extend(streams.iter().map(|stream| {
        let name = format!("{}.{}", stream.replica, stream.incarnation);
        vec![name, stream.received.to_string(), stream.applied.to_string()]
    }));
    text.push_str(&table::aligned(&rows));
    if *waiting_entries > 0 {
        text.push_str(&format!("{waiting_entries} entries wait for what they depend on\n"));
    }
    text.push('\n');
    if !removed.is_empty() {
        let numbers: Vec<_> = removed.iter().map(u16::to_string).collect();
        text.push_str(&format!("removed from the cluster: {}\n\n", numbers.join(", ")));
    }
    text.push_str(&told_of_peers(peers));
    for peer in peers {
        if let Some(problem) = &peer.problem {
            let who = peer.replica.map(|replica| format!("region {replica}"));
            let who = who.or_else(|| peer.url.clone()).unwrap_or_default();
            text.push_str(&told_of_pair(*replica, &who, problem));
        }
    }
    for Refused { address, times, problem } in refused {
        let who = format!("whoever dials from {address} (turned away {times} times)");
        text.push_str(&told_of_pair(*replica, &who, problem));
    }
    text
}

fn told_of_peers(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "No peers.\n".to_owned();
    }
    let head = ["peer", "link", "role", "schema", "rtt", "clock", "queue", "lag", "url"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(peers.iter().map(|peer| {
        let some = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            some(peer.replica.map(|replica| replica.to_string())),
            if peer.linked { "up" } else { "down" }.to_owned(),
            some(peer.role.clone()),
            some(peer.schema.as_deref().map(short)),
            some(peer.rtt_ms.map(|ms| format!("{ms} ms"))),
            some(peer.clock_offset_ms.map(|ms| format!("{ms:+} ms"))),
            some(peer.queue_entries.map(|entries| entries.to_string())),
            some(peer.lag_ms.map(|ms| format!("{ms} ms"))),
            some(peer.url.clone()),
        ]
    }));
    table::aligned(&rows)
}

/// As much of a schema's hash as people need to tell a few apart.
fn short(hash: &str) -> String {
    if hash.bytes().all(|digit| digit == b'0') { "none".to_owned() } else { hash.chars().take(8).collect() }
}

/// What is wrong between the region that was asked and another, in three lines.
fn told_of_pair(own: u16, other: &str, Problem { kind, cause, remedy }: &Problem) -> String {
    format!("\nregion {own} and {other}: {kind}\n  cause   {cause}\n  remedy  {remedy}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_is_not_well_is_named_with_cause_and_remedy() {
        let answer = r#"{"region": {"name": "eu", "replica": 1, "incarnation": 2, "cluster": "prod",
            "role": "leader", "schema": "912a30f0c85fd87e159b5f5ac0e28a4c", "waiting_entries": 3,
            "streams": [{"replica": 2, "incarnation": 1, "received": 9, "applied": 6}]},
            "peers": [{"replica": 2, "linked": true, "role": "leader",
            "schema": "00000000000000000000000000000000", "rtt_ms": 81, "clock_offset_ms": -4,
            "queue_entries": 0, "lag_ms": 45}, {"url": "ws://asia", "linked": false,
            "problem": {"kind": "secret", "cause": "it does not know it", "remedy": "give it the secret"}}],
            "refused": [{"address": "10.0.3.1", "times": 7, "problem": {"kind": "same_replica",
            "cause": "both are replica 1", "remedy": "give each its own"}}]}"#;
        let text = told(&serde_json::from_str(answer).expect("an answer"));
        let expected = "eu: replica 1.2, leader in cluster prod\nschema 912a30f0\n\n\
            stream  received  applied\n2.1     9         6\n3 entries wait for what they depend on\n\n\
            peer  link  role    schema  rtt    clock  queue  lag    url\n\
            2     up    leader  none    81 ms  -4 ms  0      45 ms  -\n\
            -     down  -       -       -      -      -      -      ws://asia\n\n\
            region 1 and ws://asia: secret\n  cause   it does not know it\n  remedy  give it the secret\n\n\
            region 1 and whoever dials from 10.0.3.1 (turned away 7 times): same_replica\n  \
            cause   both are replica 1\n  remedy  give each its own\n";
        assert_eq!(text, expected);
    }
}
