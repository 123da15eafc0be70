//! Connections that this program opens: TCP, and TLS where the address asks for it.
//!
//! For TLS the system's certificates count; `SSL_CERT_FILE` names others.

use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// An address that has not answered by then is given up. A network that drops packets tells nobody when it carries
/// them again, and TCP asks after 1, 3 and 7 seconds: a new attempt finds that out sooner.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to a host, which may be an IPv6 address in brackets.
///
/// # Errors
/// When the name does not resolve, nobody listens, or the certificate is not trusted.
pub(crate) async fn dial(host: &str, port: u16, tls: bool) -> io::Result<Box<dyn Stream>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = reach(host, port).await?;
    stream.set_nodelay(true)?;
    if !tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = tls_config().map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

/// Connects to the first of a host's addresses that answers.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last =
        io::Error::new(io::ErrorKind::NotFound, "failed to lookup address information: it has none");
    for address in lookup_host((host, port)).await? {
        match timeout(ANSWER_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        }
    }
    Err(last)
}

fn tls_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    // Certificates that cannot be read are as good as absent: the handshake says what is missing.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
