//! The profiles: who is there and how they behave.

use std::time::Duration;

use super::person::Manner;

/// A pattern of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Teams at work: many documents with a few typists each, people who come and go
    Steady,
    /// One document, many typists and as many who watch
    Meeting,
    /// A class opens one document at once; a few type
    Classroom,
    /// An idle crowd, a document each
    Night,
    /// People at work whose connections all end at once, again and again
    Storm,
    /// A recorded editing trace replayed in each document
    Trace,
}

/// What a profile is made of. Counts are those of a run that does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) documents: u32,
    /// In all documents together.
    pub(super) typists: u32,
    /// Who only watch, in all documents together.
    pub(super) watchers: u32,
    pub(super) keystrokes_per_second: f64,
    pub(super) manner: Manner,
    /// Watchers and typists come within this after the start; at none they are there before it.
    pub(super) joins_within: Option<Duration>,
    /// Everybody says now and then that they are there.
    pub(super) is_present: bool,
    /// How often all connections end at once.
    pub(super) herd_every: Option<Duration>,
}

/// People at work.
pub(super) const LIVELY: Manner = Manner {
    burst_keys: 20.0,
    key_gap_micros: 140_000.0,
    corrections: 0.05,
    pastes: 0.02,
    undos: 0.03,
    cursor_moves: 0.4,
    offline_per_minute: 0.05,
    offline_micros: 4e6,
    closes_per_minute: 0.02,
};

/// The same with nobody who goes.
const SEATED: Manner = Manner { offline_per_minute: 0.0, closes_per_minute: 0.0, ..LIVELY };

impl Profile {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Meeting => "meeting",
            Self::Classroom => "classroom",
            Self::Night => "night",
            Self::Storm => "storm",
            Self::Trace => "trace",
        }
    }

    pub(super) const fn shape(self) -> Shape {
        let steady = Shape {
            documents: 50,
            typists: 200,
            watchers: 0,
            keystrokes_per_second: 5.0,
            manner: LIVELY,
            joins_within: None,
            is_present: true,
            herd_every: None,
        };
        match self {
            Self::Steady => steady,
            Self::Meeting => Shape { documents: 1, typists: 50, watchers: 50, manner: SEATED, ..steady },
            Self::Classroom => Shape {
                documents: 1,
                typists: 5,
                watchers: 195,
                manner: SEATED,
                joins_within: Some(Duration::from_secs(5)),
                ..steady
            },
            Self::Night => Shape {
                documents: 1_000,
                typists: 0,
                watchers: 1_000,
                manner: SEATED,
                is_present: false,
                ..steady
            },
            Self::Storm => Shape { manner: SEATED, herd_every: Some(Duration::from_secs(10)), ..steady },
            Self::Trace => Shape {
                documents: 10,
                typists: 10,
                watchers: 10,
                keystrokes_per_second: 20.0,
                manner: SEATED,
                ..steady
            },
        }
    }
}
