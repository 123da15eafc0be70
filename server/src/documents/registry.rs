//! Which documents are open, and the one place where they open and unload.
//!
//! Whoever needs a document holds a [`Lease`]. An actor may leave only when nobody does, and that is
//! decided under the same lock that hands leases out, so a document is open at most once.
//!
//! Invariant: no guard of the map lives across an `.await`.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use quire_protocol::document::{Answer, Limits, Refused, Request, Ticket};
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::fields::{RuleBook, Rules, Value};
use quire_protocol::ids::{DocId, DocName, ReplicaId, SessionId};
use quire_protocol::time::Time;
use quire_storage::{AppendError, Appender, Log, NewEntry, Receipt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::actor;
use super::delivery::Backlog;
use super::inbox::{Closed, Inbox, Message};
use super::order::Order;
use super::sleepers::Sleepers;
use crate::conflicts::Book;

/// The bounds that all documents share.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bounds of each document.
    pub document: Limits,
    /// The most documents that are open at once.
    pub documents_open_max: usize,
    /// The most bytes from outside that may be on their way to the disk; more waits in the sockets.
    pub ingest_bytes_max: usize,
    /// The most documents that are read from the disk at once.
    pub loads_max: usize,
    /// What this region is called.
    pub region: Arc<str>,
    /// How the fields of documents are merged.
    pub rules: Arc<RuleBook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            document: Limits::default(),
            documents_open_max: 100_000,
            ingest_bytes_max: 64 << 20,
            loads_max: 16,
            region: "".into(),
            rules: Arc::new(RuleBook::new(Arc::default())),
        }
    }
}

/// Why a document cannot be opened at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// [`Options::documents_open_max`] are open.
    #[error("too many documents are open")]
    Full,
}

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The document refused it.
    #[error("{0}")]
    Refused(Refused),
    /// The document was given up while the request waited; nothing is known of its outcome.
    #[error("the document was closed before it could answer")]
    Lost,
}

#[derive(Debug)]
struct Slot {
    inbox: Arc<Inbox>,
    leases: usize,
}

/// What every actor needs.
pub(super) struct Shared {
    pub(super) log: Arc<dyn Log>,
    pub(super) book: Arc<Book>,
    pub(super) appender: Appender,
    pub(super) options: Options,
    pub(super) loads: Semaphore,
    pub(super) ack_seconds: metrics::Histogram,
    pub(super) fanout_seconds: metrics::Histogram,
    ingest: Arc<Semaphore>,
    started: Instant,
    next_ticket: AtomicU64,
    next_session: AtomicU64,
}

impl Shared {
    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn next_ticket(&self) -> Ticket {
        Ticket(self.next_ticket.fetch_add(1, Ordering::Relaxed))
    }
}

/// Tells other regions of awareness.
type TellElsewhere = Box<dyn Fn(DocId, &Bytes) + Send + Sync>;

/// All open documents.
pub struct Documents {
    slots: DashMap<DocId, Slot>,
    pub(super) shared: Shared,
    actors: TaskTracker,
    pub(super) backlog: Arc<Backlog>,
    pub(super) order: Mutex<Order>,
    elsewhere: OnceLock<TellElsewhere>,
    live: OnceLock<watch::Receiver<BTreeSet<ReplicaId>>>,
    pub(super) sleepers: Sleepers,
    unreadable: Mutex<HashSet<DocId>>,
}

