//! What every part of one running region shares.
//!
//! Invariant: whether the region is ready is decided in one place, from what is true at that moment.

use crate::auth::Authenticator;
use crate::config::Settings;
use crate::documents::Documents;
use crate::http::{Claims, Numbers, Origins};
use crate::peers::Peers;
use metrics_exporter_prometheus::PrometheusHandle;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{Incarnation, ReplicaId};
use quire_storage::{
    Applied, Commit, CommitObserver, FailureKind, Health, Imported, Log, OpenError, RedbLog, RedbLogOptions,
};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// What every part of the server shares.
pub(crate) struct Region {
    pub(crate) settings: Settings,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) origins: Origins,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) documents: Arc<Documents>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) numbers: Numbers,
    pub(crate) claims: Claims,
    /// What every document shows, or will before it answers anything it is asked from now on.
    pub(crate) shown: watch::Receiver<Frontier>,
    /// Cancelled when the region begins to stop.
    pub(crate) closing: CancellationToken,
    /// Places for streams of events.
    pub(crate) event_streams: Arc<Semaphore>,
}

impl Region {
    /// Waits until every document shows this, or will before it answers anything. A region that stops shows nothing
    /// more, and then this never ends.
    pub(crate) async fn shows(&self, frontier: &Frontier) {
        let mut shown = self.shown.clone();
        if shown.wait_for(|shown| shown.covers_all(frontier)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Why the region takes no work at this moment, if it does not.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.closing.is_cancelled() {
            return Some("the server is stopping".to_owned());
        }
        match self.log.health() {
            Health::Serving => self.peers.unready(),
            Health::Failed(failure) => Some(match failure.kind {
                FailureKind::DiskFull => format!("the disk is full; make room and restart: {failure}"),
                FailureKind::Io => format!("the disk failed; restart to read it again: {failure}"),
                FailureKind::Corrupt => {
                    format!("what is stored is damaged; `quire check` says where: {failure}")
                }
            }),
        }
    }
}

/// Tells metrics, open documents, and whoever waits for a frontier, of each commit.
pub(crate) struct Observer {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) shown: watch::Sender<Frontier>,
    /// Set before the first commit: they need the committer that this observes.
    pub(crate) told: Arc<OnceLock<Told>>,
}

/// Who is told of commits besides those who asked for them.
pub(crate) struct Told {
    pub(crate) documents: Arc<Documents>,
    pub(crate) peers: Arc<Peers>,
}

impl CommitObserver for Observer {
    fn committed(&mut self, commit: Commit) {
        metrics::histogram!(crate::metrics::COMMIT_SECONDS).record(commit.duration);
        #[expect(clippy::cast_precision_loss, reason = "a commit holds far fewer than 2^53 entries")]
        metrics::histogram!(crate::metrics::COMMIT_ENTRIES).record(commit.entries as f64);
        metrics::counter!(crate::metrics::COMMIT_BYTES).increment(commit.bytes as u64);
        if let Some(told) = self.told.get() {
            told.peers.committed();
        }
    }

    fn applied(&mut self, batches: Vec<Applied>) {
        if let Some(told) = self.told.get() {
            told.peers.applied(&batches);
            told.documents.deliver(batches);
        }
    }

    fn imported(&mut self, imported: Imported) {
        if let Some(told) = self.told.get() {
            told.peers.committed();
            told.peers.applied(&imported.applied);
            told.peers.members_changed();
            told.documents.deliver_imported(imported);
        }
    }

    fn told(&mut self) {
        // Not what the log has applied, which documents may not have heard of.
        self.shown.send_replace(self.log.applied());
    }

    fn failed(&mut self, error: &quire_storage::AppendError) {
        metrics::counter!(crate::metrics::COMMITS_FAILED).increment(1);
        tracing::error!(%error, "the log takes no more writes until the server is restarted");
    }
}

/// The log in a data directory.
pub(crate) fn open_log(
    path: &std::path::Path,
    replica: u16,
    cluster: &str,
) -> Result<Arc<dyn Log>, OpenError> {
    let cluster = crate::peers::cluster_id(cluster);
    // The lower half of them leaves room for those that come after it.
    let draw = RandomState::new().build_hasher().finish() % u64::from(u16::MAX / 2);
    let first_incarnation = Incarnation(u16::try_from(draw).unwrap_or_default() + 1);
    let options = RedbLogOptions { cluster, first_incarnation, ..RedbLogOptions::new(ReplicaId(replica)) };
    Ok(Arc::new(RedbLog::open(path, &options)?))
}
