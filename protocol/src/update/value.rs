//! Compares `Any` values that have been checked.

use super::any::{ARRAY, BIGINT, BUFFER, FLOAT32, FLOAT64, INTEGER, OBJECT, STRING, skip_any};
use super::scan::Scan;
use std::collections::BTreeMap;

/// Passes the count of a list and its first values.
pub(super) fn skip_values(scan: &mut Scan<'_>, count: u32) {
    let passed = scan.uint();
    debug_assert!(passed.is_ok(), "checked when it was decoded");
    for _ in 0..count {
        if skip_any(scan, &mut { usize::MAX }).is_err() {
            return;
        }
    }
}

/// Passes one value on both sides and tells whether they are equal.
pub(super) fn next_values_match(left: &mut Scan<'_>, right: &mut Scan<'_>) -> bool {
    Value::read(left) == Value::read(right)
}

/// A value as JavaScript compares it: numbers by value, members in any order.
#[derive(PartialEq)]
enum Value<'a> {
    Number(u64),
    Text(&'a str),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Object(BTreeMap<&'a str, Value<'a>>),
    /// A value that is its tag alone.
    Tag(u8),
}

impl<'a> Value<'a> {
    /// Reads a value. None never equals another: only bytes that were not checked lead there.
    fn read(scan: &mut Scan<'a>) -> Option<Self> {
        let tag = scan.u8().ok()?;
        Some(match tag {
            INTEGER => Self::number(scan.int().ok()?),
            FLOAT32 => Self::float(f32::from_be_bytes(scan.array().ok()?).into()),
            FLOAT64 => Self::float(f64::from_be_bytes(scan.array().ok()?)),
            BIGINT => Self::number(i64::from_be_bytes(scan.array().ok()?)),
            STRING => Self::Text(scan.text().ok()?),
            BUFFER => Self::Bytes(scan.var_bytes().ok()?),
            ARRAY => {
                let count = scan.count(1).ok()?;
                Self::List((0..count).map(|_| Self::read(scan)).collect::<Option<_>>()?)
            }
            OBJECT => {
                let count = scan.count(2).ok()?;
                let members = (0..count).map(|_| Some((scan.text().ok()?, Self::read(scan)?)));
                Self::Object(members.collect::<Option<_>>()?)
            }
            tag => Self::Tag(tag),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "only equality matters, and both sides lose alike")]
    fn number(value: i64) -> Self {
        Self::float(value as f64)
    }

    fn float(value: f64) -> Self {
        // Zeros are equal, and so is what is no number.
        let value = if value == 0.0 { 0.0 } else { value };
        Self::Number(if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
    }
}
