//! What a canary says: when its region wrote it, by that region's wall clock.
//!
//! An entry's stamp may run ahead of the wall clock, which is not good enough to measure time by.

use crate::lib0::{Reader, put_var_u64};
use bytes::Bytes;

/// A canary's payload.
#[must_use]
pub fn encode_canary(wall_ms: u64) -> Bytes {
    let mut out = Vec::new();
    put_var_u64(&mut out, wall_ms);
    out.into()
}

/// The wall clock that a canary was written at; `None` when a newer release has written something else.
#[must_use]
pub fn decode_canary(payload: &Bytes) -> Option<u64> {
    let mut reader = Reader::new(payload.clone());
    let wall_ms = reader.var_u64().ok()?;
    reader.finish().ok()?;
    Some(wall_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_survives_its_payload_and_others_are_left_alone() {
        assert_eq!(decode_canary(&encode_canary(1_700_000_000_000)), Some(1_700_000_000_000));
        assert_eq!(decode_canary(&Bytes::new()), None);
        assert_eq!(decode_canary(&Bytes::from_static(&[1, 2])), None);
    }
}
