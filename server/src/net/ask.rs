//! One HTTP request to another server, on a connection of its own.
//!
//! On the HTTP and TLS that the server itself is made of, so that no second stack is built.
//!
//! Invariant: every wait has an end, and no answer takes more memory than the stated bound.

use super::dial::{Stream, dial};
use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::Duration;

/// How much of another server is borne.
pub(crate) struct Patience {
    /// How long it may take to connect.
    pub(crate) connect: Duration,
    /// How long the answer may take from then on.
    pub(crate) answer: Duration,
    /// How many bytes the answer's body may have.
    pub(crate) answer_bytes: usize,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it did not answer as HTTP does: {0}")]
    Broken(String),
    #[error("it answered {0} with too long a body")]
    TooLong(StatusCode),
}

const TOO_LATE: &str = "it took too long";

/// Asks the server of an address, and returns its answer's status and body. The request's own URI is the path.
///
/// # Errors
/// When nobody listens, the certificate is not trusted, or the answer is late, broken or too long.
pub(crate) async fn ask(
    server: &Uri,
    request: Request<Full<Bytes>>,
    patience: &Patience,
) -> Result<(StatusCode, Bytes), AskError> {
    let tls = server.scheme_str() == Some("https");
    let port = server.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let connected =
        tokio::time::timeout(patience.connect, dial(server.host().unwrap_or_default(), port, tls));
    let stream = match connected.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(AskError::Unreachable(error.to_string())),
        Err(_) => return Err(AskError::Unreachable(TOO_LATE.to_owned())),
    };
    let asked = tokio::time::timeout(patience.answer, exchange(stream, request, patience.answer_bytes)).await;
    asked.unwrap_or_else(|_| Err(AskError::Broken(TOO_LATE.to_owned())))
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), AskError> {
    let broken = |error: hyper::Error| AskError::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        match Limited::new(response.into_body(), bytes_max).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(AskError::TooLong(status)),
            Err(error) => Err(AskError::Broken(error.to_string())),
        }
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), Box::pin(connection));
    let ended = tokio::select! {
        biased;
        answer = answer.as_mut() => return answer,
        ended = connection.as_mut() => ended,
    };
    drop(connection);
    // A server that closes at once behind its answer has answered all the same.
    answer.await.map_err(|error| ended.map_or_else(broken, |()| error))
}
