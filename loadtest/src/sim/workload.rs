//! What people do in a run, and what breaks: drawn one act after the other until all is healed.

use super::documents::{DOCUMENTS, doc_name};
use super::editor::Editor;
use super::members::Leaving;
use super::region::{Keeps, Standing};
use super::rng::Rng;
use super::wire::{Deaf, Way};
use super::world::{Happening, World};
use quire_protocol::ids::DocId;
use quire_protocol::link::limits::CHUNK_BYTES_MAX;

/// Editors that a run begins with.
const EDITORS: (u64, u64) = (3, 6);
/// A run is active for so long, in milliseconds.
const ACTIVE_MS: (u64, u64) = (8_000, 30_000);
/// Between two acts, in milliseconds.
const PAUSE_MS: (u64, u64) = (2, 160);
/// In a run of this share, in percent, large texts are pasted in one region while another is cut off: enough
/// to use up the credit of the link between them.
const BALLAST_PERCENT: u64 = 4;
/// How long each is, and how many: above the credit window in all, and little enough to be quick.
const PASTE_LEN: usize = 400_000;
const PASTES_MAX: u32 = 13;
/// The region where they are pasted, the one that is cut off, and for how long.
const PASTED_IN: usize = 1;
const CUT_OFF: usize = 0;
const CUT_OFF_MS: u64 = 6000;
/// In so many runs of a hundred, regions keep no more of their logs for peers than one of these, in bytes:
/// nothing beyond a checkpoint, some seconds' worth, or all of it.
const KEEPS_LITTLE_PERCENT: u64 = 60;
const KEPT_BYTES: [u64; 4] = [0, 1 << 10, 4 << 10, u64::MAX];
/// In so many runs of a hundred, regions let go of what all their peers have, so many milliseconds after it was
/// written: with the next checkpoint, or soon.
const LETS_GO_PERCENT: u64 = 50;
const KEPT_ACKNOWLEDGED_MS: [u64; 3] = [0, 500, 5000];
/// Snapshots come in pieces of these lengths. Large texts come in large ones.
const PIECE_BYTES: [usize; 4] = [512, 1 << 10, 4 << 10, CHUNK_BYTES_MAX];
/// In so many runs of a hundred, a region is removed, if none has lost its disk before.
const REMOVALS_PERCENT: u64 = 35;
/// No more tabs than this are opened in a run.
const TABS_MAX: usize = 12;

const WORDS: [&str; 8] = ["a", "the ", "région ", "leader ", "of ", "ink ", "log\n", "épée "];

/// What is typed letter by letter, and between two letters, in milliseconds.
const RUNS: [&str; 4] = ["leaderless ", "aujourd'hui ", "ink, ", "naïveté "];
const KEY_MS: (u64, u64) = (20, 250);

/// What is drawn once for a run.
pub(super) struct Workload {
    editors: u64,
    /// Documents that somebody may open.
    documents: usize,
    /// Some regions keep little of their logs for peers.
    keeps_little: bool,
    /// Regions let go of what their peers have.
    lets_go: bool,
    /// A snapshot is read in pieces of at most so many bytes.
    pub(super) piece_bytes: usize,
    active_ms: u64,
    pub(super) ballast: bool,
    pastes: u32,
    /// One disk goes in a run: two might take with them what only the two had.
    pub(super) disk_gone: bool,
    /// The removal under way, and how many regions are still to be switched off or added again.
    pub(super) leaving: Option<Leaving>,
    pub(super) members_to_change: u32,
    /// A region whose removal was found on a disk, before what it wrote until then had spread.
    pub(super) removed_unawares: Option<usize>,
    /// The region whose disk went back to a copy.
    pub(super) restored: Option<usize>,
    /// The region that is down while its disk is replaced.
    pub(super) replaced: Option<(usize, super::faults::Replaced)>,
    /// What people have read of fields and may yet write on.
    pub(super) read_fields: Vec<super::field_edits::ReadField>,
}

impl Workload {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let ballast = rng.percent(BALLAST_PERCENT);
        Self {
            editors: rng.within(EDITORS.0, EDITORS.1),
            documents: 1 + rng.index(DOCUMENTS),
            active_ms: rng.within(ACTIVE_MS.0, ACTIVE_MS.1),
            ballast,
            keeps_little: rng.percent(KEEPS_LITTLE_PERCENT),
            lets_go: rng.percent(LETS_GO_PERCENT),
            piece_bytes: if ballast { CHUNK_BYTES_MAX } else { PIECE_BYTES[rng.index(PIECE_BYTES.len())] },
            pastes: 0,
            disk_gone: false,
            leaving: None,
            members_to_change: 0,
            removed_unawares: None,
            restored: None,
            replaced: None,
            read_fields: Vec::new(),
        }
    }

    /// What the log of a region keeps for peers.
    pub(super) fn draw_keeps(&self, rng: &mut Rng) -> Keeps {
        let bytes_max = if self.keeps_little { KEPT_BYTES[rng.index(KEPT_BYTES.len())] } else { u64::MAX };
        let keeps = Keeps::at_most(bytes_max);
        if !self.lets_go {
            return keeps;
        }
        keeps.until_acknowledged(KEPT_ACKNOWLEDGED_MS[rng.index(KEPT_ACKNOWLEDGED_MS.len())])
    }
}

