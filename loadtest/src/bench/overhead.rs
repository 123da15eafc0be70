//! What a link between regions adds to the updates it carries, in a healthy mesh of three.
//!
//! Everything is written at the first region. All bytes of its link to the second count, in both
//! directions: the acknowledgements that come back, the clocks and the canaries too.

use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::regions::{self, Region};
use super::report::{Report, Row};
use crate::distance::Distance;
use crate::writers::Work;

const SCENARIO: &str = "link overhead";
const NAME: &str = "overhead";

/// One lone entry for so many in batches: each of them waits for a commit of its own.
const LONE_ONE_IN: u32 = 1_000;

/// The last acknowledgement between regions is on its way for less than this.
const ACK_WAIT: Duration = Duration::from_millis(200);
/// A region's figures of a link are as old as the link's last ping, which are a second apart.
const FIGURES_WAIT: Duration = Duration::from_secs(2);

const WRITERS: u32 = 10;
const BURST: u32 = 500;

struct Mesh {
    regions: Vec<Region>,
    /// Between the first two.
    link: Distance,
}

/// What went over the first link for some entries.
struct Carried {
    entries: u64,
    batches: u64,
    update_bytes: u64,
    there: u64,
    back: u64,
}

/// Entries in batches and lone ones, written at one of three regions.
///
/// # Errors
/// When a region cannot be started, linked or asked.
pub fn overhead(options: &Options, report: &mut Report) -> Result<()> {
    let mesh = Mesh::start(options)?;
    let per_writer = options.entries / WRITERS;
    let work = |prefix: &str, writers, updates, burst| Work {
        prefix: prefix.into(),
        first: 0,
        writers,
        one_in: 1,
        letters: 1,
        updates,
        burst,
    };
    let lone = mesh.carry(work("lone", 1, options.entries / LONE_ONE_IN, 1))?;
    report.add(lone.row("a lone entry"));
    let batched = mesh.carry(work("batched", WRITERS, per_writer, BURST))?;
    report.add(batched.row("an entry in a batch"));
    mesh.tell_repeats(report)?;
    for region in mesh.regions {
        region.end(options)?;
    }
    options.clear(NAME)
}

impl Mesh {
    fn start(options: &Options) -> Result<Self> {
        for replica in 1..=3 {
            options.clear(&format!("{NAME}-{replica}"))?;
        }
        let first = Region::start(options, NAME, 1, &[])?;
        // The first link is looked at from outside; the others are what makes it a mesh.
        let link = Distance::to(first.addr(), Duration::ZERO)?;
        let second = Region::start(options, NAME, 2, &[link.url()])?;
        let urls = [&first, &second].map(|region| format!("ws://{}", region.addr()));
        let third = Region::start(options, NAME, 3, &urls)?;
        let regions = vec![first, second, third];
        for region in &regions {
            region.await_links(2)?;
        }
        Ok(Self { regions, link })
    }

    fn carry(&self, work: Work) -> Result<Carried> {
        let [first, ..] = &self.regions[..] else { unreachable!("a mesh has three regions") };
        std::thread::sleep(FIGURES_WAIT);
        let (before, bytes) = (first.status()?, self.link.bytes());
        let update_bytes = first.write(work)?;
        let written = first.status()?.applied(1);
        for other in &self.regions[1..] {
            other.await_applied(1, written)?;
        }
        std::thread::sleep(ACK_WAIT);
        let bytes_after = self.link.bytes();
        std::thread::sleep(FIGURES_WAIT);
        let after = first.status()?;
        Ok(Carried {
            entries: written - before.applied(1),
            batches: after.peer(2)?.batches_sent - before.peer(2)?.batches_sent,
            update_bytes,
            // The first is the one that is dialled.
            there: bytes_after.back - bytes.back,
            back: bytes_after.there - bytes.there,
        })
    }

    /// Whether anything was sent twice: by the metric, and by what each pair sent and received.
    fn tell_repeats(&self, report: &mut Report) -> Result<()> {
        let mut duplicates = 0.0;
        let mut not_once = 0;
        let mut batches = 0;
        for (at, region) in (1_u16..).zip(&self.regions) {
            duplicates += regions::metric(region.addr(), "quire_duplicates_total")?;
            for (from, sender) in (1_u16..).zip(&self.regions).filter(|&(from, _)| from != at) {
                let (sent, status) = (sender.status()?.peer(at)?.batches_sent, region.status()?);
                let received = status.peer(from)?;
                batches += received.batches_received;
                not_once += sent.abs_diff(received.batches_received) + received.duplicates;
            }
        }
        let row = Row {
            scenario: SCENARIO,
            who: "all six directions".into(),
            figure: "duplicates",
            value: duplicates,
            unit: "batches",
            note: "quire_duplicates_total of all three; asked 0".into(),
        };
        let note = format!("of {batches} received, a canary under way may count; asked 0");
        report.add(row.clone());
        report.add(Row { figure: "not received once", value: not_once as f64, note, ..row });
        Ok(())
    }
}

impl Carried {
    fn row(&self, who: &str) -> Row {
        let entries = self.entries as f64;
        let added = (self.there + self.back) as f64 - self.update_bytes as f64;
        let note = format!(
            "{} entries, {:.1} a batch; {:.1} B of update an entry; on the wire {:.1} there, {:.1} back",
            self.entries,
            entries / self.batches as f64,
            self.update_bytes as f64 / entries,
            self.there as f64 / entries,
            self.back as f64 / entries,
        );
        Row { scenario: SCENARIO, who: who.into(), figure: "added", value: added / entries, unit: "B", note }
    }
}
