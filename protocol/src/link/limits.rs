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

/// The longest payload of a call or of its answer: short enough that acks and pings are not held up behind one.
pub const CALL_BYTES_MAX: usize = 256 * 1024;

/// How many calls each side may have under way: 640 a second between regions 200 ms apart, and 32 MiB at most that
/// wait for one connection or for answers.
pub const CALLS_MAX: usize = 128;

/// How many bytes of batches a peer may send beyond what this replica's log has answered for: what a link
/// of 20 MB/s has on its way in 200 ms, and all that is held for a peer beyond one batch.
pub const CREDIT_WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// The most bytes that are read from the log for a peer at once: few enough that what an editor waits for is
/// not held up behind one read, its frame and its commit at the other end. One batch at least is read.
pub const READ_BYTES_MAX: usize = 32 * 1024;

/// How much of a backlog a peer gets in a millisecond. Each region has a disk and cores that its editors share
/// with the catch-up; `docs/performance.md` says what their acknowledgements take beside it. An hour of 1,000
/// keystrokes a second is there in half a minute.
pub const CATCH_UP_BYTES_PER_MS: u64 = 30_000;

/// How much earlier than its rate allows some of a backlog may be sent: the clock counts whole milliseconds, and
/// timers go off late.
pub const CATCH_UP_AHEAD_MS: u64 = 2;

/// What an entry of a backlog costs beside its bytes: it is read, checked, hashed and placed by itself.
pub const ENTRY_COST_BYTES: u64 = 224;

/// What is durable is acknowledged so many milliseconds later at the latest: well below the way between
/// regions, and rare enough that acks cost nothing beside batches.
pub const ACK_AFTER_MS: u64 = 20;

/// What is durable is acknowledged at once when it comes to so many bytes.
pub const ACK_AFTER_BYTES: u64 = 256 * 1024;

/// How often a peer is asked whether it is there, in milliseconds.
pub const PING_EVERY_MS: u64 = 1000;

/// A snapshot of which nothing came for so many pings, while nothing of it is held up here, has stopped.
pub const SNAPSHOT_PINGS_MAX: u32 = 30;

/// A peer that has said nothing since so many pings is gone.
pub const PINGS_MISSED_MAX: u32 = 3;

/// The most schemas besides its own that a replica may name as ones it gets on with: a change spreads from one
/// to the next, and one that was held up may be overtaken by a few.
pub const PREVIOUS_SCHEMAS_MAX: usize = 8;
