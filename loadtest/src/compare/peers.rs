//! The file that names the servers to compare and what is done with each.
//!
//! Reading goes on past a problem, so that all of them are told at once, each with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::words::{Places, placeholders};
use crate::live::Dialect;

/// A file of this size holds thousands of servers; a larger one is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is compared, and by what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct File {
    /// The servers; the first is the one that the others are set beside.
    pub(super) peers: Vec<Peer>,
    /// What each of them goes through.
    pub(super) scenarios: Vec<Scenario>,
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peer {
    /// What the report calls it.
    pub(super) name: String,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// What is added to its environment.
    pub(super) env: BTreeMap<String, String>,
    /// Its working directory, from which the program's path counts too.
    pub(super) directory: PathBuf,
    /// Where its documents are.
    pub(super) url: String,
    /// What it speaks.
    pub(super) dialect: Dialect,
    /// How it is known to be there.
    pub(super) ready: Ready,
}

/// How a server is known to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// It takes connections.
    Tcp,
    /// It answers this path with a status of 200 to 299.
    Http(String),
    /// It has printed this.
    Line(String),
}

/// One way to type at a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scenario {
    /// What the report calls it.
    pub(super) name: String,
    /// The options of `live`.
    pub(super) live: Vec<String>,
}

/// Something that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    /// From 1; 0 where it is nowhere in particular.
    pub(super) line: usize,
    /// What it is.
    pub(super) message: String,
}

/// All that is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) struct Problems {
    path: PathBuf,
    problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used as it is:", self.path.display())?;
        for Problem { line, message } in &self.problems {
            match line {
                0 => write!(f, "\n  {message}")?,
                line => write!(f, "\n  line {line}: {message}")?,
            }
        }
        Ok(())
    }
}

impl File {
    /// Reads a file; without scenarios of its own it has one, `steady`.
    ///
    /// # Errors
    /// When it cannot be read, and everything that is wrong in it, together.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        anyhow::ensure!(size <= FILE_BYTES_MAX, "{} is too large for a list of servers", path.display());
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let beside =
            std::path::absolute(if beside.as_os_str().is_empty() { Path::new(".") } else { beside })?;
        Self::parse(&text, &beside).map_err(|problems| Problems { path: path.to_owned(), problems }.into())
    }

    /// # Errors
    /// Everything that is wrong in it, by line.
    pub(super) fn parse(text: &str, beside: &Path) -> Result<Self, Vec<Problem>> {
        let mut reading = Reading { text, problems: Vec::new() };
        let mut file = Self::default();
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reading.problem(error.span().map_or(0, |span| span.start), error.message());
        }
        let keys = reading.keys("the file", table.get_ref(), &["peer", "scenario"]);
        for entry in reading.tables(&keys, "peer") {
            file.peers.extend(reading.peer(entry, beside));
        }
        for entry in reading.tables(&keys, "scenario") {
            file.scenarios.extend(reading.scenario(entry));
        }
        if file.peers.is_empty() && reading.problems.is_empty() {
            reading.problems.push(Problem { line: 0, message: "there is no [[peer]]".to_owned() });
        }
        if file.scenarios.is_empty() {
            file.scenarios.push(Scenario { name: "steady".to_owned(), live: Vec::new() });
        }
        let mut problems = reading.problems;
        problems.sort();
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }
}

/// What stands under a table's known keys.
type Keys<'t> = BTreeMap<&'static str, &'t Spanned<DeValue<'t>>>;

/// An entry of a list of tables: where it begins, and itself.
type Entry<'t> = (usize, &'t DeTable<'t>);

