//! Tables of `quire.toml` that are no settings: what stands under which key, and what is wrong there.
//!
//! Reading goes on past a problem with what can be made of the rest, so that no problem hides another.
//!
//! Invariant: each problem names its key from the top and its line.

use super::problem::{Problem, Source};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration file whose text has been read.
#[derive(Clone, Copy)]
pub(super) struct FileText<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl FileText<'_> {
    /// Where in the file a byte is, for a person.
    pub(super) fn source(self, at: usize) -> Source {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        Source::File(self.path.to_owned(), line)
    }
}

/// The name that is closest to what was written, if one is close at all.
pub(super) fn did_you_mean<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this likeness a suggestion only puzzles.
    const LIKENESS_MIN: f64 = 0.8;
    names
        .map(|name| (strsim::jaro_winkler(written, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Reads a part of a file, and notes what is wrong with it.
pub(super) struct Reading<'a> {
    pub(super) file: FileText<'a>,
    problems: Vec<Problem>,
}

/// A place in the file: its key from the top, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) key: String,
    pub(super) byte: usize,
}

impl At {
    pub(super) fn under(&self, key: &str, byte: usize) -> Self {
        Self { key: format!("{}.{key}", self.key), byte }
    }
}

/// What stands under the keys of a table, and where.
pub(super) type Keys<'t> = BTreeMap<&'static str, (At, &'t Spanned<DeValue<'t>>)>;

impl<'a> Reading<'a> {
    pub(super) const fn new(file: FileText<'a>) -> Self {
        Self { file, problems: Vec::new() }
    }

    /// Adds what is wrong to the problems, by its line.
    pub(super) fn tell(mut self, problems: &mut Vec<Problem>) {
        let line = |problem: &Problem| match &problem.source {
            Source::File(_, line) => *line,
            _ => 0,
        };
        self.problems.sort_by_key(line);
        problems.append(&mut self.problems);
    }

    pub(super) fn problem(&mut self, at: &At, message: impl Into<String>, accepted: Option<&str>) {
        self.problems.push(Problem {
            key: at.key.clone(),
            source: self.file.source(at.byte),
            message: message.into(),
            accepted: accepted.map(str::to_owned),
        });
    }

    /// What a table says under the keys that it may have; tells of the others.
    pub(super) fn keys<'t>(&mut self, at: &At, table: &'t DeTable<'t>, known: &[&'static str]) -> Keys<'t> {
        let mut keys = Keys::new();
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), at.under(key.get_ref(), key.span().start));
            if let Some(known) = known.iter().find(|known| **known == name) {
                keys.insert(known, (at, value));
                continue;
            }
            let meant = did_you_mean(name, known.iter().copied());
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            let accepted = known.join(", ");
            self.problem(&at, format!("there is no such key{meant}"), meant.is_empty().then_some(&*accepted));
        }
        keys
    }

    pub(super) fn table<'t>(&mut self, at: &At, value: &'t Spanned<DeValue<'t>>) -> Option<&'t DeTable<'t>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        self.other_kind(at, "a table");
        None
    }

    pub(super) fn text(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<String> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(text.clone().into_owned());
        }
        self.other_kind(at, "a text");
        None
    }

    pub(super) fn switch(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        if let DeValue::Boolean(on) = value.get_ref() {
            return Some(*on);
        }
        self.other_kind(at, "true or false");
        None
    }

    /// Reads one of a few words; a dash in one is as good as an underscore.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        at: &At,
        value: &Spanned<DeValue<'_>>,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.text(at, value)?;
        let words = text.replace('-', "_");
        let found = all.iter().copied().find(|one| name(*one) == words);
        if found.is_none() {
            let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
            self.problem(at, format!("{text:?} is not accepted"), Some(&names.join(", ")));
        }
        found
    }

    pub(super) fn other_kind(&mut self, at: &At, accepted: &str) {
        self.problem(at, "the value is of another kind", Some(accepted));
    }
}
