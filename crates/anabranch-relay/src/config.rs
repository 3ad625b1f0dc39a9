//! Settings: flags over environment over file over defaults.
//!
//! Every setting has one name, which is the flag (`--max-store-bytes`), the key of the file
//! (`max-store-bytes`), and with `ANABRANCH_` the variable (`ANABRANCH_MAX_STORE_BYTES`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::limits;
use crate::log::LogFormat;
use crate::token::{JwksPlace, JwksUrl};

/// Settings as they are written, from one source; what is not given is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "Config says what each setting means")]
pub struct Settings {
    pub listen: Option<String>,
    pub data: Option<PathBuf>,
    pub jwks: Option<String>,
    pub jwt_secret: Option<String>,
    pub strict_sites: Option<bool>,
    pub origins: Option<Vec<String>>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub log_format: Option<String>,
    pub log_level: Option<String>,
    pub max_connections: Option<u64>,
    pub max_address_connections: Option<u64>,
    pub max_store_connections: Option<u64>,
    pub max_store_bytes: Option<u64>,
    pub max_store_blob_bytes: Option<u64>,
    pub max_changes_per_second: Option<u64>,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a setting that does not exist.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A setting's value.
    #[error("{setting} is {found:?}: {expected}")]
    Value {
        /// Its name.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Settings, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Io { path: path.to_path_buf(), source })?;
        toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_path_buf(),
            message: error.to_string().trim_end().to_string(),
        })
    }

    /// Reads variables with the prefix `ANABRANCH_`; empty ones count as absent.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, ConfigError> {
        let text = |name: &str| variable(&format!("ANABRANCH_{name}")).filter(|v| !v.is_empty());
        let path = |name: &str| text(name).map(PathBuf::from);
        let number =
            |name: &str, setting| text(name).map(|found| number_of(setting, found)).transpose();
        Ok(Settings {
            listen: text("LISTEN"),
            data: path("DATA"),
            jwks: text("JWKS"),
            jwt_secret: text("JWT_SECRET"),
            strict_sites: text("STRICT_SITES").map(flag_of).transpose()?,
            origins: text("ORIGINS").map(|list| words(&list)),
            tls_cert: path("TLS_CERT"),
            tls_key: path("TLS_KEY"),
            log_format: text("LOG_FORMAT"),
            log_level: text("LOG_LEVEL"),
            max_connections: number("MAX_CONNECTIONS", "max-connections")?,
            max_address_connections: number("MAX_ADDRESS_CONNECTIONS", "max-address-connections")?,
            max_store_connections: number("MAX_STORE_CONNECTIONS", "max-store-connections")?,
            max_store_bytes: number("MAX_STORE_BYTES", "max-store-bytes")?,
            max_store_blob_bytes: number("MAX_STORE_BLOB_BYTES", "max-store-blob-bytes")?,
            max_changes_per_second: number("MAX_CHANGES_PER_SECOND", "max-changes-per-second")?,
        })
    }

    /// These settings, and those of `weaker` where these say nothing.
    pub fn over(self, weaker: Settings) -> Settings {
        Settings {
            listen: self.listen.or(weaker.listen),
            data: self.data.or(weaker.data),
            jwks: self.jwks.or(weaker.jwks),
            jwt_secret: self.jwt_secret.or(weaker.jwt_secret),
            strict_sites: self.strict_sites.or(weaker.strict_sites),
            origins: self.origins.or(weaker.origins),
            tls_cert: self.tls_cert.or(weaker.tls_cert),
            tls_key: self.tls_key.or(weaker.tls_key),
            log_format: self.log_format.or(weaker.log_format),
            log_level: self.log_level.or(weaker.log_level),
            max_connections: self.max_connections.or(weaker.max_connections),
            max_address_connections: self
                .max_address_connections
                .or(weaker.max_address_connections),
            max_store_connections: self.max_store_connections.or(weaker.max_store_connections),
            max_store_bytes: self.max_store_bytes.or(weaker.max_store_bytes),
            max_store_blob_bytes: self.max_store_blob_bytes.or(weaker.max_store_blob_bytes),
            max_changes_per_second: self.max_changes_per_second.or(weaker.max_changes_per_second),
        }
    }
}

