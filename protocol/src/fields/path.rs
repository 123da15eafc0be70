//! A field's path: its key in the root map, or the keys that lead to it through nested maps.

use super::graph::{Graph, Place, RegisterIx};
use super::held::Held;
use super::walk::RESERVED_PREFIX;
use super::write::WriteId;
use super::write_back::is_deleted;
use crate::update::{ItemId, TypeKind};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How deep a path may lead; what lies deeper is part of the value there.
pub const PATH_KEYS_MAX: usize = 16;

/// The keys that lead to a field. As text they are joined by `/`; in a key, `~1` stands for `/` and `~0` for
/// `~`, as in a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<[Arc<str>]>);

impl Path {
    /// The path of a field of the root map.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self([key.into()].into())
    }

    /// The keys, from the root map on; at least one.
    #[must_use]
    pub fn keys(&self) -> &[Arc<str>] {
        &self.0
    }
}

/// A text that is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a field's path has 1 to {PATH_KEYS_MAX} keys joined by `/`, in which `~1` stands for `/` and `~0` for `~`"
)]
pub struct PathError;

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.starts_with(RESERVED_PREFIX) {
            return Err(PathError);
        }
        let keys: Vec<Arc<str>> =
            text.split('/').take(PATH_KEYS_MAX + 1).map(unescaped).collect::<Option<_>>().ok_or(PathError)?;
        if keys.len() > PATH_KEYS_MAX { Err(PathError) } else { Ok(Self(keys.into())) }
    }
}

fn unescaped(key: &str) -> Option<Arc<str>> {
    let mut pieces = key.split('~');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        out.push(match piece.chars().next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        out.push_str(&piece[1..]);
    }
    Some(out.into())
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, key) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("/")?;
            }
            f.write_str(&key.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

impl Graph {
    /// Where a register is; none when it is in a map that Yjs does not show, or deeper than [`PATH_KEYS_MAX`].
    pub(super) fn path(&self, ix: RegisterIx) -> Option<Path> {
        let mut keys = Vec::new();
        let mut at = ix;
        loop {
            let ((map, key), _) = &self.registers[at as usize];
            keys.push(key.clone());
            let Some(map) = *map else { break };
            if keys.len() == PATH_KEYS_MAX {
                return None;
            }
            let (up, node) = self.find(map)?;
            let register = self.register(up);
            if register.write(node).id != WriteId::Set(map) || self.map_in(up) != Some(map) {
                return None;
            }
            at = up;
        }
        keys.reverse();
        // The root map has keys that are Quire's own.
        (!keys[0].starts_with(RESERVED_PREFIX)).then(|| Path(keys.into()))
    }

    /// The paths of all registers that have one.
    pub(super) fn paths(&self) -> BTreeSet<Path> {
        let written = self.by_place.values().filter(|&&ix| self.register(ix).tail().is_some());
        written.filter_map(|&ix| self.path(ix)).collect()
    }

    /// The register at a path.
    pub(super) fn at(&self, path: &Path) -> Option<RegisterIx> {
        let (first, rest) = path.0.split_first()?;
        let mut at = *self.by_place.get(&(None, first.clone()))?;
        for key in rest {
            at = *self.by_place.get(&(Some(self.map_in(at)?), key.clone()))?;
        }
        Some(at)
    }

    /// Where a field is to be written: at its path, when all maps on the way are there.
    pub(super) fn place_for(&self, path: &Path) -> Option<Place> {
        let (key, way) = path.0.split_last()?;
        if way.is_empty() {
            return Some((None, key.clone()));
        }
        let map = self.map_in(self.at(&Path(way.into()))?)?;
        Some((Some(map), key.clone()))
    }

    /// The map that Yjs shows in a field, if it shows one.
    fn map_in(&self, ix: RegisterIx) -> Option<ItemId> {
        let register = self.register(ix);
        let tail = register.tail().filter(|&tail| !is_deleted(register, tail))?;
        let write = register.write(tail);
        (write.held == Held::Shared(TypeKind::Map)).then(|| write.id.item())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_path_survives_its_text(keys in proptest::collection::vec("[a~/01]{0,4}", 1..5)) {
            let path = Path(keys.into_iter().map(Arc::from).collect());
            prop_assert_eq!(path.to_string().parse(), Ok(path));
        }

        #[test]
        fn any_text_is_a_path_or_refused(text: String) {
            if let Ok(path) = text.parse::<Path>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
