//! Kinds of settings: how a text becomes a value, how a value is shown, and what is accepted.
//!
//! Invariant: what `show` writes, `set` reads back to the same value.

use super::settings::{AuthMode, LogFormat, RegionRole, Settings};
use quire_protocol::fields::schema::SchemaHash;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

/// Where a setting of one kind lives in [`Settings`].
pub(crate) enum Field {
    /// An address and port.
    Address(fn(&mut Settings) -> &mut SocketAddr),
    /// A path that always has a value.
    Path(fn(&mut Settings) -> &mut PathBuf),
    /// A path that may be absent.
    OptionalPath(fn(&mut Settings) -> &mut Option<PathBuf>),
    /// A short name.
    Name(fn(&mut Settings) -> &mut String),
    /// A replica's number.
    Replica(fn(&mut Settings) -> &mut u16),
    /// Who may come in.
    Auth(fn(&mut Settings) -> &mut AuthMode),
    /// What the region does in its cluster.
    Role(fn(&mut Settings) -> &mut RegionRole),
    /// Other regions' URLs; may be given several times.
    Peers(fn(&mut Settings) -> &mut Vec<String>),
    /// How log lines are written.
    Log(fn(&mut Settings) -> &mut LogFormat),
    /// How much is logged.
    Level(fn(&mut Settings) -> &mut Level),
    /// On when given.
    Switch(fn(&mut Settings) -> &mut bool),
    /// Web origins; may be given several times.
    Origins(fn(&mut Settings) -> &mut Vec<String>),
    /// Schemas by their hashes; may be given several times.
    Hashes(fn(&mut Settings) -> &mut Vec<SchemaHash>),
    /// A number of things.
    Count(fn(&mut Settings) -> &mut usize, RangeInclusive<usize>),
    /// A size.
    Bytes(fn(&mut Settings) -> &mut usize, RangeInclusive<usize>),
    /// A time span in whole seconds.
    Seconds(fn(&mut Settings) -> &mut Duration, RangeInclusive<u64>),
}

/// The longest region name: it appears in metrics labels and on the page.
const NAME_BYTES_MAX: usize = 64;

/// The text is not one of the accepted values.
pub(crate) struct Refused;

impl Field {
    /// Whether the flag takes no value.
    pub(crate) const fn is_switch(&self) -> bool {
        matches!(self, Self::Switch(_))
    }

    /// Whether several values add up.
    pub(crate) const fn is_list(&self) -> bool {
        matches!(self, Self::Origins(_) | Self::Peers(_) | Self::Hashes(_))
    }

