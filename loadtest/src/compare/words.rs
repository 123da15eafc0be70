//! The words of commands: what stands for what in them, and which options go over which.

use std::fmt;
use std::path::Path;

use clap::Parser;

use crate::live;

/// Names that stand in braces for something that is known only when a server is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places(&'static [&'static str]);

impl Places {
    /// Those of a command and its environment.
    pub(super) const SERVER: Self = Self(&["port", "data", "bin"]);
    /// Those of a URL; the document is filled in by `live`.
    pub(super) const URL: Self = Self(&["port", "doc"]);

    pub(super) fn has(self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|name| format!("{{{name}}}")).collect();
        write!(f, "{}", names.join(", "))
    }
}

/// The small-letter names that stand in braces; other braces are what they are.
pub(super) fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(name)
    })
}

/// What the names stand for in one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meant<'a> {
    pub(super) port: u16,
    pub(super) data: &'a Path,
    /// Where this program is.
    pub(super) bin: &'a Path,
}

impl Meant<'_> {
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("{port}", &self.port.to_string())
            .replace("{data}", &self.data.display().to_string())
            .replace("{bin}", &self.bin.display().to_string())
    }
}

/// The options of `live`, to see whether they are such.
#[derive(Parser)]
#[command(name = "live", no_binary_name = true)]
struct Live {
    #[command(flatten)]
    options: live::Options,
}

/// Options that are this program's to give.
const GIVEN: [&str; 4] = ["--dialect", "--pid", "--json", "--quiet"];

/// Whether these are options of `live`, and none that are given for each server.
///
/// # Errors
/// What is wrong with them, in one line.
pub(super) fn check_live(words: &[String]) -> Result<(), String> {
    if let Some(given) = words.iter().find(|word| GIVEN.contains(&option(word))) {
        return Err(format!("'{}' is given for each server", option(given)));
    }
    let all = words.iter().map(String::as_str).chain(["ws://127.0.0.1/{doc}"]);
    match Live::try_parse_from(all) {
        Ok(Live { options }) if options.urls.len() == 1 => Ok(()),
        Ok(_) => Err("a URL is given for each server".to_owned()),
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Err(format!("these are no options of live: {}", line.trim_start_matches("error: ")))
        }
    }
}

/// The first options without those that are also among the second, and then the second.
pub(super) fn overridden(first: &[String], second: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut is_kept = true;
    for word in first {
        if word.starts_with("--") {
            is_kept = !has(second, option(word));
        }
        if is_kept {
            kept.push(word.clone());
        }
    }
    kept.extend(second.iter().cloned());
    kept
}

/// Whether an option is among the words.
pub(super) fn has(words: &[String], name: &str) -> bool {
    words.iter().any(|word| option(word) == name)
}

/// `--seconds` of both `--seconds` and `--seconds=5`.
fn option(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn later_options_go_over_earlier_ones() {
        let all =
            overridden(&words("--seconds 5 --profile meeting --rate=2"), &words("--rate 3 --seconds=9"));
        assert_eq!(all, words("--profile meeting --rate 3 --seconds=9"));
    }

    #[test]
    fn options_of_live_are_known() {
        assert_eq!(check_live(&words("--profile meeting --seconds=5")), Ok(()));
        assert!(check_live(&words("--profil meeting")).unwrap_err().contains("--profil"));
        assert!(check_live(&words("--pid 1")).unwrap_err().contains("--pid"));
        assert!(check_live(&words("ws://127.0.0.1:80")).unwrap_err().contains("URL"));
    }

    #[test]
    fn only_names_in_braces_stand_for_something() {
        let found: Vec<&str> = placeholders(r#"{port}/{"a":{}}{doc}{Upper}{"#).collect();
        assert_eq!(found, ["port", "doc"]);
    }
}
