//! A plain value of a field, as JavaScript knows it.
//!
//! Invariant: two values are equal when JavaScript takes them for the same JSON: numbers by value, members in
//! any order. Equal values have equal encodings, in every region.

use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_i64, put_var_u64};
use crate::update::ANY_DEPTH_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

const UNDEFINED: u8 = 127;
const NULL: u8 = 126;
const INTEGER: u8 = 125;
const FLOAT32: u8 = 124;
const FLOAT64: u8 = 123;
const BIGINT: u8 = 122;
const FALSE: u8 = 121;
const TRUE: u8 = 120;
const STRING: u8 = 119;
const OBJECT: u8 = 118;
const ARRAY: u8 = 117;
const BUFFER: u8 = 116;

/// lib0 writes integers up to here as integers, larger ones as floats.
const INTEGER_MAX: f64 = 2_147_483_647.0;

/// The largest integer that a double holds with all below it.
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// One past it, as a double.
const TWO_TO_53: f64 = 9_007_199_254_740_992.0;

/// The member that stands for bytes in JSON, as base64: `{"$bytes": "AQI="}`.
const BYTES_MEMBER: &str = "$bytes";

/// A plain value. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `undefined`
    Undefined,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A `BigInt` of 64 bits.
    BigInt(i64),
    /// A string.
    String(Arc<str>),
    /// Bytes: a `Uint8Array`.
    Bytes(Bytes),
    /// An array.
    List(Arc<[Value]>),
    /// An object.
    Map(Arc<BTreeMap<Arc<str>, Value>>),
}

/// A double, equal and ordered by value: both zeros are one, and so are all that are no number.
#[derive(Clone, Copy, Debug)]
pub struct Number(f64);

impl Number {
    /// The number.
    #[must_use]
    pub fn new(value: f64) -> Self {
        let value = if value == 0.0 { 0.0 } else { value };
        Self(if value.is_nan() { f64::NAN } else { value })
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(Number::new(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<T: IntoIterator<Item = Value>>(values: T) -> Self {
        Self::List(values.into_iter().collect())
    }
}

impl Value {
    /// Whether a value that begins with this byte may share the memory that it is read from.
    pub(super) const fn may_share(tag: u8) -> bool {
        matches!(tag, BUFFER | ARRAY | OBJECT)
    }

    /// Reads one lib0 `Any`.
    ///
    /// # Errors
    /// When the bytes are no such value, or it nests deeper than [`ANY_DEPTH_MAX`].
    pub fn decode(reader: &mut Reader) -> Result<Self, ReadError> {
        Self::decode_at(reader, ANY_DEPTH_MAX)
    }

    fn decode_at(reader: &mut Reader, depth_left: usize) -> Result<Self, ReadError> {
        Ok(match reader.u8()? {
            UNDEFINED => Self::Undefined,
            NULL => Self::Null,
            INTEGER => Self::from(as_double(reader.var_i64()?)),
            FLOAT32 => Self::from(f64::from(f32::from_be_bytes(reader.array()?))),
            FLOAT64 => Self::from(f64::from_be_bytes(reader.array()?)),
            BIGINT => Self::BigInt(i64::from_be_bytes(reader.array()?)),
            FALSE => Self::Bool(false),
            TRUE => Self::Bool(true),
            STRING => Self::String(reader.var_str()?.as_str().into()),
            BUFFER => Self::Bytes(reader.var_bytes()?),
            ARRAY => {
                let depth_left = depth_left.checked_sub(1).ok_or(ReadError::Overflow)?;
                let count = reader.var_u64()?;
                let values = (0..count).map(|_| Self::decode_at(reader, depth_left));
                Self::List(values.collect::<Result<Vec<_>, _>>()?.into())
            }
            OBJECT => {
                let depth_left = depth_left.checked_sub(1).ok_or(ReadError::Overflow)?;
                let mut members = BTreeMap::new();
                for _ in 0..reader.var_u64()? {
                    let name = reader.var_str()?.as_str().into();
                    members.insert(name, Self::decode_at(reader, depth_left)?);
                }
                Self::Map(Arc::new(members))
            }
            _ => return Err(ReadError::Overflow),
        })
    }

    /// Appends the value as a lib0 `Any`, as Yjs would write it, members in the order of their names.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Undefined => out.push(UNDEFINED),
            Self::Null => out.push(NULL),
            Self::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
            Self::Number(number) => number.encode(out),
            Self::BigInt(value) => {
                out.push(BIGINT);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::String(text) => {
                out.push(STRING);
                put_var_bytes(out, text.as_bytes());
            }
            Self::Bytes(bytes) => {
                out.push(BUFFER);
                put_var_bytes(out, bytes);
            }
            Self::List(values) => {
                out.push(ARRAY);
                put_var_u64(out, values.len() as u64);
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Map(members) => {
                out.push(OBJECT);
                put_var_u64(out, members.len() as u64);
                for (name, value) in members.iter() {
                    put_var_bytes(out, name.as_bytes());
                    value.encode(out);
                }
            }
        }
    }

    /// The value in JSON. What JSON does not know becomes the nearest it has: `undefined` and what is no
    /// number become `null`, bytes `{"$bytes": base64}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Undefined | Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Number(number) => number.to_json(),
            Self::BigInt(value) => Json::from(*value),
            Self::String(text) => Json::from(text.as_ref()),
            Self::Bytes(bytes) => serde_json::json!({ BYTES_MEMBER: STANDARD.encode(bytes) }),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Map(members) => {
                let members = members.iter().map(|(name, value)| (name.to_string(), value.to_json()));
                Json::Object(members.collect())
            }
        }
    }

    /// The value that JSON stands for; an object with the one member `$bytes`, which is base64, is bytes.
    /// None when it nests deeper than [`ANY_DEPTH_MAX`], which no update may hold.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Option<Self> {
        Self::from_json_at(json, ANY_DEPTH_MAX)
    }

