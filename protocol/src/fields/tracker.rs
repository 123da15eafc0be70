//! The fields of an open document: what is committed of them, and what is on its way.

use super::ahead::Ahead;
use super::edit::{Edit, EditRefused, FieldVersion};
use super::graph::{Authorship, Graph, RegisterIx};
use super::held::Held;
use super::path::Path;
use super::policy::Policy;
use super::record::{Ending, OfField};
use super::register::NodeIx;
use super::rules::Rules;
use super::state::{ConflictId, FieldState, Version, state, version};
use super::value::Value;
use super::write::{Mark, WriteId};
use super::write_back::{self, Draft, Drafted, WriteBack, Writer};
use crate::batch::Stamp;
use crate::lib0::ReadError;
use crate::update::{ClientId, Update};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Follows the fields of one document.
#[derive(Debug, Default)]
pub struct Tracker {
    pub(super) graph: Graph,
    ahead: Ahead,
    /// Some of them twice.
    touched: Vec<RegisterIx>,
}

impl Tracker {
    /// Goes on from what is committed.
    #[must_use]
    pub fn new(graph: Graph) -> Self {
        Self { graph, ..Self::default() }
    }

    /// What is committed.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Takes what a stored graph says.
    ///
    /// # Errors
    /// When the bytes are no stored graph.
    pub fn merge(&mut self, bytes: Bytes) -> Result<(), ReadError> {
        self.graph.merge(bytes)
    }

