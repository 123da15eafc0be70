//! Gathers settings: a flag goes over a variable, a variable over the file, the file over the default.
//!
//! Reads the command line, the environment it is handed and one file; never the process's own
//! environment, so that tests can bring theirs.
//!
//! Invariant: loading goes on past a problem, so that all of them are listed at once.

use super::check::{self, Config};
use super::collections::{self, COLLECTIONS};
use super::file::read_small;
use super::problem::{Problem, Problems, Source};
use super::reading::{FileText, did_you_mean};
use super::settings::Settings;
use super::table::{SETTINGS, Setting, VARIABLE_PREFIX};
use super::webhooks::{self, WEBHOOK};
use crate::webhooks::Webhook;
use quire_protocol::fields::schema::Schema;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Names the file that settings are read from; the one setting that cannot stand in it.
pub(crate) const CONFIG: &str = "config";
/// The file that is read when none is named, if it is there.
const CONFIG_FILE_DEFAULT: &str = "quire.toml";

/// What a configuration is made from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The words of the command line behind `serve`.
    pub arguments: Vec<String>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
}

impl Sources {
    /// The process's own environment, and these words.
    #[must_use]
    pub fn of_process(arguments: Vec<String>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect();
        Self { arguments, variables }
    }
}

/// One value that somebody gave.
#[derive(Clone, Debug)]
struct Given {
    text: String,
    source: Source,
}

type Values = BTreeMap<String, Vec<Given>>;

/// Makes the configuration, or lists everything that is wrong with it.
///
/// # Errors
/// Every unknown key, every value that is not accepted and every contradiction, together.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let flags = read_flags(&sources.arguments, &mut problems);
    let variables = read_variables(&sources.variables);
    let file = read_file(config_path(&flags, &variables), &mut problems);

    let mut settings = Settings { schema: Arc::new(file.schema), ..Settings::default() };
    let mut origins = BTreeMap::new();
    for setting in SETTINGS {
        let given =
            [&flags, &variables, &file.values].into_iter().find_map(|values| values.get(setting.name));
        for value in given.into_iter().flatten() {
            origins.insert(setting.name, value.source.clone());
            if setting.field.set(&mut settings, &value.text).is_err() {
                problems.push(not_accepted(setting, value));
            }
        }
    }
    let config = check::check(settings, &origins, problems)?;
    Ok(Config { webhooks: file.webhooks, ..config })
}

/// The schema of a configuration, whatever else stands there: that of the file that is named, or of
/// `quire.toml` in the working directory if it is there.
///
/// # Errors
/// Everything that is wrong with the file's syntax and with its schema.
pub fn load_schema(named: Option<PathBuf>) -> Result<Schema, Problems> {
    let mut problems = Vec::new();
    let named = named.map(|path| (path, Source::Flag(format!("--{CONFIG}"))));
    let schema = read_file(named.or_else(default_path), &mut problems).schema;
    problems.retain(|problem| {
        let key = problem.key.as_str();
        key == CONFIG
            || key
                .strip_prefix(COLLECTIONS)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    });
    if problems.is_empty() { Ok(schema) } else { Err(Problems(problems)) }
}

