//! Numbers as counts.

use super::{Base, Kind, Outcome, Reason, Sides};
use crate::fields::Value;

/// The largest whole number that a double holds with all below it.
const SAFE_INTEGER_MAX: i128 = (1 << 53) - 1;

/// The same as a double.
const SAFE_MAX: f64 = 9_007_199_254_740_991.0;

/// The base and what each version added to it. All that cleared the count did it together.
pub(super) fn merge(base: Base<'_>, sides: &Sides<'_>) -> Outcome {
    let base = base.known()?;
    let mut values: Vec<_> = sides.written().cloned().collect();
    if values.is_empty() {
        // Cleared in different ways, which is no count: the latest way stands.
        return Ok(sides.0.last().and_then(|side| side.value.clone()));
    }
    let any_big = values.iter().any(|value| matches!(value, Value::BigInt(_)));
    let zero = if any_big { Value::BigInt(0) } else { Value::from(0.0) };
    if sides.any_cleared() {
        values.push(zero.clone());
    }
    let base = base.unwrap_or(&zero);
    match zero {
        Value::BigInt(_) => add_big(base, &values),
        _ => add(base, &values),
    }
    .map(Some)
}

fn add_big(base: &Value, values: &[Value]) -> Result<Value, Reason> {
    let whole = |value: &Value| match value {
        Value::BigInt(value) => Some(i128::from(*value)),
        _ => None,
    };
    let base = whole(base).ok_or(Reason::Mixed)?;
    let values: Option<Vec<_>> = values.iter().map(whole).collect();
    let sum = add_whole(base, values.ok_or(Reason::Mixed)?);
    sum.and_then(|sum| i64::try_from(sum).ok()).map(Value::BigInt).ok_or(Reason::Inexact)
}

fn add(base: &Value, values: &[Value]) -> Result<Value, Reason> {
    let base = double(base).ok_or(Reason::BaseNotA(Kind::Number))?;
    let values: Option<Vec<_>> = values.iter().map(double).collect();
    let values = values.ok_or(Reason::NotA(Kind::Number))?;
    if let Some(base) = as_whole(base)
        && let Some(values) = values.iter().map(|value| as_whole(*value)).collect::<Option<Vec<_>>>()
    {
        let sum = add_whole(base, values).filter(|sum| sum.abs() <= SAFE_INTEGER_MAX);
        return sum.map(|sum| Value::from(as_double(sum))).ok_or(Reason::Inexact);
    }
    // In the order of the stamps, on which the last digits depend.
    let sum = values.iter().fold(base, |sum, value| sum + (value - base));
    if sum.is_finite() { Ok(Value::from(sum)) } else { Err(Reason::Inexact) }
}

/// None when it does not fit, which takes more versions than memory holds.
fn add_whole(base: i128, values: Vec<i128>) -> Option<i128> {
    values.into_iter().try_fold(base, |sum, value| sum.checked_add(value.checked_sub(base)?))
}

/// The value as a finite number.
fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(number.get()).filter(|number| number.is_finite()),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is whole and within 53 bits")]
fn as_whole(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() <= SAFE_MAX).then_some(value as i128)
}

#[expect(clippy::cast_precision_loss, reason = "callers have checked that it is within 53 bits")]
const fn as_double(value: i128) -> f64 {
    value as f64
}
