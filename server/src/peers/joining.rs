//! Whether this region is joining: it began with an empty log, and lacks something that its peers had when it
//! met them. People are led elsewhere meanwhile; whoever comes all the same is served.
//!
//! Peers that cannot be reached hold nobody back, but one must have been met: an empty region that knows of
//! others is not the place to read or to seed documents. One that dials nobody may be the first of its
//! cluster, and is ready until somebody who has more finds it.
//!
//! Invariant: a region that has joined has joined for good, whatever becomes of its links.

use super::links::Peers;
use crate::config::Settings;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{Dot, ReplicaId};
use std::fs::{File, remove_file};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The file that a region has while it is joining, so that it still is after a restart.
const MARKER: &str = "joining";

/// What is known of this region's joining.
#[derive(Debug, Default)]
pub(super) struct Joining {
    under_way: AtomicBool,
    /// Whether a peer has said since the start what it has of this region's own entries, and all of it is here.
    pub(super) own_past: AtomicBool,
    marker: Option<PathBuf>,
}

/// What a region that is joining knows of its peers.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Each peer with a link, and what it had when it was met, once it has said so.
    pub(super) peers: Vec<(ReplicaId, Option<Frontier>)>,
    /// Whether somebody is dialled of whom it is not known yet whether they can be reached.
    pub(super) trying: bool,
    /// Whether anybody is dialled at all.
    pub(super) dials: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Joined,
    /// It may be that nobody else is there.
    Alone,
    /// Nobody has said yet what they have.
    Unmet,
    /// So many entries of these peers have not come yet, and others may be found to have more.
    Lacks {
        entries: u64,
        peers: Vec<u16>,
    },
}

impl Joining {
    /// Finds out whether a region that starts is joining.
    ///
    /// # Errors
    /// When the marker cannot be written or removed.
    pub(super) fn begin(settings: &Settings, is_clustered: bool, received: &Frontier) -> io::Result<Self> {
        if !is_clustered {
            return Ok(Self::default());
        }
        let marker = settings.data.join(MARKER);
        if settings.peers.is_empty() {
            // Whoever takes the peers out of the configuration says that nobody is to be waited for.
            remove(&marker)?;
            return Ok(Self { under_way: AtomicBool::new(received.is_empty()), ..Self::default() });
        }
        if received.is_empty() {
            // Before the first entry is written, after which the log does not say that it began empty.
            File::create(&marker)?.sync_all()?;
            File::open(&settings.data)?.sync_all()?;
        }
        let under_way = marker.try_exists()?;
        if under_way {
            tracing::info!("joining: not ready until this region has what its peers have");
        }
        Ok(Self { under_way: AtomicBool::new(under_way), marker: Some(marker), ..Self::default() })
    }

    fn ended(&self) {
        if !self.under_way.swap(false, Ordering::AcqRel) {
            return;
        }
        tracing::info!("joined: this region has what its peers had when it met them");
        if let Some(marker) = &self.marker
            && let Err(error) = remove(marker)
        {
            tracing::error!(%error, marker = %marker.display(), "cannot remove the marker of joining; remove it");
        }
    }
}

fn remove(marker: &PathBuf) -> io::Result<()> {
    match remove_file(marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Peers {
    /// Why this region is no place for editors at this moment, as far as other regions go.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.importing.is_merging() {
            let reason = "importing a snapshot of another region: no write is taken until it is merged";
            return Some(reason.to_owned());
        }
        self.look_at_joining()
    }

    /// Whether nobody is known to hold entries of this region's own that its disk has lost: some peer has said since
    /// the start what it has of them, and all of that is here; or there have never been peers.
    pub(crate) fn knows_own_past(&self) -> bool {
        if !self.is_clustered() || self.joining.own_past.load(Ordering::Acquire) {
            return true;
        }
        let applied = self.log.applied();
        let me = self.stream.borrow().replica;
        let met = self.met();
        let is_own = |dot: &Dot| dot.stream.replica == me;
        let knows = |had: &Frontier| had.iter().filter(is_own).all(|dot| applied.covers(dot));
        let is_first = !met.dials && met.peers.is_empty() && applied.iter().all(|dot| is_own(&dot));
        let knows = is_first || met.peers.iter().any(|(_, had)| had.as_ref().is_some_and(knows));
        // What is known stays so: whatever was written since is on this disk. One that never had a peer may get one.
        if knows && !is_first {
            self.joining.own_past.store(true, Ordering::Release);
        }
        knows
    }

    /// Takes note when that is so.
    pub(super) fn look_at_own_past(&self) {
        let _known = self.knows_own_past();
    }

    /// Takes note when this region has joined; says why it has not.
    pub(super) fn look_at_joining(&self) -> Option<String> {
        if !self.joining.under_way.load(Ordering::Acquire) {
            return None;
        }
        match progress(&self.log.received(), &self.met()) {
            Progress::Joined => {
                self.joining.ended();
                None
            }
            Progress::Alone => None,
            Progress::Unmet => Some(
                "joining: this region began empty and has met none of its peers; /healthz/peers says why. \
                 One that is to serve before any other is there is started without peers"
                    .to_owned(),
            ),
            Progress::Lacks { entries, peers } => {
                let peers: Vec<_> = peers.iter().map(u16::to_string).collect();
                let peers = peers.join(", ");
                Some(format!(
                    "joining: {entries} entries are still to come that region {peers} had when it was met"
                ))
            }
        }
    }
}

