//! What each peer is known to have received: the acknowledgement matrix, by which the log is truncated
//! (Wuu and Bernstein, "Efficient solutions to the replicated log and dictionary problems", 1984; a row is what
//! a peer has said itself, not what others say of it).

use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{Dot, ReplicaId};
use std::collections::BTreeMap;

/// A row for each peer that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks(pub(crate) BTreeMap<ReplicaId, Frontier>);

impl Acks {
    /// Takes note of what a peer has. Less than it had before, where it has lost its disk. True when it is news.
    pub fn note(&mut self, peer: ReplicaId, received: &Frontier) -> bool {
        let news = self.0.get(&peer) != Some(received);
        if news {
            self.0.insert(peer, received.clone());
        }
        news
    }

    /// A peer counts no more. True when it did.
    pub fn forget(&mut self, peer: ReplicaId) -> bool {
        self.0.remove(&peer).is_some()
    }

    /// What every peer that counts has; nothing where none does.
    #[must_use]
    pub fn acknowledged(&self) -> Frontier {
        let mut rows = self.0.values();
        let Some(first) = rows.next() else { return Frontier::new() };
        let least = |dot: Dot| {
            rows.clone().map(|row| row.get(dot.stream)).min().map_or(dot.seq, |seq| seq.min(dot.seq))
        };
        first.iter().map(|dot| Dot { seq: least(dot), ..dot }).filter(|dot| dot.seq.0 > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_protocol::ids::{Seq, StreamId};

    fn row(seqs: &[(u32, u64)]) -> Frontier {
        seqs.iter().map(|&(stream, seq)| Dot { stream: StreamId::from_u32(stream), seq: Seq(seq) }).collect()
    }

    #[test]
    fn what_all_have_is_the_least_of_each_stream() {
        let mut acks = Acks::default();
        assert_eq!(acks.acknowledged(), Frontier::new());
        assert!(acks.note(ReplicaId(2), &row(&[(1, 5), (2, 9)])));
        assert!(!acks.note(ReplicaId(2), &row(&[(1, 5), (2, 9)])));
        assert_eq!(acks.acknowledged(), row(&[(1, 5), (2, 9)]));
        acks.note(ReplicaId(3), &row(&[(1, 7), (3, 4)]));
        assert_eq!(acks.acknowledged(), row(&[(1, 5)]));
        // It has lost its disk.
        acks.note(ReplicaId(2), &row(&[(2, 1)]));
        assert_eq!(acks.acknowledged(), Frontier::new());
        assert!(acks.forget(ReplicaId(2)) && !acks.forget(ReplicaId(2)));
        assert_eq!(acks.acknowledged(), row(&[(1, 7), (3, 4)]));
    }
}
