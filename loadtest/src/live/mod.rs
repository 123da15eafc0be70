//! Typists at live servers: any Yjs server by its URL, or several regions of one.

pub mod outcome;
