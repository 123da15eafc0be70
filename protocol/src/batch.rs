//! Entries and batches: what is written to disk and sent to other regions, in the same bytes.
