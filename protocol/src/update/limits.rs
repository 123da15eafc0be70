//! How much one update may hold.
//!
//! The figures bound what an update costs after decoding: yrs needs about 200 bytes for a block that takes
//! four on the wire, and a kilobyte for a subdocument reference.

/// The longest update from an editor, in bytes. A server may configure less.
pub const UPDATE_BYTES_MAX: usize = 16 << 20;

/// Clocks stay below this: yrs compares them as signed 32-bit integers.
pub const CLOCK_MAX: u32 = (1 << 31) - 1;

/// The longest name of a root type, a map key, a format key, an element or a subdocument, in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// The longest JSON text of an embed or a format value, in bytes.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// How deep JSON may nest. `serde_json`, which yrs uses, stops at 128.
pub const JSON_DEPTH_MAX: usize = 64;

/// How deep lib0's `Any` values may nest: yrs decodes and drops them by recursion.
pub const ANY_DEPTH_MAX: usize = 32;

/// How deep shared types may nest in a document: yrs and Yjs delete, collect and print them by recursion.
pub const NESTING_MAX: u8 = 100;

/// Bounds on one update, chosen by who wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the encoding.
    pub bytes: usize,
    /// Blocks of all clients.
    pub blocks: usize,
    /// Clients with blocks, and clients with deletions.
    pub clients: usize,
    /// Deleted ranges of all clients.
    pub ranges: usize,
    /// `Any` values, at every level.
    pub values: usize,
    /// References to subdocuments: yrs makes a document for each.
    pub subdocs: usize,
    /// How often yrs may look for a client among those it has put aside, while it orders the blocks.
    pub lookups: u64,
}

impl Limits {
    /// For bytes from an editor or a peer.
    pub const OUTSIDE: Self = Self {
        bytes: UPDATE_BYTES_MAX,
        blocks: 1 << 20,
        clients: 1 << 14,
        ranges: 1 << 20,
        values: 1 << 20,
        subdocs: 1 << 12,
        lookups: 1 << 26,
    };

    /// For bytes that this region has stored: made of what was admitted, so only the format bounds them.
    pub const STORED: Self = Self {
        bytes: u32::MAX as usize,
        blocks: usize::MAX,
        clients: usize::MAX,
        ranges: usize::MAX,
        values: usize::MAX,
        subdocs: usize::MAX,
        lookups: u64::MAX,
    };
}
