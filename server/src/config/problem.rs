//! What is wrong with a configuration, said so that one reading is enough to repair it.
//!
//! Invariant: each problem names its key, where the value came from, and what would be accepted.

use std::fmt;
use std::path::PathBuf;

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave it.
    Default,
    /// The command line.
    Flag(String),
    /// The environment.
    Variable(String),
    /// A line of a file.
    File(PathBuf, usize),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("not given"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, or what was taken for one.
    pub key: String,
    /// Where its value came from.
    pub source: Source,
    /// What is wrong, in a sentence without its full stop.
    pub message: String,
    /// What would be accepted, where that is a list or a form.
    pub accepted: Option<String>,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has 1 problem")?,
            several => write!(f, "the configuration has {several} problems")?,
        }
        for problem in &self.0 {
            write!(f, "\n\n  {} ({})\n      {}", problem.key, problem.source, problem.message)?;
            if let Some(accepted) = &problem.accepted {
                write!(f, "\n      accepted: {accepted}")?;
            }
        }
        Ok(())
    }
}
