//! The durable log and document store. Stores bytes; never looks inside an update.
