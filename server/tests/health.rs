//! A region whose disk fails: what it says, what it refuses, and how it ends.

mod support;

use quire_protocol::ids::{Incarnation, ReplicaId, StreamId};
use quire_server::StopError;
use quire_server::config::{Config, Settings};
use quire_storage::{AppendFault, Failure, FailureKind, MemoryLog};
use std::sync::Arc;
use support::{Answer, ask};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[tokio::test(flavor = "multi_thread")]
async fn a_region_whose_disk_fails_refuses_writes_says_so_and_does_not_end_well() {
    let stream = StreamId { replica: ReplicaId(1), incarnation: Incarnation(1) };
    let log = Arc::new(MemoryLog::new(stream));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config = Config::new(Settings::default()).expect("the defaults are good");
    let region = quire_server::start_with(config, listener, log.clone()).expect("it starts");
    let address = region.address().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(region.until(async {
        // Dropping the sender is as good as a signal.
        let _ = stopped.await;
    }));
    let create = |name: &str| {
        let (address, body) = (address.clone(), format!(r#"{{"name":"{name}"}}"#));
        blocking(move || {
            let headers = [("content-type", "application/json")];
            ask(&address, "POST", "/v1/docs", &headers, body.as_bytes())
        })
    };
    let ready = || {
        let address = address.clone();
        blocking(move || ask(&address, "GET", "/readyz", &[], b""))
    };

    assert_eq!(create("kept").await.status, 201);
    assert_eq!(ready().await.status, 200);
    let full = Failure { kind: FailureKind::DiskFull, text: "journal.0: no space left".into() };
    log.fail_next_append(AppendFault::Lost(full));
    create("lost").await.is_problem(503, "unavailable");
    create("after").await.is_problem(503, "unavailable");
    let unready = ready().await;
    unready.is_problem(503, "unavailable");
    assert!(unready.text().contains("the disk is full"), "{}", unready.text());

    stop.send(()).expect("it waits");
    let ended = serving.await.expect("it ends");
    assert!(matches!(ended, Err(StopError::Log(_))), "{ended:?}");
}

async fn blocking(ask: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    tokio::task::spawn_blocking(ask).await.expect("it answers")
}
