//! Where the writes of a register hang: each below what its writer saw.

use super::tips::Tips;
use super::{Node, NodeIx, Parents, Register, Write};
use crate::fields::write::WriteId;
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeSet;

/// A write whose value so many later writes have come below is settled: its value is let go, and who comes
/// back after that finds no base. A thousand edits of one field is more than a person makes in a day offline.
const SETTLED_AFTER_WRITES: u64 = 1_024;

/// The same for the bytes of the values that have come below it.
const SETTLED_AFTER_BYTES: u64 = 1 << 20;

/// Values are let go by so many writes, or bytes, together.
const SETTLED_EACH_WRITES: u64 = 64;
const SETTLED_EACH_BYTES: u64 = 1 << 16;

impl Register {
    /// Hangs a write below what its writer saw.
    pub(super) fn place(&mut self, ix: NodeIx, above: Option<NodeIx>) {
        let parents = self.parents_of(ix, above);
        let is_write_back = self.is_write_back(ix);
        if parents.len() > 1 {
            let join = self.joins.entry(parents.as_slice().into()).or_default();
            if is_write_back { join.rendered.push(ix) } else { join.resolved.push(ix) }
        }
        if !is_write_back {
            for parent in &parents {
                self.tips.remove(*parent);
                self.deleted_tips.remove(*parent);
            }
        }
        self.hang(ix, parents);
        if !is_write_back {
            self.tips.insert(ix);
            if let WriteId::Deleted(_) = self.write(ix).id {
                self.deleted_tips.insert(ix);
            }
            self.settle_above(ix);
        }
    }

    fn hang(&mut self, ix: NodeIx, parents: Parents) {
        let Write { len, held, .. } = self.write(ix);
        let (len, own) = (*len, held.weight());
        let highest = match *parents {
            [one] => Some(one),
            _ => parents.iter().copied().max_by_key(|&up| (self.nodes[up].level, self.write(up).id)),
        };
        let (above, jump, span, level, weight) = match highest {
            None => (ix, ix, 0, 0, 0),
            Some(above) => {
                let up = &self.nodes[above];
                let over = &self.nodes[up.jump];
                let (jump, span) = if up.span == over.span {
                    (over.jump, up.span.saturating_add(over.span))
                } else {
                    (above, 0)
                };
                (above, jump, span, up.level, up.weight)
            }
        };
        let node = &mut self.nodes[ix];
        (node.above, node.jump, node.span) = (above, jump, span.saturating_add(len));
        (node.level, node.weight) = (level + u64::from(len), weight + own);
        node.parents = parents;
        node.placed = true;
    }

    /// The writes that a write was made on: in order, none above another, write-backs as what they render.
    fn parents_of(&mut self, ix: NodeIx, above: Option<NodeIx>) -> Parents {
        let write = self.write(ix);
        // Nearly every write was made on one that it names alone.
        if let Some(above) = above.filter(|&above| write.sees().is_empty() && above != ix) {
            let seen = &self.nodes[above];
            if seen.placed && !self.is_write_back(above) {
                return smallvec![above];
            }
        }
        let named: SmallVec<[WriteId; 4]> = write.named().collect();
        let mut parents = BTreeSet::new();
        for &id in &named {
            match self.find(id) {
                // Marks may name the write itself where they are wrong, or go round in a circle.
                Some(seen) if seen == ix || !self.nodes[seen].placed => {}
                Some(seen) if self.is_write_back(seen) => {
                    parents.extend(self.nodes[seen].parents.iter().copied());
                }
                Some(seen) => {
                    parents.insert(seen);
                }
                None => {
                    self.wanted.insert(id);
                }
            }
        }
        // What one write-back renders is known to be side by side.
        if named.len() > 1 {
            for above in self.above(&parents) {
                parents.remove(&above);
            }
        }
        parents.into_iter().collect()
    }

    /// Those of the nodes that others of them were made on, directly or not.
    fn above(&self, nodes: &BTreeSet<NodeIx>) -> Vec<NodeIx> {
        let level = |ix: NodeIx| self.nodes[ix].level;
        let lowest = nodes.iter().map(|&ix| level(ix)).min().unwrap_or(0);
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open: Vec<NodeIx> = nodes.iter().copied().collect();
        while let Some(ix) = open.pop() {
            for &parent in &self.nodes[ix].parents {
                if level(parent) >= lowest && seen.insert(parent) {
                    open.push(parent);
                    if nodes.contains(&parent) {
                        found.push(parent);
                    }
                }
            }
        }
        found
    }

    /// Lets go of the values that this write is too far below of. Looks for them once in so many writes or bytes, since
    /// it has to go far for them; and from where that many are full, so that it does not matter which write is the first
    /// beyond.
    fn settle_above(&mut self, ix: NodeIx) {
        let full = |ix: NodeIx| {
            let Node { level, weight, .. } = self.nodes[ix];
            (level - level % SETTLED_EACH_WRITES, weight - weight % SETTLED_EACH_BYTES)
        };
        let (level, weight) = full(ix);
        if (level, weight) == full(self.nodes[ix].above) {
            return;
        }
        let far = |at: NodeIx| {
            let node = &self.nodes[at];
            level.saturating_sub(node.level) > SETTLED_AFTER_WRITES
                || weight.saturating_sub(node.weight) > SETTLED_AFTER_BYTES
        };
        let mut at = ix;
        while !far(at) {
            let node = &self.nodes[at];
            if node.above == at {
                return;
            }
            at = if far(node.jump) { node.above } else { node.jump };
        }
        // All above a settled write are settled.
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            let node = &mut self.nodes[at];
            if !std::mem::replace(&mut node.settled, true) {
                open.extend(&node.parents);
                let held = &mut self.writes[at].held;
                *held = held.let_go();
            }
        }
    }

    /// Places every write anew, each after what its writer saw.
    pub(super) fn rebuild(&mut self) {
        self.joins.clear();
        self.tips = Tips::default();
        self.deleted_tips = Tips::default();
        self.wanted.clear();
        for (ix, node) in (0..).zip(self.nodes.iter_mut()) {
            (node.above, node.jump, node.span, node.level) = (ix, ix, 0, 0);
            (node.placed, node.aside) = (false, false);
            node.parents.clear();
        }
        self.tail = None;
        for ix in self.in_causal_order() {
            let origin = self.write(ix).origin.and_then(|origin| self.find(WriteId::Set(origin)));
            self.place(ix, origin);
            if let WriteId::Set(_) = self.write(ix).id {
                self.move_tail(ix, origin);
            }
        }
    }
}
