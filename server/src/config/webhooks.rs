//! The webhooks in `quire.toml`: `[[webhook]]`, where each is sent, signed with what, and which conflicts it is about.
//!
//! Invariant: a webhook that was read without a problem can be sent to: its secret is read.

use super::file::read_small;
use super::problem::Problem;
use super::reading::{At, FileText, Reading};
use crate::webhooks::{SigningKey, Webhook};
use axum::http::Uri;
use quire_protocol::fields::Status;
use std::collections::BTreeSet;
use std::path::Path;
use toml::Spanned;
use toml::de::DeValue;

/// The key of the file that holds the webhooks.
pub(super) const WEBHOOK: &str = "webhook";

/// Each has a task and a request of its own.
const WEBHOOKS_MAX: usize = 32;
const KEYS: &[&str] = &["url", "secret-file", "statuses", "prefix"];
/// What somebody may have to act on; what a policy merges is its daily work.
const STATUSES_DEFAULT: [Status; 2] = [Status::Open, Status::Resolved];
const URL: &str = "the address that is sent to, such as \"https://example.com/conflicts\"";

/// Reads the webhooks; adds what is wrong with them to the problems, by its line.
pub(super) fn read(
    file: FileText<'_>,
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
) -> Vec<Webhook> {
    let mut reading = Reading::new(file);
    let webhooks = reading.webhooks(value);
    reading.tell(problems);
    webhooks
}

impl Reading<'_> {
    fn webhooks(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Webhook> {
        let at = At { key: WEBHOOK.to_owned(), byte: value.span().start };
        let DeValue::Array(all) = value.get_ref() else {
            self.problem(&at, "webhooks are a list of tables", Some("[[webhook]]"));
            return Vec::new();
        };
        if all.len() > WEBHOOKS_MAX {
            let message = format!("there can be {WEBHOOKS_MAX}, and there are {}", all.len());
            self.problem(&at, message, None);
            return Vec::new();
        }
        let (mut webhooks, mut urls) = (Vec::new(), BTreeSet::new());
        for (number, one) in all.iter().enumerate() {
            let at = At { key: format!("{WEBHOOK}[{}]", number + 1), byte: one.span().start };
            let Some(webhook) = self.webhook(&at, one) else { continue };
            // How far one has come is known by its address.
            if urls.insert(webhook.url.to_string()) {
                webhooks.push(webhook);
            } else {
                self.problem(&at.under("url", at.byte), "another webhook has this address", None);
            }
        }
        webhooks
    }

    fn webhook(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<Webhook> {
        let keys = {
            let table = self.table(at, value)?;
            self.keys(at, table, KEYS)
        };
        let url = match keys.get("url") {
            Some((at, value)) => self.url(at, value),
            None => {
                self.problem(at, "a url is missing", Some(URL));
                None
            }
        };
        let key = match keys.get("secret-file") {
            Some((at, value)) => self.signing_key(at, value),
            None => {
                self.problem(at, "a secret-file is missing", Some(SigningKey::ACCEPTED));
                None
            }
        };
        let statuses = match keys.get("statuses") {
            Some((at, value)) => self.statuses(at, value)?,
            None => STATUSES_DEFAULT.into(),
        };
        let prefix = match keys.get("prefix") {
            Some((at, value)) => self.text(at, value)?,
            None => String::new(),
        };
        Some(Webhook { url: url?, key: key?, statuses, prefix })
    }

    fn url(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<Uri> {
        let text = self.text(at, value)?;
        let url = text.parse::<Uri>().ok().filter(|url| {
            let is_http = matches!(url.scheme_str(), Some("http" | "https"));
            let authority = url.authority().map_or("@", |authority| authority.as_str());
            is_http && !authority.contains('@') && url.host().is_some_and(|host| !host.is_empty())
        });
        if url.is_none() {
            self.problem(at, format!("{text:?} is not accepted"), Some(URL));
        }
        url
    }

    fn signing_key(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<SigningKey> {
        let name = self.text(at, value)?;
        // Relative to the file that names it, wherever the server is started.
        let path = self.file.path.parent().unwrap_or(Path::new("")).join(name);
        let bytes = match read_small(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                self.problem(at, message, Some(SigningKey::ACCEPTED));
                return None;
            }
        };
        let key = SigningKey::parse(&bytes);
        if let Err(error) = &key {
            self.problem(at, format!("{}: {error}", path.display()), Some(SigningKey::ACCEPTED));
        }
        key.ok()
    }

    fn statuses(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<BTreeSet<Status>> {
        let accepted = || format!("a list of some of {}", Status::ALL.map(Status::name).join(", "));
        let DeValue::Array(all) = value.get_ref() else {
            self.other_kind(at, &accepted());
            return None;
        };
        if all.is_empty() {
            self.problem(at, "of no status anything would be sent", Some(&accepted()));
            return None;
        }
        let one = |one: &Spanned<DeValue<'_>>| self.one_of(at, one, &Status::ALL, Status::name);
        // All are read, so that each that is wrong is told of.
        let read: Vec<_> = all.iter().map(one).collect();
        read.into_iter().collect()
    }
}
