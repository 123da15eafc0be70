//! Merging by a script of whoever runs the cluster, in Rhai.
//!
//! ```text
//! // The longest list stands, and of equally long ones the latest.
//! fn merge(base, versions) {
//!     let best = versions[0];
//!     for version in versions {
//!         if version.deleted { return conflict(); }
//!         if version.value.len() >= best.value.len() { best = version; }
//!     }
//!     best.value
//! }
//! ```
//!
//! `base` is what all began from, `()` when there was nothing. `versions` has an object for each version, from the
//! lowest stamp to the highest: its `value`, whether it is `deleted` (then the value is `()`), its `time` in
//! milliseconds since 1970, its `region` and `author`. The function returns a value, `deleted()` or `conflict()`.
//! Numbers are doubles; `null` and `undefined` are `()`; bytes are blobs; a `BigInt` can only be handed on.
//! What a script may call stands in `library.rs`.
//!
//! A script is pure: it sees its arguments and nothing else. Every region gets the same from it, since it has
//!
//! - no clock, no randomness, no input or output, no modules, and no state from one merge to the next;
//! - objects in the order of their keys (Rhai's are B-trees), and no order that comes from hashing;
//! - no `switch`, which compares hashes, and no anonymous functions, which are named after a hash. Else Rhai finds
//!   functions by hashes of their names; the seed is fixed;
//! - of arithmetic what IEEE 754 gives to the last digit on every machine: no powers, roots or sines.
//!
//! It is stopped at the limits below. They count work, not time, so that it is stopped in all regions or in none.

mod convert;
mod library;

use super::{Base, Outcome, Reason, Sides};
use crate::fields::Value;
use convert::{Budget, from_dynamic, to_dynamic};
use library::{Conflict, Deleted, Work};
use rhai::{AST, Array, CallFnOptions, Dynamic, Engine, EvalAltResult, Map, Scope};
use std::fmt;
use std::sync::Arc;

/// How many operations a merge may take: some twenty for each element of the longest list. An endless loop ends
/// within a millisecond; one that copies as much as it can at every step takes one to two seconds.
pub const OPERATIONS_MAX: u64 = 30_000;

/// How many bytes the strings of one value may have together, also those of all versions.
pub const STRINGS_BYTES_MAX: usize = 64 << 10;

/// How many elements or members one value may have at every level, also all versions together. Values nest no deeper
/// than this, and Rhai copies and drops them by recursion: 1,024 lists in 1,024 objects take less than 768 KiB of
/// stack in an unoptimised build, 4,096 overflowed the 2 MiB that threads have. Members that are set one by one are
/// counted when the object is next used as a whole; until then the operations bound them.
pub const ELEMENTS_MAX: usize = 1024;

/// How deep functions may call each other. With [`EXPRESSION_DEPTH_MAX`] it takes less than 256 KiB of stack.
pub const CALLS_MAX: usize = 16;

/// How deep expressions and blocks may nest.
pub const EXPRESSION_DEPTH_MAX: usize = 32;

/// How many variables there may be at once.
pub const VARIABLES_MAX: usize = 64;

/// How many functions a script may define.
pub const FUNCTIONS_MAX: usize = 64;

/// The longest message of an error, in bytes.
const MESSAGE_BYTES_MAX: usize = 200;

/// What the language has and scripts have not; the header says why, of most. `try` would hide that a limit is near,
/// and function pointers can hold values that the limits do not see.
const NOT_AVAILABLE: [&str; 13] = [
    "switch",
    "**",
    "**=",
    "eval",
    "print",
    "debug",
    "try",
    "catch",
    "Fn",
    "call",
    "curry",
    "is_def_fn",
    "is_def_var",
];

/// A script, compiled once.
pub struct Script {
    ast: AST,
    source: Arc<str>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(*.line, *.column))]
pub struct ScriptError {
    /// The line, from 1; 0 when it is the script as a whole.
    pub line: usize,
    /// The character in the line, from 1; 0 when it is the line as a whole.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

fn place(line: usize, column: usize) -> String {
    match (line, column) {
        (0, _) => String::new(),
        (line, 0) => format!("line {line}: "),
        (line, column) => format!("line {line}, column {column}: "),
    }
}

/// Why a script gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptFailure {
    /// It returned `conflict()`.
    Undecided,
    /// It took more than [`OPERATIONS_MAX`] operations.
    Operations,
    /// It made a value larger than [`STRINGS_BYTES_MAX`] or [`ELEMENTS_MAX`].
    Size,
    /// It exceeded [`CALLS_MAX`] or [`VARIABLES_MAX`].
    Depth,
    /// The versions are larger than [`STRINGS_BYTES_MAX`] or [`ELEMENTS_MAX`] together.
    Input,
    /// What it returned is no value of a field, or larger or deeper than one may be.
    Result(Arc<str>),
    /// It used `throw`, or what it did failed.
    Failed {
        /// The line, from 1; 0 when it is not known.
        line: usize,
        /// What went wrong.
        message: Arc<str>,
    },
}

