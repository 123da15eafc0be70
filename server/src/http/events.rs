//! Conflicts as they change, as Server-Sent Events.
//!
//! A stream is a cursor over the changes on record: it reads on when its reader has taken what was read. So a slow
//! reader costs no memory, and finds each conflict as it is then.
//!
//! Invariant: nobody is told of a document that their token does not cover, or after the token's time.

use super::bearer::{After, Bearer};
use super::conflicts::{Conflict, statuses};
use super::problem::{Kind, Problem};
use crate::auth::Grant;
use crate::conflicts::{Book, Filter, Told};
use crate::region::Region;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a reader has seen, as browsers tell it when they connect again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies end a connection on which nothing comes, many after 60 seconds.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// So many changes are looked at for one read.
const READ_LEN: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Following {
    /// Names of statuses with commas between them, or `all`.
    status: Option<String>,
    #[serde(default)]
    prefix: String,
    document: Option<String>,
    field: Option<String>,
    policy: Option<String>,
    kind: Option<String>,
    /// The id of the last event that was seen; the header goes over it.
    after: Option<String>,
}

/// Tells of conflicts that change, of the documents that the bearer may read.
pub(super) async fn stream(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    _: After,
    headers: HeaderMap,
    Query(following): Query<Following>,
) -> Result<Response, Problem> {
    let Following { status, prefix, document, field, policy, kind, after } = following;
    let statuses = statuses(status.as_deref().unwrap_or("all"))?;
    let filter = Filter { statuses, prefix, document, field, policy, kind };
    let book = region.documents.book().clone();
    let changed = book.watch();
    let last = *changed.borrow();
    let seen = match headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default()).or(after.as_deref())
    {
        // A number of another region, or of a clock that went back, is of no use beyond the last.
        Some(id) => id.parse::<u64>().map_err(|_| not_an_id())?.min(last),
        None => last,
    };
    let place = region.event_streams.clone().try_acquire_owned().map_err(|_| {
        Problem::new(Kind::Unavailable, "there are as many streams of events as the server takes")
    })?;
    let closing = region.closing.clone();
    let feed = Feed::new(Source { book, changed, closing }, Reader { filter, grant, seen }, place);
    let events = futures_util::stream::unfold(feed, |mut feed| async {
        feed.next().await.map(|event| (Ok::<_, Infallible>(event), feed))
    });
    // Some proxies keep an answer until it is whole, unless they are told.
    let headers = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Sse::new(events)).into_response())
}

fn not_an_id() -> Problem {
    Problem::new(Kind::BadRequest, "Last-Event-ID, or after, is the id of an event")
}

/// What a stream is read from, and what ends it.
struct Source {
    book: Arc<Book>,
    changed: watch::Receiver<u64>,
    closing: CancellationToken,
}

/// What somebody reads, and how far they have come.
struct Reader {
    filter: Filter,
    grant: Grant,
    seen: u64,
}

/// One stream.
struct Feed {
    source: Source,
    reader: Reader,
    /// What was read and has not been sent.
    unsent: VecDeque<Change>,
    /// When something was sent last; nothing has been at first.
    sent: Option<Instant>,
    ends: Option<Instant>,
    _place: Place,
}

/// A conflict that has changed.
struct Change {
    number: u64,
    event: &'static str,
    conflict: Conflict,
}

