//! Whether settings make sense together, and the keys and certificates they name.
//!
//! Invariant: what a [`Config`] holds can be used as it is: its key and its certificate are read.

use super::file::read_small;
use super::problem::{Problem, Problems, Source};
use super::settings::{AuthMode, RegionRole, Settings};
use crate::auth::{Authenticator, JwtKey};
use crate::peers::Secret;
use crate::webhooks::Webhook;
use quire_protocol::link::limits::PREVIOUS_SCHEMAS_MAX;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A configuration that one region can start from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings it was made from.
    pub settings: Settings,
    /// Decides who may come in.
    pub authenticator: Arc<Authenticator>,
    /// How connections are encrypted, if they are.
    pub tls: Option<Tls>,
    /// What regions of the cluster prove to each other that they know; none for a region on its own.
    pub secret: Option<Secret>,
    /// Who is told when conflicts change.
    pub webhooks: Vec<Webhook>,
}

/// A certificate and its key, ready for handshakes.
#[derive(Clone, Debug)]
pub struct Tls(pub Arc<ServerConfig>);

impl Config {
    /// Checks settings that were made by a program.
    ///
    /// # Errors
    /// Every contradiction, together.
    pub fn new(settings: Settings) -> Result<Self, Problems> {
        check(settings, &BTreeMap::new(), Vec::new())
    }
}

/// Checks settings, adds what is wrong to what was wrong before, and makes the configuration.
pub(super) fn check(
    settings: Settings,
    origins: &BTreeMap<&'static str, Source>,
    problems: Vec<Problem>,
) -> Result<Config, Problems> {
    let mut checking = Checking { origins, problems };
    let authenticator = checking.authenticator(&settings);
    let tls = checking.tls(&settings);
    let secret = checking.secret(&settings);
    checking.exposure(&settings);
    checking.limits(&settings);
    checking.previous_schemas(&settings);
    let authenticator = authenticator.map(|authenticator| match settings.role {
        RegionRole::Leader => authenticator,
        RegionRole::Follower => authenticator.of_follower(),
    });
    match authenticator {
        Some(authenticator) if checking.problems.is_empty() => {
            Ok(Config { settings, authenticator: Arc::new(authenticator), tls, secret, webhooks: Vec::new() })
        }
        _ => Err(Problems(checking.problems)),
    }
}

struct Checking<'a> {
    origins: &'a BTreeMap<&'static str, Source>,
    problems: Vec<Problem>,
}

impl Checking<'_> {
    fn problem(&mut self, key: &'static str, message: impl Into<String>, accepted: Option<&str>) {
        self.problems.push(Problem {
            key: key.to_owned(),
            source: self.origins.get(key).cloned().unwrap_or(Source::Default),
            message: message.into(),
            accepted: accepted.map(str::to_owned),
        });
    }

    fn authenticator(&mut self, settings: &Settings) -> Option<Authenticator> {
        match (settings.auth, &settings.jwt_key_file) {
            (AuthMode::None, None) => Some(Authenticator::everybody()),
            (AuthMode::None, Some(_)) => {
                self.problem(
                    "jwt-key-file",
                    "a key is given, yet nothing would check tokens",
                    Some("auth = jwt"),
                );
                None
            }
            (AuthMode::Jwt, None) => {
                self.problem("jwt-key-file", "auth = jwt needs a key", Some("a path"));
                None
            }
            (AuthMode::Jwt, Some(path)) => match read_key(path) {
                Ok(key) => Some(Authenticator::jwt(key)),
                Err(message) => {
                    self.problem("jwt-key-file", message, Some(JwtKey::ACCEPTED));
                    None
                }
            },
        }
    }

    fn tls(&mut self, settings: &Settings) -> Option<Tls> {
        let (cert, key) = match (&settings.tls_cert, &settings.tls_key) {
            (None, None) => return None,
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                self.problem("tls-key", "tls-cert is given without its key", Some("a path"));
                return None;
            }
            (None, Some(_)) => {
                self.problem("tls-cert", "tls-key is given without its certificate", Some("a path"));
                return None;
            }
        };
        let chain = read_chain(cert).map_err(|message| self.problem("tls-cert", message, None)).ok();
        let key = read_private_key(key).map_err(|message| self.problem("tls-key", message, None)).ok();
        match server_config(chain?, key?) {
            Ok(config) => Some(Tls(Arc::new(config))),
            Err(error) => {
                self.problem("tls-key", format!("certificate and key cannot be used: {error}"), None);
                None
            }
        }
    }

    fn secret(&mut self, settings: &Settings) -> Option<Secret> {
        let Some(path) = &settings.cluster_secret_file else {
            if !settings.peers.is_empty() {
                self.problem("cluster-secret-file", "peers need a secret to share", Some(Secret::ACCEPTED));
            }
            if settings.role == RegionRole::Follower {
                self.problem("role", "a follower needs a cluster to follow", Some("cluster-secret-file"));
            }
            return None;
        };
        let secret = read(path)
            .and_then(|bytes| Secret::parse(&bytes).map_err(|error| format!("{}: {error}", path.display())));
        secret.map_err(|message| self.problem("cluster-secret-file", message, Some(Secret::ACCEPTED))).ok()
    }

    fn exposure(&mut self, settings: &Settings) {
        let public = !settings.listen.ip().is_loopback();
        if public && settings.auth == AuthMode::None && !settings.insecure {
            self.problem(
                "listen",
                format!("{} can be reached from outside, and everybody could write", settings.listen),
                Some("a loopback address, or auth = jwt, or insecure"),
            );
        }
    }

    fn previous_schemas(&mut self, settings: &Settings) {
        let named = settings.previous_schemas.len();
        if named > PREVIOUS_SCHEMAS_MAX {
            let message =
                format!("at most {PREVIOUS_SCHEMAS_MAX} earlier schemas can be named, and {named} are");
            self.problem("previous-schema", message, None);
        }
    }

    fn limits(&mut self, settings: &Settings) {
        let limits = &settings.limits;
        if limits.update_bytes > limits.frame_bytes {
            self.problem("max-update-bytes", "an update cannot be longer than max-frame-bytes", None);
        }
        if limits.update_bytes > limits.document_bytes {
            self.problem("max-update-bytes", "an update cannot be longer than max-document-bytes", None);
        }
        if limits.frame_bytes > limits.ingest_bytes {
            self.problem("max-ingest-bytes", "it must hold one message of max-frame-bytes", None);
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_small(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn read_key(path: &Path) -> Result<JwtKey, String> {
    JwtKey::parse(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    Ok(chain)
}

fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|error| format!("{} holds no private key in PEM: {error}", path.display()))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    // The provider is named here and not installed for the process, so that a program with other
    // needs can hold a region.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // WebSocket needs an HTTP/1.1 upgrade, so nothing else is offered.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