impl fmt::Display for ScriptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecided => f.write_str("leaves it a conflict"),
            Self::Operations => write!(f, "was stopped after {OPERATIONS_MAX} operations"),
            Self::Size => write!(
                f,
                "was stopped: it made a value of more than {STRINGS_BYTES_MAX} bytes or {ELEMENTS_MAX} elements"
            ),
            Self::Depth => {
                write!(
                    f,
                    "was stopped: it nested more than {CALLS_MAX} calls or had more than {VARIABLES_MAX} variables"
                )
            }
            Self::Input => write!(
                f,
                "was not run: the versions have together more than {STRINGS_BYTES_MAX} bytes or {ELEMENTS_MAX} elements"
            ),
            Self::Result(what) => write!(f, "returned {what}"),
            Self::Failed { line, message } => write!(f, "failed: {}{message}", place(*line, 0)),
        }
    }
}

impl Script {
    /// Compiles a script. What stands outside of functions is never run.
    ///
    /// # Errors
    /// When the text is no Rhai, uses what scripts have not, or has no function `merge(base, versions)`.
    pub fn compile(source: &str) -> Result<Self, ScriptError> {
        let ast = engine(&Work::default()).compile(source).map_err(|error| {
            let position = error.position();
            ScriptError {
                line: position.line().unwrap_or(0),
                column: position.position().unwrap_or(0),
                message: error.0.to_string(),
            }
        })?;
        let whole = |message: &str| ScriptError { line: 0, column: 0, message: message.to_owned() };
        if !ast.iter_functions().any(|one| one.name == "merge" && one.params.len() == 2) {
            return Err(whole("there is no function merge(base, versions)"));
        }
        Ok(Self { ast, source: source.into() })
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Runs the script on versions of which at least two differ.
    pub(super) fn merge(&self, base: Base<'_>, sides: &Sides<'_>) -> Outcome {
        let failed = |failure| Err(Reason::Script(failure));
        let base = base.known()?;
        let Some((base, versions)) = arguments(base, sides) else {
            return failed(ScriptFailure::Input);
        };
        // An engine of its own, since it counts this merge's work. Making one takes 10 microseconds.
        let work = Work::default();
        let options = CallFnOptions::new().eval_ast(false);
        let result = engine(&work).call_fn_with_options(
            options,
            &mut Scope::new(),
            &self.ast,
            "merge",
            (base, versions),
        );
        let result: Dynamic = match result {
            Ok(result) => result,
            Err(error) => return failed(failure(error)),
        };
        if result.is::<Conflict>() {
            return failed(ScriptFailure::Undecided);
        }
        if result.is::<Deleted>() {
            return Ok(None);
        }
        from_dynamic(&result, &mut Budget::full())
            .map(Some)
            .map_err(|what| Reason::Script(ScriptFailure::Result(what)))
    }
}

/// The language as scripts have it.
fn engine(work: &Work) -> Engine {
    // Refused when it is set already: only here is it set, and always to this.
    let _ = rhai::config::hashing::set_hashing_seed(Some([1, 2, 3, 4]));
    let mut engine = Engine::new_raw();
    engine
        .set_max_operations(OPERATIONS_MAX)
        .set_max_call_levels(CALLS_MAX)
        .set_max_expr_depths(EXPRESSION_DEPTH_MAX, EXPRESSION_DEPTH_MAX)
        .set_max_string_size(STRINGS_BYTES_MAX)
        .set_max_array_size(ELEMENTS_MAX)
        .set_max_map_size(ELEMENTS_MAX)
        .set_max_variables(VARIABLES_MAX)
        .set_max_functions(FUNCTIONS_MAX)
        .set_strict_variables(true)
        .set_allow_anonymous_fn(false);
    for symbol in NOT_AVAILABLE {
        engine.disable_symbol(symbol);
    }
    library::register(&mut engine, work);
    engine
}

/// The base and the versions as scripts see them. None when they are too large.
fn arguments(base: Option<&Value>, sides: &Sides<'_>) -> Option<(Dynamic, Array)> {
    let mut budget = Budget::full();
    let base = base.map_or(Some(Dynamic::UNIT), |base| to_dynamic(base, &mut budget))?;
    let mut versions = Array::new();
    for side in &sides.0 {
        let value =
            side.value.as_ref().map_or(Some(Dynamic::UNIT), |value| to_dynamic(value, &mut budget))?;
        let mut version = Map::new();
        version.insert("deleted".into(), side.value.is_none().into());
        version.insert("value".into(), value);
        version.insert(
            "time".into(),
            library::double(i64::try_from(side.stamp.0.ms()).unwrap_or(i64::MAX)).into(),
        );
        version.insert("region".into(), budget.string(&side.author.region)?.into());
        version.insert("author".into(), budget.string(&side.author.name)?.into());
        budget.take_elements(1 + version.len())?;
        versions.push(version.into());
    }
    Some((base, versions))
}

fn failure(mut error: Box<EvalAltResult>) -> ScriptFailure {
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) = *error {
        error = inner;
    }
    match *error {
        EvalAltResult::ErrorTooManyOperations(..) | EvalAltResult::ErrorTerminated(..) => {
            ScriptFailure::Operations
        }
        EvalAltResult::ErrorDataTooLarge(..) => ScriptFailure::Size,
        EvalAltResult::ErrorStackOverflow(..) | EvalAltResult::ErrorTooManyVariables(..) => {
            ScriptFailure::Depth
        }
        _ => {
            let line = error.take_position().line().unwrap_or(0);
            let mut message = error.to_string();
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            ScriptFailure::Failed { line, message: message.into() }
        }
    }
}

#[cfg(test)]
mod tests;
