//! Awareness updates: who is here and where their cursor is.
