//! One link for each peer, whoever dialled, and what all links share.
//!
//! Invariant: a peer has at most one link here, and both sides keep the same connection.

use super::calls::{Answers, Asked};
use super::driver;
use super::handshake::Identity;
use super::joining::{Joining, Met};
use super::kept::Kept;
use super::lag::{Lags, Waits, canary};
use super::live::Live;
use super::presence::PassedOn;
use super::refused::{RefusedStatus, TurnedAway, Unfit};
use super::secret::Secret;
use super::snapshots::ImportPlace;
use super::status::{Dialling, Failure, LinkStatus, PeerStatus};
use super::wire::{self, Socket};
use crate::config::{RegionRole, Settings};
use crate::documents::Documents;
use bytes::Bytes;
use quire_protocol::batch::EntryKind;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{DocId, ReplicaId, StreamId};
use quire_protocol::link::limits::CALLS_MAX;
use quire_protocol::link::{Bye, ByeReason, Hello, Link, Message, Role, SchemaTerms, Side, replaces};
use quire_storage::{Appender, Applied, Log};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Awareness updates that wait for one link; beyond it they are dropped.
const PRESENCE_QUEUE_MAX: usize = 256;

/// A region that stops waits so long, and no longer than it drains, for its peers to have what it wrote.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

/// The links of one region.
pub(crate) struct Peers {
    pub(super) secret: Option<Secret>,
    pub(super) log: Arc<dyn Log>,
    pub(super) appender: Appender,
    pub(super) documents: Arc<Documents>,
    pub(super) closing: CancellationToken,
    /// The region takes no more writes: each link ends once its peer has all of them.
    pub(super) leaving: CancellationToken,
    /// What is durable here, told after each commit.
    pub(super) received: watch::Sender<Frontier>,
    /// The peers with a link, told when that changes.
    pub(super) hears: watch::Sender<BTreeSet<ReplicaId>>,
    pub(super) live: Live,
    /// The stream of this region's own entries.
    pub(super) stream: watch::Sender<StreamId>,
    cluster: u128,
    schema: Arc<SchemaTerms>,
    pub(super) role: Role,
    pub(super) kept: Kept,
    urls: Vec<String>,
    state: Mutex<State>,
    pub(super) passed_on: PassedOn,
    pub(super) importing: ImportPlace,
    pub(super) answers: Answers,
    pub(super) turned_away: TurnedAway,
    pub(super) unfit: Unfit,
    pub(super) joining: Joining,
    /// How often the stream was renewed since the start.
    pub(super) renewals: AtomicU32,
    lags: Lags,
    waits: Waits,
    pub(super) tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    links: BTreeMap<ReplicaId, Active>,
    next_link: u64,
    /// The peers that had a link since the start.
    known: BTreeSet<ReplicaId>,
    /// Those of them that have removed this region from the cluster, as they say.
    expelled: BTreeSet<ReplicaId>,
    /// How it goes with each URL that is dialled.
    dialling: BTreeMap<String, Dialling>,
}

impl State {
    /// The leaders among the peers that have answered over their links.
    fn leaders(&self) -> impl Iterator<Item = ReplicaId> {
        let answered = self.links.iter().filter(|(_, active)| active.met.is_some());
        answered.filter(|(_, active)| active.status.is_leader()).map(|(replica, _)| *replica)
    }
}

pub(super) struct Active {
    number: u64,
    side: Side,
    stop: Option<oneshot::Sender<Bye>>,
    status: LinkStatus,
    presence: mpsc::Sender<(DocId, Bytes)>,
    pub(super) calls: mpsc::Sender<Asked>,
    /// The replicas that the peer hears first-hand.
    heard_there: BTreeSet<ReplicaId>,
    /// What the peer is known to have.
    held: Frontier,
    /// What the peer had when the link began, once it has said so.
    met: Option<Frontier>,
}

impl Active {
    /// Queues awareness for the peer; drops it while too much waits.
    pub(super) fn tell(&self, doc: DocId, payload: Bytes) {
        if self.presence.try_send((doc, payload)).is_err() {
            metrics::counter!(crate::metrics::AWARENESS_DROPPED).increment(1);
        }
    }

    /// What the peer is known to have.
    pub(super) const fn held(&self) -> &Frontier {
        &self.held
    }

