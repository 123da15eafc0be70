//! An editor: a real Yjs document behind the messages that a stock client would send.
//!
//! It answers the server's question, applies what it is sent and counts what it is owed, as
//! y-websocket and the Hocuspocus provider do. Client ids are fixed, so histories repeat exactly.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use quire_protocol::document::{Access, Dialect, Live};
use quire_protocol::hocuspocus::Address;
use quire_protocol::ids::SessionId;
use quire_protocol::update::Update;
use quire_protocol::ysync::Message;
use yrs::types::{Attrs, ToJson};
use yrs::undo::{Options, UndoManager};
use yrs::updates::decoder::Decode;
use yrs::{Any, Doc, GetString, Map, MapPrelim, Out, ReadTxn, StateVector, Text, Transact};

use super::units::{Units, units};

/// The root text that editors type in.
pub(crate) const ROOT: &str = "content";

/// One person's editor.
pub(crate) struct Editor {
    pub(crate) name: String,
    pub(crate) doc: Live,
    pub(crate) dialect: Dialect,
    pub(crate) access: Access,
    pub(crate) expires: Option<u64>,
    pub(crate) session: Option<SessionId>,
    /// Messages on their way to the server.
    pub(crate) up: VecDeque<Message>,
    /// Frames on their way to the editor.
    pub(crate) down: VecDeque<Bytes>,
    /// Its socket takes nothing more: fan-out finds the outbox full.
    pub(crate) stalled: bool,
    /// The machine was told so, and that it missed something.
    pub(crate) lags: bool,
    /// The server's questions that it has not answered: at most one at a time.
    pub(crate) questions: u32,
    /// Nobody reads what has arrived.
    pub(crate) paused: bool,
    /// Sync statuses that its messages of this session earn, and those that came.
    pub(crate) earned: u32,
    pub(crate) saved: u32,
    pub(crate) refused: u32,
    /// Its updates of this session that no frame has brought back.
    pub(crate) unechoed: (Units, Units),
    /// Its updates that no full count of statuses has confirmed.
    pub(crate) unconfirmed: Vec<Update>,
    pub(crate) last: Option<Bytes>,
    /// What it can undo, once it was told to remember it.
    undo: Option<UndoManager<()>>,
    /// Updates that are gathered to be sent as one.
    pub(crate) batch: Option<Vec<Bytes>>,
}

pub(crate) fn document(client: u64) -> Live {
    let doc = Live::new(client);
    doc.get_or_insert_text(ROOT);
    doc
}

impl Editor {
    pub(crate) fn new(name: &str, hocuspocus: bool, access: Access, client: u64) -> Self {
        let address = Address::new("notes").expect("a valid name");
        Self {
            name: name.to_owned(),
            doc: document(client),
            dialect: if hocuspocus { Dialect::Hocuspocus(address) } else { Dialect::YWebsocket },
            access,
            expires: None,
            session: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            stalled: false,
            lags: false,
            questions: 0,
            paused: false,
            earned: 0,
            saved: 0,
            refused: 0,
            unechoed: (Units::new(), Units::new()),
            unconfirmed: Vec::new(),
            last: None,
            undo: None,
            batch: None,
        }
    }

    pub(crate) fn is_hocuspocus(&self) -> bool {
        matches!(self.dialect, Dialect::Hocuspocus(_))
    }

    pub(crate) fn text(&self) -> String {
        let text = self.doc.get_or_insert_text(ROOT);
        text.get_string(&self.doc.transact())
    }

    /// How long its text is, in UTF-16 units.
    pub(crate) fn len(&self) -> u32 {
        let text = self.doc.get_or_insert_text(ROOT);
        text.len(&self.doc.transact())
    }

    pub(crate) fn types(&mut self, at: u32, what: &str) {
        let text = self.doc.get_or_insert_text(ROOT);
        let mut txn = self.doc.transact_mut();
        text.insert(&mut txn, at, what);
        let update = txn.encode_update_v1();
        drop(txn);
        self.says_update(update.into());
    }

    pub(crate) fn deletes(&mut self, at: u32, len: u32) {
        let text = self.doc.get_or_insert_text(ROOT);
        let mut txn = self.doc.transact_mut();
        text.remove_range(&mut txn, at, len);
        let update = txn.encode_update_v1();
        drop(txn);
        self.says_update(update.into());
    }

    pub(crate) fn formats(&mut self, at: u32, len: u32, key: &str) {
        let text = self.doc.get_or_insert_text(ROOT);
        let mut txn = self.doc.transact_mut();
        text.format(&mut txn, at, len, Attrs::from([(key.into(), Any::Bool(true))]));
        let update = txn.encode_update_v1();
        drop(txn);
        self.says_update(update.into());
    }

    pub(crate) fn sets(&mut self, key: &str, value: &str) {
        let map = self.doc.get_or_insert_map("fields");
        let mut txn = self.doc.transact_mut();
        map.insert(&mut txn, key, value);
        let update = txn.encode_update_v1();
        drop(txn);
        self.says_update(update.into());
    }

    /// Sets a key of a map under a key of the root map.
    pub(crate) fn sets_in(&mut self, within: &str, key: &str, value: &str) {
        let map = self.doc.get_or_insert_map("fields");
        let mut txn = self.doc.transact_mut();
        let Some(Out::YMap(inner)) = map.get(&txn, within) else { panic!("{within} is no map") };
        inner.insert(&mut txn, key, value);
        let update = txn.encode_update_v1();
        drop(txn);
        self.says_update(update.into());
    }

