//! The frame of every page, with its style inside it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::ink;

const STYLE: &str = include_str!("style.css");

/// Nothing may be fetched, run or embedded: not even what could come in with a name.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A whole page.
pub(super) fn page(title: &str, body: &Markup) -> String {
    let style = format!("{STYLE}\n{}", ink::rules());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                // Without it a browser asks the page's server for an icon.
                link rel="icon" href="data:,";
                style { (PreEscaped(style)) }
            }
            body { main { (body) } }
        }
    };
    page.into_string()
}
