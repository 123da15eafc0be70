//! Patterns of document names, as tokens and schemas write them.
//!
//! `*` stands for any text within one segment, `**` for any text across segments, every other
//! character for itself. Segments are what `/` separates.
//!
//! Invariant: matching takes time proportional to pattern times name, whatever either holds.

use crate::ids::DOC_NAME_BYTES_MAX;

/// A pattern may be longer than any name, since its stars may stand for nothing.
pub const PATTERN_BYTES_MAX: usize = 2 * DOC_NAME_BYTES_MAX;

/// Which document names a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Byte(u8),
    WithinSegment,
    AcrossSegments,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It matches nothing that could be a name.
    #[error("a document pattern needs at least one character")]
    Empty,
    /// It is longer than any pattern needs to be.
    #[error("a document pattern has at most {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// It holds a character that no name has.
    #[error("a document pattern has no control characters; this one has one at byte {0}")]
    Control(usize),
}

impl Pattern {
    /// Whether it matches every name there can be.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.steps == [Step::AcrossSegments]
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty, too long or holds a control character.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(PatternError::Control(at));
        }
        let mut steps = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            match (byte, steps.last()) {
                (b'*', Some(Step::WithinSegment | Step::AcrossSegments)) => {
                    steps.pop();
                    steps.push(Step::AcrossSegments);
                }
                (b'*', _) => steps.push(Step::WithinSegment),
                _ => steps.push(Step::Byte(byte)),
            }
        }
        Ok(Self { text: text.into(), steps })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a document name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // `reached[i]`: the name so far can be what the first `i` steps stand for. All ways are
        // followed at once, so that no pattern makes the work explode.
        let mut reached = vec![false; self.steps.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for byte in name.bytes() {
            let mut next = vec![false; reached.len()];
            for (at, step) in self.steps.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match step {
                    Step::Byte(expected) if *expected == byte => next[at + 1] = true,
                    Step::WithinSegment if byte != b'/' => next[at] = true,
                    Step::AcrossSegments => next[at] = true,
                    Step::Byte(_) | Step::WithinSegment => {}
                }
            }
            self.skip_stars(&mut next);
            reached = next;
        }
        reached[self.steps.len()]
    }

    /// A star may stand for nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, step) in self.steps.iter().enumerate() {
            if reached[at] && !matches!(step, Step::Byte(_)) {
                reached[at + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).expect("a pattern").matches(name)
    }

    #[test]
    fn one_star_stays_within_a_segment_and_two_cross_it() {
        assert!(matches("team/*", "team/plan"));
        assert!(matches("team/*", "team/"));
        assert!(!matches("team/*", "team/plan/draft"));
        assert!(!matches("team/*", "team"));
        assert!(matches("team/**", "team/plan/draft"));
        assert!(matches("**/draft", "team/plan/draft"));
        assert!(matches("t*m/p*n", "team/plan"));
        assert!(matches("**", "anything/at all 🪶"));
        assert!(matches("***", "a/b"));
    }

    #[test]
    fn other_characters_stand_for_themselves() {
        assert!(matches("a.b?[c]", "a.b?[c]"));
        assert!(!matches("a.b", "aXb"));
        assert!(!matches("plan", "planning"));
        assert!(!matches("Plan", "plan"));
        assert!(matches("é*", "éa"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = "*a".repeat(500);
        let name = ["a".repeat(499), "b".repeat(13)].concat();
        assert!(!matches(&pattern, &name));
    }

    #[test]
    fn what_can_match_no_name_is_refused() {
        assert_eq!(Pattern::new("a\n*"), Err(PatternError::Control(1)));
        assert_eq!(Pattern::new(""), Err(PatternError::Empty));
        assert_eq!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)), Err(PatternError::TooLong));
    }
}
