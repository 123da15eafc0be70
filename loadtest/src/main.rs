//! Simulated typists.

fn main() {}
