//! Reads the fields of an update in place.
//!
//! Unlike `lib0::Reader` it borrows, refuses integers that are not in their shortest form, and reports
//! refusals. Never panics, never allocates.

use super::Refusal;
use super::limits::KEY_BYTES_MAX;

/// A place in bytes that are being read.
#[derive(Clone, Debug)]
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn u8(&mut self) -> Result<u8, Refusal> {
        let byte = *self.bytes.get(self.at).ok_or(Refusal::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// An unsigned integer of at most 53 bits in its shortest form.
    pub(super) fn uint(&mut self) -> Result<u64, Refusal> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..56).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let fits = byte != 0 && value < 1 << 53;
                return if fits { Ok(value) } else { Err(Refusal::Integer) };
            }
        }
        Err(Refusal::Integer)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Refusal> {
        u32::try_from(self.uint()?).map_err(|_| Refusal::Integer)
    }

    /// A signed integer of at most 53 bits in its shortest form; minus zero is one.
    pub(super) fn int(&mut self) -> Result<i64, Refusal> {
        let first = self.u8()?;
        let sign = if first & 0x40 == 0 { 1 } else { -1 };
        let mut value = i64::from(first & 0x3f);
        if first < 0x80 {
            return Ok(sign * value);
        }
        for shift in (6..55).step_by(7) {
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let fits = byte != 0 && value < 1 << 53;
                return if fits { Ok(sign * value) } else { Err(Refusal::Integer) };
            }
        }
        Err(Refusal::Integer)
    }

    /// A count of things that take at least `bytes_each` bytes: larger than could follow is refused, so a
    /// reader may allocate from it.
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, Refusal> {
        let count = usize::try_from(self.uint()?).map_err(|_| Refusal::Count)?;
        if count > self.remaining() / bytes_each { Err(Refusal::Count) } else { Ok(count) }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Refusal> {
        let end = self.at.checked_add(len).ok_or(Refusal::End)?;
        let taken = self.bytes.get(self.at..end).ok_or(Refusal::End)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        self.bytes(N)?.try_into().map_err(|_| Refusal::End)
    }

    pub(super) fn var_bytes(&mut self) -> Result<&'a [u8], Refusal> {
        let len = usize::try_from(self.uint()?).map_err(|_| Refusal::End)?;
        self.bytes(len)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Refusal> {
        std::str::from_utf8(self.var_bytes()?).map_err(|_| Refusal::Utf8)
    }

    /// A name or key: text of bounded length.
    pub(super) fn key(&mut self) -> Result<&'a str, Refusal> {
        let text = self.text()?;
        if text.len() > KEY_BYTES_MAX { Err(Refusal::KeyLength) } else { Ok(text) }
    }

    pub(super) const fn finish(&self) -> Result<(), Refusal> {
        if self.remaining() == 0 { Ok(()) } else { Err(Refusal::Trailing) }
    }
}

/// How many UTF-16 units a text has: what Yjs counts clocks in.
pub(super) fn utf16_len(text: &str) -> usize {
    // Every byte but a continuation byte starts a character; four-byte characters are surrogate pairs.
    text.bytes().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shortest_integers_are_read() {
        assert_eq!(Scan::new(&[0x80, 0x01]).uint(), Ok(128));
        assert_eq!(Scan::new(&[0x81, 0x00]).uint(), Err(Refusal::Integer));
        assert_eq!(Scan::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]).uint(), Ok((1 << 53) - 1));
        assert_eq!(Scan::new(&[0xff; 12]).uint(), Err(Refusal::Integer));
        assert_eq!(Scan::new(&[0xff]).uint(), Err(Refusal::End));
        assert_eq!(Scan::new(&[0x40]).int(), Ok(0));
        assert_eq!(Scan::new(&[0xc0, 0x00]).int(), Err(Refusal::Integer));
    }

    #[test]
    fn a_count_is_bounded_by_the_bytes_that_follow() {
        assert_eq!(Scan::new(&[2, 0, 0, 0, 0]).count(2), Ok(2));
        assert_eq!(Scan::new(&[3, 0, 0, 0, 0]).count(2), Err(Refusal::Count));
    }

    #[test]
    fn units_are_counted_as_javascript_does() {
        for text in ["", "abc", "žluť", "女", "a😀b", "👩‍👩‍👧"] {
            assert_eq!(utf16_len(text), text.encode_utf16().count());
        }
    }
}
