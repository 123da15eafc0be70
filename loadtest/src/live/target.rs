//! A server by its URL, and where its documents are.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Uri;

use super::dialect::Dialect;

/// How long a server may take to answer the first connection.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);

/// Stands for a document's name in a URL.
const DOC: &str = "{doc}";

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Target {
    url: String,
    addr: SocketAddr,
    /// The path of a document, with [`DOC`] in it unless all have the same.
    path: String,
}

impl Target {
    /// Reads a URL and finds the server's address.
    ///
    /// # Errors
    /// When it is no `ws://` URL, or its host is not known.
    pub(super) fn read(url: &str, dialect: Dialect) -> Result<Self> {
        let uri: Uri = url
            .replace(DOC, "doc")
            .parse()
            .with_context(|| format!("'{url}' is not a URL such as ws://127.0.0.1:8080/ws/{DOC}"))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => bail!(
                "'{url}': TLS is not spoken; put a proxy that ends it before the server, or go by ws://"
            ),
            _ => bail!("'{url}' does not begin with ws://"),
        }
        let host = uri.host().with_context(|| format!("'{url}' has no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let mut found =
            (name, port).to_socket_addrs().with_context(|| format!("'{url}': the host '{host}'"))?;
        let addr = found.next().with_context(|| format!("'{url}': the host '{host}' has no address"))?;
        let authority_end = url.find("://").map_or(0, |at| at + 3);
        let path = url[authority_end..].find('/').map_or("", |at| &url[authority_end + at..]);
        let path = path.trim_end_matches('/');
        let path = match dialect {
            _ if path.contains(DOC) => path.to_owned(),
            Dialect::Hocuspocus => format!("{path}/"),
            Dialect::Quire if path.is_empty() => format!("/ws/{DOC}"),
            Dialect::Quire | Dialect::YWebsocket => format!("{path}/{DOC}"),
            Dialect::YSweet => format!("{path}/d/{DOC}/ws/{DOC}"),
        };
        Ok(Self { url: url.to_owned(), addr, path })
    }

    /// Whether somebody answers there.
    ///
    /// # Errors
    /// When nobody does.
    pub(super) fn reach(&self) -> Result<()> {
        let reached = TcpStream::connect_timeout(&self.addr, REACH_TIMEOUT);
        reached.map(drop).with_context(|| format!("no server answers at {} ({})", self.url, self.addr))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The path that a document is opened by. Names and tokens are such that nothing in them is to be escaped.
    pub(super) fn path(&self, doc: &str, token: &str) -> String {
        let path = self.path.replace(DOC, doc);
        match (token, path.contains('?')) {
            ("", _) => path,
            (token, false) => format!("{path}?token={token}"),
            (token, true) => format!("{path}&token={token}"),
        }
    }
}

/// # Errors
/// When a token has letters that a URL does not take as they are.
pub(super) fn check_token(token: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    ensure!(
        token.bytes().all(is_plain),
        "the token has letters other than those of base64url, '.', '-', '_' and '~'"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str, dialect: Dialect) -> String {
        Target::read(url, dialect).unwrap().path("d-1", "t")
    }

    #[test]
    fn a_document_is_where_its_servers_clients_look_for_it() {
        assert_eq!(path("ws://127.0.0.1:1234", Dialect::YWebsocket), "/d-1?token=t");
        assert_eq!(path("ws://127.0.0.1:1234/", Dialect::Quire), "/ws/d-1?token=t");
        assert_eq!(path("ws://127.0.0.1/a/{doc}/b?x=1", Dialect::Quire), "/a/d-1/b?x=1&token=t");
        assert_eq!(path("ws://127.0.0.1:1234/hocuspocus", Dialect::Hocuspocus), "/hocuspocus/?token=t");
        assert_eq!(path("ws://127.0.0.1:1234", Dialect::YSweet), "/d/d-1/ws/d-1?token=t");
        assert_eq!(Target::read("ws://127.0.0.1", Dialect::Quire).unwrap().addr().port(), 80);
        assert_eq!(Target::read("ws://[::1]:99/", Dialect::Quire).unwrap().addr().port(), 99);
    }

    #[test]
    fn a_wrong_url_is_told_so() {
        let told = |url| format!("{:#}", Target::read(url, Dialect::Quire).unwrap_err());
        assert!(told("http://127.0.0.1").contains("does not begin with ws://"));
        assert!(
            told("127.0.0.1:80").contains("does not begin with ws://")
                || told("127.0.0.1:80").contains("is not a URL")
        );
        assert!(told("wss://127.0.0.1").contains("TLS"));
        assert!(told("ws://").contains("ws://"));
        assert!(check_token("a b").is_err() && check_token("a.B-_~9").is_ok());
    }
}
