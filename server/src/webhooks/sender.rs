//! Sends what has changed to one webhook: in order, one request at a time, each until its answer is final.
//!
//! Invariant: the cursor passes a change only after its receiver has taken or refused it.

use super::Webhook;
use super::cursor::{Cursor, CursorError};
use crate::conflicts::{Book, Filter, Told};
use crate::http::Conflict;
use crate::net::{AskError, Patience, ask};
use axum::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use serde::Serialize;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A receiver that is there takes a change sooner; it is to answer first and work on it then.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(15),
    // The status says it all; whoever answers more is not listened to.
    answer_bytes: 64 << 10,
};
/// The first wait after a failure, and the longest: a receiver that is restarted is found soon, one that is down for
/// a day costs a request every few minutes.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);
/// So many changes are looked at for one read.
const READ_LEN: usize = 64;

/// What is sent. All that its receiver acts on is in here, under the signature.
#[derive(Serialize)]
struct Event<'a> {
    id: &'a str,
    event: &'static str,
    /// The region that sends it.
    region: &'a str,
    conflict: Conflict,
}

/// What an attempt came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Delivered,
    /// The receiver will not take it, however often it comes.
    Refused(StatusCode),
    /// It may the next time.
    Failed(String),
}

/// The region stops.
struct Stopping;

struct Sender {
    number: String,
    webhook: Webhook,
    filter: Filter,
    book: Arc<Book>,
    region: String,
    cursor: Cursor,
    closing: CancellationToken,
}

/// Starts to send to each webhook what changes from where it was on, until the region closes.
///
/// # Errors
/// When it is not known how far one has come. Nothing is sent then.
pub(crate) fn start(
    webhooks: Vec<Webhook>,
    (directory, region): (&Path, &str),
    book: &Arc<Book>,
    closing: &CancellationToken,
) -> Result<TaskTracker, CursorError> {
    let mut senders = Vec::with_capacity(webhooks.len());
    for (at, webhook) in webhooks.into_iter().enumerate() {
        let cursor = Cursor::open(directory, &webhook.url, *book.watch().borrow())?;
        book.go_on_after(cursor.at);
        let number = (at + 1).to_string();
        tracing::info!(webhook = number, to = authority(&webhook), "sending conflicts that change");
        senders.push(Sender {
            number,
            filter: Filter {
                statuses: webhook.statuses.clone(),
                prefix: webhook.prefix.clone(),
                ..Filter::all()
            },
            webhook,
            book: book.clone(),
            region: region.to_owned(),
            cursor,
            closing: closing.clone(),
        });
    }
    let tasks = TaskTracker::new();
    for sender in senders {
        tasks.spawn(sender.run());
    }
    tasks.close();
    Ok(tasks)
}

