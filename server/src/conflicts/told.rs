//! What has changed on record, in the order of the changes, for whoever tells of it.
//!
//! ```text
//! changes = change → doc · conflict, or 1 · claim, or 2 · a referrer's key, or 3 for what is over
//! ```
//!
//! A conflict has the number of its last change alone, so that it is told of once, as it is by then. One between
//! documents that was over before it was told of is told of as over.
//!
//! Invariant: whoever has read the changes up to a number has missed none below it, but what has been let go.

use super::between::{Between, OVER, Standing, dangler_key, over_key};
use super::book::{Book, Filter};
use super::flags::{Flag, Said, read_standing};
use super::rows::{CHANGES, Kept, Name, Summary, change_key, named, read_name};
use bytes::Bytes;
use quire_protocol::fields::{ClaimId, Status};
use quire_storage::{DerivedKey, LoadError};
use std::ops::Bound;
use std::sync::atomic::Ordering;

/// No more changes are read at once when they have so many bytes: somebody waits for each to be sent.
const CHANGES_BYTES_MAX: usize = 256 << 10;

/// So many conflicts between documents that are over stay on record, the last ones: a reader that was away for longer
/// sees from the list what is still open. A few hundred bytes each.
pub(super) const OVER_MAX: i64 = 50_000;

const CONTESTED: u8 = 1;
const DANGLING: u8 = 2;
const IS_OVER: u8 = 3;

/// What a change is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Within(Name),
    Contested(ClaimId),
    /// A reference, by its referrer's key.
    Dangling(Bytes),
    /// What the change has ended.
    Over,
}

/// A conflict of which is told, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Within a document.
    Within(Box<Kept>),
    Between(Between),
}

/// Conflicts that have changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Each as it is now, in the order of their last changes.
    pub(crate) conflicts: Vec<Told>,
    /// The number up to which these are all that the filter takes.
    pub(crate) up_to: u64,
}

impl Changed {
    pub(super) fn row(&self) -> Bytes {
        match self {
            Self::Within(name) => named(&[], *name),
            Self::Contested(ClaimId(id)) => [&[CONTESTED], &id[..]].concat().into(),
            Self::Dangling(key) => [&[DANGLING], &key[..]].concat().into(),
            Self::Over => Bytes::from_static(&[IS_OVER]),
        }
    }

    /// None for what an earlier release wrote and nobody is told of.
    fn read(row: &Bytes) -> Option<Self> {
        match (row.len(), row.split_first()?) {
            (1, (&IS_OVER, _)) => Some(Self::Over),
            (17, (&CONTESTED, id)) => id.try_into().ok().map(|id| Self::Contested(ClaimId(id))),
            (49, (&DANGLING, _)) => Some(Self::Dangling(row.slice(1..))),
            (32, _) => read_name(row).map(Self::Within),
            _ => None,
        }
    }
}

impl Told {
    /// The number of its last change.
    pub(crate) fn change(&self) -> u64 {
        match self {
            Self::Within(kept) => kept.change,
            Self::Between(between) => between.standing().change,
        }
    }

    /// What has become of it, for somebody who has seen the changes up to a number.
    pub(crate) fn event(&self, seen: u64) -> &'static str {
        match self {
            Self::Within(kept) => kept.event(seen),
            Self::Between(between) => between.event(seen),
        }
    }

    /// Names the conflict as it is now: what is derived again after a crash, or in another region, has the same name.
    pub(crate) fn state_id(&self) -> String {
        match self {
            Self::Within(kept) => kept.state_id(),
            Self::Between(between) => between.state_id(),
        }
    }

    /// A document that it is of, for people.
    pub(crate) fn document(&self) -> &str {
        match self {
            Self::Within(kept) => kept.document.as_str(),
            Self::Between(between) => between.document().map_or("", |document| document.as_str()),
        }
    }
}

impl Said {
    /// Has it told that a conflict between documents is over.
    pub(super) fn ends(&mut self, between: Between, last: &mut u64) {
        *last += 1;
        self.over += 1;
        self.changes.push((over_key(*last), Some(between.over(*last).row())));
        self.changes.push((change_key(*last), Some(Changed::Over.row())));
    }
}

