//! How often the document machine writes back.

use quire_protocol::document::{Document, Input, Limits, Output, Stored, WRITE_BACK_INTERVAL_MS, Write};
use quire_protocol::fields::{FIELDS_ROOT, FieldsEntry};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{Dot, Seq, StreamId};
use quire_protocol::time::Time;
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, Map, Options, Transact};

/// A machine that makes the write-backs, and two editors in another region.
struct Paced {
    machine: Document,
    editors: [Doc; 2],
    /// What the log holds.
    position: u64,
    /// What the editors were not shown yet.
    news: Vec<Vec<u8>>,
}

impl Paced {
    fn new() -> Self {
        let editor = |id| Doc::with_options(Options { client_id: ClientID::new(id), ..Options::default() });
        let stored = Stored { client: 9, ..Stored::default() };
        let machine = Document::load(Time(0), Limits::default(), stored, &mut Vec::new()).unwrap();
        let mut paced = Self { machine, editors: [editor(100), editor(101)], position: 0, news: Vec::new() };
        paced.hear(Time(0), Input::Duty(true));
        paced.apply(Time(0), Write::Create);
        paced
    }

    /// An editor sets the title. Returns whether that is written back at once.
    fn set(&mut self, now: Time, editor: usize, value: &str) -> bool {
        let doc = &self.editors[editor];
        let root = doc.get_or_insert_map(FIELDS_ROOT);
        let mut txn = doc.transact_mut();
        root.insert(&mut txn, "title", value);
        let update = txn.encode_update_v1();
        drop(txn);
        self.news.push(update.clone());
        let entry =
            FieldsEntry { region: "there".into(), author: None, marks: Vec::new(), update: update.into() };
        self.apply(now, Write::Fields(entry.encode()))
    }

    /// Both editors are shown all there is.
    fn pull(&mut self) {
        for update in self.news.drain(..) {
            for editor in &self.editors {
                let update = yrs::Update::decode_v1(&update).unwrap();
                editor.transact_mut().apply_update(update).unwrap();
            }
        }
    }

    fn apply(&mut self, now: Time, write: Write) -> bool {
        self.position += 1;
        let position = self.position;
        let stamp = (Hlc(position), Dot { stream: StreamId::from_u32(2), seq: Seq(position) });
        self.hear(now, Input::Applied { write, position, stamp })
    }

    /// Returns whether something was written back.
    fn hear(&mut self, now: Time, input: Input) -> bool {
        let mut out = Vec::new();
        self.machine.handle(now, input, &mut out);
        self.machine.handle(now, Input::Quiet, &mut out);
        let writes: Vec<Write> = out
            .into_iter()
            .filter_map(|output| if let Output::Append(writes) = output { Some(writes) } else { None })
            .flatten()
            .collect();
        if writes.is_empty() {
            return false;
        }
        self.position += writes.len() as u64;
        for write in &writes {
            let Write::Fields(payload) = write else { panic!("{write:?}") };
            self.news.push(FieldsEntry::decode(payload).unwrap().update.to_vec());
        }
        let last = (Hlc(self.position), Dot { stream: StreamId::from_u32(1), seq: Seq(self.position) });
        self.hear(now, Input::Committed { writes: writes.len(), position: self.position, last });
        true
    }
}

#[test]
fn f6_two_who_resolve_at_once_are_both_answered_at_once_and_many_are_paced() {
    let mut paced = Paced::new();
    paced.set(Time(0), 0, "first");
    paced.pull();
    paced.set(Time(0), 0, "one");
    assert!(paced.set(Time(0), 1, "other"), "a conflict is written back");
    paced.pull();
    let rested = Time(10 * WRITE_BACK_INTERVAL_MS);
    assert!(paced.set(rested, 0, "resolved"), "the conflict is over");
    assert!(paced.set(rested, 1, "resolved otherwise"), "a new one");
    // Whoever goes on is rendered by the write-back of the next interval.
    let went_on: Vec<bool> = (0..20).map(|at| paced.set(rested, 1, &format!("further {at}"))).collect();
    let at_once = went_on.iter().filter(|&&written_back| written_back).count();
    assert!(at_once <= 1, "{at_once} more write-backs at once");
    assert!(paced.hear(rested.after(WRITE_BACK_INTERVAL_MS), Input::Tick), "what came meanwhile is");
    assert!(!paced.hear(rested.after(WRITE_BACK_INTERVAL_MS + 1), Input::Tick), "and that is all");
}