impl World {
    pub(super) fn begin(&mut self) {
        let active_ms = self.workload.active_ms;
        for at in 0..self.regions.len() {
            if self.regions[at].standing == Standing::Coming {
                let ms = self.rng.within(active_ms / 10, active_ms * 4 / 5);
                self.after(ms, Happening::Join(at));
            }
            self.restart(at);
            let ms = self.rng.within(1, 5000);
            self.after(ms, Happening::Canary(at));
        }
        if self.rng.percent(REMOVALS_PERCENT) {
            let ms = self.rng.within(active_ms / 5, active_ms * 4 / 5);
            self.after(ms, Happening::Leave);
        }
        self.draw_set_back(active_ms);
        let pairs: Vec<Way> = self.paths.keys().copied().collect();
        for of in pairs {
            self.dial(of);
        }
        for editor in 0..self.workload.editors {
            let members = self.members();
            let region = members[usize::try_from(editor).expect("few") % members.len()];
            let doc = self.draw_document();
            self.open_tab(region, doc);
        }
        if self.workload.ballast {
            self.say(format_args!("region {CUT_OFF} is cut off for {CUT_OFF_MS} ms"));
            for to in self.neighbours(CUT_OFF) {
                self.cut((CUT_OFF, to), CUT_OFF_MS);
            }
        }
        if !self.keeps_all() {
            for at in 0..self.regions.len() {
                self.after(1000, Happening::Checkpoint(at));
            }
        }
        self.after(50, Happening::Act);
        self.after(active_ms, Happening::Heal);
    }

    pub(super) fn draw_document(&mut self) -> DocId {
        doc_name(self.rng.index(self.workload.documents)).id()
    }

    fn open_tab(&mut self, region: usize, doc: DocId) -> usize {
        let number = self.editors.len();
        let client = u32::try_from(100 + number).expect("few");
        self.editors.push(Editor::new(client, region, doc));
        self.after(1, Happening::LookAfter(number));
        number
    }

    pub(super) fn act(&mut self) {
        let pause = self.rng.within(PAUSE_MS.0, PAUSE_MS.1);
        if self.now.0 + pause < self.workload.active_ms {
            self.after(pause, Happening::Act);
        }
        let open: Vec<usize> = (0..self.editors.len()).filter(|at| !self.editors[*at].closed).collect();
        let editor = open[self.rng.index(open.len())];
        if self.workload.ballast && self.workload.pastes < PASTES_MAX && self.rng.percent(50) {
            let here = open.iter().find(|editor| self.editors[**editor].region == PASTED_IN);
            return here.into_iter().for_each(|editor| self.pastes(*editor));
        }
        let region = self.rng.index(self.regions.len());
        let home = self.draw_member();
        match self.rng.within(0, 100) {
            0..16 => self.types(editor),
            16..32 => self.writes_fields(editor),
            32..36 => self.begins_to_type(editor),
            36..40 => self.goes_without_editor(region),
            40..52 => self.deletes(editor),
            52..57 => self.formats(editor),
            57..60 => self.turns(region),
            60..66 => self.undoes(editor),
            66..72 => self.goes_offline(editor),
            72..76 => self.clones_tab(editor),
            76..81 => self.switches(editor, home),
            81..83 => self.closes_tab(editor, open.len(), home),
            83..93 => self.breaks_a_path(),
            93..95 => self.checkpoint(region),
            95 => self.back_up(region),
            96 => self.jumps_clock(region),
            97 => self.arm_power_cut(region),
            _ => self.breaks_a_region(region),
        }
    }

    fn types(&mut self, editor: usize) {
        let len = self.editors[editor].len();
        let at = u32::try_from(self.rng.within(0, u64::from(len) + 1)).expect("within the text");
        let words = self.rng.within(1, 4);
        let what: String = (0..words).map(|_| WORDS[self.rng.index(WORDS.len())]).collect();
        let update = self.editors[editor].types(at, &what);
        self.say_of(editor, format_args!("types {what:?} at {at}"));
        self.edited(editor, &update);
    }

    /// Types a word letter by letter, whatever happens meanwhile to the editor's network or region.
    fn begins_to_type(&mut self, editor: usize) {
        let word = RUNS[self.rng.index(RUNS.len())];
        let at = self.rng.within(0, u64::from(self.editors[editor].len()) + 1);
        let at = u32::try_from(at).expect("within the text");
        self.say_of(editor, format_args!("begins to type {word:?} at {at}"));
        self.types_on(editor, at, word);
    }

    pub(super) fn types_on(&mut self, editor: usize, at: u32, rest: &'static str) {
        let Some(letter) = rest.chars().next().filter(|_| !self.editors[editor].closed) else { return };
        // Others may have deleted what was before it.
        let at = at.min(self.editors[editor].len());
        let (letter, rest) = rest.split_at(letter.len_utf8());
        let update = self.editors[editor].types(at, letter);
        self.edited(editor, &update);
        let ms = self.rng.within(KEY_MS.0, KEY_MS.1);
        self.after(ms, Happening::Key(editor, at + 1, rest));
    }

