//! `quire region`: who belongs to the cluster, asked of a running region.

use super::client::ClientError;
use super::status;
use axum::http::Method;
use clap::{Args, Subcommand};
use std::io::Write as _;

/// What `quire region` takes.
#[derive(Debug, Args)]
pub(super) struct Region {
    #[command(flatten)]
    asked: status::Status,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The regions that this one knows of, and those that were removed
    Ls,
    /// Let a region in again that was removed; a new one needs no permission
    Add {
        /// Its number
        replica: u16,
    },
    /// Take a region out of the cluster, once all that it has and lacks has been exchanged with it
    Remove {
        /// Its number
        replica: u16,
        /// It is gone for good: first the others share what they hold of it
        #[arg(long)]
        lost: bool,
    },
}

/// Asks, and says what was done.
pub(super) async fn run(region: Region) -> Result<(), ClientError> {
    let client = region.asked.server.client()?;
    let said = match region.what {
        What::Ls => return status::run(region.asked).await,
        What::Add { replica } => {
            client.ask(Method::POST, &format!("/v1/regions/{replica}"), None).await?;
            format!("region {replica} belongs to the cluster\n")
        }
        What::Remove { replica, lost } => {
            let path = format!("/v1/regions/{replica}?lost={lost}");
            client.ask(Method::DELETE, &path, None).await?;
            format!("region {replica} is removed: take it out of the other regions' peer lists\n")
        }
    };
    // Whoever reads it may have closed stdout.
    let _ = std::io::stdout().write_all(said.as_bytes());
    Ok(())
}
