//! What one person does and when: bursts of typing and pauses, corrections, pastes, taking back, moving the cursor,
//! losing the network, closing the tab.
//!
//! Open-loop: the moments come from the seed alone, whatever the server does. Pure.

use crate::rates::Dice;

/// The shortest time between two keys of a burst is this part of the mean.
const KEY_GAP_MIN: f64 = 0.1;

/// How often things happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Manner {
    /// Keys of a burst, on average.
    pub(super) burst_keys: f64,
    /// Time from key to key within a burst, on average, in microseconds.
    pub(super) key_gap_micros: f64,
    /// Of the keys of a burst, those that begin a correction.
    pub(super) corrections: f64,
    /// Of the bursts, those that begin with a paste.
    pub(super) pastes: f64,
    /// Of the bursts, those after which something is taken back.
    pub(super) undos: f64,
    /// Of the bursts, those after which the cursor is moved elsewhere.
    pub(super) cursor_moves: f64,
    /// Spells without network, each minute.
    pub(super) offline_per_minute: f64,
    /// How long one lasts, on average, in microseconds.
    pub(super) offline_micros: f64,
    /// Tabs closed and opened again, each minute.
    pub(super) closes_per_minute: f64,
}

/// One thing that a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Types a letter.
    Key,
    /// Deletes so many letters, key by key held down.
    Delete(usize),
    /// Pastes so many letters.
    Paste(usize),
    /// Takes the last step back.
    Undo,
    /// Moves the cursor.
    Cursor,
    /// Loses the network for so many microseconds, and goes on writing.
    Offline(u64),
    /// Closes the tab, and comes back after so many microseconds.
    CloseTab(u64),
}

/// A person: an endless series of acts.
#[derive(Clone, Debug)]
pub(super) struct Person {
    dice: Dice,
    manner: Manner,
    key_gap: f64,
    pause: f64,
    /// The moment of the next act.
    at: f64,
    /// Of the burst.
    keys_left: u32,
}

impl Person {
    /// Somebody who makes so many keystrokes a second on average, from time 0 on.
    pub(super) fn new(seed: u64, keystrokes_per_second: f64, manner: Manner) -> Self {
        let mut dice = Dice::new(seed);
        let every = 1e6 / keystrokes_per_second;
        // Who types faster than the manner has it types without pauses.
        let key_gap = manner.key_gap_micros.min(every * 0.9);
        let pause = manner.burst_keys * (every - key_gap);
        // Nobody begins when the others do.
        let at = dice.unit() * (pause + manner.burst_keys * key_gap);
        let mut person = Self { dice, manner, key_gap, pause, at, keys_left: 0 };
        person.keys_left = person.count(manner.burst_keys);
        person
    }

    /// The next act, and its moment in microseconds from the start.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole microseconds are meant"
    )]
    pub(super) fn next(&mut self) -> (u64, Act) {
        let act = self.draw();
        (self.at as u64, act)
    }

    fn draw(&mut self) -> Act {
        if self.keys_left == 0
            && let Some(act) = self.between_bursts()
        {
            return act;
        }
        self.keys_left -= 1;
        self.at += self.gap(self.key_gap).max(self.key_gap * KEY_GAP_MIN);
        if self.chance(self.manner.corrections) {
            return Act::Delete(1 + self.below(5));
        }
        Act::Key
    }

    /// Pauses, and says what is done before the next burst, if anything.
    fn between_bursts(&mut self) -> Option<Act> {
        let cycle_minutes =
            self.manner.burst_keys * (self.key_gap + self.pause / self.manner.burst_keys) / 60e6;
        self.at += self.gap(self.pause);
        self.keys_left = self.count(self.manner.burst_keys);
        if self.chance(self.manner.offline_per_minute * cycle_minutes) {
            return Some(Act::Offline(self.whole(self.manner.offline_micros)));
        }
        if self.chance(self.manner.closes_per_minute * cycle_minutes) {
            return Some(Act::CloseTab(self.whole(self.manner.offline_micros)));
        }
        if self.chance(self.manner.undos) {
            return Some(Act::Undo);
        }
        if self.chance(self.manner.pastes) {
            return Some(Act::Paste(20 + self.below(400)));
        }
        self.chance(self.manner.cursor_moves).then_some(Act::Cursor)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.dice.unit() <= share
    }

    /// A time of this mean, drawn as that between two arrivals of a Poisson process.
    fn gap(&mut self, mean: f64) -> f64 {
        -self.dice.unit().ln() * mean
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole microseconds are meant"
    )]
    fn whole(&mut self, mean: f64) -> u64 {
        self.gap(mean) as u64
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count is meant")]
    fn count(&mut self, mean: f64) -> u32 {
        1 + self.gap(mean - 1.0).round() as u32
    }

    fn below(&mut self, below: u64) -> usize {
        usize::try_from(self.dice.below(below)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::profile::LIVELY;

    const HOURS: u64 = 10;

    #[test]
    fn a_person_keeps_the_rate_and_does_everything() {
        for rate in [0.5, 5.0, 50.0] {
            let mut person = Person::new(7, rate, LIVELY);
            let (mut keys, mut last) = (0, 0);
            let mut seen = [false; 7];
            while last < HOURS * 3_600_000_000 {
                let (at, act) = person.next();
                assert!(at >= last, "time goes on");
                last = at;
                let kind = match act {
                    Act::Key => 0,
                    Act::Delete(count) => {
                        assert!(count > 0);
                        1
                    }
                    Act::Paste(_) => 2,
                    Act::Undo => 3,
                    Act::Cursor => 4,
                    Act::Offline(_) => 5,
                    Act::CloseTab(_) => 6,
                };
                keys += u32::from(kind < 2);
                seen[kind] = true;
            }
            let measured = f64::from(keys) / (3_600 * HOURS) as f64;
            assert!((0.85..1.25).contains(&(measured / rate)), "{measured} keys a second for {rate}");
            assert_eq!(seen, [true; 7]);
        }
    }

    #[test]
    fn one_seed_is_one_person() {
        let acts = |seed| {
            let mut person = Person::new(seed, 5.0, LIVELY);
            (0..500).map(|_| person.next()).collect::<Vec<_>>()
        };
        assert_eq!(acts(1), acts(1));
        assert_ne!(acts(1), acts(2));
    }
}