    fn pastes(&mut self, editor: usize) {
        self.workload.pastes += 1;
        let update = self.editors[editor].types(0, &"ballast ".repeat(PASTE_LEN / 8));
        self.say_of(editor, format_args!("pastes {PASTE_LEN} letters"));
        self.edited(editor, &update);
    }

    /// A range of an editor's text; none where it is empty.
    fn range(&mut self, editor: usize) -> Option<(u32, u32)> {
        let len = self.editors[editor].len();
        let at = u32::try_from(self.rng.next() % u64::from(len.max(1))).expect("within the text");
        let most = u64::from(len.saturating_sub(at)).min(12);
        let len = u32::try_from(self.rng.within(1, 13).min(most)).expect("a few");
        (len > 0).then_some((at, len))
    }

    fn deletes(&mut self, editor: usize) {
        let Some((at, len)) = self.range(editor) else { return };
        let update = self.editors[editor].deletes(at, len);
        self.say_of(editor, format_args!("deletes {len} at {at}"));
        self.edited(editor, &update);
    }

    fn formats(&mut self, editor: usize) {
        let Some((at, len)) = self.range(editor) else { return };
        let key = ["bold", "italic"][self.rng.index(2)];
        let on = self.rng.percent(70);
        let update = self.editors[editor].formats(at, len, key, on);
        self.say_of(editor, format_args!("sets {key} to {on} for {len} at {at}"));
        self.edited(editor, &update);
    }

    fn undoes(&mut self, editor: usize) {
        if let Some(update) = self.editors[editor].undoes() {
            self.say_of(editor, format_args!("undoes"));
            self.edited(editor, &update);
        }
    }

    fn goes_offline(&mut self, editor: usize) {
        if std::mem::replace(&mut self.editors[editor].online, false) {
            self.say_of(editor, format_args!("is offline"));
            self.part(editor);
            let back = self.rng.within(200, 6000);
            self.after(back, Happening::Return(editor));
        }
    }

    fn clones_tab(&mut self, editor: usize) {
        if self.editors.len() < TABS_MAX {
            let (region, doc) = (self.editors[editor].region, self.editors[editor].of);
            let copy = self.open_tab(region, doc);
            let state = self.editors[editor].lacking(&[0]);
            self.editors[copy].hears(&state);
            let (of, client) = (self.editors[editor].client, self.editors[copy].client);
            self.say(format_args!("editor {client} opens as a copy of editor {of}"));
        }
    }

    fn switches(&mut self, editor: usize, region: usize) {
        self.part(editor);
        self.editors[editor].region = region;
        self.say_of(editor, format_args!("moves to region {region}"));
    }

    fn closes_tab(&mut self, editor: usize, open: usize, region: usize) {
        if open > 2 && self.editors.len() < TABS_MAX {
            self.say_of(editor, format_args!("closes its tab for good"));
            self.part(editor);
            self.editors[editor].closed = true;
            let doc = self.draw_document();
            self.open_tab(region, doc);
        }
    }

    fn breaks_a_path(&mut self) {
        let pairs: Vec<Way> = self.paths.keys().copied().collect();
        let of = pairs[self.rng.index(pairs.len())];
        let (a, b) = of;
        let deaf = if self.rng.percent(50) && !self.workload.ballast { Deaf::Lost } else { Deaf::Late };
        let way = if self.rng.percent(50) { of } else { (b, a) };
        let ms = self.rng.within(100, 7000);
        let path = self.paths.get_mut(&of).expect("it is one of them");
        match self.rng.within(0, 10) {
            0..3 if !path.cut => {
                self.say(format_args!("the link between regions {a} and {b} is cut for {ms} ms"));
                self.cut(of, ms);
            }
            3..5 => {
                self.say(format_args!("the link between regions {a} and {b} is reset"));
                self.drop_connection(of);
            }
            5..9 if path.deaf.is_none() => {
                path.deaf = Some((way, deaf));
                let how = if deaf == Deaf::Late { "late" } else { "lost" };
                self.say(format_args!("what region {} says to {} is {how} for {ms} ms", way.0, way.1));
                self.after(ms, Happening::Mend(of));
            }
            9 => {
                path.damage = true;
                self.say(format_args!("the next batch between regions {a} and {b} is damaged"));
                return;
            }
            _ => return,
        }
        self.totals.partitions += 1;
    }

    /// Whether things may still break.
    pub(super) const fn is_active(&self) -> bool {
        self.now.0 < self.workload.active_ms
    }

    /// Whether whatever a region lacks can come as batches.
    pub(super) fn keeps_all(&self) -> bool {
        self.regions.iter().all(|region| region.keeps.everything())
    }

    pub(super) fn cut(&mut self, of: Way, ms: u64) {
        let of = super::wire::pair(of);
        self.paths.get_mut(&of).expect("only neighbours are cut off").cut = true;
        self.drop_connection(of);
        self.after(ms, Happening::Mend(of));
    }
}