struct Reading<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn problem(&mut self, byte: usize, message: impl Into<String>) {
        let line = self.text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1;
        self.problems.push(Problem { line, message: message.into() });
    }

    fn keys<'t>(&mut self, whose: &str, table: &'t DeTable<'t>, known: &[&'static str]) -> Keys<'t> {
        let mut keys = Keys::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match known.iter().find(|known| **known == name) {
                Some(known) => drop(keys.insert(known, value)),
                None => {
                    let known = known.join(", ");
                    self.problem(key.span().start, format!("{whose} has no key '{name}'; there are {known}"));
                }
            }
        }
        keys
    }

    fn tables<'t>(&mut self, keys: &Keys<'t>, name: &'static str) -> Vec<Entry<'t>> {
        let Some(value) = keys.get(name) else { return Vec::new() };
        let DeValue::Array(entries) = value.get_ref() else {
            self.problem(value.span().start, format!("'{name}' is a list of tables, written [[{name}]]"));
            return Vec::new();
        };
        let mut names = BTreeSet::new();
        let mut tables = Vec::new();
        for entry in entries {
            let DeValue::Table(table) = entry.get_ref() else {
                self.problem(entry.span().start, format!("'{name}' is a list of tables, written [[{name}]]"));
                continue;
            };
            if let Some(DeValue::String(own)) = table.get("name").map(Spanned::get_ref)
                && !names.insert(own.as_ref())
            {
                self.problem(entry.span().start, format!("there are two [[{name}]] of the name '{own}'"));
            }
            tables.push((entry.span().start, table));
        }
        tables
    }

    fn peer(&mut self, (at, table): Entry<'_>, beside: &Path) -> Option<Peer> {
        let known = ["name", "command", "env", "directory", "url", "dialect", "ready"];
        let keys = self.keys("a [[peer]]", table, &known);
        let name = self.name(at, &keys);
        let command = self.needed(at, &keys, "command").and_then(|value| self.command(value));
        let url = self.needed(at, &keys, "url").and_then(|value| self.url(value));
        let dialect = self.needed(at, &keys, "dialect").and_then(|value| self.dialect(value));
        let env = keys.get("env").map_or(Some(BTreeMap::new()), |value| self.env(value));
        let ready = keys.get("ready").map_or(Some(Ready::Tcp), |value| self.ready(value));
        let directory = keys.get("directory").map_or(Some(String::new()), |value| self.string(value));
        let directory = beside.join(directory?);
        Some(Peer {
            name: name?,
            command: command?,
            env: env?,
            directory,
            url: url?,
            dialect: dialect?,
            ready: ready?,
        })
    }

    fn scenario(&mut self, (at, table): Entry<'_>) -> Option<Scenario> {
        let keys = self.keys("a [[scenario]]", table, &["name", "live"]);
        let name = self.name(at, &keys);
        let value = keys.get("live");
        let live = value.map_or(Some(Vec::new()), |value| self.strings(value));
        if let (Some(value), Some(live)) = (value, &live)
            && let Err(message) = super::words::check_live(live)
        {
            self.problem(value.span().start, message);
        }
        Some(Scenario { name: name?, live: live? })
    }

    fn needed<'t>(
        &mut self,
        at: usize,
        keys: &Keys<'t>,
        name: &'static str,
    ) -> Option<&'t Spanned<DeValue<'t>>> {
        let value = keys.get(name).copied();
        if value.is_none() {
            self.problem(at, format!("'{name}' is missing here"));
        }
        value
    }

    /// A name stands in tables and in the names of files.
    fn name(&mut self, at: usize, keys: &Keys<'_>) -> Option<String> {
        let value = self.needed(at, keys, "name")?;
        let name = self.string(value)?;
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.len() > 40 || !name.chars().all(is_plain) {
            self.problem(value.span().start, "a name is 1 to 40 of a-z, A-Z, 0-9, '-', '_' and '.'");
            return None;
        }
        Some(name)
    }

    fn command(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
        let command = self.strings(value)?;
        if command.first().is_none_or(String::is_empty) {
            self.problem(value.span().start, "'command' begins with a program");
            return None;
        }
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        self.places(value, &words, Places::SERVER)?;
        Some(command)
    }

    fn url(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let url = self.string(value)?;
        self.places(value, &[&url], Places::URL)?;
        if !url.starts_with("ws://") || !url.contains("{port}") {
            self.problem(value.span().start, "'url' is like ws://127.0.0.1:{port}/{doc}");
            return None;
        }
        Some(url)
    }

    fn dialect(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Dialect> {
        let name = self.string(value)?;
        let found = Dialect::from_str(&name, false).ok();
        if found.is_none() {
            let all = Dialect::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let all: Vec<String> = all.map(|one| one.get_name().to_owned()).collect();
            self.problem(
                value.span().start,
                format!("there is no dialect '{name}'; there are {}", all.join(", ")),
            );
        }
        found
    }

    fn env(&mut self, value: &Spanned<DeValue<'_>>) -> Option<BTreeMap<String, String>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.problem(value.span().start, "'env' is a table of texts");
            return None;
        };
        let mut env = BTreeMap::new();
        for (key, value) in table {
            let text = self.string(value)?;
            self.places(value, &[&text], Places::SERVER)?;
            env.insert(key.get_ref().to_string(), text);
        }
        Some(env)
    }

    fn ready(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Ready> {
        const FORMS: &str = r#"'ready' is "tcp", { http = "/path" } or { line = "what it prints" }"#;
        let ready = match value.get_ref() {
            DeValue::String(text) if text.as_ref() == "tcp" => Some(Ready::Tcp),
            DeValue::Table(table) if table.len() == 1 => {
                table.iter().next().and_then(|(key, value)| match (key.get_ref().as_ref(), value.get_ref()) {
                    ("http", DeValue::String(path)) if path.starts_with('/') => {
                        Some(Ready::Http(path.to_string()))
                    }
                    ("line", DeValue::String(line)) if !line.is_empty() => {
                        Some(Ready::Line(line.to_string()))
                    }
                    _ => None,
                })
            }
            _ => None,
        };
        if ready.is_none() {
            self.problem(value.span().start, FORMS);
        }
        ready
    }

    fn places(&mut self, value: &Spanned<DeValue<'_>>, texts: &[&str], known: Places) -> Option<()> {
        let strange = texts.iter().flat_map(|text| placeholders(text)).find(|name| !known.has(name));
        let Some(strange) = strange else { return Some(()) };
        self.problem(value.span().start, format!("nothing stands for {{{strange}}} here; there are {known}"));
        None
    }

    fn string(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(text.to_string());
        }
        self.problem(value.span().start, "this is a text, in quotes");
        None
    }

    fn strings(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
        let DeValue::Array(values) = value.get_ref() else {
            self.problem(value.span().start, r#"this is a list of texts, such as ["one", "two"]"#);
            return None;
        };
        values.iter().map(|value| self.string(value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[scenario]]
name = "meeting"
live = ["--profile", "meeting", "--seconds", "5"]

[[peer]]
name = "quire"
command = ["{bin}/quire", "--data", "{data}"]
url = "ws://127.0.0.1:{port}/ws/{doc}"
dialect = "quire"
ready = { http = "/healthz" }

[[peer]]
name = "other"
command = ["node", "server.mjs"]
env = { PORT = "{port}" }
directory = "servers"
url = "ws://127.0.0.1:{port}"
dialect = "y-websocket"
"#;

    fn told(text: &str) -> Vec<String> {
        let problems = File::parse(text, Path::new("/beside")).unwrap_err();
        problems.iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
    }

    #[test]
    fn a_file_is_read() {
        let file = File::parse(GOOD, Path::new("/beside")).unwrap();
        assert_eq!(file.scenarios[0].live, ["--profile", "meeting", "--seconds", "5"]);
        let [quire, other] = &file.peers[..] else { panic!("{:?}", file.peers) };
        assert_eq!((quire.dialect, &quire.ready), (Dialect::Quire, &Ready::Http("/healthz".to_owned())));
        assert_eq!(quire.directory, Path::new("/beside/"));
        assert_eq!((other.dialect, &other.ready), (Dialect::YWebsocket, &Ready::Tcp));
        assert_eq!(other.directory, Path::new("/beside/servers"));
        assert_eq!(other.env["PORT"], "{port}");
    }

    #[test]
    fn a_file_without_scenarios_has_one() {
        let text = GOOD.split_once("[[peer]]").map(|(_, rest)| format!("[[peer]]{rest}")).unwrap();
        let file = File::parse(&text, Path::new("")).unwrap();
        assert_eq!(file.scenarios, [Scenario { name: "steady".to_owned(), live: Vec::new() }]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_its_line() {
        let text = GOOD
            .replace("{data}", "{date}")
            .replace("\"meeting\", \"--seconds\", \"5\"", "\"meting\"")
            .replace("y-websocket", "y-socket")
            .replace("directory", "folder")
            .replace("name = \"other\"", "name = \"quire\"");
        let told = told(&text);
        let of = |line: usize| told.iter().filter(|one| one.starts_with(&format!("{line}: "))).count();
        assert_eq!([4, 8, 13, 17, 19].map(of), [1; 5], "{told:#?}");
        assert_eq!(told.len(), 5, "{told:#?}");
        assert!(told[0].contains("meting"), "{told:#?}");
        assert!(told[1].contains("{date}"), "{told:#?}");
        assert!(told[4].contains("hocuspocus"), "{told:#?}");
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_told() {
        assert_eq!(told(""), ["0: there is no [[peer]]"]);
        assert_eq!(
            told("[[peer]]\nname = 7"),
            [
                "1: 'command' is missing here",
                "1: 'dialect' is missing here",
                "1: 'url' is missing here",
                "2: this is a text, in quotes",
            ]
        );
        assert!(told("[peer]\nname = 'a'")[0].contains("[[peer]]"));
        assert!(told("peer = [")[0].starts_with("1: "));
        assert!(
            told(&GOOD.replace("ws://127.0.0.1:{port}\"", "ws://127.0.0.1\""))[0].contains("'url' is like")
        );
        assert!(told(&GOOD.replace("http =", "https ="))[0].contains("'ready' is"));
    }
}
