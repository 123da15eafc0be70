//! Why a session ends: the WebSocket close code and the sentence that goes with it.
//!
//! Codes 4400–4499 stop a y-websocket client for good, so they stand only where trying again cannot
//! help; everything else invites it to come back.

use std::fmt;

use crate::update::{ItemId, Refusal};
use crate::{awareness::AwarenessError, ysync::FrameError};

/// The longest reason a close frame can carry, in bytes of UTF-8 (RFC 6455 §5.5).
pub const REASON_BYTES_MAX: usize = 123;

/// Why the server ends a session or a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A frame that is no message.
    Frame(FrameError),
    /// An update that the strict decoder refuses.
    Update(Refusal),
    /// An awareness update with something wrong.
    Awareness(AwarenessError),
    /// A state vector that cannot be read.
    StateVector,
    /// A text frame, or Hocuspocus bytes that are no frame.
    NotBinary,
    /// A frame over the limit.
    FrameTooLarge,
    /// The document's name in the address is not a valid one.
    BadName,
    /// The document would outgrow its limit.
    DocumentTooLarge,
    /// Two editors use one Yjs client id: this block came again with other content.
    ClientReused(ItemId),
    /// No token, or one that does not verify.
    Unauthorized(String),
    /// The token's time is over.
    Expired,
    /// The token does not cover this document.
    Forbidden,
    /// The document has been deleted.
    Deleted,
    /// More messages or bytes than a session may send.
    RateExceeded,
    /// A limit on sessions has been reached.
    SessionsFull(&'static str),
    /// Nothing was said, or no token came, in the time allowed.
    TimedOut,
    /// The server is about to stop.
    Draining,
    /// The disk takes no writes.
    Disk,
    /// What is stored of the document cannot be read; it stays as it is.
    Unreadable,
    /// The open document failed and was given up; what is stored stays as it is.
    LoadFailed,
}

impl CloseReason {
    /// The WebSocket close code.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::NotBinary => 1003,
            Self::Draining => 1012,
            Self::RateExceeded | Self::SessionsFull(_) | Self::Disk | Self::Unreadable | Self::LoadFailed => {
                1013
            }
            Self::Frame(_) | Self::Awareness(_) | Self::StateVector | Self::BadName => 4400,
            Self::Update(Refusal::TooLarge) | Self::FrameTooLarge | Self::DocumentTooLarge => 4413,
            Self::Update(_) => 4400,
            Self::Unauthorized(_) | Self::Expired => 4401,
            Self::Forbidden => 4403,
            Self::Deleted => 4404,
            Self::ClientReused(_) => 4409,
            Self::TimedOut => 4508,
        }
    }

    /// Whether trying again cannot help: a y-websocket client then stops for good.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        matches!(self.code(), 4400..=4499)
    }

    /// Whether an update was refused, so that its author's edits are not in the document.
    #[must_use]
    pub const fn refuses_update(&self) -> bool {
        matches!(self, Self::Update(_) | Self::DocumentTooLarge | Self::ClientReused(_) | Self::Disk)
    }

    /// A stable word for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Frame(_) => "frame",
            Self::Update(refusal) => refusal.reason(),
            Self::Awareness(_) => "awareness",
            Self::StateVector => "state_vector",
            Self::NotBinary => "not_binary",
            Self::FrameTooLarge => "frame_too_large",
            Self::BadName => "bad_name",
            Self::DocumentTooLarge => "document_too_large",
            Self::ClientReused(_) => "client_reused",
            Self::Unauthorized(_) => "unauthorized",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::Deleted => "deleted",
            Self::RateExceeded => "rate_exceeded",
            Self::SessionsFull(_) => "sessions_full",
            Self::TimedOut => "timed_out",
            Self::Draining => "draining",
            Self::Disk => "disk",
            Self::Unreadable => "unreadable",
            Self::LoadFailed => "load_failed",
        }
    }

    /// The sentence for the close frame, cut to what one can carry.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        if text.len() > REASON_BYTES_MAX {
            let end = (0..=REASON_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        text
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => write!(f, "{error}"),
            Self::Update(refusal) => write!(f, "{refusal}"),
            Self::Awareness(error) => write!(f, "{error}"),
            Self::StateVector => f.write_str("the state vector is malformed"),
            Self::NotBinary => f.write_str("only binary frames are understood here"),
            Self::FrameTooLarge => f.write_str("the frame is larger than the server takes"),
            Self::BadName => f.write_str("the document's name is not valid"),
            Self::DocumentTooLarge => f.write_str("the document has reached its size limit"),
            Self::ClientReused(item) => {
                write!(f, "two editors use one client id (seen at {item}): reload the page")
            }
            Self::Unauthorized(why) => write!(f, "not authorized: {why}"),
            Self::Expired => f.write_str("the token has expired"),
            Self::Forbidden => f.write_str("the token does not cover this document"),
            Self::Deleted => f.write_str("the document has been deleted"),
            Self::RateExceeded => f.write_str("too many messages: slow down"),
            Self::SessionsFull(limit) => write!(f, "too many sessions {limit}"),
            Self::TimedOut => f.write_str("nothing was heard in time"),
            Self::Draining => f.write_str("the server is restarting"),
            Self::Disk => f.write_str("the server's disk takes no writes"),
            Self::Unreadable => f.write_str("the document cannot be read; what is stored is untouched"),
            Self::LoadFailed => f.write_str("the document cannot be opened; what is stored is untouched"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::ClientId;

    #[test]
    fn s3_only_what_a_retry_cannot_help_stops_a_client_for_good() {
        let item = ItemId { client: ClientId(7), clock: 1 };
        let table = [
            (CloseReason::NotBinary, 1003, false),
            (CloseReason::Draining, 1012, false),
            (CloseReason::RateExceeded, 1013, false),
            (CloseReason::SessionsFull("here"), 1013, false),
            (CloseReason::Disk, 1013, false),
            (CloseReason::Unreadable, 1013, false),
            (CloseReason::LoadFailed, 1013, false),
            (CloseReason::TimedOut, 4508, false),
            (CloseReason::Frame(FrameError::UnknownType(9)), 4400, true),
            (CloseReason::Update(Refusal::End), 4400, true),
            (CloseReason::Awareness(AwarenessError::NotJson(1)), 4400, true),
            (CloseReason::StateVector, 4400, true),
            (CloseReason::BadName, 4400, true),
            (CloseReason::Unauthorized("no token".to_owned()), 4401, true),
            (CloseReason::Expired, 4401, true),
            (CloseReason::Forbidden, 4403, true),
            (CloseReason::Deleted, 4404, true),
            (CloseReason::ClientReused(item), 4409, true),
            (CloseReason::Update(Refusal::TooLarge), 4413, true),
            (CloseReason::FrameTooLarge, 4413, true),
            (CloseReason::DocumentTooLarge, 4413, true),
        ];
        for (reason, code, permanent) in table {
            assert_eq!((reason.code(), reason.is_permanent()), (code, permanent), "{reason}");
        }
    }

    #[test]
    fn s4_a_reason_fits_into_a_close_frame() {
        let long = "é".repeat(200);
        let text = CloseReason::Unauthorized(long).text();
        assert!(text.len() <= REASON_BYTES_MAX && text.ends_with('é'), "{text}");
        assert_eq!(CloseReason::Expired.text(), "the token has expired");
    }
}
