//! Conflict markers: how a place that was changed in two ways is shown in a text.
//!
//! ```text
//! <<<<<<< eu, Ann, 2026-08-01T09:30:00.000Z
//! what Ann left
//! ||||||| before
//! what both began from
//! =======
//! what Bo left
//! >>>>>>> us, Bo, 2026-08-01T09:30:01.000Z
//! ```
//!
//! With more than two versions, those between the first and the last begin with their label: `======= asia, …`.

use super::{Reason, Version};
use unicode_segmentation::UnicodeSegmentation;

/// How long markers are where nothing in the texts looks like one: what `diff3` and git write.
const MARKER_LEN: usize = 7;

/// The longest marker. Lines of `=` under a heading are shorter; a text that begins a line with more such
/// characters would make each marker as long.
pub const MARKER_LEN_MAX: usize = 255;

/// How many characters of a region's or a person's name a marker shows: enough to tell people apart, and short
/// enough that markers do not outgrow texts.
pub const LABEL_CHARS_MAX: usize = 40;

/// How markers look in one text.
pub(super) struct Markers {
    len: usize,
    line_break: &'static str,
}

/// The versions of one place.
pub(super) struct Place<'a> {
    /// What all began from.
    pub base: &'a str,
    /// What versions made of it, and the label of who did. At least two.
    pub parts: &'a [(String, &'a str)],
    /// Whether the text ends here.
    pub is_last: bool,
}

impl Markers {
    /// Markers that no line of the texts begins like, with the line breaks of the texts.
    pub(super) fn fit_for(texts: &[&str]) -> Result<Self, Reason> {
        let lines = texts.iter().flat_map(|text| text.split('\n'));
        let longest = lines.map(marker_run).max().unwrap_or(0);
        let len = MARKER_LEN.max(longest.saturating_add(1));
        if len > MARKER_LEN_MAX {
            return Err(Reason::MarkersTooLong);
        }
        let first_break = texts.iter().find_map(|text| Some(text.split_once('\n')?.0.ends_with('\r')));
        let line_break = if first_break == Some(true) { "\r\n" } else { "\n" };
        Ok(Self { len, line_break })
    }

    /// Appends a place with all its versions.
    pub(super) fn append(&self, out: &mut String, place: &Place<'_>) {
        self.end_line(out);
        let last = place.parts.len() - 1;
        for (i, (text, label)) in place.parts.iter().enumerate() {
            match i {
                0 => self.marker(out, '<', label),
                _ if i == last => self.marker(out, '=', ""),
                _ => self.marker(out, '=', label),
            }
            self.part(out, text);
            if i == 0 {
                self.marker(out, '|', "before");
                self.part(out, place.base);
            }
            if i == last {
                self.marker(out, '>', label);
            }
        }
        // The last line of a text has a break after it when it has one in any version.
        if place.is_last && !place.parts.iter().any(|(text, _)| text.ends_with('\n')) {
            out.truncate(out.len() - self.line_break.len());
        }
    }

    fn marker(&self, out: &mut String, character: char, label: &str) {
        out.extend(std::iter::repeat_n(character, self.len));
        if !label.is_empty() {
            out.push(' ');
            out.push_str(label);
        }
        out.push_str(self.line_break);
    }

    fn part(&self, out: &mut String, text: &str) {
        out.push_str(text);
        self.end_line(out);
    }

    fn end_line(&self, out: &mut String) {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push_str(self.line_break);
        }
    }
}

/// How many of one marker's character a line begins with.
fn marker_run(line: &str) -> usize {
    let bytes = line.as_bytes();
    match bytes.first() {
        Some(first @ (b'<' | b'|' | b'=' | b'>')) => bytes.iter().take_while(|byte| *byte == first).count(),
        _ => 0,
    }
}

/// Who wrote a version and when.
pub(super) fn label(version: &Version) -> String {
    let names = [&version.author.region, &version.author.name].map(|name| plain(name));
    let time = version.stamp.0.to_rfc3339();
    let known = names.into_iter().filter(|name| !name.is_empty()).chain([time]);
    known.collect::<Vec<_>>().join(", ")
}

/// A name as one line, without what would turn the text around it.
fn plain(name: &str) -> String {
    let is_harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let name: String = name.chars().filter(is_harmless).take(LABEL_CHARS_MAX * 8).collect();
    name.graphemes(true).take(LABEL_CHARS_MAX).collect::<String>().trim().to_owned()
}
