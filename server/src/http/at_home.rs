//! Writes of fields that belong at their document's home: carried there when they come in elsewhere.
//!
//! The home makes the write as it makes its own, and this region answers once it shows what the home wrote. What
//! becomes of a write that does not reach its home is decided in `quire_protocol::fields`.
//!
//! Invariant: a write is answered as made only when it is durable in the region that made it.

use super::bearer::{Named, shows_in_time};
use super::claim;
use super::documents::{FRONTIER, saved};
use super::problem::{Kind, Problem};
use crate::config::RegionRole;
use crate::peers::CallError;
use crate::region::Region;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use quire_protocol::document::Request;
use quire_protocol::fields::schema::{HomePolicy, Policy};
use quire_protocol::fields::{
    Asked, AskedOfHome, FieldsWrite, Path, Rules, ToldByHome, Unreached, unreached,
};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{DocId, Dot, ReplicaId};
use quire_protocol::link::CallRefused;
use std::sync::Arc;
use std::time::Instant;

/// What a region's peers know of a home may be behind: so often a write is carried on to the home that the one
/// before it names.
const HOMES_MAX: usize = 2;

/// Where a write was made.
pub(super) enum Made {
    /// Here.
    Here,
    /// At the document's home, and this region shows it.
    Shown,
    /// At the document's home, up to here, and this region does not show it yet.
    Unshown(Frontier),
}

/// Why a write was not made at its home.
pub(super) struct Undone {
    home: ReplicaId,
    why: String,
    /// Whether the home may have made it all the same.
    is_unknown: bool,
}

/// Writes fields where they belong.
pub(super) async fn write(
    region: &Arc<Region>,
    named: &Named,
    write: FieldsWrite,
    author: Option<Arc<str>>,
) -> Result<Made, Problem> {
    let rules = region.documents.rules(&named.name);
    let home = match bound(&rules, &write).next() {
        Some(_) => home_elsewhere(region, named).await?,
        None => None,
    };
    let Some(home) = home else { return write_here(named, write, author).await };
    let asked = Asked::Write(write.clone());
    let asked = AskedOfHome { seen: region.log.applied(), author: author.clone(), asked };
    let answered = ask(region, named.name.id(), home, asked.encode()).await?;
    match answered {
        Answered::Made(made) => {
            count("home");
            Ok(made)
        }
        Answered::Here => write_here(named, write, author).await,
        Answered::Unmade(undone) => match unreached(bound(&rules, &write), undone.is_unknown) {
            Unreached::Kept => {
                let (document, home, why) = (&named.name, undone.home.0, &undone.why);
                tracing::debug!(%document, home, why, "a write of a home's field is made away from it");
                count("away");
                write_here(named, write, author).await
            }
            Unreached::Refused(path) => {
                count("refused");
                let belongs =
                    format!("field `{path}` is written at the document's home, region {}", undone.home.0);
                let advice =
                    "try again later or at that region, or name another home with PUT /v1/docs/{name}/home";
                Err(undone.problem(&belongs, advice))
            }
        },
    }
}

/// The fields among those written that are to be written at home: with what becomes of them elsewhere, and whether
/// their writers' differences add up.
fn bound<'a>(rules: &'a Rules, write: &'a FieldsWrite) -> impl Iterator<Item = (&'a Path, HomePolicy, bool)> {
    write.paths().filter_map(|path| {
        let field = rules.field(path);
        Some((path, field.home?, field.policy == Policy::Counter))
    })
}

/// The document's home, where that is another region.
async fn home_elsewhere(region: &Region, named: &Named) -> Result<Option<ReplicaId>, Problem> {
    let stored = named.stored().await?;
    // One that is deleted here says so here.
    let stored = stored.filter(|info| !info.life.is_deleted(named.on_delete()));
    let me = region.log.stream().replica;
    Ok(stored.and_then(|info| info.home).filter(|&home| home != me))
}

async fn write_here(named: &Named, write: FieldsWrite, author: Option<Arc<str>>) -> Result<Made, Problem> {
    // What resolves a conflict makes no document.
    let lease = match &write {
        FieldsWrite::Edit { .. } => named.open()?,
        FieldsWrite::Resolve { .. } => named.open_existing().await?,
    };
    saved(&lease.ask(request(write, author)).await?)?;
    Ok(Made::Here)
}

fn request(write: FieldsWrite, author: Option<Arc<str>>) -> Request {
    match write {
        FieldsWrite::Edit { edits, is_exact } => Request::EditFields { edits, is_exact, author },
        FieldsWrite::Resolve { path, conflict, value } => {
            Request::ResolveField { path, conflict, value, author }
        }
    }
}

/// What came of a write that another region was asked to make.
pub(super) enum Answered {
    /// It is made there.
    Made(Made),
    /// This region is taken for the one to make it.
    Here,
    /// It is not made there, as far as is known.
    Unmade(Undone),
}