    /// Whether no write of a field is on its way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Whether the document has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.graph.is_empty()
    }

    /// What this region is to say about an update that it admits; none when it writes no field. `sent` is all of
    /// what an editor sent, of which the update is what is new.
    pub fn admit(&mut self, update: &Update, sent: &Update) -> Option<Vec<Mark>> {
        self.ahead.admit(&mut self.graph, update, Some(sent))
    }

    /// The same about an update of this region's own, with what was drafted to be said about it.
    pub fn admit_drafted(&mut self, update: &Update, drafted: Vec<Mark>) -> Vec<Mark> {
        let mut marks = self.ahead.admit(&mut self.graph, update, None).unwrap_or_default();
        // What is said of an item says what its deletion means.
        marks.retain(|mark| {
            let is_said = || drafted.iter().any(|own| own.write.item() == mark.write.item());
            matches!(mark.write, WriteId::Set(_)) || !is_said()
        });
        marks.extend(drafted);
        marks
    }

    /// Takes note of how many of the writes that were admitted are committed and taken.
    pub fn committed(&mut self, admitted: u64, committed: u64) {
        self.ahead.committed(admitted, committed);
    }

    /// Takes a committed update that writes fields.
    pub fn take(&mut self, update: &Update, marks: &[Mark], by: &Authorship) {
        self.touched.extend(self.graph.take(update, marks, by));
    }

    /// The fields in which anything is different than when this was last asked, or in what editors are told of them,
    /// by updates that were taken since.
    pub fn take_touched(&mut self) -> BTreeSet<Path> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let field = |ix| self.graph.path(ix).or_else(|| write_back::told_by(&self.graph, ix));
        touched.into_iter().filter_map(field).collect()
    }

    /// Whether nobody has to look at the fields that [`Tracker::take_touched`] would tell of, which are forgotten then:
    /// each was only ever written by one after the other, and editors have never been told of a conflict.
    pub fn take_calm(&mut self) -> bool {
        let is_calm = self.touched.iter().all(|&ix| self.graph.register(ix).is_chain())
            && self.graph.conflicts().is_none();
        if is_calm {
            self.touched.clear();
        }
        is_calm
    }

    /// The fields that the document has or had, in the order of their paths.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<Path> {
        self.graph.paths()
    }

    /// The state of a field under a policy; none when it was never written, or is in a map that was replaced.
    #[must_use]
    pub fn state(&self, path: &Path, policy: &Policy) -> Option<FieldState> {
        state(self.graph.register(self.graph.at(path)?), policy)
    }

    /// The fields that a write-back may be due for: those with siblings, those of which Yjs shows something else
    /// than their one value, and those that editors are told are in conflict.
    #[must_use]
    pub fn contested(&self) -> BTreeSet<Path> {
        let contested = self.graph.by_place.values().filter(|&&ix| self.graph.register(ix).is_contested());
        contested.filter_map(|&ix| self.graph.path(ix)).chain(write_back::told(&self.graph)).collect()
    }

    /// What the writer is to write back in these fields; none when nothing is due. `next_clock` tells a Yjs
    /// client's next clock in the document.
    #[must_use]
    pub fn write_back<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p Path>,
        rules: &Rules,
        writer: Writer,
        next_clock: &dyn Fn(ClientId) -> u32,
    ) -> Option<Drafted> {
        let mut writing = WriteBack { graph: &self.graph, writer, next_clock, draft: Draft::default() };
        for path in paths {
            writing.field(path, rules.policy(path));
        }
        writing.draft.finish()
    }

    /// The update that makes these writes, as the Yjs client `client`; none when they change nothing.
    ///
    /// # Errors
    /// What keeps one of them from being made; then none is.
    pub fn edit(
        &self,
        edits: &[Edit],
        client: ClientId,
        next_clock: impl Fn() -> u32,
    ) -> Result<Option<Drafted>, EditRefused> {
        let mut draft = Draft::default();
        let mut seen = BTreeSet::new();
        for edit in edits {
            if !seen.insert(&edit.path) {
                return Err(EditRefused::Twice(edit.path.clone()));
            }
            self.graph.edit(edit, client, &next_clock, &mut draft)?;
        }
        Ok(draft.finish())
    }

    /// The writes that made up a conflict of a field: its siblings, or what others were made on together.
    #[must_use]
    pub fn conflict(&self, path: &Path, conflict: ConflictId) -> Option<FieldVersion> {
        let register = self.graph.register(self.graph.at(path)?);
        let siblings = register.siblings();
        let writes = |of: &[NodeIx]| -> Vec<WriteId> { of.iter().map(|&ix| register.write(ix).id).collect() };
        let mut sets = std::iter::once(&siblings[..]).chain(register.joins()).map(writes);
        sets.find(|of| ConflictId::of(path, of) == conflict).map(FieldVersion)
    }

    /// The sets of versions that later writes or write-backs of a field were made on together: the conflicts that
    /// somebody has seen. In no set order.
    #[must_use]
    pub fn joins(&self, path: &Path) -> Vec<Vec<Version>> {
        let Some(ix) = self.graph.at(path) else { return Vec::new() };
        let register = self.graph.register(ix);
        let joins = register.joins().map(|of| of.iter().map(|&ix| version(register, ix)).collect());
        joins.collect()
    }

    /// The last value that satisfies a condition, going back from the siblings; none where there is none, or it
    /// has been let go.
    #[must_use]
    pub fn last_left(&self, path: &Path, is_wanted: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        self.graph.register(self.graph.at(path)?).last_left(is_wanted)
    }

    /// What is on record of a field's conflicts under a policy: of the one its siblings are, if they are one, and
    /// of those that are over and `is_wanted` by their name and how they ended.
    #[must_use]
    pub fn records(
        &self,
        path: &Path,
        policy: &Policy,
        is_wanted: &dyn Fn(ConflictId, &Ending) -> bool,
    ) -> OfField {
        self.graph.records(path, policy, is_wanted)
    }

    /// The fields of which more was learnt about who had seen what than new writes say, since this was last asked: what
    /// is over there may have been on something else.
    pub fn take_rebuilt(&mut self) -> BTreeSet<Path> {
        self.graph.take_rebuilt()
    }

    /// Since when a field has held the value that is shown, as far as that is known: of its siblings that left it
    /// the earliest, else the latest of them.
    #[must_use]
    pub fn shown_since(&self, path: &Path, shown: &Value) -> Option<Stamp> {
        let register = self.graph.register(self.graph.at(path)?);
        let siblings = register.siblings();
        let is_shown = |ix: &NodeIx| matches!(register.left(*ix), Held::Value(value) if value == shown);
        let since = siblings.iter().copied().filter(is_shown).map(|ix| register.held_since(ix)).min();
        since.or_else(|| siblings.iter().map(|&ix| register.write(ix).by.stamp).max())
    }

    /// What Yjs shows under a field's key.
    #[must_use]
    pub fn shows(&self, path: &Path) -> Option<Held> {
        let register = self.graph.register(self.graph.at(path)?);
        let tail = register.tail()?;
        let is_deleted = write_back::is_deleted(register, tail);
        Some(if is_deleted { Held::Deleted } else { register.write(tail).held.clone() })
    }
}