    /// Sets a key of the root map to an empty map.
    pub(crate) fn replaces(&mut self, key: &str) {
        let map = self.doc.get_or_insert_map("fields");
        let mut txn = self.doc.transact_mut();
        map.insert(&mut txn, key, MapPrelim::default());
        let update = txn.encode_update_v1();
        drop(txn);
        self.says_update(update.into());
    }

    /// From here on it remembers what it does to the root map, to undo it all at once.
    pub(crate) fn remembers(&mut self) {
        let options = Options { timestamp: Arc::new(|| 1), ..Options::default() };
        let mut undo = UndoManager::with_options(options);
        undo.expand_scope(&self.doc, &self.doc.get_or_insert_map("fields"));
        self.undo = Some(undo);
    }

    pub(crate) fn undoes(&mut self) {
        let before = self.doc.transact().state_vector();
        let undo = self.undo.as_mut().expect("it remembers something");
        assert!(undo.undo_blocking(), "there is something to undo");
        let update = self.doc.transact().encode_state_as_update_v1(&before);
        self.says_update(update.into());
    }

    /// Sends an update, if there is a connection; a stock client makes one for every edit.
    pub(crate) fn says_update(&mut self, update: Bytes) {
        self.last = Some(update.clone());
        if let Some(batch) = &mut self.batch {
            return batch.push(update);
        }
        let decoded = Update::decode(update.clone());
        if self.access == Access::Write
            && let Ok(decoded) = decoded
        {
            if self.session.is_some() {
                let (inserted, deleted) = units(&decoded);
                self.unechoed.0.extend(&inserted);
                self.unechoed.1.extend(&deleted);
            }
            self.unconfirmed.push(decoded);
        }
        if self.session.is_some() {
            self.earned += 1;
            self.up.push_back(Message::Update(update));
        }
    }

    /// Sends what was gathered in one message.
    pub(crate) fn sends_batch(&mut self) {
        let batch = self.batch.take().expect("a batch");
        self.says_update(yrs::merge_updates_v1(&batch).expect("updates of its own").into());
    }

    /// Sends an update that is not an edit of its own, or not a new one.
    pub(crate) fn says_again(&mut self, update: Bytes) {
        if self.session.is_some() {
            self.earned += 1;
            self.up.push_back(Message::Update(update));
        }
    }

    /// Starts a sync: "this is what I have".
    pub(crate) fn says_step1(&mut self) {
        self.earned += 1;
        let held = yrs::updates::encoder::Encode::encode_v1(&self.doc.transact().state_vector());
        self.up.push_back(Message::SyncStep1(held.into()));
    }

    /// The connection is gone, and with it all that was on its way.
    pub(crate) fn disconnect(&mut self) {
        self.session = None;
        self.up.clear();
        self.down.clear();
        (self.stalled, self.lags, self.paused) = (false, false, false);
        (self.earned, self.saved, self.refused, self.questions) = (0, 0, 0, 0);
        self.unechoed = (Units::new(), Units::new());
    }

    /// Takes in what another tab of the same browser has, past the server.
    pub(crate) fn hears(&mut self, state: &[u8]) {
        self.apply(state);
    }

    pub(crate) fn state(&self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    pub(crate) fn apply(&self, update: &[u8]) {
        let update = yrs::Update::decode_v1(update).expect("the server sends what it has checked");
        self.doc.transact_mut().apply_update(update).expect("what the server sends can be applied");
    }

    /// Takes a sync message of the server and answers it.
    pub(crate) fn hear_sync(&mut self, message: &Message) {
        match message {
            Message::SyncStep1(held) => {
                let held = StateVector::decode_v1(held).expect("the server's state vector");
                let missing = self.doc.transact().encode_state_as_update_v1(&held);
                self.up.push_back(Message::SyncStep2(missing.into()));
            }
            Message::SyncStep2(update) | Message::Update(update) => {
                self.apply(update);
                let decoded = Update::decode(update.clone()).expect("the server sends what it has checked");
                let (inserted, deleted) = units(&decoded);
                self.unechoed = (self.unechoed.0.without(&inserted), self.unechoed.1.without(&deleted));
            }
            Message::Awareness(_) | Message::QueryAwareness => {}
        }
    }
}

/// All that makes two documents equal: text, units, deletions, and every root's JSON.
pub(crate) fn essence(doc: &Doc) -> (String, Units, Units, BTreeMap<String, String>) {
    let text = doc.get_or_insert_text(ROOT).get_string(&doc.transact());
    let state = doc.transact().encode_state_as_update_v1(&StateVector::default());
    let (inserted, deleted) = units(&Update::decode(state.into()).expect("a state without gaps"));
    let map = doc.get_or_insert_map("fields");
    let txn = doc.transact();
    let fields = map.iter(&txn).map(|(key, value)| (key.to_owned(), spelt(&value.to_json(&txn)))).collect();
    (text, inserted, deleted, fields)
}

/// A value in words that are the same wherever it is: `yrs` keeps maps in no order, and NaN equals nothing.
fn spelt(value: &Any) -> String {
    match value {
        Any::Map(entries) => {
            let entries: BTreeMap<&String, String> = entries.iter().map(|(k, v)| (k, spelt(v))).collect();
            format!("{entries:?}")
        }
        Any::Array(values) => format!("{:?}", values.iter().map(spelt).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}
