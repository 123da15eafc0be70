//! Which regions are neighbours, and how far from each other.

use super::rng::Rng;
use super::wire::{Path, Way};
use std::collections::BTreeMap;

/// In so many runs of a hundred, a region joins later, with links to one or two of those that are there.
const JOINS_PERCENT: u64 = 35;

/// The shapes that a seed chooses from: a name, the regions, and who is linked with whom.
const SHAPES: [(&str, usize, &[Way]); 4] = [
    ("a mesh of 3", 3, &[(0, 1), (0, 2), (1, 2)]),
    ("a star of 3", 3, &[(0, 1), (0, 2)]),
    ("a ring of 4", 4, &[(0, 1), (1, 2), (2, 3), (0, 3)]),
    ("a line of 4", 4, &[(0, 1), (1, 2), (2, 3)]),
];

pub(super) struct Topology {
    pub(super) name: String,
    pub(super) regions: usize,
    /// The last of them joins later.
    pub(super) joins: bool,
    pub(super) paths: BTreeMap<Way, Path>,
}

impl Topology {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let (name, regions, links) = SHAPES[rng.index(SHAPES.len())];
        let joins = rng.percent(JOINS_PERCENT);
        let mut links = links.to_vec();
        let mut name = name.to_owned();
        if joins {
            let first = rng.index(regions);
            let second = rng.index(regions);
            links.push((first, regions));
            links.extend((second != first).then_some((second, regions)));
            name.push_str(" and one that joins");
        }
        let mut paths = BTreeMap::new();
        let mut delays = Vec::new();
        for of in links {
            let delay_ms = rng.within(1, 150);
            paths.insert(of, Path { delay_ms, ..Path::default() });
            delays.push(delay_ms.to_string());
        }
        let name = format!("{name}, {} ms apart", delays.join(", "));
        Self { name, regions: regions + usize::from(joins), joins, paths }
    }
}
