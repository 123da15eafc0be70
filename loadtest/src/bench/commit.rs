//! Updates committed a second while 2,000 writers wait for their acknowledgement, and their bytes on disk.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Options;
use super::report::{Report, Row};
use crate::crowd::Crowd;
use crate::disk;
use crate::rates::{self, median};
use crate::server;
use crate::writers::{Work, Writers};

const WRITERS: u32 = 2_000;
const WARM: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(4);
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
const SCENARIO: &str = "2,000 waiting writers";

/// 2,000 writers, a connection and a document each, one letter at a time.
///
/// # Errors
/// When the server cannot be started, measured, or ends a session.
pub fn waiting_writers(options: &Options, report: &mut Report) -> Result<()> {
    options.clear("writers")?;
    let server = options.quire_program("writers")?.start()?;
    let mut crowd = Crowd::new()?;
    let work = Work {
        prefix: "writer".into(),
        first: 0,
        writers: WRITERS,
        one_in: 1,
        letters: 1,
        updates: u32::MAX,
        burst: 1,
    };
    let mut writers = Writers::new(work);
    writers.join(&mut crowd, server.addr(), JOIN_TIMEOUT)?;
    writers.begin(&mut crowd);
    writers.go_on(&mut crowd, WARM)?;
    let (mut rates_seen, mut bytes, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut server_cores, mut own_cores) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        let _ = writers.take_latency();
        let (acked, started) = (writers.acked(), Instant::now());
        let written = disk::device_written_bytes(&options.dir);
        let (cpu, own) = (server.cpu_seconds()?, server::own_cpu_seconds()?);
        writers.go_on(&mut crowd, MEASURED)?;
        let (seconds, acked) = (started.elapsed().as_secs_f64(), (writers.acked() - acked) as f64);
        rates_seen.push(acked / seconds);
        if let (Ok(before), Ok(after)) = (written, disk::device_written_bytes(&options.dir)) {
            bytes.push((after - before) as f64 / acked);
        }
        server_cores.push((server.cpu_seconds()? - cpu) / seconds);
        own_cores.push((server::own_cpu_seconds()? - own) / seconds);
        let latency = writers.take_latency();
        p50.push(rates::quantile_ms(&latency, 0.5));
        p99.push(rates::quantile_ms(&latency, 0.99));
    }
    let note = format!(
        "{}; ack p50 {:.1} p99 {:.1} ms; cores: server {:.2}, generator {:.2}",
        super::spread(&rates_seen),
        median(&p50),
        median(&p99),
        median(&server_cores),
        median(&own_cores)
    );
    let row =
        Row { scenario: SCENARIO, who: "quire".into(), figure: "commits", value: 0.0, unit: "/s", note };
    report.add(Row { value: median(&rates_seen), ..row.clone() });
    if !bytes.is_empty() {
        let note = format!("{}; all that reached the device", super::spread(&bytes));
        report.add(Row { figure: "written", value: median(&bytes), unit: "B/update", note, ..row });
    }
    crowd.leave();
    server.stop()?;
    options.clear("writers")
}