/// Asks a write's home, and whom that takes for it.
pub(super) async fn ask(
    region: &Region,
    doc: DocId,
    mut home: ReplicaId,
    payload: Bytes,
) -> Result<Answered, Problem> {
    let began = Instant::now();
    let undone = |home, why: String, is_unknown| Ok(Answered::Unmade(Undone { home, why, is_unknown }));
    for _ in 0..HOMES_MAX {
        let left = region.settings.limits.home.saturating_sub(began.elapsed());
        let answer = match region.peers.call(home, doc, payload.clone(), left).await {
            Ok(answer) => answer,
            Err(CallError::Refused(error @ CallRefused::TooLong(_))) => {
                let detail = format!("fields that are written at region {}: {error}", home.0);
                return Err(Problem::new(Kind::TooLarge, detail));
            }
            Err(error) => return undone(home, error.to_string(), error.is_unknown()),
        };
        match ToldByHome::decode(answer) {
            Ok(ToldByHome::Written(frontier)) => {
                let is_shown = shows_in_time(region, &frontier).await;
                return Ok(Answered::Made(if is_shown { Made::Shown } else { Made::Unshown(frontier) }));
            }
            Ok(ToldByHome::Refused { kind, detail }) => return Err(Problem::told(&kind, detail)),
            Ok(ToldByHome::Elsewhere(Some(other))) if other == region.log.stream().replica => {
                return Ok(Answered::Here);
            }
            Ok(ToldByHome::Elsewhere(Some(other))) => home = other,
            Ok(ToldByHome::Elsewhere(None)) => {
                return undone(home, "it knows of no home of the document".to_owned(), false);
            }
            Ok(ToldByHome::NotWritten(why)) => return undone(home, why, false),
            Ok(ToldByHome::NotKnown(why)) => return undone(home, why, true),
            Err(error) => return undone(home, format!("its answer cannot be read: {error}"), true),
        }
    }
    undone(home, "the regions do not agree yet on which is the document's home".to_owned(), false)
}

impl Undone {
    /// Says which field was not written and where it belongs, as `belongs` says, why, and what to do.
    pub(super) fn problem(self, belongs: &str, advice: &str) -> Problem {
        let Self { why, is_unknown, .. } = self;
        if is_unknown {
            let detail = format!(
                "{belongs}: {why}. It may have been written there: read the field before you write it again"
            );
            return Problem::new(Kind::HomeUnanswered, detail);
        }
        let detail = format!("{belongs}: {why}. Nothing was written: {advice}");
        Problem::new(Kind::HomeUnreachable, detail)
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(crate::metrics::HOME_WRITES, "outcome" => outcome).increment(1);
}

/// The answer to a write that this region does not show yet: it is made, and a read that brings the token sees it.
pub(super) fn accepted(region: &Region, written: &Frontier) -> Response {
    let mut frontier = region.log.applied();
    frontier.merge(written);
    (StatusCode::ACCEPTED, [(FRONTIER, frontier.to_token())]).into_response()
}

/// Has this region make what others ask of it as the home of a document.
pub(crate) fn answer_calls(region: &Arc<Region>) {
    let answering = Arc::downgrade(region);
    region.peers.set_answers(move |_, doc, payload| {
        let region = answering.upgrade();
        Box::pin(async move {
            let told = match region {
                Some(region) => answer(&region, doc, payload).await,
                None => ToldByHome::NotWritten("it is stopping".to_owned()),
            };
            told.encode()
        })
    });
}

async fn answer(region: &Arc<Region>, doc: DocId, payload: Bytes) -> ToldByHome {
    let not_written = |why: &str| ToldByHome::NotWritten(why.to_owned());
    let AskedOfHome { seen, author, asked } = match AskedOfHome::decode(payload) {
        Ok(asked) => asked,
        Err(error) => return not_written(&format!("it cannot read what it was asked: {error}")),
    };
    if region.closing.is_cancelled() {
        return not_written("it is stopping");
    }
    if region.settings.role == RegionRole::Follower {
        return not_written("it follows others and takes no writes");
    }
    // What is written there comes after all that the writer may have been shown.
    if tokio::time::timeout(region.settings.limits.home, region.shows(&seen)).await.is_err() {
        return not_written("it has not received all that this region shows");
    }
    let write = match asked {
        Asked::Write(write) => write,
        Asked::Claim(claiming) => return claim::answer(region, claiming, author).await,
    };
    let log = region.log.clone();
    let info = match super::blocking(move || log.info(doc)).await {
        Ok(Some(info)) => info,
        Ok(None) => return not_written("it does not know the document"),
        Err(_) => return not_written("its log cannot be read"),
    };
    let own = region.log.stream();
    if info.home != Some(own.replica) {
        return ToldByHome::Elsewhere(info.home);
    }
    let Ok(lease) = region.documents.open(&info.name) else {
        return not_written("too many documents are open there");
    };
    match lease.ask(request(write, author)).await {
        Ok(_) => {
            let last = Dot { stream: own, seq: region.log.applied().get(own) };
            ToldByHome::Written([last].into_iter().collect())
        }
        Err(error) => Problem::from(error).tell(),
    }
}
