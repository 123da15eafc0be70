//! A y-websocket session: one socket, one document.

use std::sync::Arc;

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use quire_protocol::close::CloseReason;
use quire_protocol::document::{Dialect, Opened};
use quire_protocol::ids::{DocName, SessionId};
use quire_protocol::ysync;

use super::socket::{Event, Gone, Socket};
use super::{Place, Sessions};
use crate::documents::{Lease, Message, Outbox, Taken};

/// A session that has its document.
struct Session {
    sessions: Arc<Sessions>,
    id: SessionId,
    lease: Lease,
    outbox: Arc<Outbox>,
}

/// Why a session's loop ends.
enum End {
    Refused(CloseReason),
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Sessions {
    /// Serves a y-websocket client until either side ends it. `name` is the path as it was sent.
    pub async fn serve_y_websocket(
        self: Arc<Self>,
        ws: WebSocket,
        name: String,
        token: Option<String>,
        place: Place,
    ) {
        let mut socket = Socket::new(ws, &self.options);
        let end = match self.clone().join(&name, token.as_deref()) {
            Ok(session) => session.run(&mut socket).await,
            Err(reason) => End::Refused(reason),
        };
        if let End::Refused(reason) = end {
            metrics::counter!(crate::metrics::SESSIONS_CLOSED, "reason" => reason.label()).increment(1);
            socket.close(&reason).await;
        }
        drop(place);
    }

    fn join(self: Arc<Self>, name: &str, token: Option<&str>) -> Result<Session, CloseReason> {
        let name = DocName::new(name).map_err(|_| CloseReason::BadName)?;
        let granted = self.authorize(&name, token)?;
        let lease = self.documents.open(&name).map_err(|_| CloseReason::SessionsFull("on this server"))?;
        let (id, outbox) = self.register();
        let dialect = Dialect::YWebsocket;
        let super::Granted { access, expires, author } = granted;
        let opened = Opened { session: id, dialect, access, expires, author };
        let session = Session { sessions: self, id, lease, outbox };
        session.say(Message::Open(opened, session.outbox.clone())).map_err(|_| CloseReason::LoadFailed)?;
        Ok(session)
    }
}

impl Session {
    async fn run(self, socket: &mut Socket) -> End {
        let mut taken = Taken::default();
        loop {
            let done = match socket.next(&self.outbox).await {
                Event::Frame(frame) => self.hear(frame).await,
                Event::Outbox => self.write(socket, &mut taken).await,
                Event::Refused(reason) => Err(End::Refused(reason)),
                Event::Gone => Err(End::Gone),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn hear(&self, frame: Bytes) -> Result<(), End> {
        let permit = self.sessions.documents.ingest(frame.len()).await;
        let message = ysync::parse(frame).map_err(|error| End::Refused(CloseReason::Frame(error)))?;
        // A document that was given up ends the session through the outbox, with its reason.
        let _given_up = self.say(Message::Said(self.id, message, permit));
        Ok(())
    }

    async fn write(&self, socket: &mut Socket, taken: &mut Taken) -> Result<(), End> {
        self.outbox.take(taken);
        socket.write(&mut taken.frames).await?;
        if let Some((_, reason)) = taken.ended.pop() {
            return Err(End::Refused(reason));
        }
        for session in taken.drained.drain(..) {
            // A document that has just been given up ends the session through the outbox.
            let _given_up = self.say(Message::Drained(session));
        }
        Ok(())
    }

    fn say(&self, message: Message) -> Result<(), crate::documents::Closed> {
        self.lease.say(message)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A document that was given up has ended all its sessions already.
        let _given_up = self.lease.say(Message::Close(self.id));
        self.sessions.unregister(self.id);
    }
}
