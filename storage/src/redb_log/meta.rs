//! The store's `meta` table: format version, identity, and how far it has come.

use super::fault::Fault;
use super::open::check_format;
use super::rows::{Identity, decode_identity, encode_identity};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const FORMAT_KEY: &str = "format";
pub(super) const IDENTITY_KEY: &str = "identity";
/// The incarnation that what is appended belongs to.
pub(super) const INCARNATION_KEY: &str = "incarnation";
/// The log's end at the last checkpoint.
pub(super) const HEAD_KEY: &str = "head";
/// All files have been set up.
pub(super) const READY_KEY: &str = "ready";
/// Bytes of the batches kept for peers.
pub(super) const KEPT_BYTES_KEY: &str = "kept_bytes";

/// What peers are known to have.
pub(super) const ACKS_KEY: &str = "acks";

pub(super) fn write(txn: &WriteTransaction, key: &str, value: &[u8]) -> Result<(), Fault> {
    txn.open_table(META)?.insert(key, value)?;
    Ok(())
}

pub(super) fn write_identity(txn: &WriteTransaction, identity: &Identity) -> Result<(), Fault> {
    write(txn, IDENTITY_KEY, &encode_identity(identity))
}

pub(super) fn read(db: &Database, key: &str) -> Result<Option<Bytes>, Fault> {
    let txn = db.begin_read()?;
    match txn.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(table?.get(key)?.map(|value| Bytes::copy_from_slice(value.value()))),
    }
}

/// Checks the format, then reads the identity; none when the file was never set up.
pub(super) fn read_identity(db: &Database) -> Result<Option<Identity>, Fault> {
    let Some(format) = read(db, FORMAT_KEY)? else { return Ok(None) };
    let format: [u8; 4] =
        format.as_ref().try_into().map_err(|_| Fault::corrupt("a format that is not a number"))?;
    check_format(u32::from_le_bytes(format))?;
    read(db, IDENTITY_KEY)?.as_ref().map(decode_identity).transpose()
}
