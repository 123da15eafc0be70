//! What is told of a run: one line for each thing that happens, and figures over all.

use quire_protocol::time::Time;
use std::fmt::Arguments;

/// The lines of one run.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    lines: Vec<String>,
    /// Whether lines are kept; a run of many seeds keeps none.
    kept: bool,
}

impl Transcript {
    pub(super) const fn new(kept: bool) -> Self {
        Self { lines: Vec::new(), kept }
    }

    pub(super) fn say(&mut self, now: Time, line: Arguments<'_>) {
        if self.kept {
            self.lines.push(format!("{:>4}.{:03}  {line}", now.0 / 1000, now.0 % 1000));
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// Figures of one run, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Simulated time.
    pub simulated_ms: u64,
    /// Edits that editors made.
    pub edits: u64,
    /// Edits of fields, by editors and without one.
    pub field_edits: u64,
    /// Times that a region wrote back fields.
    pub write_backs: u64,
    /// Fields that are in conflict in the end, counted for each region.
    pub conflicts: u64,
    /// Conflicts that somebody has seen, counted for each region in the end.
    pub past_conflicts: u64,
    /// Versions in the end that the writer of another one beside it held all the same: told once too often.
    pub told_too_often: u64,
    /// Write-backs that editors brought to regions which had not heard of them.
    pub given_back: u64,
    /// Entries that regions committed for their editors.
    pub entries: u64,
    /// Updates that were acknowledged.
    pub acknowledged: u64,
    /// Entries shown by all regions, each counted for each.
    pub shown: u64,
    /// Links that were cut, reset or deaf in one direction.
    pub partitions: u64,
    /// Regions that were killed or lost power.
    pub crashes: u64,
    /// Disks that were lost or replaced by an older copy.
    pub disks: u64,
    /// Streams that were begun anew, since a disk was set back.
    pub renewals: u64,
    /// Entries that were written again in them.
    pub moved: u64,
    /// Regions that joined, empty or after they had been removed.
    pub joins: u64,
    /// Regions that were removed.
    pub removals: u64,
    /// Regions that were told to stop and sent their editors away.
    pub drains: u64,
    /// Documents that were deleted.
    pub deletions: u64,
    /// Documents that were restored.
    pub restorations: u64,
    /// Documents that are deleted in the end, counted for each region.
    pub deleted: u64,
    /// Documents that live in the end since an edit has revived them, counted for each region.
    pub revived: u64,
    /// Acknowledged updates that went with a disk before another region had them.
    pub gone_with_disk: u64,
    /// Snapshots that regions began to take from a peer.
    pub snapshots_begun: u64,
    /// Snapshots that became part of a region's documents.
    pub snapshots_taken: u64,
    /// How often a link put off what its peer had missed, to keep the pace.
    pub paced: u64,
    /// Batches that came again.
    pub duplicates: u64,
    /// Batches that came before the one before them.
    pub gaps: u64,
}

impl Totals {
    /// Adds the figures of another run.
    pub const fn add(&mut self, other: &Self) {
        self.simulated_ms += other.simulated_ms;
        self.edits += other.edits;
        self.field_edits += other.field_edits;
        self.write_backs += other.write_backs;
        self.conflicts += other.conflicts;
        self.past_conflicts += other.past_conflicts;
        self.told_too_often += other.told_too_often;
        self.given_back += other.given_back;
        self.entries += other.entries;
        self.acknowledged += other.acknowledged;
        self.shown += other.shown;
        self.partitions += other.partitions;
        self.crashes += other.crashes;
        self.disks += other.disks;
        self.renewals += other.renewals;
        self.moved += other.moved;
        self.joins += other.joins;
        self.removals += other.removals;
        self.drains += other.drains;
        self.deletions += other.deletions;
        self.restorations += other.restorations;
        self.deleted += other.deleted;
        self.revived += other.revived;
        self.gone_with_disk += other.gone_with_disk;
        self.snapshots_begun += other.snapshots_begun;
        self.snapshots_taken += other.snapshots_taken;
        self.paced += other.paced;
        self.duplicates += other.duplicates;
        self.gaps += other.gaps;
    }
}
