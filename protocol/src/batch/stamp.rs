//! When an entry was written and which it is, and how that is spelt in stored rows.

use crate::hlc::Hlc;
use crate::ids::{Dot, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_u64};

/// An entry's time and name. Of two concurrent changes of one register the greater stands, so that all
/// regions agree.
pub type Stamp = (Hlc, Dot);

/// Writes a stamp behind what is there.
pub fn put_stamp(out: &mut Vec<u8>, (Hlc(hlc), dot): Stamp) {
    for number in [hlc, u64::from(dot.stream.to_u32()), dot.seq.0] {
        put_var_u64(out, number);
    }
}

/// Reads what [`put_stamp`] wrote.
///
/// # Errors
/// When the bytes are no stamp.
pub fn read_stamp(reader: &mut Reader) -> Result<Stamp, ReadError> {
    let hlc = Hlc(reader.var_u64()?);
    let stream = StreamId::from_u32(reader.var_u32()?);
    Ok((hlc, Dot { stream, seq: Seq(reader.var_u64()?) }))
}
