//! Frontiers: per stream, the last entry held without gaps.
