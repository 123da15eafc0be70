//! Lists as sets.

use super::{Base, Kind, Outcome, Reason, Sides};
use crate::fields::Value;
use std::collections::BTreeSet;

/// The base's elements that every version kept, then what the versions added.
pub(super) fn merge(base: Base<'_>, sides: &Sides<'_>) -> Outcome {
    let base = match base.known()? {
        None => &[][..],
        Some(Value::List(elements)) => elements,
        Some(_) => return Err(Reason::BaseNotA(Kind::List)),
    };
    let mut lists = Vec::new();
    for value in sides.written() {
        let Value::List(elements) = value else {
            return Err(Reason::NotA(Kind::List));
        };
        lists.push(elements.as_ref());
    }
    // A cleared version kept nothing.
    let mut kept: BTreeSet<&Value> =
        if sides.any_cleared() { BTreeSet::new() } else { base.iter().collect() };
    for list in &lists {
        let list: BTreeSet<_> = list.iter().collect();
        kept.retain(|element| list.contains(element));
    }
    let in_base: BTreeSet<_> = base.iter().collect();
    let added = lists.iter().flat_map(|list| list.iter()).filter(|element| !in_base.contains(element));
    let mut seen = BTreeSet::new();
    let all = base.iter().filter(|element| kept.contains(element)).chain(added);
    Ok(Some(all.filter(|element| seen.insert(*element)).cloned().collect()))
}
