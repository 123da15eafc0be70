//! Embeds the editor page: lists the files of `web-client/dist` as a table in Rust.
//!
//! Never runs a bundler: without a built page, one page that says how to build it is embedded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const UNBUILT: &str = include_str!("src/http/unbuilt.html");

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web-client/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=src/http/unbuilt.html");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));

    let mut files = BTreeMap::new();
    collect(&dist, &dist, &mut files);
    if !files.contains_key("index.html") {
        let page = out.join("index.html");
        std::fs::write(&page, UNBUILT).expect("OUT_DIR can be written");
        files = BTreeMap::from([("index.html".to_owned(), page)]);
    }

    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for (name, path) in &files {
        println!("cargo::rerun-if-changed={}", path.display());
        let bytes = std::fs::read(path).expect("a listed file can be read");
        let etag = format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..32]);
        writeln!(
            table,
            "    Asset {{ path: {name:?}, content_type: {:?}, etag: {etag:?}, bytes: include_bytes!({:?}) }},",
            content_type(name),
            path.canonicalize().expect("a listed file is there"),
        )
        .expect("a string takes all");
    }
    table.push_str("];\n");
    std::fs::write(out.join("assets.rs"), table).expect("OUT_DIR can be written");
}

/// Lists the files below a directory by their path from `root`; nothing, if it is not there.
fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("it lies below the root");
            let parts = name.components().map(|part| part.as_os_str().to_string_lossy());
            files.insert(parts.collect::<Vec<_>>().join("/"), path);
        }
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
