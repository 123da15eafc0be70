//! Sets of units of content, by client and clock.
//!
//! Kept as ranges: a few bytes from outside may name a billion units.
//!
//! Invariant: the ranges of a client are not empty and do not touch, so equal sets are equal values.

use std::collections::BTreeMap;

use quire_protocol::update::{Clocks, Content, Update};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Units(BTreeMap<u32, BTreeMap<u32, u32>>);

impl Units {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, client: u32, clocks: Clocks) {
        let Clocks { mut start, mut end } = clocks;
        if start >= end {
            return;
        }
        let ranges = self.0.entry(client).or_default();
        while let Some((&at, &at_end)) =
            ranges.range(..=end).next_back().filter(|(_, at_end)| **at_end >= start)
        {
            ranges.remove(&at);
            (start, end) = (start.min(at), end.max(at_end));
        }
        ranges.insert(start, end);
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        for (client, clocks) in more.iter() {
            self.insert(client, clocks);
        }
    }

    /// The units that are not among the others.
    pub(crate) fn without(&self, others: &Self) -> Self {
        let mut rest = Self::new();
        for (client, Clocks { mut start, end }) in self.iter() {
            let others = others.0.get(&client).into_iter().flatten();
            for (&from, &to) in others.filter(|(from, to)| **to > start && **from < end).collect::<Vec<_>>() {
                rest.insert(client, Clocks { start, end: from.max(start) });
                start = to;
            }
            rest.insert(client, Clocks { start, end });
        }
        rest
    }

    fn iter(&self) -> impl Iterator<Item = (u32, Clocks)> + '_ {
        let each = |(client, ranges): (&u32, &BTreeMap<u32, u32>)| {
            let client = *client;
            let ranges: Vec<_> =
                ranges.iter().map(|(&start, &end)| (client, Clocks { start, end })).collect();
            ranges
        };
        self.0.iter().flat_map(each)
    }
}

/// The units that an update brings and those that it deletes.
pub(crate) fn units(update: &Update) -> (Units, Units) {
    let mut inserted = Units::new();
    let mut deleted = Units::new();
    for item in update.items() {
        if matches!(item.content(), Content::Gc | Content::Deleted) {
            deleted.insert(item.id().client.0, item.clocks());
        }
        inserted.insert(item.id().client.0, item.clocks());
    }
    for (client, ranges) in update.deletes() {
        for range in ranges {
            deleted.insert(client.0, *range);
        }
    }
    (inserted, deleted)
}