    /// What stands for the value in the help text.
    pub(crate) const fn value_name(&self) -> &'static str {
        match self {
            Self::Address(_) => "IP:PORT",
            Self::Path(_) => "DIR",
            Self::OptionalPath(_) => "FILE",
            Self::Name(_) => "NAME",
            Self::Replica(_) | Self::Count(..) => "N",
            Self::Auth(_) => "none|jwt",
            Self::Role(_) => "leader|follower",
            Self::Peers(_) => "URL",
            Self::Log(_) => "text|json",
            Self::Level(_) => "LEVEL",
            Self::Switch(_) => "true|false",
            Self::Origins(_) => "ORIGIN",
            Self::Hashes(_) => "HASH",
            Self::Bytes(..) => "SIZE",
            Self::Seconds(..) => "SECONDS",
        }
    }

    /// The accepted values, for a person who gave another.
    pub(crate) fn accepted(&self) -> String {
        match self {
            Self::Address(_) => "an IP address and a port, such as 127.0.0.1:8080 or [::]:443".to_owned(),
            Self::Path(_) | Self::OptionalPath(_) => "a path".to_owned(),
            Self::Name(_) => {
                format!("1 to {NAME_BYTES_MAX} characters out of a-z, A-Z, 0-9, '-', '_' and '.'")
            }
            Self::Replica(_) => "a whole number from 1 to 65535".to_owned(),
            Self::Auth(_) => "none or jwt".to_owned(),
            Self::Role(_) => "leader or follower".to_owned(),
            Self::Peers(_) => {
                "the WebSocket URL of a region, such as ws://10.0.0.2:8080 or wss://us.example.com".to_owned()
            }
            Self::Log(_) => "text or json".to_owned(),
            Self::Level(_) => "error, warn, info, debug or trace".to_owned(),
            Self::Switch(_) => "true or false".to_owned(),
            Self::Origins(_) => {
                "an origin, such as https://app.example.com, or * for every origin".to_owned()
            }
            Self::Hashes(_) => "32 digits, as `quire schema hash` prints them".to_owned(),
            Self::Count(_, range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Self::Seconds(_, range) => {
                format!("whole seconds from {} to {}", range.start(), range.end())
            }
            Self::Bytes(_, range) => format!(
                "a size from {} to {}, such as 65536, 64KiB or 16MiB",
                show_bytes(*range.start()),
                show_bytes(*range.end())
            ),
        }
    }

    /// Takes a value; a list grows by it.
    pub(crate) fn set(&self, settings: &mut Settings, text: &str) -> Result<(), Refused> {
        match self {
            Self::Address(at) => *at(settings) = text.parse().map_err(|_| Refused)?,
            Self::Path(at) => *at(settings) = parse_path(text)?,
            Self::OptionalPath(at) => *at(settings) = Some(parse_path(text)?),
            Self::Name(at) => *at(settings) = parse_name(text)?,
            Self::Replica(at) => {
                *at(settings) = text.parse().ok().filter(|number| *number != 0).ok_or(Refused)?;
            }
            Self::Auth(at) => {
                *at(settings) = match text {
                    "none" => AuthMode::None,
                    "jwt" => AuthMode::Jwt,
                    _ => return Err(Refused),
                };
            }
            Self::Role(at) => {
                *at(settings) = match text {
                    "leader" => RegionRole::Leader,
                    "follower" => RegionRole::Follower,
                    _ => return Err(Refused),
                };
            }
            Self::Peers(at) => at(settings).push(parse_peer(text)?),
            Self::Log(at) => {
                *at(settings) = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(Refused),
                };
            }
            Self::Level(at) => *at(settings) = parse_level(text)?,
            Self::Switch(at) => *at(settings) = text.parse().map_err(|_| Refused)?,
            Self::Origins(at) => at(settings).push(parse_origin(text)?),
            Self::Hashes(at) => at(settings).push(text.parse().map_err(|_| Refused)?),
            Self::Count(at, range) => *at(settings) = within(text.parse().ok(), range)?,
            Self::Bytes(at, range) => *at(settings) = within(parse_bytes(text), range)?,
            Self::Seconds(at, range) => {
                *at(settings) = Duration::from_secs(within(text.parse().ok(), range)?);
            }
        }
        Ok(())
    }

    /// The value as text, if there is one.
    pub(crate) fn show(&self, settings: &mut Settings) -> Option<String> {
        match self {
            Self::Address(at) => Some(at(settings).to_string()),
            Self::Path(at) => Some(at(settings).display().to_string()),
            Self::OptionalPath(at) => at(settings).as_ref().map(|path| path.display().to_string()),
            Self::Name(at) => Some(at(settings).clone()),
            Self::Replica(at) => Some(at(settings).to_string()),
            Self::Auth(at) => Some(
                match at(settings) {
                    AuthMode::None => "none",
                    AuthMode::Jwt => "jwt",
                }
                .to_owned(),
            ),
            Self::Role(at) => Some(
                match at(settings) {
                    RegionRole::Leader => "leader",
                    RegionRole::Follower => "follower",
                }
                .to_owned(),
            ),
            Self::Peers(at) => (!at(settings).is_empty()).then(|| at(settings).join(", ")),
            Self::Log(at) => Some(
                match at(settings) {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }
                .to_owned(),
            ),
            Self::Level(at) => Some(at(settings).as_str().to_ascii_lowercase()),
            Self::Switch(at) => Some(at(settings).to_string()),
            Self::Origins(at) => (!at(settings).is_empty()).then(|| at(settings).join(", ")),
            Self::Hashes(at) => {
                let all: Vec<_> = at(settings).iter().map(SchemaHash::to_string).collect();
                (!all.is_empty()).then(|| all.join(", "))
            }
            Self::Count(at, _) => Some(at(settings).to_string()),
            Self::Bytes(at, _) => Some(show_bytes(*at(settings))),
            Self::Seconds(at, _) => Some(at(settings).as_secs().to_string()),
        }
    }
}

