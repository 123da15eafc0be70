//! Adding regions to the cluster and removing them: what must be true before, and what follows.
//!
//! A removal is an entry of the log, and so reaches every region, sooner or later. Each one that has applied
//! it ends its link to the removed region and lets it in no more.

use super::links::Peers;
use quire_protocol::batch::{EntryKind, MemberChange, Membership, NO_DOC};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::ReplicaId;
use quire_protocol::link::{Bye, ByeReason, Role};
use quire_storage::{AppendError, NewEntry};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a removal waits for regions to have what others hold. Longer than a ping and a few ways there.
const SPREAD_MAX: Duration = Duration::from_secs(30);
/// How often it looks. What peers hold is known by their acks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a region leaves the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is there: first it gets what is here, and what it has is got from it.
    Orderly,
    /// It is gone for good: first what this region and its peers hold of it is spread among them.
    Lost,
}

/// Why the members were not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemberError {
    #[error("this region has no cluster: start it with a cluster-secret-file")]
    Alone,
    #[error("this region follows others and writes nothing: ask a leader")]
    Follower,
    #[error("a region does not remove itself: ask another one")]
    Own,
    #[error("there is no link to region {0}: when it is gone for good, remove it as lost")]
    Away(u16),
    #[error("region {0} has a link to this one: it is not lost")]
    Here(u16),
    #[error("what regions hold has not spread: {0}; see whether they are there, and try again")]
    Behind(String),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Peers {
    /// Says that a region belongs to the cluster.
    pub(crate) async fn add_member(&self, replica: ReplicaId) -> Result<(), MemberError> {
        self.change_member(replica, Membership::Member).await
    }

    /// Takes a region out of the cluster, once nothing that it has or lacks would be lost by that.
    pub(crate) async fn remove_member(
        &self,
        replica: ReplicaId,
        removal: Removal,
    ) -> Result<(), MemberError> {
        if self.secret.is_none() {
            return Err(MemberError::Alone);
        }
        if replica == self.stream.borrow().replica {
            return Err(MemberError::Own);
        }
        let linked = self.hears.borrow().contains(&replica);
        match removal {
            Removal::Orderly if !linked => return Err(MemberError::Away(replica.0)),
            Removal::Lost if linked => return Err(MemberError::Here(replica.0)),
            Removal::Orderly | Removal::Lost => {}
        }
        let mut target = None;
        let spread = async {
            while self.lacking(replica, removal, &mut target).is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(SPREAD_MAX, spread).await.is_err()
            && let Some(lacking) = self.lacking(replica, removal, &mut target)
        {
            return Err(MemberError::Behind(lacking));
        }
        self.change_member(replica, Membership::Removed).await
    }

    /// Who lacks something that must spread first, in words; none when nobody does. What must is what was
    /// held by anybody when it was first asked: what is written meanwhile goes its way by itself.
    fn lacking(&self, replica: ReplicaId, removal: Removal, target: &mut Option<Frontier>) -> Option<String> {
        let mut held = vec![("this region".to_owned(), self.log.received())];
        self.for_links(|peer, link| {
            if removal == Removal::Lost || peer == replica {
                held.push((format!("region {}", peer.0), link.held().clone()));
            }
        });
        if removal == Removal::Orderly && held.len() < 2 {
            return Some(format!("region {} has lost its link", replica.0));
        }
        let target = target.get_or_insert_with(|| {
            let mut all = Frontier::new();
            held.iter().for_each(|(_, held)| all.merge(held));
            match removal {
                Removal::Orderly => all,
                Removal::Lost => all.iter().filter(|dot| dot.stream.replica == replica).collect(),
            }
        });
        let lacks = held.into_iter().find(|(_, held)| !held.covers_all(target));
        lacks.map(|(who, _)| format!("{who} lacks entries"))
    }

    async fn change_member(&self, replica: ReplicaId, membership: Membership) -> Result<(), MemberError> {
        if self.secret.is_none() {
            return Err(MemberError::Alone);
        }
        if self.role == Role::Follower {
            return Err(MemberError::Follower);
        }
        let payload = MemberChange { replica, membership }.encode();
        let entry = NewEntry { doc: NO_DOC, kind: EntryKind::Member, payload };
        let (done, committed) = oneshot::channel();
        self.appender.append(vec![entry], move |receipt| drop(done.send(receipt)));
        committed.await.unwrap_or(Err(AppendError::Closed))?;
        tracing::info!(replica = replica.0, ?membership, "members changed");
        self.members_changed();
        Ok(())
    }

    /// Ends links to regions that have been removed.
    pub(crate) fn members_changed(&self) {
        self.kept.members_changed();
        for replica in self.log.members().removed() {
            self.end_link(replica, removed(replica));
        }
    }

    /// Whether a region may have a link.
    ///
    /// # Errors
    /// What it is told when it may not.
    pub(super) fn check_member(&self, replica: ReplicaId) -> Result<(), Bye> {
        if self.log.members().is_removed(replica) { Err(removed(replica)) } else { Ok(()) }
    }

    /// The regions that were removed, for operators.
    pub(crate) fn removed_members(&self) -> Vec<u16> {
        self.log.members().removed().map(|replica| replica.0).collect()
    }
}

fn removed(replica: ReplicaId) -> Bye {
    let detail = format!("region {} was removed from the cluster", replica.0);
    Bye { reason: ByeReason::Removed, detail }
}
