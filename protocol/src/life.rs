//! Whether a document is deleted, from what all regions wrote about it.
//!
//! A deletion says what its region had seen. An edit that it had not seen is concurrent with it, and what comes
//! of that is the collection's policy: the document is revived and flagged, or stays deleted and the edit is on
//! record. A restoration, or a deletion that has seen the edits, settles it.
//!
//! Invariant: a life is a function of the set of changes that it was told of, in any order, however often.

use std::collections::BTreeMap;

use crate::batch::{Stamp, put_stamp, read_stamp};
use crate::fields::schema::DeletePolicy;
use crate::frontier::Frontier;
use crate::hlc::Hlc;
use crate::ids::{Dot, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_u64};

/// What was written of a document's creation, deletions, restorations and edits, as far as it still matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The greatest stamp of a restoration. What is not above it has been taken back.
    restored: Option<Stamp>,
    /// Of each stream the last deletion above the restoration. Those before it had seen less.
    deletions: BTreeMap<StreamId, Deletion>,
    /// Of each stream the last edit.
    edits: BTreeMap<StreamId, (Seq, Hlc)>,
}

/// A deletion that has not been taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its entry's stamp.
    pub stamp: Stamp,
    /// What its region had seen, itself included: what that region wrote before it, it had seen.
    pub seen: Frontier,
}

/// Edits of one stream that no deletion had seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// The deletions had seen the stream up to here; seq 0 where they had seen nothing of it.
    pub after: Dot,
    /// The last of the edits.
    pub last: Dot,
    /// The last one's time.
    pub hlc: Hlc,
}

impl Life {
    /// Takes note of an edit. A seq of 0 names nothing: it stands for many.
    pub fn edited(&mut self, (hlc, dot): Stamp) {
        if dot.seq > Seq(0) {
            let last = self.edits.entry(dot.stream).or_default();
            *last = (dot.seq, hlc).max(*last);
        }
    }

    /// Takes note of a deletion by a region that had seen so much.
    pub fn deleted(&mut self, stamp: Stamp, mut seen: Frontier) {
        let stream = stamp.1.stream;
        let last = self.deletions.get(&stream).map(|deletion| deletion.stamp);
        if Some(stamp) > self.restored && Some(stamp) > last {
            seen.raise(stamp.1);
            self.deletions.insert(stream, Deletion { stamp, seen });
        }
    }

    /// Takes note of a restoration.
    pub fn restored(&mut self, stamp: Stamp) {
        self.restored = self.restored.max(Some(stamp));
        self.deletions.retain(|_, deletion| Some(deletion.stamp) > self.restored);
    }

    /// Forgets what a stream that ends here had after its end. What of it was written again is told again.
    pub fn part(&mut self, end: Dot) {
        self.deletions.retain(|stream, of| *stream != end.stream || of.stamp.1.seq <= end.seq);
        if let Some(last) = self.edits.get_mut(&end.stream).filter(|(seq, _)| *seq > end.seq) {
            // Whether the document had an edit just there is not known. Whoever has seen what was written again
            // has seen the end, and whoever has not lacks the one as it lacks the other.
            *last = (end.seq, Hlc(0));
        }
        self.edits.retain(|_, (seq, _)| *seq > Seq(0));
    }

    /// The greatest stamp of what deleted or restored it.
    #[must_use]
    pub fn turned(&self) -> Option<Stamp> {
        self.restored.max(self.deletion().map(|deletion| deletion.stamp))
    }

    /// The deletion of the greatest stamp, if one has not been taken back.
    #[must_use]
    pub fn deletion(&self) -> Option<&Deletion> {
        self.deletions.values().max_by_key(|deletion| deletion.stamp)
    }

    /// All deletions that have not been taken back, one of a stream.
    pub fn deletions(&self) -> impl Iterator<Item = &Deletion> {
        self.deletions.values()
    }

    /// The restoration of the greatest stamp.
    #[must_use]
    pub const fn restoration(&self) -> Option<Stamp> {
        self.restored
    }

    /// The last edit of each stream.
    pub fn edits(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.edits.iter().map(|(&stream, &(seq, hlc))| (hlc, Dot { stream, seq }))
    }

