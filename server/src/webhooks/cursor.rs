//! How far a webhook has come, in a small file of the data directory that is named by a hash of its address.
//!
//! Invariant: the file holds one whole number, whenever the process ends.

use axum::http::Uri;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// No number has more digits, with the end of the line.
const FILE_BYTES_MAX: u64 = 32;

/// Why it is not known how far a webhook has come.
#[derive(Debug, thiserror::Error)]
#[error("{}, which says how far the webhook to {url} has come, {reason}", path.display())]
pub struct CursorError {
    path: PathBuf,
    url: String,
    reason: String,
}

/// The change that a webhook has sent last.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    /// The number of the last change that needs not be sent again.
    pub(super) at: u64,
}

impl Cursor {
    /// Reads how far a webhook has come. One that is new begins after `now`, which is kept at once.
    ///
    /// # Errors
    /// When the file cannot be read, is not of the form that is written, or cannot be written.
    pub(super) fn open(directory: &Path, url: &Uri, now: u64) -> Result<Self, CursorError> {
        let hash = blake3::hash(url.to_string().as_bytes()).to_hex();
        let path = directory.join(format!("webhook-{}", &hash[..16]));
        let failed = |reason: String| {
            let url = url.authority().map_or_else(String::new, ToString::to_string);
            CursorError { path: path.clone(), url, reason }
        };
        match read(&path) {
            Ok(text) => match text.trim_end().parse() {
                Ok(at) => Ok(Self { path, at }),
                Err(_) => Err(failed(
                    "holds no number; without the file it begins with what changes next".to_owned(),
                )),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write(&path, now).map_err(|error| failed(format!("cannot be written: {error}")))?;
                Ok(Self { path, at: now })
            }
            Err(error) => Err(failed(format!("cannot be read: {error}"))),
        }
    }

    /// Keeps on disk how far it has come.
    ///
    /// # Errors
    /// When the disk refuses. What is on disk is as it was.
    pub(super) async fn keep(&self) -> std::io::Result<()> {
        let (path, at) = (self.path.clone(), self.at);
        tokio::task::spawn_blocking(move || write(&path, at)).await.map_err(std::io::Error::other)?
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn write(path: &Path, at: u64) -> std::io::Result<()> {
    let anew = path.with_extension("new");
    let mut file = File::create(&anew)?;
    file.write_all(format!("{at}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&anew, path)?;
    // The name is in the directory, which has a life of its own on the disk.
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_webhook_goes_on_where_it_was_and_another_begins_now() {
        let directory = tempfile::tempdir().expect("a directory");
        let url: Uri = "https://a.example/in".parse().expect("an address");
        let mut cursor = Cursor::open(directory.path(), &url, 7).expect("new");
        cursor.at = u64::MAX;
        cursor.keep().await.expect("it can be written");
        assert_eq!(Cursor::open(directory.path(), &url, 9).expect("kept").at, u64::MAX);
        let other: Uri = "https://a.example/other".parse().expect("an address");
        drop(Cursor::open(directory.path(), &other, 9).expect("new"));
        assert_eq!(Cursor::open(directory.path(), &other, 11).expect("kept").at, 9);

        std::fs::write(&cursor.path, "seven").expect("it can be written");
        let error = Cursor::open(directory.path(), &url, 9).expect_err("it is no number").to_string();
        assert!(error.contains("webhook to a.example has come, holds no number"), "{error}");
    }
}