fn progress(received: &Frontier, met: &Met) -> Progress {
    let mut lacks = Frontier::new();
    let mut ahead = Vec::new();
    for (replica, had) in &met.peers {
        if let Some(had) = had.as_ref().filter(|had| !received.covers_all(had)) {
            lacks.merge(had);
            ahead.push(replica.0);
        }
    }
    let all_said = met.peers.iter().all(|(_, had)| had.is_some());
    if !ahead.is_empty() {
        let missing = lacks.iter().map(|dot| dot.seq.0.saturating_sub(received.get(dot.stream).0));
        Progress::Lacks { entries: missing.sum(), peers: ahead }
    } else if met.peers.is_empty() && !met.dials {
        Progress::Alone
    } else if met.peers.is_empty() || !all_said || met.trying {
        Progress::Unmet
    } else {
        Progress::Joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_protocol::ids::{Seq, StreamId};

    fn frontier(entries: &[(u32, u64)]) -> Frontier {
        let dot =
            |&(stream, seq): &(u32, u64)| Dot { stream: StreamId::from_u32(stream << 16 | 1), seq: Seq(seq) };
        entries.iter().map(dot).collect()
    }

    fn met<const N: usize>(peers: [(u16, Option<Frontier>); N]) -> Met {
        let peers = peers.into_iter().map(|(replica, had)| (ReplicaId(replica), had));
        Met { peers: peers.collect(), trying: false, dials: true }
    }

    #[test]
    fn a_region_has_joined_when_it_has_what_everybody_had_whom_it_met() {
        let received = frontier(&[(1, 7), (2, 5), (9, 3)]);
        let first = || (1, Some(frontier(&[(1, 7)])));
        let both = || met([first(), (2, Some(frontier(&[(1, 6), (2, 5)])))]);
        assert_eq!(progress(&received, &both()), Progress::Joined);
        let lacks = Progress::Lacks { entries: 6, peers: vec![1, 2] };
        assert_eq!(
            progress(&frontier(&[(2, 1)]), &both()),
            Progress::Lacks { entries: 11, peers: vec![1, 2] }
        );
        let common = met([first(), (2, Some(frontier(&[(1, 6)])))]);
        assert_eq!(progress(&frontier(&[(1, 1)]), &common), lacks, "what both had counts once");
        assert_eq!(progress(&received, &met([first(), (2, None)])), Progress::Unmet);
    }

    #[test]
    fn a_region_waits_for_those_it_dials_until_it_knows_that_it_cannot_reach_them() {
        let received = frontier(&[(9, 3)]);
        let first_met_is_new_as_well = || met([(3, Some(Frontier::new()))]);
        assert_eq!(progress(&received, &first_met_is_new_as_well()), Progress::Joined);
        let others = Met { trying: true, ..first_met_is_new_as_well() };
        assert_eq!(progress(&received, &others), Progress::Unmet);
    }

    #[test]
    fn nobody_met_is_joining_for_who_dials_and_the_beginning_for_who_does_not() {
        assert_eq!(progress(&Frontier::new(), &met([])), Progress::Unmet);
        assert_eq!(progress(&Frontier::new(), &Met::default()), Progress::Alone);
        let found = Met { dials: false, ..met([(2, Some(frontier(&[(2, 4)])))]) };
        assert_eq!(progress(&Frontier::new(), &found), Progress::Lacks { entries: 4, peers: vec![2] });
    }
}
