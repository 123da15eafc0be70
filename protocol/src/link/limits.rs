//! What a peer may send at once. Each limit is checked before anything is allocated from it.

use crate::batch::{BATCH_BYTES_MAX, ENTRY_PAYLOAD_BYTES_MAX};

/// The longest frame on a link: a batch of one entry of the greatest length, its header with the
/// longest dependencies, and the message's kind. Nothing else comes near it.
pub const FRAME_BYTES_MAX: usize = ENTRY_PAYLOAD_BYTES_MAX + 2 * BATCH_BYTES_MAX;

/// The longest frame before both sides have proved that they know the secret.
pub const HANDSHAKE_BYTES_MAX: usize = 1024;

/// The longest explanation beside the reason for an end, in bytes of UTF-8.
pub const DETAIL_BYTES_MAX: usize = 256;

/// The most replicas that a peer may say it hears first-hand.
pub const HEARS_MAX: usize = 256;

/// The longest piece of a snapshot: short enough that acks and pings are not held up behind one.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// The longest ephemeral payload: an awareness update with the states of a full document.
pub const EPHEMERAL_BYTES_MAX: usize = 1024 * 1024;
