//! Hybrid logical clocks.
