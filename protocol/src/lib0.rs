//! The primitives of lib0's binary encoding: variable-length integers, byte strings, text.
//!
//! The reader takes bytes from outside. It never panics, never reads past the end and never
//! allocates from a length it has not checked against the bytes that are left.

use bytes::Bytes;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    End,
    /// A variable-length integer is longer than its type allows.
    #[error("an integer is too large")]
    Overflow,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Bytes are left over after the last value.
    #[error("bytes are left over after the last value")]
    Trailing,
}

/// Reads lib0 values from a byte string, sharing its memory.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes from one position to another that has been passed.
    ///
    /// # Panics
    /// When the range does not lie within the bytes.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    /// The next byte.
    ///
    /// # Errors
    /// `End` when there is none.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        let byte = *self.bytes.get(self.at).ok_or(ReadError::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// An unsigned integer, seven bits a byte, low bits first.
    ///
    /// # Errors
    /// `End`, or `Overflow` past 64 bits.
    pub fn var_u64(&mut self) -> Result<u64, ReadError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(ReadError::Overflow);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ReadError::Overflow)
    }

    /// An unsigned integer of at most 32 bits.
    ///
    /// # Errors
    /// `End` or `Overflow`.
    pub fn var_u32(&mut self) -> Result<u32, ReadError> {
        u32::try_from(self.var_u64()?).map_err(|_| ReadError::Overflow)
    }

    /// A signed integer of at most 53 bits: sign and six bits, then seven bits a byte, low bits first.
    ///
    /// # Errors
    /// `End`, or `Overflow` past 53 bits.
    pub fn var_i64(&mut self) -> Result<i64, ReadError> {
        let first = self.u8()?;
        let sign = if first & 0x40 == 0 { 1 } else { -1 };
        let mut value = i64::from(first & 0x3f);
        let mut more = first >= 0x80;
        for shift in (6..55).step_by(7) {
            if !more {
                break;
            }
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f) << shift;
            more = byte >= 0x80;
        }
        if more || value >= 1 << 53 { Err(ReadError::Overflow) } else { Ok(sign * value) }
    }

    /// A byte string of a given length.
    ///
    /// # Errors
    /// `End` when fewer bytes are left.
    pub fn bytes(&mut self, len: usize) -> Result<Bytes, ReadError> {
        if len > self.remaining() {
            return Err(ReadError::End);
        }
        let taken = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(taken)
    }

    /// So many bytes as an array.
    ///
    /// # Errors
    /// `End` when fewer bytes are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let bytes = self.bytes(N)?;
        Ok(bytes.as_ref().try_into().expect("as many bytes as were asked for"))
    }

    /// A byte string behind its length.
    ///
    /// # Errors
    /// `End` or `Overflow`.
    pub fn var_bytes(&mut self) -> Result<Bytes, ReadError> {
        let len = usize::try_from(self.var_u64()?).map_err(|_| ReadError::Overflow)?;
        self.bytes(len)
    }

    /// A text behind its length in bytes; the result is UTF-8.
    ///
    /// # Errors
    /// `End`, `Overflow` or `Utf8`.
    pub fn var_str(&mut self) -> Result<Text, ReadError> {
        let bytes = self.var_bytes()?;
        if std::str::from_utf8(&bytes).is_err() {
            return Err(ReadError::Utf8);
        }
        Ok(Text(bytes))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// `Trailing` when bytes are left.
    pub fn finish(&self) -> Result<(), ReadError> {
        if self.remaining() == 0 { Ok(()) } else { Err(ReadError::Trailing) }
    }
}

/// UTF-8 that shares the memory of the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Bytes);

impl Text {
    /// The text.
    ///
    /// # Panics
    /// Never: the bytes were checked when they were read.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was read")
    }
}

/// Appends an unsigned integer, seven bits a byte, low bits first.
pub fn put_var_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a signed integer: sign and six bits, then seven bits a byte, low bits first.
pub fn put_var_i64(out: &mut Vec<u8>, value: i64) {
    let sign = if value < 0 { 0x40 } else { 0 };
    let mut rest = value.unsigned_abs();
    let low = (rest & 0x3f) as u8;
    rest >>= 6;
    if rest == 0 {
        return out.push(sign | low);
    }
    out.push(0x80 | sign | low);
    put_var_u64(out, rest);
}

/// Appends a byte string behind its length.
pub fn put_var_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_var_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_survive_a_round_trip(value: u64) {
            let mut out = Vec::new();
            put_var_u64(&mut out, value);
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.var_u64(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn signed_integers_survive_a_round_trip(value in -(1_i64 << 53) + 1..1 << 53) {
            let mut out = Vec::new();
            put_var_i64(&mut out, value);
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.var_i64(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut reader = Reader::new(bytes.into());
            while reader.var_str().is_ok() || reader.var_u64().is_ok() || reader.var_i64().is_ok() {}
        }
    }

    #[test]
    fn a_length_past_the_end_allocates_nothing() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]));
        assert_eq!(reader.var_bytes(), Err(ReadError::End));
    }
}