fn not_accepted(setting: &Setting, value: &Given) -> Problem {
    Problem {
        key: setting.name.to_owned(),
        source: value.source.clone(),
        message: format!("{:?} is not accepted", value.text),
        accepted: Some(setting.field.accepted()),
    }
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

fn unknown(written: &str, shown: String, source: Source) -> Problem {
    let all = || SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ");
    let names = SETTINGS.iter().map(|setting| setting.name).chain([CONFIG, COLLECTIONS, WEBHOOK]);
    let (message, accepted) = match did_you_mean(written, names) {
        Some(name) => (format!("there is no such setting; did you mean {name}?"), None),
        None => ("there is no such setting".to_owned(), Some(all())),
    };
    Problem { key: shown, source, message, accepted }
}

/// Reads `--name value`, `--name=value` and switches. Not left to clap, which stops at the first
/// word it does not know.
fn read_flags(arguments: &[String], problems: &mut Vec<Problem>) -> Values {
    let mut values = Values::new();
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else {
            problems.push(Problem {
                key: word.clone(),
                source: Source::Flag(word.clone()),
                message: "serve takes flags only".to_owned(),
                accepted: None,
            });
            continue;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let source = Source::Flag(format!("--{name}"));
        let is_switch = match find(name) {
            Some(setting) => setting.field.is_switch(),
            None if name == CONFIG => false,
            None => {
                problems.push(unknown(name, format!("--{name}"), source));
                // The word behind an unknown flag is most likely its value, not a second mistake.
                words.next_if(|next| !next.starts_with("--"));
                continue;
            }
        };
        let text = match inline {
            Some(text) => Some(text),
            None if is_switch => Some("true".to_owned()),
            None => words.next_if(|next| !next.starts_with("--")).cloned(),
        };
        match text {
            Some(text) => add_flag(&mut values, name, Given { text, source }, problems),
            None => problems.push(Problem {
                key: name.to_owned(),
                source,
                message: "a value is missing".to_owned(),
                accepted: find(name).map(|setting| setting.field.accepted()),
            }),
        }
    }
    values
}

fn add_flag(values: &mut Values, name: &str, given: Given, problems: &mut Vec<Problem>) {
    let list = find(name).is_some_and(|setting| setting.field.is_list());
    let all = values.entry(name.to_owned()).or_default();
    if !list && !all.is_empty() {
        problems.push(Problem {
            key: name.to_owned(),
            source: given.source,
            message: "it is given more than once".to_owned(),
            accepted: None,
        });
        return;
    }
    all.push(given);
}

/// Variables that are no setting are left alone: orchestrators invent names such as `QUIRE_PORT`
/// and `QUIRE_SERVICE_HOST` for a service called quire.
fn read_variables(variables: &BTreeMap<String, String>) -> Values {
    let mut values = Values::new();
    let names = SETTINGS.iter().map(|setting| (setting.name, setting.variable(), setting.field.is_list()));
    for (name, variable, list) in names.chain([(CONFIG, format!("{VARIABLE_PREFIX}CONFIG"), false)]) {
        let Some(text) = variables.get(&variable).filter(|text| !text.is_empty()) else { continue };
        let source = Source::Variable(variable);
        let given = |text: &str| Given { text: text.to_owned(), source: source.clone() };
        let all =
            if list { text.split(',').map(|one| given(one.trim())).collect() } else { vec![given(text)] };
        values.insert(name.to_owned(), all);
    }
    values
}

/// The file to read, and who named it.
fn config_path(flags: &Values, variables: &Values) -> Option<(PathBuf, Source)> {
    let named = flags.get(CONFIG).or_else(|| variables.get(CONFIG)).and_then(|all| all.first());
    match named {
        Some(given) => Some((PathBuf::from(&given.text), given.source.clone())),
        None => default_path(),
    }
}

fn default_path() -> Option<(PathBuf, Source)> {
    let path = PathBuf::from(CONFIG_FILE_DEFAULT);
    path.exists().then_some((path, Source::Default))
}

/// What the file says.
#[derive(Default)]
struct FromFile {
    values: Values,
    schema: Schema,
    webhooks: Vec<Webhook>,
}

fn read_file(path: Option<(PathBuf, Source)>, problems: &mut Vec<Problem>) -> FromFile {
    let Some((path, source)) = path else { return FromFile::default() };
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(Problem {
                key: CONFIG.to_owned(),
                source,
                message: format!("cannot read {}: {error}", path.display()),
                accepted: None,
            });
            return FromFile::default();
        }
    };
    let file = FileText { path: &path, text: &text };
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        problems.push(Problem {
            key: CONFIG.to_owned(),
            source: file.source(at),
            message: error.message().to_owned(),
            accepted: None,
        });
    }
    let mut read = FromFile::default();
    for (key, value) in table.get_ref() {
        let source = file.source(key.span().start);
        let name = key.get_ref().as_ref();
        match find(name) {
            None if name == COLLECTIONS => read.schema = collections::read(file, value, problems),
            None if name == WEBHOOK => read.webhooks = webhooks::read(file, value, problems),
            None => problems.push(unknown(name, name.to_owned(), source)),
            Some(setting) => match texts_of(value, setting.field.is_list()) {
                Some(texts) => {
                    let all = texts.into_iter().map(|text| Given { text, source: source.clone() });
                    read.values.insert(name.to_owned(), all.collect());
                }
                None => problems.push(Problem {
                    key: name.to_owned(),
                    source,
                    message: "the value is of another kind".to_owned(),
                    accepted: Some(setting.field.accepted()),
                }),
            },
        }
    }
    read
}

fn read_text(path: &Path) -> std::io::Result<String> {
    String::from_utf8(read_small(path)?).map_err(|_| std::io::Error::other("it is not UTF-8"))
}

/// The value as the text that a flag would have carried.
fn texts_of(value: &Spanned<DeValue<'_>>, list: bool) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Array(all) if list => all.iter().map(text_of).collect(),
        _ => text_of(value).map(|text| vec![text]),
    }
}

fn text_of(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}