/// So many documents that cannot be read are told apart; who has more knows enough.
const UNREADABLE_MAX: usize = 1_000;

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").field("open", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Documents {
    /// No document is open yet.
    #[must_use]
    pub(crate) fn new(log: Arc<dyn Log>, book: Arc<Book>, appender: Appender, options: Options) -> Arc<Self> {
        let (me, applied) = (log.stream().replica, log.applied());
        Arc::new(Self {
            slots: DashMap::new(),
            shared: Shared {
                log,
                book,
                appender,
                loads: Semaphore::new(options.loads_max),
                ack_seconds: metrics::histogram!(crate::metrics::ACK_SECONDS),
                fanout_seconds: metrics::histogram!(crate::metrics::FANOUT_SECONDS),
                ingest: Arc::new(Semaphore::new(options.ingest_bytes_max)),
                options,
                started: Instant::now(),
                next_ticket: AtomicU64::new(1),
                next_session: AtomicU64::new(1),
            },
            actors: TaskTracker::new(),
            backlog: Arc::default(),
            order: Mutex::new(Order::new(me, applied)),
            elsewhere: OnceLock::new(),
            live: OnceLock::new(),
            sleepers: Sleepers::default(),
            unreadable: Mutex::default(),
        })
    }

    /// Says who is to be told of awareness; once. Until then nobody is.
    pub fn set_elsewhere(&self, tell: impl Fn(DocId, &Bytes) + Send + Sync + 'static) {
        // A second one would come too late to be told of everything.
        let _first = self.elsewhere.set(Box::new(tell));
    }

    /// What the schema says of a document.
    pub fn rules(&self, name: &DocName) -> Rules {
        self.shared.options.rules.rules(name)
    }

    /// What comes of edits that a document's deletion had not seen.
    pub fn on_delete(&self, name: &DocName) -> DeletePolicy {
        self.rules(name).collection().on_delete
    }

    /// Says which leaders this region reaches; once, before any document is opened. Without it no region makes
    /// write-backs.
    pub fn set_live(&self, live: watch::Receiver<BTreeSet<ReplicaId>>) {
        // A second one would not hold for documents that are open.
        let _first = self.live.set(live);
    }

    /// The leaders that are reached, for whoever wants to know of changes.
    pub(super) fn live(&self) -> Option<watch::Receiver<BTreeSet<ReplicaId>>> {
        self.live.get().cloned()
    }

    /// Has a document look again who its home is.
    pub(crate) fn rehome(&self, doc: DocId) {
        self.say(doc, Message::Rehome);
    }

    /// Has open documents take what the log says of their deletions and edits: entries of this region's own
    /// were written again under other names. On the thread that commits, so that nothing comes in between.
    pub(crate) fn written_again(&self) {
        for doc in self.slots.iter().map(|slot| *slot.key()).collect::<Vec<_>>() {
            self.tell_life(doc);
        }
    }

    /// Has a document take what the log says of its deletions and edits.
    pub(super) fn tell_life(&self, doc: DocId) {
        match self.shared.log.info(doc) {
            Ok(Some(info)) => self.say(doc, Message::Life(Box::new(info.life))),
            Ok(None) => {}
            Err(error) => tracing::error!(?doc, %error, "what the log says of a document cannot be read"),
        }
    }

    /// Tells the other regions who moves, comes or goes here.
    pub(super) fn tell_elsewhere(&self, doc: DocId, payload: &Bytes) {
        if let Some(tell) = self.elsewhere.get() {
            tell(doc, payload);
        }
    }

    /// Notes whether a document could be read when it was last opened.
    pub(super) fn note_read(&self, id: DocId, done: bool) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if done {
            unreadable.remove(&id);
        } else if unreadable.len() < UNREADABLE_MAX {
            unreadable.insert(id);
        }
    }

    /// How many documents could not be read when they were last opened, up to a thousand.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The document, open and kept open while the lease lives.
    ///
    /// # Errors
    /// When too many documents are open.
    pub fn open(self: &Arc<Self>, name: &DocName) -> Result<Lease, OpenError> {
        let id = name.id();
        // Asked before the entry is locked, since it looks at every shard; being off by a few of
        // those that open at this very moment does no harm.
        let full = self.slots.len() >= self.shared.options.documents_open_max;
        let inbox = match self.slots.entry(id) {
            Entry::Occupied(mut slot) => {
                slot.get_mut().leases += 1;
                slot.get().inbox.clone()
            }
            Entry::Vacant(_) if full => return Err(OpenError::Full),
            Entry::Vacant(slot) => {
                let inbox = Arc::new(Inbox::default());
                slot.insert(Slot { inbox: inbox.clone(), leases: 1 });
                self.actors.spawn(actor::run(self.clone(), name.clone(), inbox.clone()));
                metrics::gauge!(crate::metrics::DOCUMENTS_OPEN).increment(1);
                inbox
            }
        };
        Ok(Lease { documents: self.clone(), id, inbox })
    }

    /// Whether a document is open, or opening.
    pub(super) fn is_open(&self, id: DocId) -> bool {
        self.slots.contains_key(&id)
    }

    /// The inbox of a document, if it is open.
    pub(super) fn inbox(&self, id: DocId) -> Option<Arc<Inbox>> {
        self.slots.get(&id).map(|slot| slot.inbox.clone())
    }

    /// Says something to a document, if it is open.
    pub(super) fn say(&self, id: DocId, message: Message) {
        // Where it has just been closed, the log tells whoever opens it next.
        let _open = self.inbox(id).map(|inbox| inbox.push(message));
    }

    /// Lets an actor leave, unless somebody holds a lease.
    pub(super) fn retire(&self, id: DocId) -> bool {
        let left = self.slots.remove_if(&id, |_, slot| slot.leases == 0).is_some();
        if left {
            metrics::gauge!(crate::metrics::DOCUMENTS_OPEN).decrement(1);
        }
        left
    }

    /// Lets an actor leave that can no longer serve; those who hold leases are told by their closing.
    pub(super) fn evict(&self, id: DocId, inbox: &Arc<Inbox>) {
        if self.slots.remove_if(&id, |_, slot| Arc::ptr_eq(&slot.inbox, inbox)).is_some() {
            metrics::gauge!(crate::metrics::DOCUMENTS_OPEN).decrement(1);
        }
    }

    fn release(&self, id: DocId, inbox: &Arc<Inbox>) {
        if let Some(mut slot) = self.slots.get_mut(&id)
            && Arc::ptr_eq(&slot.inbox, inbox)
        {
            slot.leases -= 1;
        }
    }

    /// Waits for room for so many bytes from outside; more than the whole budget waits for all of it.
    pub async fn ingest(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = bytes.min(self.shared.options.ingest_bytes_max);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.shared.ingest.clone().acquire_many_owned(permits).await.expect("the budget is never closed")
    }

    /// Writes an entry about a document that changes nothing of what its machine shows, and waits for its commit.
    ///
    /// # Errors
    /// When the log takes no writes.
    pub(crate) async fn append(&self, entry: NewEntry) -> Result<Receipt, AppendError> {
        let (done, committed) = oneshot::channel();
        self.shared.appender.append(vec![entry], move |receipt| drop(done.send(receipt)));
        committed.await.unwrap_or(Err(AppendError::Closed))
    }

    /// A number for a new session.
    pub fn next_session(&self) -> SessionId {
        SessionId(self.shared.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// The machines' clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.shared.now()
    }

    /// What is on record of all documents.
    pub(crate) fn book(&self) -> &Arc<Book> {
        &self.shared.book
    }

    /// The log that all documents are kept in.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.shared.log
    }

    /// How many documents are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.slots.len()
    }
}

