//! Reads lib0 values from a borrowed slice, for the receiving side of a crowd.
//!
//! It shares nothing and counts no references: a load generator reads over a million small frames
//! a second and must leave the processor to the server. It never reads past the end.

/// The bytes are not what they should be: they end early or an integer is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end inside a value, or an integer is too large")]
pub struct Malformed;

/// A position in a byte slice.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    /// An unsigned integer, seven bits a byte, low bits first.
    ///
    /// # Errors
    /// When the bytes end inside it or it has more than 64 bits.
    pub fn var_u64(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// An unsigned integer of at most 32 bits.
    ///
    /// # Errors
    /// When the bytes end inside it or it is larger.
    pub fn var_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.var_u64()?).map_err(|_| Malformed)
    }

    /// A byte string of a given length.
    ///
    /// # Errors
    /// When fewer bytes are left.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A byte string behind its length.
    ///
    /// # Errors
    /// When fewer bytes are left than its length says.
    pub fn var_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.var_u64()?).map_err(|_| Malformed)?;
        self.bytes(len)
    }
}