/// One stream's place.
struct Place(#[expect(dead_code, reason = "it is given back when it is dropped")] OwnedSemaphorePermit);

impl Place {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!(crate::metrics::EVENT_STREAMS).increment(1);
        Self(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::gauge!(crate::metrics::EVENT_STREAMS).decrement(1);
    }
}

impl Feed {
    fn new(source: Source, reader: Reader, place: OwnedSemaphorePermit) -> Self {
        let left = |ends: u64| Duration::from_millis(ends.saturating_sub(crate::run::unix_ms()));
        let ends = reader.grant.expires_at_ms().map(|ends| Instant::now() + left(ends));
        Self { source, reader, unsent: VecDeque::new(), sent: None, ends, _place: Place::new(place) }
    }

    /// The next event; none when the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let now = Instant::now();
            if self.source.closing.is_cancelled() || self.ends.is_some_and(|ends| ends <= now) {
                return None;
            }
            if let Some(change) = self.unsent.pop_front() {
                self.sent = Some(now);
                return Some(change.into());
            }
            let alive_at = self.sent.map_or(now, |sent| sent + ALIVE_EVERY);
            if alive_at <= now {
                self.sent = Some(now);
                // Without data it is no event, yet the reader knows where to go on.
                return Some(Event::default().id(self.reader.seen.to_string()).comment("alive"));
            }
            let until = self.ends.map_or(alive_at, |ends| alive_at.min(ends));
            let seen = self.reader.seen;
            let is_more = tokio::select! {
                () = self.source.closing.cancelled() => false,
                () = tokio::time::sleep_until(until) => false,
                more = self.source.changed.wait_for(|last| *last > seen) => more.is_ok(),
            };
            if is_more && self.read().await.is_none() {
                return None;
            }
        }
    }

    /// Reads what has changed, or the first part of it. None where it cannot be read: the reader comes again.
    async fn read(&mut self) -> Option<()> {
        let (book, filter, seen) = (self.source.book.clone(), self.reader.filter.clone(), self.reader.seen);
        let read = tokio::task::spawn_blocking(move || book.changes(seen, &filter, READ_LEN)).await.ok()?;
        let changes = read
            .inspect_err(
                |error| tracing::error!(%error, "cannot read what has changed for a stream of events"),
            )
            .ok()?;
        let grant = &self.reader.grant;
        let change = |told: &Told| {
            let conflict = Conflict::told(told, &|document| grant.access(document).is_some())?;
            Some(Change { number: told.change(), event: told.event(seen), conflict })
        };
        self.unsent = changes.conflicts.iter().filter_map(change).collect();
        self.reader.seen = changes.up_to;
        Some(())
    }
}

impl From<Change> for Event {
    fn from(Change { number, event, conflict }: Change) -> Self {
        let json = serde_json::to_string(&conflict).expect("texts and numbers are JSON");
        Self::default().event(event).id(number.to_string()).data(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Access, Authenticator, CLOCK_LEEWAY_SECONDS, Claims, DocRule, JwtKey, mint};
    use quire_protocol::ids::{Incarnation, ReplicaId, StreamId};
    use quire_storage::MemoryLog;
    use tokio::sync::Semaphore;

    fn feed(seconds: f64) -> (Feed, CancellationToken) {
        let stream = StreamId { replica: ReplicaId(1), incarnation: Incarnation(1) };
        let book =
            Arc::new(Book::open(Arc::new(MemoryLog::new(stream)), Arc::default(), 0).expect("readable"));
        let now_ms = crate::run::unix_ms();
        let key = JwtKey::parse(&[7; 32]).expect("a secret");
        let exp = now_ms as f64 / 1_000.0 + seconds;
        let claims =
            Claims { sub: "ada".into(), exp, nbf: None, docs: vec![DocRule::new("**", Access::Read)] };
        let token = mint(&claims, &key).expect("a secret signs");
        let grant = Authenticator::jwt(key).verify(Some(&token), now_ms).expect("a good token");
        let closing = CancellationToken::new();
        let source = Source { changed: book.watch(), book, closing: closing.clone() };
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        (Feed::new(source, Reader { filter: Filter::all(), grant, seen: 0 }, place), closing)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_kept_alive_until_its_token_ends() {
        let began = Instant::now();
        let (mut feed, _closing) = feed(60.0);
        let mut alive = 0;
        while feed.next().await.is_some() {
            alive += 1;
        }
        // The token was made by another clock, which does not stand still.
        let seconds = (began.elapsed() + Duration::from_millis(500)).as_secs();
        assert_eq!((seconds, alive), (60 + CLOCK_LEEWAY_SECONDS, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_server() {
        let (mut feed, closing) = feed(60.0);
        assert!(feed.next().await.is_some());
        let (end, ()) = tokio::join!(feed.next(), async { closing.cancel() });
        assert!(end.is_none());
    }
}
