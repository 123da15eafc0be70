//! Log lines on stderr, for a person or for a collector.
//!
//! Invariant: stdout is never written to.

use crate::config::LogFormat;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

/// Starts logging for the process; a second call changes nothing.
pub fn start(format: LogFormat, level: Level) {
    let builder = fmt().with_writer(std::io::stderr).with_max_level(LevelFilter::from_level(level));
    // Another subscriber is there only in tests, and theirs goes first.
    let _ = match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let subscriber = builder.with_ansi(colours).with_target(false).finish();
            tracing::subscriber::set_global_default(subscriber)
        }
        LogFormat::Json => {
            let subscriber = builder.json().flatten_event(true).with_current_span(true).finish();
            tracing::subscriber::set_global_default(subscriber)
        }
    };
}
