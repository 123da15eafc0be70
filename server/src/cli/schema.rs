//! `quire schema`: the schema in a configuration file, as a region would understand it, and its hash.
//!
//! Asks no server: a schema is looked at before any region is started with it.

use super::{NOT_UNDERSTOOD, table};
use crate::config::load_schema;
use clap::{Args, Subcommand};
use quire_protocol::fields::schema::{Collection, Field, Schema};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `quire schema` takes.
#[derive(Debug, Args)]
pub(super) struct SchemaOf {
    /// The file, quire.toml in the working directory if it is there
    #[arg(long, value_name = "FILE", env = "QUIRE_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// The collections and their fields, with what is not said filled in
    Show,
    /// The hash by which regions know that they have the same schema
    Hash,
}

/// Reads, and prints.
pub(super) fn run(SchemaOf { config, what }: SchemaOf) -> ExitCode {
    let schema = match load_schema(config) {
        Ok(schema) => schema,
        Err(problems) => {
            eprintln!("quire: {problems}");
            return ExitCode::from(NOT_UNDERSTOOD);
        }
    };
    let text = match what {
        What::Show => shown(&schema),
        What::Hash => format!("{}\n", schema.hash()),
    };
    // Whoever reads the first line may have closed stdout.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn shown(schema: &Schema) -> String {
    let mut text = format!("schema {}\n", schema.hash());
    if schema.is_empty() {
        text.push_str("\nNo collections: every field is of any type, and keeps its siblings.\n");
    }
    for collection in schema.collections() {
        text.push_str(&shown_collection(collection));
    }
    text
}

fn shown_collection(collection: &Collection) -> String {
    let Collection { name, pattern, fields, default, on_delete, ids, claims_at } = collection;
    let ids = ids.as_ref().map_or_else(String::new, |ids| format!(", ids {ids}"));
    let claims = claims_at.iter().map(|replica| replica.0.to_string()).collect::<Vec<_>>().join(", ");
    let claims = if claims.is_empty() { claims } else { format!(", claims at {claims}") };
    let mut rows = vec![["field", "type", "policy", "and"].map(str::to_owned).to_vec()];
    rows.extend(fields.iter().map(|(name, field)| row(name, field)));
    rows.push(row("any other", default));
    format!(
        "\n{name}: {}\non delete {}{ids}{claims}\n\n{}",
        pattern.as_str(),
        on_delete.name(),
        table::aligned(&rows)
    )
}

fn row(name: &str, field: &Field) -> Vec<String> {
    let asked = [
        field.required.then(|| "required".to_owned()),
        field.unique.then(|| "unique".to_owned()),
        field.reference.as_ref().map(|reference| format!("refers {reference}")),
        field.home.map(|home| format!("home {}", home.name())),
    ];
    let asked: Vec<_> = asked.into_iter().flatten().collect();
    vec![name.to_owned(), field.ty.to_string(), field.policy.to_string(), asked.join("; ")]
}
