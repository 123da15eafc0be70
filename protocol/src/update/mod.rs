//! Yjs updates: the strict decoder, what is new in them, and joining them.