fn parse_path(text: &str) -> Result<PathBuf, Refused> {
    if text.is_empty() || text.contains('\0') { Err(Refused) } else { Ok(PathBuf::from(text)) }
}

/// The names alone: `Level` itself also reads digits.
fn parse_level(text: &str) -> Result<Level, Refused> {
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    levels.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text)).ok_or(Refused)
}

fn parse_name(text: &str) -> Result<String, Refused> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
        return Err(Refused);
    }
    Ok(text.to_owned())
}

/// An origin as browsers write it: scheme, host, port, lower case, no path.
fn parse_origin(text: &str) -> Result<String, Refused> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(Refused)?;
    let parsed: axum::http::uri::Authority = authority.parse().map_err(|_| Refused)?;
    if authority.contains('@') || parsed.host().is_empty() {
        return Err(Refused);
    }
    Ok(text)
}

/// A peer's address without a path: that is always the same.
fn parse_peer(text: &str) -> Result<String, Refused> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let authority = text.strip_prefix("wss://").or_else(|| text.strip_prefix("ws://")).ok_or(Refused)?;
    let parsed: axum::http::uri::Authority = authority.parse().map_err(|_| Refused)?;
    if authority.contains('@') || parsed.host().is_empty() {
        return Err(Refused);
    }
    Ok(text.to_owned())
}

fn within<T: PartialOrd>(value: Option<T>, range: &RangeInclusive<T>) -> Result<T, Refused> {
    value.filter(|value| range.contains(value)).ok_or(Refused)
}

const UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn parse_bytes(text: &str) -> Option<usize> {
    let (digits, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1));
    digits.trim_end().parse::<usize>().ok()?.checked_mul(factor)
}

fn show_bytes(bytes: usize) -> String {
    match UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_with_and_without_a_unit() {
        assert_eq!(parse_bytes("65536"), Some(65_536));
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("3 MiB"), Some(3 << 20));
        assert_eq!(parse_bytes("64k"), None);
        assert_eq!(parse_bytes("99999999999GiB"), None);
        assert_eq!(show_bytes(16 << 20), "16MiB");
        assert_eq!(show_bytes(1000), "1000");
    }

    #[test]
    fn a_peer_is_a_websocket_address_without_a_path() {
        assert_eq!(parse_peer("wss://Us.example.com/").ok().as_deref(), Some("wss://Us.example.com"));
        assert_eq!(parse_peer("ws://[::1]:8080").ok().as_deref(), Some("ws://[::1]:8080"));
        for refused in ["us.example.com", "http://us", "ws://", "ws://a/peer/v1", "ws://me@host", "ws://a b"]
        {
            assert!(parse_peer(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        assert_eq!(parse_origin("https://App.Example.com/").ok().as_deref(), Some("https://app.example.com"));
        assert_eq!(parse_origin("http://[::1]:3000").ok().as_deref(), Some("http://[::1]:3000"));
        for refused in
            ["app.example.com", "https://", "https://a/b", "https://me@host", "ftp://a", "https://a b"]
        {
            assert!(parse_origin(refused).is_err(), "{refused}");
        }
    }
}