impl Sender {
    async fn run(mut self) {
        self.tell_behind(Duration::ZERO);
        let mut changed = self.book.watch();
        let mut wait = WAIT_MIN;
        loop {
            let sent = self.cursor.at;
            let is_more = tokio::select! {
                () = self.closing.cancelled() => false,
                more = changed.wait_for(|last| *last > sent) => more.is_ok(),
            };
            if !is_more {
                break;
            }
            match self.send_next().await {
                Ok(Ok(())) => wait = WAIT_MIN,
                Ok(Err(Stopping)) => break,
                Err(error) => {
                    tracing::warn!(webhook = self.number, %error, "cannot read what has changed");
                    if self.pause(&mut wait).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.keep().await;
    }

    /// Sends what has changed, or the first part of it.
    async fn send_next(&mut self) -> Result<Result<(), Stopping>, quire_storage::LoadError> {
        let (book, filter, sent) = (self.book.clone(), self.filter.clone(), self.cursor.at);
        let read = tokio::task::spawn_blocking(move || book.changes(sent, &filter, READ_LEN));
        // It fails when the runtime ends.
        let Ok(changes) = read.await else { return Ok(Err(Stopping)) };
        let changes = changes?;
        for told in &changes.conflicts {
            if self.deliver(told, sent).await.is_err() {
                return Ok(Err(Stopping));
            }
            self.cursor.at = told.change();
            self.keep().await;
        }
        self.cursor.at = changes.up_to;
        Ok(Ok(()))
    }

    /// Tries until the answer is final.
    async fn deliver(&self, told: &Told, seen: u64) -> Result<(), Stopping> {
        // Whoever configures a webhook may read everything, so that no conflict is withheld.
        let Some(conflict) = Conflict::told(told, &|_| true) else { return Ok(()) };
        let (id, event) = (told.state_id(), told.event(seen));
        let sent = Event { id: &id, event, region: &self.region, conflict };
        let body = Bytes::from(serde_json::to_vec(&sent).expect("texts and numbers are JSON"));
        let (began, mut wait) = (Instant::now(), WAIT_MIN);
        let mut has_failed = false;
        loop {
            let outcome = tokio::select! {
                biased;
                () = self.closing.cancelled() => return Err(Stopping),
                outcome = self.attempt(&id, event, &body) => outcome,
            };
            metrics::counter!(crate::metrics::WEBHOOK_DELIVERIES, "outcome" => outcome.label()).increment(1);
            let (webhook, to) = (&self.number, authority(&self.webhook));
            match outcome {
                Outcome::Failed(reason) => {
                    if !has_failed {
                        tracing::warn!(
                            webhook,
                            to,
                            reason,
                            "cannot deliver a change; trying until it is taken"
                        );
                    }
                    has_failed = true;
                    self.tell_behind(began.elapsed());
                    self.pause(&mut wait).await?;
                    continue;
                }
                Outcome::Refused(status) => {
                    let document = told.document();
                    tracing::warn!(webhook, to, %status, document, id, "the receiver refused a change; it is skipped");
                }
                Outcome::Delivered if has_failed => tracing::info!(webhook, to, "delivered at last"),
                Outcome::Delivered => {}
            }
            self.tell_behind(Duration::ZERO);
            return Ok(());
        }
    }

    async fn attempt(&self, id: &str, event: &str, body: &Bytes) -> Outcome {
        let url = &self.webhook.url;
        let timestamp = crate::run::unix_ms() / 1_000;
        let request = Request::post(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority(&self.webhook))
            .header(USER_AGENT, concat!("quire/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header("quire-event", event)
            .header("quire-event-id", id)
            .header("quire-timestamp", timestamp)
            .header("quire-signature", self.webhook.key.signature(timestamp, body))
            .body(Full::new(body.clone()))
            .expect("an address that was read, and texts of our own");
        match ask(url, request, &PATIENCE).await {
            Ok((status, _)) | Err(AskError::TooLong(status)) => Outcome::of(status),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Waits as long as said, half of it at random, and says twice as long for the next time.
    async fn pause(&self, wait: &mut Duration) -> Result<(), Stopping> {
        // The standard library seeds each hasher at random, which is all the chance that is asked.
        let draw = RandomState::new().build_hasher().finish() % 1024;
        let pause = *wait / 2 + *wait * u32::try_from(draw).unwrap_or_default() / 2048;
        *wait = (*wait * 2).min(WAIT_MAX);
        tokio::select! {
            () = self.closing.cancelled() => Err(Stopping),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    async fn keep(&self) {
        if let Err(error) = self.cursor.keep().await {
            let webhook = &self.number;
            tracing::warn!(webhook, %error, "cannot keep how far the webhook has come: a restart sends again");
        }
    }

    fn tell_behind(&self, time: Duration) {
        metrics::gauge!(crate::metrics::WEBHOOK_BEHIND, "webhook" => self.number.clone())
            .set(time.as_secs_f64());
    }
}

impl Outcome {
    /// What a status says. Where it does not say that the request is at fault, another time may go better.
    fn of(status: StatusCode) -> Self {
        match status {
            _ if status.is_success() => Self::Delivered,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Failed(status.to_string()),
            _ if status.is_client_error() => Self::Refused(status),
            _ => Self::Failed(status.to_string()),
        }
    }

    const fn label(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

/// Where it is sent, without the path, which may be a secret.
fn authority(webhook: &Webhook) -> &str {
    webhook.url.authority().map_or("", |authority| authority.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_may_take_later_is_tried_again() {
        for (status, label) in [
            (200, "delivered"),
            (204, "delivered"),
            (302, "failed"),
            (400, "refused"),
            (404, "refused"),
            (408, "failed"),
            (410, "refused"),
            (429, "failed"),
            (500, "failed"),
            (503, "failed"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Outcome::of(status).label(), label, "{status}");
        }
    }
}
