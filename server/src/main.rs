//! One region of Quire: parses, wires, runs, exits.

fn main() {}