    /// The edits that no deletion had seen, by stream; none while nothing is deleted.
    pub fn unseen(&self) -> impl Iterator<Item = Unseen> + '_ {
        let mut seen = Frontier::new();
        self.deletions.values().for_each(|deletion| seen.merge(&deletion.seen));
        let edits = self.edits().filter(|_| !self.deletions.is_empty());
        edits.filter_map(move |(hlc, last)| {
            let after = Dot { seq: seen.get(last.stream), ..last };
            (after.seq < last.seq).then_some(Unseen { after, last, hlc })
        })
    }

    /// The stamp of the last edit that no deletion had seen.
    #[must_use]
    pub fn contested(&self) -> Option<Stamp> {
        self.unseen().map(|unseen| (unseen.hlc, unseen.last)).max()
    }

    /// Whether the document is deleted under a policy.
    #[must_use]
    pub fn is_deleted(&self, policy: DeletePolicy) -> bool {
        !self.deletions.is_empty() && (policy == DeletePolicy::DeleteWins || self.contested().is_none())
    }

    /// Whether the document was deleted and lives on since an edit revived it, which nobody has settled yet.
    #[must_use]
    pub fn is_revived(&self, policy: DeletePolicy) -> bool {
        !self.deletions.is_empty() && !self.is_deleted(policy)
    }

    /// Appends it to a row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_var_u64(out, self.restored.is_some().into());
        self.restored.into_iter().for_each(|stamp| put_stamp(out, stamp));
        put_var_u64(out, self.deletions.len() as u64);
        for deletion in self.deletions() {
            put_stamp(out, deletion.stamp);
            deletion.seen.encode(out);
        }
        put_var_u64(out, self.edits.len() as u64);
        self.edits().for_each(|stamp| put_stamp(out, stamp));
    }

    /// Reads what [`Life::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes end, or a number in them is too large.
    pub fn decode(reader: &mut Reader) -> Result<Self, ReadError> {
        let mut life = Self::default();
        if reader.var_u64()? > 0 {
            life.restored(read_stamp(reader)?);
        }
        for _ in 0..reader.var_u64()? {
            let stamp = read_stamp(reader)?;
            let seen = Frontier::decode(reader).map_err(|_| ReadError::Overflow)?;
            life.deleted(stamp, seen);
        }
        for _ in 0..reader.var_u64()? {
            life.edited(read_stamp(reader)?);
        }
        Ok(life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::schema::DeletePolicy::{DeleteWins, Revive};
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Change {
        Edit,
        Delete(Frontier),
        Restore,
    }

    fn dot(stream: u32, seq: u64) -> Dot {
        Dot { stream: StreamId::from_u32(stream), seq: Seq(seq) }
    }

    fn tell(life: &mut Life, (stamp, change): (Stamp, Change)) {
        match change {
            Change::Edit => life.edited(stamp),
            Change::Delete(seen) => life.deleted(stamp, seen),
            Change::Restore => life.restored(stamp),
        }
    }

    /// What three regions wrote, each with a clock of its own that never falls, and having seen ever more.
    fn history() -> impl Strategy<Value = Vec<(Stamp, Change)>> {
        let one = (0..3_u32, 0..4_u8, 0..6_u64, proptest::array::uniform3(0..4_u64));
        proptest::collection::vec(one, 0..24).prop_map(|drawn| {
            let (mut ends, mut clocks) = ([0_u64; 3], [0_u64; 3]);
            let mut seen = [[0_u64; 3]; 3];
            let wrote = drawn.into_iter().map(|(stream, what, later, more)| {
                let of = stream as usize;
                ends[of] += 1;
                clocks[of] += later;
                for (other, end) in ends.iter().enumerate().filter(|(other, _)| *other != of) {
                    seen[of][other] = (seen[of][other] + more[other]).min(*end);
                }
                let change = match what {
                    0 | 1 => Change::Edit,
                    2 => Change::Delete((0..3).map(|other| dot(other, seen[of][other as usize])).collect()),
                    _ => Change::Restore,
                };
                ((Hlc(clocks[of]), dot(stream, ends[of])), change)
            });
            wrote.collect()
        })
    }

    /// As it is defined: edits that none of the deletions which stand had seen.
    fn unseen_as_defined(history: &[(Stamp, Change)]) -> Option<Vec<Dot>> {
        let restored = history.iter().filter(|(_, it)| matches!(it, Change::Restore)).map(|(s, _)| *s).max();
        let standing: Vec<_> = history.iter().filter(|(stamp, _)| Some(*stamp) > restored).collect();
        let deletions: Vec<(Dot, &Frontier)> = standing
            .iter()
            .filter_map(|(stamp, it)| match it {
                Change::Delete(seen) => Some((stamp.1, seen)),
                _ => None,
            })
            .collect();
        let saw = |dot: Dot| {
            deletions.iter().any(|(by, seen)| seen.covers(dot) || by.stream == dot.stream && by.seq > dot.seq)
        };
        let edits = history.iter().filter(|(_, it)| matches!(it, Change::Edit)).map(|(stamp, _)| stamp.1);
        (!deletions.is_empty()).then(|| edits.filter(|dot| !saw(*dot)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn t1_the_same_changes_in_any_order_make_the_same_life(
            (history, shuffled) in history().prop_flat_map(|it| (Just(it.clone()), Just(it).prop_shuffle())),
            twice: prop::sample::Index,
        ) {
            let (mut life, mut other) = (Life::default(), Life::default());
            history.iter().cloned().for_each(|change| tell(&mut life, change));
            shuffled.iter().cloned().for_each(|change| tell(&mut other, change));
            if !shuffled.is_empty() {
                tell(&mut other, shuffled[twice.index(shuffled.len())].clone());
            }
            prop_assert_eq!(&life, &other);
            let mut bytes = Vec::new();
            life.encode(&mut bytes);
            prop_assert_eq!(Life::decode(&mut Reader::new(bytes.into())), Ok(life));
        }

        #[test]
        fn t2_what_no_deletion_had_seen_revives_or_is_on_record(history in history()) {
            let mut life = Life::default();
            history.iter().cloned().for_each(|change| tell(&mut life, change));
            let defined = unseen_as_defined(&history);
            prop_assert_eq!(life.is_deleted(DeleteWins), defined.is_some());
            prop_assert_eq!(life.is_deleted(Revive), defined.as_ref().is_some_and(Vec::is_empty));
            prop_assert_eq!(life.is_revived(Revive), defined.as_ref().is_some_and(|dots| !dots.is_empty()));
            let within = |dot: &Dot| life.unseen().any(|of| {
                of.last.stream == dot.stream && of.after.seq < dot.seq && dot.seq <= of.last.seq
            });
            let unseen = defined.unwrap_or_default();
            prop_assert!(unseen.iter().all(within));
            prop_assert!(life.unseen().all(|of| unseen.contains(&of.last)));
            let last = unseen.iter().filter_map(|dot| {
                history.iter().map(|(stamp, _)| *stamp).find(|stamp| stamp.1 == *dot)
            });
            prop_assert_eq!(life.contested(), last.max());
        }

        #[test]
        fn any_bytes_are_a_life_or_refused(bytes: Vec<u8>) {
            let _ = Life::decode(&mut Reader::new(bytes.into()));
        }
    }

    #[test]
    fn t3_a_restoration_or_a_deletion_that_has_seen_the_edits_settles_it() {
        let mut life = Life::default();
        life.edited((Hlc(1), dot(1, 2)));
        life.deleted((Hlc(5), dot(2, 1)), Frontier::new());
        assert!(life.is_revived(Revive) && life.is_deleted(DeleteWins));
        let mut restored = life.clone();
        restored.restored((Hlc(6), dot(2, 2)));
        assert!(!restored.is_revived(Revive) && !restored.is_deleted(DeleteWins));
        assert_eq!(restored.unseen().count(), 0);
        life.deleted((Hlc(6), dot(3, 1)), [dot(1, 2)].into_iter().collect());
        assert!(life.is_deleted(Revive) && life.contested().is_none());
    }

    #[test]
    fn what_a_stream_no_longer_has_is_forgotten() {
        let mut life = Life::default();
        life.edited((Hlc(3), dot(1, 9)));
        life.deleted((Hlc(4), dot(1, 10)), [dot(2, 3)].into_iter().collect());
        life.part(dot(1, 4));
        assert!(!life.is_deleted(Revive));
        life.deleted((Hlc(5), dot(2, 4)), [dot(1, 4)].into_iter().collect());
        assert!(life.is_deleted(Revive), "what was after the end is not held against a deletion");
        life.part(dot(1, 0));
        assert_eq!(life.edits().count(), 0);
    }
}