    fn from_json_at(json: &serde_json::Value, depth_left: usize) -> Option<Self> {
        use serde_json::Value as Json;
        Some(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(large) if large.unsigned_abs() > SAFE_INTEGER_MAX => Self::BigInt(large),
                // None only for numbers of arbitrary precision, which are not switched on.
                _ => Self::from(number.as_f64()?),
            },
            Json::String(text) => Self::from(text.as_str()),
            Json::Array(values) => {
                let depth_left = depth_left.checked_sub(1)?;
                values.iter().map(|value| Self::from_json_at(value, depth_left)).collect::<Option<_>>()?
            }
            Json::Object(members) => {
                if let Some(bytes) = bytes_of(members) {
                    return Some(Self::Bytes(bytes));
                }
                let depth_left = depth_left.checked_sub(1)?;
                let members = members.iter();
                let members =
                    members.map(|(k, v)| Some((k.as_str().into(), Self::from_json_at(v, depth_left)?)));
                Self::Map(Arc::new(members.collect::<Option<_>>()?))
            }
        })
    }

    /// How many bytes it takes encoded.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.len()
    }
}

impl Number {
    fn encode(self, out: &mut Vec<u8>) {
        let value = self.0;
        if value.fract() == 0.0 && value.abs() <= INTEGER_MAX {
            out.push(INTEGER);
            return put_var_i64(out, as_integer(value));
        }
        let narrow = as_float32(value);
        if f64::from(narrow).to_bits() == value.to_bits() {
            out.push(FLOAT32);
            return out.extend_from_slice(&narrow.to_be_bytes());
        }
        out.push(FLOAT64);
        out.extend_from_slice(&value.to_be_bytes());
    }

    fn to_json(self) -> serde_json::Value {
        if self.0.fract() == 0.0 && self.0.abs() < TWO_TO_53 {
            return as_integer(self.0).into();
        }
        serde_json::Number::from_f64(self.0).map_or(serde_json::Value::Null, serde_json::Value::Number)
    }
}

fn bytes_of(members: &serde_json::Map<String, serde_json::Value>) -> Option<Bytes> {
    let text = members.get(BYTES_MEMBER).filter(|_| members.len() == 1)?.as_str()?;
    STANDARD.decode(text).ok().map(Bytes::from)
}

#[expect(clippy::cast_precision_loss, reason = "lib0 writes no integer of more than 53 bits")]
const fn as_double(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, reason = "callers have checked that it is a safe integer")]
const fn as_integer(value: f64) -> i64 {
    value as i64
}

#[expect(clippy::cast_possible_truncation, reason = "used only when nothing was lost")]
const fn as_float32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Undefined),
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<f64>().prop_map(Value::from),
            any::<i32>().prop_map(|value| Value::from(f64::from(value))),
            any::<i64>().prop_map(Value::BigInt),
            any::<String>().prop_map(|text| Value::from(text.as_str())),
            any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from_iter),
                proptest::collection::btree_map(any::<String>().prop_map(Arc::from), inner, 0..4)
                    .prop_map(|members| Value::Map(Arc::new(members))),
            ]
        })
    }

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn a_value_survives_its_bytes(value in values()) {
            let mut reader = Reader::new(encoded(&value).into());
            prop_assert_eq!(Value::decode(&mut reader), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Value::decode(&mut Reader::new(bytes.into()));
        }

        #[test]
        fn json_comes_back_as_it_went(value in values()) {
            let json = value.to_json();
            let again = Value::from_json(&json).expect("values here nest five levels at most");
            prop_assert_eq!(again.to_json(), json);
        }
    }

    #[test]
    fn values_are_spelt_as_yjs_spells_them() {
        for (value, bytes) in [
            (Value::from(0.0), &[125, 0][..]),
            (Value::from(-0.0), &[125, 0]),
            (Value::from(-1.0), &[125, 0x41]),
            (Value::from(64.0), &[125, 0x80, 1]),
            (Value::from(0.5), &[124, 0x3f, 0, 0, 0]),
            (Value::from(0.1), &[123, 0x3f, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]),
            (Value::from("é"), &[119, 2, 0xc3, 0xa9]),
        ] {
            assert_eq!(encoded(&value), bytes, "{value:?}");
        }
    }

    #[test]
    fn numbers_are_equal_by_value() {
        assert_eq!(Value::from(-0.0), Value::from(0.0));
        assert_eq!(Value::from(f64::NAN), Value::from(-f64::NAN));
        assert!(Value::from(2.0) < Value::from(10.0));
    }

    #[test]
    fn deep_values_are_refused() {
        let nested = |depth| [[ARRAY, 1].repeat(depth), vec![NULL]].concat();
        assert!(Value::decode(&mut Reader::new(nested(ANY_DEPTH_MAX).into())).is_ok());
        assert!(Value::decode(&mut Reader::new(nested(ANY_DEPTH_MAX + 1).into())).is_err());
        let json =
            (0..ANY_DEPTH_MAX + 1).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]));
        assert_eq!(Value::from_json(&json), None);
    }
}
