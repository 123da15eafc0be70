//! Calls: what this region asks of one that it has a link to, and what it is asked itself.
//!
//! What is asked and answered is bytes here. Each link carries its own calls, and has them fail when it ends.
//!
//! Invariant: every call has an answer or an error within the time that its asker gives it.

use super::links::Peers;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use quire_protocol::ids::{DocId, ReplicaId};
use quire_protocol::link::{CallRefused, Input};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// This region has no link to the other one.
    #[error("this region has no link to it")]
    NotLinked,
    /// It was not asked.
    #[error("{0}")]
    Refused(CallRefused),
    /// The link ended. It may have done what it was asked.
    #[error("the link to it ended before it answered")]
    Ended,
    /// It takes longer than the asker waits. It may do, or have done, what it was asked.
    #[error("it has not answered in time")]
    TimedOut,
}

impl CallError {
    /// Whether the other region may have done what it was asked.
    pub(crate) const fn is_unknown(self) -> bool {
        matches!(self, Self::Ended | Self::TimedOut)
    }
}

/// One call on its way to the link.
pub(super) struct Asked {
    doc: DocId,
    payload: Bytes,
    answer: oneshot::Sender<Result<Bytes, CallRefused>>,
}

/// Answers what other regions ask.
type Answerer = Box<dyn Fn(ReplicaId, DocId, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// Who answers for this region, once that is known.
#[derive(Default)]
pub(super) struct Answers(OnceLock<Answerer>);

impl Peers {
    /// Says who answers what other regions ask, in at most
    /// [`CALL_BYTES_MAX`](quire_protocol::link::limits::CALL_BYTES_MAX) bytes; once, before any link begins. Until
    /// then every answer is empty.
    pub(crate) fn set_answers(
        &self,
        answer: impl Fn(ReplicaId, DocId, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync + 'static,
    ) {
        // A second one would not hold for what is under way.
        let _first = self.answers.0.set(Box::new(answer));
    }

    /// Asks another region something about a document, over the link to it, and waits so long for its answer.
    ///
    /// # Errors
    /// Why there is no answer; [`CallError::is_unknown`] says whether it may have been done all the same.
    pub(crate) async fn call(
        &self,
        replica: ReplicaId,
        doc: DocId,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let mut calls = None;
        self.for_links(|peer, link| {
            if peer == replica {
                calls = Some(link.calls.clone());
            }
        });
        let calls = calls.ok_or(CallError::NotLinked)?;
        let (answer, answered) = oneshot::channel();
        calls.try_send(Asked { doc, payload, answer }).map_err(|error| match error {
            TrySendError::Full(_) => CallError::Refused(CallRefused::Full),
            TrySendError::Closed(_) => CallError::NotLinked,
        })?;
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(answer)) => answer.map_err(CallError::Refused),
            Ok(Err(_)) => Err(CallError::Ended),
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

/// The calls of one link, for its driver.
pub(super) struct Calls {
    made: BTreeMap<u64, oneshot::Sender<Result<Bytes, CallRefused>>>,
    last: u64,
    answers: mpsc::UnboundedSender<(u64, Bytes)>,
}

impl Calls {
    /// No calls yet; the answers to those of the peer come out at the other end, as many as the link lets it make.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<(u64, Bytes)>) {
        let (answers, answered) = mpsc::unbounded_channel();
        (Self { made: BTreeMap::new(), last: 0, answers }, answered)
    }

    /// Somebody here asks.
    pub(super) fn make(&mut self, asked: Asked) -> Input {
        let Asked { doc, payload, answer } = asked;
        self.last += 1;
        self.made.insert(self.last, answer);
        Input::Call { call: self.last, doc, payload }
    }

    /// What came of a call made here.
    pub(super) fn returned(&mut self, call: u64, answer: Result<Bytes, CallRefused>) {
        if let Some(asker) = self.made.remove(&call) {
            // Whoever asked may wait no longer.
            let _gone = asker.send(answer);
        }
    }

    /// The peer asks. Where this region stops before it has an answer, there is none.
    pub(super) fn called(&self, peers: &Arc<Peers>, peer: ReplicaId, call: u64, doc: DocId, payload: Bytes) {
        let answer = peers.answers.0.get().map(|answer| answer(peer, doc, payload));
        let (answers, closing) = (self.answers.clone(), peers.closing.clone());
        peers.tasks.spawn(async move {
            let answer = async {
                match answer {
                    Some(answer) => answer.await,
                    None => Bytes::new(),
                }
            };
            tokio::select! {
                // Where the link has ended nobody waits for it.
                answer = answer => drop(answers.send((call, answer))),
                () = closing.cancelled() => {}
            }
        });
    }
}
