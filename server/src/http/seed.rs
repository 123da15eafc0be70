//! What a new document starts with: a first content, and a writer's id.
//!
//! Invariant: the same seed for the same document is the same update, byte for byte, in every
//! region, so that two regions that make the document at once make the same one.

use super::problem::{Kind, Problem};
use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quire_protocol::ids::DocName;
use quire_protocol::lib0::{put_var_bytes, put_var_u64};
use serde::Deserialize;

/// The first content of a document.
#[derive(Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Seed {
    /// A root text.
    Text { text: String, root: Option<String> },
    /// A Yjs v1 update in base64.
    Update { update: String },
}

impl Seed {
    /// The seed as an update.
    pub(super) fn into_update(self, name: &DocName) -> Result<Bytes, Problem> {
        match self {
            Self::Text { text, root } => {
                Ok(text_update(name, root.as_deref().unwrap_or("content"), &text).into())
            }
            Self::Update { update } => STANDARD
                .decode(update)
                .map(Bytes::from)
                .map_err(|_| Problem::new(Kind::BadRequest, "the seed's update is not base64")),
        }
    }
}

/// An update that writes a text into an empty document. Its writer's id is made from what it writes.
fn text_update(name: &DocName, root: &str, text: &str) -> Vec<u8> {
    /// The content is a string, and no neighbour is named: the parent is.
    const STRING_WITH_PARENT: u8 = 4;
    /// The parent is a root, by its name.
    const PARENT_IS_ROOT: u64 = 1;
    let mut out = Vec::with_capacity(text.len() + root.len() + 32);
    if text.is_empty() {
        // No writers, and no deletions.
        return vec![0, 0];
    }
    let mut hash = blake3::Hasher::new();
    for part in [name.as_str(), root, text] {
        hash.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
    }
    let hash = hash.finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    // One writer with one block, at clock 0.
    for number in [1, 1, u64::from(u32::from_be_bytes([a, b, c, d])), 0] {
        put_var_u64(&mut out, number);
    }
    out.push(STRING_WITH_PARENT);
    put_var_u64(&mut out, PARENT_IS_ROOT);
    put_var_bytes(&mut out, root.as_bytes());
    put_var_bytes(&mut out, text.as_bytes());
    // No deletions.
    put_var_u64(&mut out, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_protocol::update::Update;

    #[test]
    fn a_seed_is_an_update_that_the_strict_decoder_takes_and_is_always_the_same() {
        let name = DocName::new("team/plan").expect("a name");
        let seed = || text_update(&name, "content", "hello 🪶");
        let update = Update::decode(seed().into()).expect("it decodes");
        assert_eq!(update.block_count(), 1);
        assert_eq!(update.clients().next().map(|(_, clocks)| clocks.end - clocks.start), Some(8));
        assert_eq!(seed(), seed());
        let other = DocName::new("team/other").expect("a name");
        assert_ne!(seed(), text_update(&other, "content", "hello 🪶"));
        assert!(Update::decode(text_update(&name, "content", "").into()).expect("it decodes").is_empty());
    }
}