/// Settings that can be used.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The data directory: database, blobs, keys. Made if it is missing.
    pub data: PathBuf,
    /// Where public keys are (JWKS) whose tokens are taken too.
    pub jwks: Option<JwksPlace>,
    /// The secret of HS256 tokens, at least 32 bytes.
    pub jwt_secret: Option<String>,
    /// Take a site's changes from its owner only.
    pub strict_sites: bool,
    /// Origins of web pages that may connect; `*`: all. Others than browsers name none.
    pub origins: Vec<String>,
    /// Certificate chain and private key, PEM.
    pub tls: Option<TlsFiles>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: tracing::level_filters::LevelFilter,
    /// Connections at a time.
    pub max_connections: u64,
    /// Most connections of one address that have shown no valid token yet.
    pub max_address_connections: u64,
    /// Connections at a time on one store.
    pub max_store_connections: u64,
    /// Bytes of deltas in one store.
    pub max_store_bytes: u64,
    /// Most bytes of blobs that one store names.
    pub max_store_blob_bytes: u64,
    /// Changes that one store takes in a second, on average.
    pub max_changes_per_second: u64,
}

/// Files of TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl Config {
    /// Fills in defaults and checks everything that needs no file.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn new(settings: Settings) -> Result<Config, ConfigError> {
        let tls = match (settings.tls_cert, settings.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (cert, key) => {
                let found = cert.or(key).unwrap_or_default().display().to_string();
                let expected = "tls-cert and tls-key are given together";
                return Err(ConfigError::Value { setting: "tls-cert", found, expected });
            }
        };
        if let Some(secret) = &settings.jwt_secret
            && secret.len() < limits::MIN_SECRET_BYTES
        {
            let found = format!("{} bytes", secret.len());
            let expected = "a secret has at least 32 bytes";
            return Err(ConfigError::Value { setting: "jwt-secret", found, expected });
        }
        Ok(Config {
            listen: address(settings.listen.as_deref().unwrap_or(DEFAULT_LISTEN))?,
            data: settings.data.unwrap_or_else(|| DEFAULT_DATA.into()),
            jwks: settings.jwks.map(jwks).transpose()?,
            jwt_secret: settings.jwt_secret,
            strict_sites: settings.strict_sites.unwrap_or(false),
            origins: origins(settings.origins.unwrap_or_default())?,
            tls,
            log_format: log_format(settings.log_format.as_deref().unwrap_or("text"))?,
            log_level: log_level(settings.log_level.as_deref().unwrap_or("info"))?,
            max_connections: settings.max_connections.unwrap_or(limits::MAX_CONNECTIONS),
            max_address_connections: settings
                .max_address_connections
                .unwrap_or(limits::MAX_ADDRESS_CONNECTIONS),
            max_store_connections: settings
                .max_store_connections
                .unwrap_or(limits::MAX_STORE_CONNECTIONS),
            max_store_bytes: settings.max_store_bytes.unwrap_or(limits::MAX_STORE_BYTES),
            max_store_blob_bytes: settings
                .max_store_blob_bytes
                .unwrap_or(limits::MAX_STORE_BLOB_BYTES),
            max_changes_per_second: settings
                .max_changes_per_second
                .unwrap_or(limits::MAX_CHANGES_PER_SECOND),
        })
    }
}

/// Where a relay listens if nobody says otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7440";
/// Where it keeps its data.
pub const DEFAULT_DATA: &str = "./anabranch-data";

fn words(list: &str) -> Vec<String> {
    list.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_string).collect()
}

fn number_of(setting: &'static str, found: String) -> Result<u64, ConfigError> {
    found.parse().map_err(|_| ConfigError::Value { setting, found, expected: "a number" })
}

fn flag_of(found: String) -> Result<bool, ConfigError> {
    match found.as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => {
            let expected = "true or false";
            Err(ConfigError::Value { setting: "strict-sites", found, expected })
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, ConfigError> {
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| ConfigError::Value {
        setting: "listen",
        found: text,
        expected: "an address and a port, as 127.0.0.1:7440 or [::1]:7440",
    })
}

fn jwks(place: String) -> Result<JwksPlace, ConfigError> {
    if !place.contains("://") {
        return Ok(JwksPlace::File(place.into()));
    }
    let value = |expected| ConfigError::Value { setting: "jwks", found: place.clone(), expected };
    JwksUrl::parse(&place).map(JwksPlace::Url).map_err(value)
}

fn origins(origins: Vec<String>) -> Result<Vec<String>, ConfigError> {
    for origin in &origins {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
        if origin != "*" && !is_origin {
            return Err(ConfigError::Value {
                setting: "origins",
                found: origin.clone(),
                expected: "an origin is like https://app.example, without a path",
            });
        }
    }
    Ok(origins)
}

fn log_format(found: &str) -> Result<LogFormat, ConfigError> {
    match found {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(ConfigError::Value {
            setting: "log-format",
            found: found.to_string(),
            expected: "text or json",
        }),
    }
}

fn log_level(found: &str) -> Result<tracing::level_filters::LevelFilter, ConfigError> {
    found.parse().map_err(|_| ConfigError::Value {
        setting: "log-level",
        found: found.to_string(),
        expected: "off, error, warn, info, debug or trace",
    })
}
