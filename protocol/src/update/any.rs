//! Checks lib0's `Any` values without building them.

use super::Refusal;
use super::limits::ANY_DEPTH_MAX;
use super::scan::Scan;

const UNDEFINED: u8 = 127;
const NULL: u8 = 126;
pub(super) const INTEGER: u8 = 125;
pub(super) const FLOAT32: u8 = 124;
pub(super) const FLOAT64: u8 = 123;
pub(super) const BIGINT: u8 = 122;
const FALSE: u8 = 121;
const TRUE: u8 = 120;
pub(super) const STRING: u8 = 119;
pub(super) const OBJECT: u8 = 118;
pub(super) const ARRAY: u8 = 117;
pub(super) const BUFFER: u8 = 116;

/// Passes one value and takes what it holds from `values_left`.
pub(super) fn skip_any(scan: &mut Scan<'_>, values_left: &mut usize) -> Result<(), Refusal> {
    skip_at(scan, values_left, ANY_DEPTH_MAX)
}

fn skip_at(scan: &mut Scan<'_>, values_left: &mut usize, depth_left: usize) -> Result<(), Refusal> {
    *values_left = values_left.checked_sub(1).ok_or(Refusal::TooMany("values"))?;
    match scan.u8()? {
        UNDEFINED | NULL | FALSE | TRUE => Ok(()),
        INTEGER => scan.int().map(drop),
        FLOAT32 => scan.bytes(4).map(drop),
        FLOAT64 | BIGINT => scan.bytes(8).map(drop),
        STRING => scan.text().map(drop),
        BUFFER => scan.var_bytes().map(drop),
        OBJECT => {
            let depth_left = depth_left.checked_sub(1).ok_or(Refusal::ValueDepth)?;
            for _ in 0..scan.count(2)? {
                scan.key()?;
                skip_at(scan, values_left, depth_left)?;
            }
            Ok(())
        }
        ARRAY => {
            let depth_left = depth_left.checked_sub(1).ok_or(Refusal::ValueDepth)?;
            for _ in 0..scan.count(1)? {
                skip_at(scan, values_left, depth_left)?;
            }
            Ok(())
        }
        _ => Err(Refusal::Value),
    }
}

/// Passes a subdocument's options: an object, since Yjs reads its members, without the members that would
/// break the document which Yjs makes from it.
pub(super) fn skip_subdoc_options(scan: &mut Scan<'_>, values_left: &mut usize) -> Result<(), Refusal> {
    if scan.u8()? != OBJECT {
        return Err(Refusal::SubdocOptions);
    }
    for _ in 0..scan.count(2)? {
        // `guid` would replace the name that was read before it; Yjs calls `gcFilter`.
        if matches!(scan.key()?, "guid" | "gcFilter") {
            return Err(Refusal::SubdocOptions);
        }
        skip_at(scan, values_left, ANY_DEPTH_MAX)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(bytes: &[u8]) -> Result<usize, Refusal> {
        let mut scan = Scan::new(bytes);
        skip_any(&mut scan, &mut 1_000).map(|()| scan.position())
    }

    #[test]
    fn values_of_every_kind_are_passed() {
        for value in [
            &[127][..],
            &[126],
            &[125, 0x40],
            &[124, 0, 0, 0, 0],
            &[123, 0, 0, 0, 0, 0, 0, 0, 0],
            &[122, 0, 0, 0, 0, 0, 0, 0, 0],
            &[121],
            &[120],
            &[119, 1, b'a'],
            &[118, 1, 1, b'k', 126],
            &[117, 2, 126, 126],
            &[116, 2, 0, 0],
        ] {
            assert_eq!(skip(value), Ok(value.len()));
            assert_eq!(skip(&value[..value.len() - 1]).is_err(), !value.is_empty());
        }
        assert_eq!(skip(&[115]), Err(Refusal::Value));
    }

    #[test]
    fn nested_arrays_stop_at_the_depth_limit() {
        let nested = |depth| [[117, 1].repeat(depth), vec![126]].concat();
        assert!(skip(&nested(ANY_DEPTH_MAX)).is_ok());
        assert_eq!(skip(&nested(ANY_DEPTH_MAX + 1)), Err(Refusal::ValueDepth));
        assert_eq!(skip(&nested(100_000)), Err(Refusal::ValueDepth));
    }
}
