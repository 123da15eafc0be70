//! `quire demo`: three regions on this machine, and a page that shows them side by side.

use crate::demo::{DemoError, Options, run as run_demo};
use clap::Args;
use std::path::PathBuf;

/// What `quire demo` takes.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Port of the page on 127.0.0.1; the regions take the three after it
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    port: u16,
    /// Directory for the regions' data; made if it is not there
    #[arg(long, default_value = "./quire-data", value_name = "DIR")]
    data: PathBuf,
}

/// Serves until a signal.
pub(super) async fn run(demo: Demo) -> Result<(), DemoError> {
    crate::logs::start(crate::config::LogFormat::Text, tracing::Level::WARN);
    let stop = super::serve::stop_signal()?;
    run_demo(Options { port: demo.port, data: demo.data }, stop).await
}
