//! A Hocuspocus socket: many documents, each with a session of its own.
//!
//! What a frame means, and what waits for a token, is decided by `quire_protocol::hocuspocus`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use quire_protocol::close::CloseReason;
use quire_protocol::document::{Dialect, Opened};
use quire_protocol::hocuspocus::{self, Address, Input, Output, Verdict};
use quire_protocol::ids::SessionId;
use quire_protocol::time::Time;
use quire_protocol::ysync;
use tokio::time::Sleep;

use super::socket::{Event, Socket};
use super::{Granted, Place, Sessions};
use crate::documents::{Lease, Message, Outbox, Taken};

/// One document's session on the socket.
struct Open {
    id: SessionId,
    lease: Lease,
}

/// When the machine wants to be told the time.
struct Wake {
    time: Time,
    sleep: Pin<Box<Sleep>>,
}

struct Connection {
    sessions: Arc<Sessions>,
    /// The number of the socket itself, for what concerns all its documents.
    id: SessionId,
    outbox: Arc<Outbox>,
    machine: hocuspocus::Socket,
    open: BTreeMap<Address, Open>,
    wake: Option<Wake>,
    closing: Option<CloseReason>,
}

impl Sessions {
    /// Serves a Hocuspocus client until either side ends it.
    pub async fn serve_hocuspocus(self: Arc<Self>, ws: WebSocket, place: Place) {
        let mut socket = Socket::new(ws, &self.options);
        if let Some(reason) = Connection::new(self).run(&mut socket).await {
            metrics::counter!(crate::metrics::SESSIONS_CLOSED, "reason" => reason.label()).increment(1);
            socket.close(&reason).await;
        }
        drop(place);
    }
}

impl Connection {
    fn new(sessions: Arc<Sessions>) -> Self {
        let (id, outbox) = sessions.register();
        let mut out = Vec::new();
        let machine =
            hocuspocus::Socket::new(sessions.options.hocuspocus, sessions.documents.now(), &mut out);
        let mut connection =
            Self { sessions, id, outbox, machine, open: BTreeMap::new(), wake: None, closing: None };
        connection.note_wake(&out);
        connection
    }

    /// Runs until the client is gone, or returns why the server closes the socket.
    async fn run(mut self, socket: &mut Socket) -> Option<CloseReason> {
        let mut taken = Taken::default();
        loop {
            let outbox = self.outbox.clone();
            tokio::select! {
                event = socket.next(&outbox) => match event {
                    Event::Frame(frame) => self.handle(Input::Frame(frame)).await,
                    Event::Outbox => {
                        outbox.take(&mut taken);
                        socket.write(&mut taken.frames).await.ok()?;
                        self.tell_drained(&mut taken);
                        self.tell_ended(&mut taken).await;
                    }
                    Event::Refused(reason) => return Some(reason),
                    Event::Gone => return None,
                },
                () = due(&mut self.wake), if self.wake.is_some() => {
                    self.wake = None;
                    self.handle(Input::Tick).await;
                }
            }
            if let Some(reason) = self.closing.take() {
                // What is queued, such as a denial, still goes out.
                outbox.take(&mut taken);
                socket.write(&mut taken.frames).await.ok()?;
                return Some(reason);
            }
        }
    }

    async fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.sessions.documents.now(), input, &mut out);
        self.note_wake(&out);
        let mut granted = None;
        let mut out = std::collections::VecDeque::from(out);
        while let Some(output) = out.pop_front() {
            match output {
                Output::Authenticate(address, token) => {
                    let now = self.sessions.documents.now();
                    let verdict = self.sessions.authorize(address.name(), Some(token.as_str()));
                    granted = verdict.as_ref().ok().cloned();
                    let verdict =
                        verdict.map_or_else(Verdict::Denied, |granted| Verdict::Granted(granted.access));
                    let mut more = Vec::new();
                    self.machine.handle(now, Input::Verdict(address, verdict), &mut more);
                    self.note_wake(&more);
                    out.extend(more);
                }
                Output::Grant(address) => {
                    if let Some(granted) = granted.take() {
                        self.grant(address, &granted);
                    }
                }
                Output::Deliver(address, message) => self.deliver(&address, message).await,
                Output::End(address) => self.end(&address),
                Output::Send(frame) => self.outbox.answer(frame),
                Output::Close(reason) => self.closing = Some(reason),
                Output::WakeAt(_) => {}
            }
        }
    }

    fn note_wake(&mut self, out: &[Output]) {
        for output in out {
            if let Output::WakeAt(time) = *output
                && self.wake.as_ref().is_none_or(|wake| time < wake.time)
            {
                let left = Duration::from_millis(time.since(self.sessions.documents.now()));
                self.wake = Some(Wake { time, sleep: Box::pin(tokio::time::sleep(left)) });
            }
        }
    }

    fn grant(&mut self, address: Address, granted: &Granted) {
        let opened = |session| Opened {
            session,
            dialect: Dialect::Hocuspocus(address.clone()),
            access: granted.access,
            expires: granted.expires,
            author: granted.author.clone(),
        };
        if let Some(open) = self.open.get(&address) {
            // A document that was given up ends the session through the outbox, with its reason.
            let _given_up = open.lease.say(Message::Renew(opened(open.id)));
            return;
        }
        let Ok(lease) = self.sessions.documents.open(address.name()) else {
            self.closing = Some(CloseReason::SessionsFull("on this server"));
            return;
        };
        let id = self.sessions.documents.next_session();
        if lease.say(Message::Open(opened(id), self.outbox.clone())).is_err() {
            self.closing = Some(CloseReason::LoadFailed);
        }
        self.open.insert(address, Open { id, lease });
    }

    async fn deliver(&mut self, address: &Address, message: ysync::Message) {
        let permit = self.sessions.documents.ingest(message.body_len()).await;
        if let Some(open) = self.open.get(address) {
            // A document that was given up ends the session through the outbox, with its reason.
            let _given_up = open.lease.say(Message::Said(open.id, message, permit));
        }
    }

    fn end(&mut self, address: &Address) {
        if let Some(open) = self.open.remove(address) {
            // A document that was given up has ended all its sessions already.
            let _given_up = open.lease.say(Message::Close(open.id));
        }
    }

    fn tell_drained(&self, taken: &mut Taken) {
        for session in taken.drained.drain(..) {
            if let Some(open) = self.open.values().find(|open| open.id == session) {
                // A document that has just been given up ends the session through the outbox.
                let _given_up = open.lease.say(Message::Drained(session));
            }
        }
    }

    async fn tell_ended(&mut self, taken: &mut Taken) {
        for (session, reason) in std::mem::take(&mut taken.ended) {
            if session == self.id {
                self.closing = Some(reason);
                continue;
            }
            let address =
                self.open.iter().find(|(_, open)| open.id == session).map(|(address, _)| address.clone());
            if let Some(address) = address {
                self.handle(Input::Ended(address, reason)).await;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for open in self.open.values() {
            // A document that was given up has ended all its sessions already.
            let _given_up = open.lease.say(Message::Close(open.id));
        }
        self.sessions.unregister(self.id);
    }
}

async fn due(wake: &mut Option<Wake>) {
    if let Some(wake) = wake {
        wake.sleep.as_mut().await;
    }
}
