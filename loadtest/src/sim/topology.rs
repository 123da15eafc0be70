//! Which regions are neighbours, and how far from each other.

use super::rng::Rng;
use super::wire::{Path, Way};
use std::collections::BTreeMap;

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
    pub(super) paths: BTreeMap<Way, Path>,
}

impl Topology {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let (name, regions, links) = SHAPES[rng.index(SHAPES.len())];
        let mut paths = BTreeMap::new();
        let mut delays = Vec::new();
        for of in links {
            let delay_ms = rng.within(1, 150);
            paths.insert(*of, Path { delay_ms, ..Path::default() });
            delays.push(delay_ms.to_string());
        }
        let name = format!("{name}, {} ms apart", delays.join(", "));
        Self { name, regions, paths }
    }
}
