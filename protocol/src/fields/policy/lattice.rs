//! Values of which one always stands above the other: the greatest, the least, the furthest in an order.

use super::{Kind, Outcome, Reason, Sides};
use crate::fields::Value;
use std::sync::Arc;

/// The greatest of numbers or strings.
pub(super) fn max(sides: &Sides<'_>) -> Outcome {
    Ok(comparable(sides)?.into_iter().max().cloned())
}

/// The least of numbers or strings.
pub(super) fn min(sides: &Sides<'_>) -> Outcome {
    Ok(comparable(sides)?.into_iter().min().cloned())
}

/// The string that comes last in the order.
pub(super) fn rank(order: &[Arc<str>], sides: &Sides<'_>) -> Outcome {
    if sides.any_cleared() {
        return Err(Reason::Cleared);
    }
    let place = |value: &Value| match value {
        Value::String(text) => order.iter().position(|one| one == text),
        _ => None,
    };
    let places: Option<Vec<_>> = sides.written().map(place).collect();
    let last = places.ok_or(Reason::NotRanked)?.into_iter().max();
    Ok(last.map(|place| Value::String(Arc::clone(&order[place]))))
}

/// The versions, where they are of one type that has a greatest.
fn comparable<'a>(sides: &Sides<'a>) -> Result<Vec<&'a Value>, Reason> {
    if sides.any_cleared() {
        return Err(Reason::Cleared);
    }
    let values: Vec<_> = sides.written().collect();
    let is_comparable = |value: &&Value| match value {
        Value::Number(number) => !number.get().is_nan(),
        Value::BigInt(_) | Value::String(_) => true,
        _ => false,
    };
    if !values.iter().all(is_comparable) {
        return Err(Reason::NotA(Kind::Comparable));
    }
    let same_type = |pair: &[&Value]| std::mem::discriminant(pair[0]) == std::mem::discriminant(pair[1]);
    if !values.windows(2).all(same_type) {
        return Err(Reason::Mixed);
    }
    Ok(values)
}
