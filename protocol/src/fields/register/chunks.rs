//! A list that never moves what it holds: a field that is written for years would copy all of its history each time it
//! outgrew its memory.

use super::NodeIx;
use std::ops::{Index, IndexMut};

/// So many share one allocation. A field that was written less often takes what it needs.
const CHUNK: usize = 32;

/// Invariant: every chunk but the last is full, and none is empty.
#[derive(Debug)]
pub(super) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Chunks<T> {
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    pub(super) fn push(&mut self, item: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(item),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.0.push(chunk);
            }
            None => self.0.push(vec![item]),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }
}

impl<T> Index<NodeIx> for Chunks<T> {
    type Output = T;

    fn index(&self, ix: NodeIx) -> &T {
        &self.0[ix as usize / CHUNK][ix as usize % CHUNK]
    }
}

impl<T> IndexMut<NodeIx> for Chunks<T> {
    fn index_mut(&mut self, ix: NodeIx) -> &mut T {
        &mut self.0[ix as usize / CHUNK][ix as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_found_by_its_number() {
        let mut chunks = Chunks::default();
        for number in 0..100_u32 {
            assert_eq!(chunks.len(), number as usize);
            chunks.push(number);
            assert!((0..=number).all(|ix| chunks[ix] == ix));
        }
        chunks[70] = 7;
        chunks.iter_mut().for_each(|number| *number += 1);
        assert!(chunks.iter().copied().eq((0..100).map(|number| if number == 70 { 8 } else { number + 1 })));
    }
}