/// Keeps a document open, and speaks to it.
pub struct Lease {
    documents: Arc<Documents>,
    id: DocId,
    inbox: Arc<Inbox>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.id).finish()
    }
}

impl Lease {
    /// Says something to the document.
    ///
    /// # Errors
    /// When the document was given up; its sessions have been ended.
    pub fn say(&self, message: Message) -> Result<(), Closed> {
        self.inbox.push(message)
    }

    /// Asks the document and waits for its answer; a write's answer comes after its commit.
    ///
    /// # Errors
    /// When the document refuses, or is given up meanwhile.
    pub async fn ask(&self, request: Request) -> Result<Answer, RequestError> {
        let bytes = match &request {
            Request::Update(bytes) | Request::Create(Some(bytes)) => bytes.len(),
            Request::Splice { splices, .. } => splices.iter().map(|splice| splice.insert.len()).sum(),
            Request::EditFields { edits, .. } => {
                edits.iter().filter_map(|edit| edit.value.as_ref()).map(Value::encoded_len).sum()
            }
            Request::ResolveField { value: Some(value), .. } => value.encoded_len(),
            _ => 0,
        };
        let permit = self.documents.ingest(bytes).await;
        let (tx, rx) = oneshot::channel();
        self.say(Message::Request(Box::new(request), tx, permit)).map_err(|Closed| RequestError::Lost)?;
        rx.await.map_err(|_| RequestError::Lost)?.map_err(RequestError::Refused)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.documents.release(self.id, &self.inbox);
    }
}