    pub(super) fn hears(&self, replica: ReplicaId) -> bool {
        self.heard_there.contains(&replica)
    }
}

/// What a link is given with its place.
pub(super) struct Mail {
    /// Why the link is to end.
    pub(super) stop: oneshot::Receiver<Bye>,
    /// Awareness for the peer.
    pub(super) presence: mpsc::Receiver<(DocId, Bytes)>,
    /// What the peer is to be asked.
    pub(super) calls: mpsc::Receiver<Asked>,
}

/// A link's place among the others, until its connection ends.
pub(super) struct Place {
    peers: Arc<Peers>,
    pub(super) peer: ReplicaId,
    number: u64,
}

impl Peers {
    /// # Errors
    /// When the data directory cannot hold what is kept there of joining.
    pub(crate) fn new(
        settings: &Settings,
        secret: Option<Secret>,
        log: Arc<dyn Log>,
        appender: Appender,
        documents: Arc<Documents>,
        closing: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let role = match settings.role {
            RegionRole::Leader => Role::Leader,
            RegionRole::Follower => Role::Follower,
        };
        Ok(Arc::new(Self {
            live: Live::new(log.stream().replica, role),
            joining: Joining::begin(settings, secret.is_some(), &log.received())?,
            kept: Kept::new(log.clone(), &settings.limits),
            secret,
            received: watch::Sender::new(log.received()),
            hears: watch::Sender::new(BTreeSet::new()),
            stream: watch::Sender::new(log.stream()),
            log,
            appender,
            documents,
            closing,
            leaving: CancellationToken::new(),
            cluster: cluster_id(&settings.cluster),
            schema: Arc::new(SchemaTerms::new(
                settings.schema.clone(),
                settings.previous_schemas.iter().copied(),
            )),
            role,
            urls: settings.peers.clone(),
            state: Mutex::default(),
            passed_on: PassedOn::default(),
            importing: ImportPlace::default(),
            answers: Answers::default(),
            turned_away: TurnedAway::default(),
            unfit: Unfit::default(),
            renewals: AtomicU32::new(0),
            lags: Lags::default(),
            waits: Waits::default(),
            tasks: TaskTracker::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is changed under the lock is changed by single steps that do not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who this region is to its peers.
    pub(super) fn identity(&self) -> Identity {
        let stream = *self.stream.borrow();
        Identity { cluster: self.cluster, stream, role: self.role, schema: self.schema.clone() }
    }

    /// Begins to dial the peers that the configuration names, and has the log kept for them.
    pub(crate) fn start(self: &Arc<Self>) {
        if self.secret.is_none() {
            return;
        }
        self.kept.begin();
        for url in &self.urls {
            self.tasks.spawn(super::dial::run(self.clone(), url.clone()));
        }
        if self.role == Role::Leader {
            self.tasks.spawn(self.clone().sing());
        }
    }

    /// Tells the links what is durable now.
    pub(crate) fn committed(&self) {
        if self.received.receiver_count() > 0 {
            let received = self.log.received();
            self.waits.look(&received, &self.log.applied());
            self.received.send_replace(received);
        }
    }

    /// Gives a connection the place of the link to its peer, if it is the one that both sides keep. The
    /// one before it is ended.
    ///
    /// # Errors
    /// Why the connection is not kept.
    pub(super) fn take_place(self: &Arc<Self>, hello: &Hello, side: Side) -> Result<(Place, Mail), Bye> {
        let (me, peer) = (self.stream.borrow().replica, hello.stream.replica);
        let mut state = self.state();
        // Under the lock: whoever is removed from now on is found among the links and its link ended.
        self.check_member(peer)?;
        let replaced = |detail: &str| Bye { reason: ByeReason::Replaced, detail: detail.to_owned() };
        if let Some(active) = state.links.get_mut(&peer) {
            if !replaces(me, peer, active.side, side) {
                return Err(replaced("the two regions have a link already"));
            }
            if let Some(stop) = active.stop.take() {
                // One that ends by itself at this moment needs not be told.
                let _ended = stop.send(replaced("a newer connection took its place"));
            }
        }
        let number = state.next_link;
        state.next_link += 1;
        let (stop, stopped) = oneshot::channel();
        let (presence, told) = mpsc::channel(PRESENCE_QUEUE_MAX);
        let (calls, asked) = mpsc::channel(CALLS_MAX);
        let (status, heard_there) = (LinkStatus::new(hello), BTreeSet::new());
        state.known.insert(peer);
        self.unfit.forget(peer);
        let (stop, held, met) = (Some(stop), Frontier::new(), None);
        let active = Active { number, side, stop, status, presence, calls, heard_there, held, met };
        state.links.insert(peer, active);
        self.tell_hears(state);
        let mail = Mail { stop: stopped, presence: told, calls: asked };
        Ok((Place { peers: self.clone(), peer, number }, mail))
    }

    /// Tells who has a link. The lock is held for it: of two links that begin or end at once, what is told
    /// last has both, or a region that is gone would be taken for linked and never dialled again.
    fn tell_hears(&self, state: MutexGuard<'_, State>) {
        self.hears.send_replace(state.links.keys().copied().collect());
        self.live.note(state.leaders());
        drop(state);
    }

    /// Serves a peer over its connection until that ends, and returns why it ended.
    ///
    /// # Errors
    /// When the connection is not the one that both sides keep; the peer has been told.
    pub(super) async fn serve(
        self: &Arc<Self>,
        mut socket: Socket,
        hello: &Hello,
        side: Side,
    ) -> Result<Bye, Bye> {
        let (place, mail) = match self.take_place(hello, side) {
            Ok(taken) => taken,
            Err(bye) => {
                // Whether the peer hears it or not, its connection is not kept.
                let _heard = wire::send(&mut socket, Message::Bye(bye.clone()).encode()).await;
                return Err(bye);
            }
        };
        tracing::info!(peer = place.peer.0, ?side, "linked");
        let bye = driver::run(self, &place, socket, hello, mail).await;
        tracing::info!(peer = place.peer.0, reason = bye.reason.name(), detail = bye.detail, "link ended");
        metrics::counter!(crate::metrics::LINKS_ENDED, "reason" => bye.reason.name()).increment(1);
        if bye.reason == ByeReason::Removed && !self.log.members().is_removed(place.peer) {
            self.state().expelled.insert(place.peer);
        }
        Ok(bye)
    }

    /// Ends all links, for this reason.
    pub(super) fn end_all_links(&self, bye: &Bye) {
        for active in self.state().links.values_mut() {
            if let Some(stop) = active.stop.take() {
                // One that ends by itself at this moment needs not be told.
                let _ended = stop.send(bye.clone());
            }
        }
    }

    /// Ends the link to a region, if there is one, for this reason.
    pub(super) fn end_link(&self, replica: ReplicaId, bye: Bye) {
        let stop = self.state().links.get_mut(&replica).and_then(|active| active.stop.take());
        if let Some(stop) = stop {
            // One that ends by itself at this moment needs not be told.
            let _ended = stop.send(bye);
        }
    }

    /// Takes note of how it goes with a URL.
    pub(super) fn note_dialling(&self, url: &str, change: impl FnOnce(&mut Dialling)) {
        change(self.state().dialling.entry(url.to_owned()).or_default());
    }

    /// Does something with each link.
    pub(super) fn for_links(&self, mut act: impl FnMut(ReplicaId, &Active)) {
        for (replica, active) in &self.state().links {
            act(*replica, active);
        }
    }

    /// Takes note of what other regions wrote and is shown here now.
    pub(crate) fn applied(&self, batches: &[Applied]) {
        let entries = || batches.iter().flat_map(|batch| &batch.entries).map(|(_, entry)| entry);
        self.lags.applied(entries(), crate::run::unix_ms());
        if entries().any(|entry| entry.kind == EntryKind::Member) {
            self.members_changed();
        }
    }

    /// Per region, how far this one is behind it, in milliseconds.
    pub(super) fn lags(&self) -> BTreeMap<ReplicaId, u64> {
        let offsets = self.offsets();
        self.lags.now(crate::run::unix_ms(), |replica| offsets.get(&replica).copied())
    }

    /// Whether a peer has said that this region was removed from the cluster.
    pub(super) fn is_expelled(&self) -> bool {
        let (members, state) = (self.log.members(), self.state());
        let is_removed = |dialling: &Dialling| dialling.replica.is_some_and(|peer| members.is_removed(peer));
        let mut dialled = state.dialling.values().filter(|dialling| !is_removed(dialling));
        let says_so = |failure: &Failure| failure.label == ByeReason::Removed.name();
        !state.expelled.is_empty() || dialled.any(|dialling| dialling.failure.as_ref().is_some_and(says_so))
    }

    /// How far each linked peer's clock is ahead, in milliseconds.
    fn offsets(&self) -> BTreeMap<ReplicaId, i64> {
        let state = self.state();
        let offset = |(replica, active): (&ReplicaId, &Active)| {
            Some((*replica, active.status.figures.clock_offset_ms?))
        };
        state.links.iter().filter_map(offset).collect()
    }

    /// How it goes with every peer: those that are linked, and those that are dialled in vain.
    pub(crate) fn status(&self) -> Vec<PeerStatus> {
        let state = self.state();
        let mut all: BTreeMap<ReplicaId, PeerStatus> = BTreeMap::new();
        let mut unknown = Vec::new();
        for (replica, active) in &state.links {
            // One that ended the last link since this region was removed is about to end this one, too.
            if active.met.is_some() || !state.expelled.contains(replica) {
                all.insert(*replica, PeerStatus::linked(*replica, &active.status));
            }
        }
        // One that was removed is missed by nobody.
        let members = self.log.members();
        for (replica, failure) in self.unfit.status(Instant::now()) {
            if !members.is_removed(replica) {
                all.entry(replica).or_insert_with(|| PeerStatus::unfit(replica, failure));
            }
        }
        for replica in state.known.iter().filter(|replica| !members.is_removed(**replica)) {
            let expelled = state.expelled.contains(replica);
            all.entry(*replica).or_insert_with(|| PeerStatus::away(*replica, expelled));
        }
        for url in &self.urls {
            let dialling = state.dialling.get(url).cloned().unwrap_or_default();
            match dialling.replica.and_then(|replica| all.get_mut(&replica)) {
                Some(peer) => peer.dialled(url, &dialling),
                None => unknown.push(PeerStatus::unknown(url, &dialling)),
            }
        }
        drop(state);
        let lags = self.lags();
        for (replica, peer) in &mut all {
            peer.lag_ms = lags.get(replica).copied();
        }
        all.into_values().chain(unknown).collect()
    }

    /// What is known of the peers while this region is joining.
    pub(super) fn met(&self) -> Met {
        let state = self.state();
        let peers = state.links.iter().map(|(replica, active)| (*replica, active.met.clone())).collect();
        let is_met = |replica| state.links.get(&replica).is_some_and(|active| active.met.is_some());
        let tried = |url| {
            let dialling: Option<&Dialling> = state.dialling.get(url);
            dialling.is_some_and(|one| one.failure.is_some() || one.replica.is_some_and(is_met))
        };
        let trying = !self.urls.iter().all(tried);
        Met { peers, trying, dials: !self.urls.is_empty() }
    }

    /// Who dialled this region of late and was turned away.
    pub(crate) fn turned_away(&self) -> Vec<RefusedStatus> {
        self.turned_away.status(Instant::now())
    }

    /// Whether this region has a cluster at all.
    pub(crate) const fn is_clustered(&self) -> bool {
        self.secret.is_some()
    }

    /// Ends all links, each once its peer has what this region wrote, or after this long.
    pub(crate) async fn stop(&self, drain: Duration) {
        if tokio::time::timeout(drain.min(DELIVERY_MAX), self.deliver()).await.is_err() {
            let left = |peer: PeerStatus| Some(format!("peer {}: {}", peer.replica?, peer.queue_entries?));
            let left: Vec<_> = self.status().into_iter().filter_map(left).collect();
            tracing::warn!(entries = left.join(", "), "stopping before all peers have everything");
        }
        self.leaving.cancel();
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until every peer with a link has acknowledged what this region wrote.
    async fn deliver(&self) {
        if self.role == Role::Leader && self.is_clustered() {
            let (done, durable) = oneshot::channel();
            self.appender.append(vec![canary()], |_| drop(done));
            // Commits keep their order: once this is durable, or the log has failed, so has all before it.
            let _done: Result<(), _> = durable.await;
        }
        self.leaving.cancel();
        let mut linked = self.hears.subscribe();
        // The sender is this region's own, so it cannot be gone.
        let _none = linked.wait_for(BTreeSet::is_empty).await;
    }
}

impl Place {
    /// Takes note of how the link is.
    pub(super) fn note(&self, link: &Link, change: impl FnOnce(&mut LinkStatus)) {
        let mut state = self.peers.state();
        if let Some(active) = state.links.get_mut(&self.peer).filter(|active| active.number == self.number) {
            active.heard_there = link.heard_there().collect();
            active.held.clone_from(link.held());
            change(&mut active.status);
            // The answer to a ping comes behind the frontier with which the peer began.
            if active.met.is_none() && active.status.figures.rtt_ms.is_some() {
                active.met = Some(active.held.clone());
                state.expelled.remove(&self.peer);
                // Not before: one that ends each link at once, for one reason, is told of once.
                let dialling = state.dialling.values_mut();
                dialling.filter(|one| one.replica == Some(self.peer)).for_each(Dialling::went_well);
                self.peers.live.note(state.leaders());
            }
        }
        drop(state);
        self.peers.look_at_joining();
        self.peers.look_at_own_past();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.peers.state();
        if state.links.get(&self.peer).is_some_and(|active| active.number == self.number) {
            state.links.remove(&self.peer);
            self.peers.tell_hears(state);
        }
    }
}

/// A cluster's identity: a function of its name.
pub(crate) fn cluster_id(name: &str) -> u128 {
    let hash = blake3::derive_key("quire cluster name 1", name.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents;
    use quire_protocol::ids::Incarnation;
    use quire_storage::{Committer, CommitterLimits, MemoryLog, Unobserved};
    use std::io;
    use std::pin::Pin;
    use std::sync::Barrier;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    #[test]
    fn clusters_are_told_apart_by_name() {
        assert_ne!(cluster_id("a"), cluster_id("b"));
    }

    fn stream(replica: u16) -> StreamId {
        StreamId { replica: ReplicaId(replica), incarnation: Incarnation(1) }
    }

    fn hello(replica: u16) -> Hello {
        let (stream, role) = (stream(replica), Role::Leader);
        Hello { versions: (1, 1), cluster: 1, stream, role, schema: [0; 16], challenge: [0; 32] }
    }

    /// The links of a region that has none, and what commits to its log.
    fn region() -> (Committer, Arc<Peers>) {
        let log = Arc::new(MemoryLog::new(stream(1)));
        let limits = CommitterLimits::default();
        let committer = Committer::start(log.clone(), || 0, limits, Unobserved).expect("a thread");
        let rules = documents::Options::default().rules;
        let book = Arc::new(crate::conflicts::Book::open(log.clone(), rules, 0).expect("readable"));
        let documents =
            Documents::new(log.clone(), book, committer.appender(), documents::Options::default());
        let (settings, closing) = (Settings::default(), CancellationToken::new());
        let peers =
            Peers::new(&settings, None, log, committer.appender(), documents, closing).expect("peers");
        (committer, peers)
    }

    /// A connection that says nothing and takes nothing.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_link_whose_connection_breaks_while_it_is_written_to_ends_and_leaves_its_place() {
        let (_committer, peers) = region();
        let socket = wire::wary(Box::new(Broken)).await;
        let bye = peers.serve(socket, &hello(2), Side::Dialler).await.expect("a place");
        assert_eq!(bye.reason, ByeReason::Silent);
        assert!(peers.hears.borrow().is_empty());
    }

    #[test]
    fn links_that_begin_and_end_at_once_leave_told_who_is_linked() {
        let (_committer, peers) = region();
        let (threads, rounds) = (4, 2_000);
        let barrier = Barrier::new(threads);
        let (peers, barrier) = (&peers, &barrier);
        std::thread::scope(|scope| {
            for replica in (2..).take(threads) {
                scope.spawn(move || {
                    let mut place = None;
                    for _ in 0..rounds {
                        place = match place {
                            None => Some(peers.take_place(&hello(replica), Side::Dialler).expect("a place")),
                            Some(_) => None,
                        };
                        barrier.wait();
                        let linked: BTreeSet<_> = peers.state().links.keys().copied().collect();
                        assert_eq!(*peers.hears.borrow(), linked);
                        barrier.wait();
                    }
                });
            }
        });
    }
}