impl Filter {
    fn takes_told(&self, told: &Told) -> bool {
        let (status, is_taken) = match told {
            Told::Within(kept) => {
                (kept.record.status(), self.takes(&Summary::of(&kept.document, &kept.record)))
            }
            Told::Between(between) => (between.standing().status, self.takes_between(between)),
        };
        is_taken && self.statuses.contains(&status)
    }

    fn takes_between(&self, between: &Between) -> bool {
        match between {
            Between::Contested(contested) => self.takes_contested(contested),
            Between::Dangling(dangling) => self.takes_dangling(dangling),
        }
    }
}

impl Book {
    /// Conflicts that have changed after a number and that the filter takes, each once, as it is now. At most `limit`
    /// are looked at.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn changes(&self, after: u64, filter: &Filter, limit: usize) -> Result<Changes, LoadError> {
        // Asked for first: what is put while the rows are read comes the next time.
        let told = *self.watch().borrow();
        let from = after.to_be_bytes();
        let rows = self.log.derived(CHANGES, (Bound::Excluded(&from), Bound::Unbounded), limit)?;
        if rows.is_empty() {
            return Ok(Changes { conflicts: Vec::new(), up_to: after.max(told) });
        }
        let mut changes = Changes { conflicts: Vec::new(), up_to: after };
        let mut bytes = 0;
        for (key, row) in rows {
            changes.up_to = key.first_chunk().map_or(changes.up_to, |change| u64::from_be_bytes(*change));
            let Some(changed) = Changed::read(&row) else { continue };
            let Some((told, len)) = self.changed(changed, changes.up_to)? else { continue };
            // One that has changed since its number was read comes under another.
            if told.change() == changes.up_to && filter.takes_told(&told) {
                changes.conflicts.push(told);
                bytes += len;
            }
            if bytes >= CHANGES_BYTES_MAX {
                break;
            }
        }
        Ok(changes)
    }

    /// What has changed as it is now, and how long that is in bytes.
    fn changed(&self, changed: Changed, change: u64) -> Result<Option<(Told, usize)>, LoadError> {
        let (key, status) = match changed {
            Changed::Within(name) => {
                return Ok(self.find(name)?.map(|(kept, len)| (Told::Within(kept.into()), len)));
            }
            Changed::Contested(id) => return self.told_contested(id, change),
            Changed::Dangling(referrer) => (dangler_key(&referrer), Status::Open),
            Changed::Over => (over_key(change), Status::Resolved),
        };
        let Some(row) = self.row(&key)? else { return Ok(None) };
        let len = row.len();
        let between = match Between::read(row, status) {
            // A schema may have changed since.
            Ok(Between::Dangling(dangling)) if status == Status::Open => self.as_now(dangling),
            Ok(between) => Some(between),
            Err(error) => {
                tracing::warn!(change, %error, "what is on record between documents cannot be read");
                None
            }
        };
        Ok(between.map(|between| (Told::Between(between), len)))
    }

    fn told_contested(&self, id: ClaimId, change: u64) -> Result<Option<(Told, usize)>, LoadError> {
        let standing = self.row(&Flag::Contested(id).key())?.map(|row| read_standing(&row));
        let Some(standing) = standing.filter(|standing: &Standing| standing.change == change) else {
            return Ok(None);
        };
        let contested = self.contested(id, standing)?.map(Between::Contested);
        Ok(contested.map(|contested| {
            let len = contested.row().len();
            (Told::Between(contested), len)
        }))
    }

    /// Lets go of what has been over for longest, beyond what stays.
    pub(super) fn let_go(&self, said: &mut Said) -> Result<(), LoadError> {
        let beyond = self.over.load(Ordering::Relaxed) + said.over - OVER_MAX;
        let Ok(beyond @ 1..) = usize::try_from(beyond) else { return Ok(()) };
        for (key, _) in self.log.derived(OVER, (Bound::Unbounded, Bound::Unbounded), beyond)? {
            said.over -= 1;
            said.changes.push((DerivedKey { space: CHANGES, key: key.clone() }, None));
            said.changes.push((DerivedKey { space: OVER, key }, None));
        }
        Ok(())
    }
}
