//! Fields whose value another document has already, and should be alone to have.

use super::bearer::Named;
use super::problem::Problem;
use quire_protocol::document::FieldView;
use quire_protocol::fields::{Claim, Path};
use serde::Serialize;
use std::collections::BTreeMap;

/// Who has a value that a field claims, too.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum TakenBy {
    /// A document that the bearer may read.
    Document { document: String, since_ms: u64 },
    /// Some document: `true`.
    Some(bool),
}

/// Which of a document's fields hold what another document has, as the bearer is told.
pub(super) async fn taken(named: &Named, views: &[FieldView]) -> Result<BTreeMap<Path, TakenBy>, Problem> {
    let claims: Vec<Claim> = views.iter().filter_map(|view| view.claim.clone()).collect();
    if claims.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (book, document) = (named.region.documents.book().clone(), named.name.clone());
    let found = super::blocking(move || {
        let taken = claims.into_iter().map(|claim| Ok((book.taken_by(&document, &claim)?, claim.path)));
        taken.collect::<Result<Vec<_>, _>>()
    });
    let taken = found.await?.into_iter().filter_map(|(by, path)| {
        let (document, since) = by?;
        let is_read = named.grant.access(&document).is_some();
        let told = TakenBy::Document { document: document.to_string(), since_ms: since.0.ms() };
        Some((path, if is_read { told } else { TakenBy::Some(true) }))
    });
    Ok(taken.collect())
}
