//! The writes that no other was made on: one nearly always.

use super::NodeIx;
use std::collections::BTreeSet;

/// A set that takes no memory of its own while it holds one write.
///
/// Invariant: there is one alone, or there are many.
#[derive(Debug, Default)]
pub(super) struct Tips {
    one: Option<NodeIx>,
    many: BTreeSet<NodeIx>,
}

impl Tips {
    pub(super) fn insert(&mut self, ix: NodeIx) {
        if self.one.is_none() && self.many.is_empty() {
            self.one = Some(ix);
        } else {
            self.many.extend(self.one.take());
            self.many.insert(ix);
        }
    }

    pub(super) fn remove(&mut self, ix: NodeIx) {
        if self.one.take_if(|one| *one == ix).is_none() {
            self.many.remove(&ix);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = NodeIx> {
        self.one.into_iter().chain(self.many.iter().copied())
    }
}
