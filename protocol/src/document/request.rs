//! Requests without a session: HTTP's reads and writes.
//!
//! Reads answer from what is committed; writes are answered when their commit returns.

use bytes::Bytes;

use super::admission::{Change, Refusing, Waiter};
use super::event::{Answer, Output, Refused, Request, Ticket};
use super::machine::{Document, Phase};
use super::replica::Broken;
use crate::close::CloseReason;
use crate::frontier::Frontier;

impl Document {
    pub(super) fn request(&mut self, ticket: Ticket, request: Request, out: &mut Vec<Output>) {
        let answered = match (self.phase, request) {
            (Phase::Failed, _) => Err(Refused::Reason(CloseReason::LoadFailed).into()),
            (_, request) if self.read_only && request.writes() => {
                Err(Refused::Reason(CloseReason::Disk).into())
            }
            (Phase::Deleted, Request::Restore) => Ok(self.restore(ticket)),
            // A deletion that stands, though edits have revived the document, is taken back by it.
            (Phase::Live, Request::Restore) if self.life.deletion().is_some() => Ok(self.restore(ticket)),
            (Phase::Live, Request::Restore) => Ok(self.wait(ticket)),
            _ if self.deleted => Err(Refused::Reason(CloseReason::Deleted).into()),
            (Phase::Deleted, request) if request.writes() => Ok(self.wait_for_deletion(ticket)),
            (_, request) => self.serve(ticket, request),
        };
        match answered {
            Ok(Some(answer)) => out.push(Output::Reply(ticket, Ok(answer))),
            // The answer comes with the commit.
            Ok(None) => {}
            Err(Stopped::Refused(refused)) => out.push(Output::Reply(ticket, Err(refused))),
            Err(Stopped::Broken(broken)) => {
                out.push(Output::Reply(ticket, Err(Refused::Reason(CloseReason::LoadFailed))));
                self.fail(&broken, out);
            }
        }
    }

    fn serve(&mut self, ticket: Ticket, request: Request) -> Result<Option<Answer>, Stopped> {
        Ok(match request {
            Request::State => Some(Answer::Update(self.replica.state()?)),
            Request::Diff(from) => Some(Answer::Update(self.replica.diff(&from)?)),
            Request::Text(root) => Some(Answer::Text(self.replica.text(&root)?)),
            Request::Info => Some(self.info()),
            Request::Fields(paths) => Some(self.field_views(paths.as_deref())),
            Request::EditFields { edits, is_exact, author } => {
                self.edit_fields(ticket, &edits, is_exact, author.as_ref())?;
                None
            }
            Request::ResolveField { path, conflict, value, author } => {
                self.resolve_field(ticket, path, conflict, value, author.as_ref())?;
                None
            }
            Request::Update(bytes) => {
                self.write_update(ticket, bytes)?;
                None
            }
            Request::Splice { root, splices, client } => {
                let bytes = self.replica.splice(&root, &splices, client)?;
                self.write_update(ticket, bytes)?;
                None
            }
            Request::Create(seed) => {
                self.create(ticket, seed)?;
                None
            }
            Request::Delete { seen } => {
                self.delete(ticket, seen);
                None
            }
            Request::Restore => Some(Answer::Saved { changed: false }),
        })
    }

    fn info(&self) -> Answer {
        Answer::Info {
            sessions: self.sessions.len(),
            bytes: self.size.measured + self.size.since,
            state_vector: self.committed.clone(),
        }
    }

    fn write_update(&mut self, ticket: Ticket, bytes: Bytes) -> Result<(), Stopped> {
        let mut gate = self.gate();
        let update = gate.decode(bytes)?;
        let offered = gate.offer(update, None, None)?;
        // What could be admitted stays admitted: a caller that sends the rest loses nothing.
        if offered.missing {
            return Err(Refused::Missing.into());
        }
        self.pipeline.wait(Waiter::Request(ticket, offered.changed));
        Ok(())
    }

    fn create(&mut self, ticket: Ticket, seed: Option<Bytes>) -> Result<(), Stopped> {
        if self.phase == Phase::New {
            // A seed that is refused must not leave an empty document behind.
            let mut gate = self.gate();
            match seed {
                Some(seed) => {
                    let seed = gate.decode(seed)?;
                    if gate.shape.admit(seed.clone()).map_err(Refusing::from)?.missing {
                        return Err(Refused::Missing.into());
                    }
                    gate.offer(seed, None, None)?;
                    gate.create();
                }
                None => gate.create(),
            }
            self.pipeline.wait(Waiter::Request(ticket, true));
        } else {
            self.pipeline.wait(Waiter::Request(ticket, false));
        }
        Ok(())
    }

    fn delete(&mut self, ticket: Ticket, seen: Frontier) {
        let existed = self.phase == Phase::Live;
        if existed {
            self.phase = Phase::Deleted;
            self.pipeline.push(Change::Deleted(seen));
        }
        self.pipeline.wait(Waiter::Request(ticket, existed));
    }

    fn restore(&mut self, ticket: Ticket) -> Option<Answer> {
        self.phase = Phase::Live;
        self.pipeline.push(Change::Restored);
        self.pipeline.wait(Waiter::Request(ticket, true));
        None
    }

    /// Nothing has to be written, but what the request asks for may be on its way to the disk.
    fn wait(&mut self, ticket: Ticket) -> Option<Answer> {
        self.pipeline.wait(Waiter::Request(ticket, false));
        None
    }

    /// The document is about to be deleted: the request is told so when it is.
    fn wait_for_deletion(&mut self, ticket: Ticket) -> Option<Answer> {
        self.pipeline.wait(Waiter::TooLate(ticket));
        None
    }
}

/// Why a request gets no answer of its own kind.
pub(super) enum Stopped {
    Refused(Refused),
    Broken(Broken),
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Broken> for Stopped {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Refusing> for Stopped {
    fn from(refusing: Refusing) -> Self {
        match refusing {
            Refusing::Reason(reason) => Self::Refused(Refused::Reason(reason)),
            Refusing::Broken(broken) => Self::Broken(broken),
        }
    }
}
