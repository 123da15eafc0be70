//! Values as scripts see them, and back, within limits on both ways.

use super::library::{BigInt, double};
use super::{ELEMENTS_MAX, STRINGS_BYTES_MAX};
use crate::fields::Value;
use crate::update::ANY_DEPTH_MAX;
use bytes::Bytes;
use rhai::{Array, Blob, Dynamic, ImmutableString, Map};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What may still be converted.
pub(super) struct Budget {
    bytes: usize,
    elements: usize,
}

impl Budget {
    /// As much as one value may have.
    pub(super) const fn full() -> Self {
        Self { bytes: STRINGS_BYTES_MAX, elements: ELEMENTS_MAX }
    }

    /// How many elements and bytes were converted since it was full.
    pub(super) const fn spent(&self) -> (usize, usize) {
        (ELEMENTS_MAX - self.elements, STRINGS_BYTES_MAX - self.bytes)
    }

    pub(super) fn take_elements(&mut self, count: usize) -> Option<()> {
        self.elements = self.elements.checked_sub(count)?;
        Some(())
    }

    fn take_bytes(&mut self, count: usize) -> Option<()> {
        self.bytes = self.bytes.checked_sub(count)?;
        Some(())
    }

    /// A string, when it is within the limit.
    pub(super) fn string(&mut self, text: &str) -> Option<ImmutableString> {
        self.take_bytes(text.len())?;
        Some(text.into())
    }
}

/// The value for a script; none when it exceeds the budget.
pub(super) fn to_dynamic(value: &Value, budget: &mut Budget) -> Option<Dynamic> {
    to_dynamic_at(value, budget, ANY_DEPTH_MAX)
}

fn to_dynamic_at(value: &Value, budget: &mut Budget, depth_left: usize) -> Option<Dynamic> {
    Some(match value {
        Value::Undefined | Value::Null => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.get().into(),
        Value::BigInt(value) => Dynamic::from(BigInt(*value)),
        Value::String(text) => budget.string(text)?.into(),
        Value::Bytes(bytes) => {
            // Rhai counts bytes as elements.
            budget.take_elements(bytes.len())?;
            Dynamic::from_blob(bytes.to_vec())
        }
        Value::List(values) => {
            let depth_left = depth_left.checked_sub(1)?;
            budget.take_elements(values.len())?;
            let values = values.iter().map(|value| to_dynamic_at(value, budget, depth_left));
            values.collect::<Option<Array>>()?.into()
        }
        Value::Map(members) => {
            let depth_left = depth_left.checked_sub(1)?;
            budget.take_elements(members.len())?;
            let mut map = Map::new();
            for (name, value) in members.iter() {
                budget.take_bytes(name.len())?;
                map.insert(name.as_ref().into(), to_dynamic_at(value, budget, depth_left)?);
            }
            map.into()
        }
    })
}

/// The value that a script gave.
///
/// # Errors
/// Says what it is instead, when it is no value of a field, exceeds the budget, or is deeper than one may be.
pub(super) fn from_dynamic(value: &Dynamic, budget: &mut Budget) -> Result<Value, Arc<str>> {
    from_dynamic_at(value, budget, ANY_DEPTH_MAX)
}

fn from_dynamic_at(value: &Dynamic, budget: &mut Budget, depth_left: usize) -> Result<Value, Arc<str>> {
    if let Some(plain) = scalar(value) {
        return plain;
    }
    let too_large = || Arc::from("a value that is too large");
    if let Some(text) = value.read_lock::<ImmutableString>() {
        budget.take_bytes(text.len()).ok_or_else(too_large)?;
        return Ok(Value::from(text.as_str()));
    }
    if let Some(bytes) = value.read_lock::<Blob>() {
        budget.take_elements(bytes.len()).ok_or_else(too_large)?;
        return Ok(Value::Bytes(Bytes::copy_from_slice(&bytes)));
    }
    let depth_left = depth_left.checked_sub(1).ok_or_else(|| Arc::from("a value that is too deep"))?;
    if let Some(values) = value.read_lock::<Array>() {
        budget.take_elements(values.len()).ok_or_else(too_large)?;
        return values.iter().map(|value| from_dynamic_at(value, budget, depth_left)).collect();
    }
    if let Some(map) = value.read_lock::<Map>() {
        budget.take_elements(map.len()).ok_or_else(too_large)?;
        let mut members = BTreeMap::new();
        for (name, value) in map.iter() {
            budget.take_bytes(name.len()).ok_or_else(too_large)?;
            members.insert(Arc::from(name.as_str()), from_dynamic_at(value, budget, depth_left)?);
        }
        return Ok(Value::Map(Arc::new(members)));
    }
    Err(format!("what no field can hold: {}", value.type_name()).into())
}

/// The value, when it has no parts.
fn scalar(value: &Dynamic) -> Option<Result<Value, Arc<str>>> {
    if value.is_unit() {
        return Some(Ok(Value::Null));
    }
    if let Some(big) = value.read_lock::<BigInt>() {
        return Some(Ok(Value::BigInt(big.0)));
    }
    if let Ok(value) = value.as_bool() {
        return Some(Ok(Value::Bool(value)));
    }
    if let Ok(value) = value.as_char() {
        return Some(Ok(Value::from(value.encode_utf8(&mut [0; 4]) as &str)));
    }
    let number = value.as_float().ok().or_else(|| value.as_int().ok().map(double))?;
    let infinite = || Arc::from("a number that is not finite");
    Some(if number.is_finite() { Ok(Value::from(number)) } else { Err(infinite()) })
}
