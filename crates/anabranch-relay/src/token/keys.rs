//! The keys tokens are checked with: the relay's own, those of a JWKS file or URL (RFC 7517),
//! and a secret if one was configured.
//!
//! A file is read again when it changes, a URL every few minutes and soon after a token names
//! a key that is not known; so a key is rotated by listing the new one beside the old one for as
//! long as tokens of the old one live. What cannot be read leaves the keys as they were.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use anabranch_core::site::SiteId;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Deserialize;
use tokio::sync::Notify;

use super::TokenError;
use super::jws::Key;
use crate::limits::{
    JWKS_REFETCH, JWKS_REREAD_S, JWKS_RETRY, MAX_JWKS_BYTES, MAX_KEYS, MAX_KID_BYTES,
    MIN_SECRET_BYTES,
};
use crate::resume::ResumeKey;

mod url;

pub use url::JwksUrl;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Of the file system.
    #[error("{}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Not what the file should be.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Too short to be one.
    #[error("the HS256 secret has {found} bytes, at least {MIN_SECRET_BYTES} are needed")]
    ShortSecret {
        /// Its length.
        found: usize,
    },
    /// No randomness.
    #[error("the operating system gives no random numbers")]
    Random,
}

/// The relay's own pair of keys: it signs the tokens the relay makes.
#[derive(Debug)]
pub(super) struct OwnKey {
    pub(super) pair: Ed25519KeyPair,
    pub(super) kid: String,
    pub(super) resume: ResumeKey,
}

impl OwnKey {
    /// Reads the key in `path`, making it if there is none; whether it was made.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(super) fn open(path: &Path) -> Result<(OwnKey, bool), KeyError> {
        let io = |source| KeyError::Io { path: path.to_path_buf(), source };
        let (bytes, is_new) = match fs::read(path) {
            Ok(bytes) => (bytes, false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                    .map_err(|_| KeyError::Random)?;
                crate::secret_file::write(path, made.as_ref()).map_err(io)?;
                (made.as_ref().to_vec(), true)
            }
            Err(error) => return Err(io(error)),
        };
        let pair = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|error| KeyError::Malformed {
            path: path.to_path_buf(),
            what: format!("no Ed25519 key in PKCS#8: {error}"),
        })?;
        let name = blake3::hash(pair.public_key().as_ref());
        let kid = format!("relay-{}", HEXLOWER.encode(&name.as_bytes()[..8]));
        Ok((OwnKey { pair, kid, resume: ResumeKey::new(&bytes) }, is_new))
    }

    /// A site id that is the relay's for as long as its key is.
    pub(super) fn site(&self) -> SiteId {
        let digest = blake3::hash(self.pair.public_key().as_ref());
        SiteId::new(&digest.as_bytes()[..16]).expect("16 bytes")
    }

    fn public(&self) -> Key {
        let bytes = self.pair.public_key().as_ref().try_into();
        Key::Ed25519(bytes.expect("an Ed25519 key has 32 bytes"))
    }
}

/// All keys, by `kid`.
#[derive(Debug)]
pub(super) struct Keys {
    own: OwnKey,
    /// Checks tokens that name no key.
    secret: Option<Key>,
    listed: RwLock<HashMap<String, Key>>,
    file: Option<Mutex<JwksFile>>,
    url: Option<JwksUrl>,
    /// A token named a key that is not known.
    is_unknown: Notify,
}

/// Where keys are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksPlace {
    /// A file.
    File(PathBuf),
    /// An address.
    Url(JwksUrl),
}

#[derive(Debug)]
struct JwksFile {
    path: PathBuf,
    /// When it was last looked at, Unix seconds.
    looked_s: u64,
    modified: Option<SystemTime>,
}

impl Keys {
    /// Reads what is configured.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(super) fn open(
        own: OwnKey,
        secret: Option<&[u8]>,
        jwks: Option<&JwksPlace>,
    ) -> Result<Keys, KeyError> {
        let secret = secret.map(secret_key).transpose()?;
        let mut keys = Keys {
            own,
            secret,
            listed: RwLock::default(),
            file: None,
            url: None,
            is_unknown: Notify::new(),
        };
        match jwks {
            None => {}
            Some(JwksPlace::File(path)) => {
                let file = JwksFile { path: path.clone(), looked_s: 0, modified: modified(path) };
                keys.listed = RwLock::new(read_jwks(path)?);
                keys.file = Some(Mutex::new(file));
            }
            Some(JwksPlace::Url(url)) => keys.url = Some(url.clone()),
        }
        Ok(keys)
    }

    /// Fetches keys by URL, again and again, for ever; at once if there is no URL.
    pub(super) async fn tend(&self) {
        let Some(url) = &self.url else { return };
        let mut pause = JWKS_RETRY;
        loop {
            let place = PathBuf::from(url.to_string());
            let read = |bytes: &[u8]| parse_jwks(bytes, &place);
            let fetched = url.fetch().await.map_err(|error| error.to_string());
            match fetched.and_then(|body| read(&body).map_err(|error| error.to_string())) {
                Ok(listed) => {
                    tracing::debug!(%url, n = listed.len(), "keys fetched");
                    *self.listed.write().unwrap_or_else(PoisonError::into_inner) = listed;
                    pause = JWKS_RETRY;
                    // Whoever names unknown keys makes it ask no oftener than after a failure.
                    tokio::time::sleep(JWKS_RETRY).await;
                    let soon = self.is_unknown.notified();
                    let _ = tokio::time::timeout(JWKS_REFETCH, soon).await;
                }
                Err(error) => {
                    tracing::warn!(%url, error, "keys not fetched, the old ones stay");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(JWKS_REFETCH);
                }
            }
        }
    }

    /// The relay's own.
    pub(super) fn own(&self) -> &OwnKey {
        &self.own
    }

    /// The key that a token names, or the secret for one that names none.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`].
    pub(super) fn find(&self, kid: Option<&str>, now_s: u64) -> Result<Key, TokenError> {
        let Some(kid) = kid else {
            return self.secret.clone().ok_or(TokenError::UnknownKey);
        };
        if kid == self.own.kid {
            return Ok(self.own.public());
        }
        self.reread(now_s);
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        let found = listed.get(kid).cloned();
        if found.is_none() {
            self.is_unknown.notify_one();
        }
        found.ok_or(TokenError::UnknownKey)
    }

    /// Looks at the file, not more often than every [`JWKS_REREAD_S`] seconds.
    fn reread(&self, now_s: u64) {
        let Some(file) = &self.file else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if now_s.abs_diff(file.looked_s) < JWKS_REREAD_S {
            return;
        }
        file.looked_s = now_s;
        let found = modified(&file.path);
        if found == file.modified {
            return;
        }
        match read_jwks(&file.path) {
            Ok(listed) => {
                *self.listed.write().unwrap_or_else(PoisonError::into_inner) = listed;
                file.modified = found;
                tracing::info!("keys read again");
            }
            Err(error) => tracing::warn!(%error, "keys not read again, the old ones stay"),
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|facts| facts.modified()).ok()
}

fn secret_key(secret: &[u8]) -> Result<Key, KeyError> {
    if secret.len() < MIN_SECRET_BYTES {
        return Err(KeyError::ShortSecret { found: secret.len() });
    }
    Ok(Key::Hmac(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret)))
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// One key of a file; members that do not matter are skipped, as RFC 7517 asks.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
}

/// Keys of kinds that the relay does not take are skipped; one of a kind it takes must be
/// right.
fn read_jwks(path: &Path) -> Result<HashMap<String, Key>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_path_buf(), source };
    if fs::metadata(path).map_err(io)?.len() > MAX_JWKS_BYTES {
        let what = format!("larger than {MAX_JWKS_BYTES} bytes");
        return Err(KeyError::Malformed { path: path.to_path_buf(), what });
    }
    parse_jwks(&fs::read(path).map_err(io)?, path)
}

/// The keys of a list; `path`: where it is from.
fn parse_jwks(bytes: &[u8], path: &Path) -> Result<HashMap<String, Key>, KeyError> {
    let malformed = |what: String| KeyError::Malformed { path: path.to_path_buf(), what };
    let jwks: Jwks = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if jwks.keys.len() > MAX_KEYS {
        return Err(malformed(format!("more than {MAX_KEYS} keys")));
    }
    let mut listed = HashMap::new();
    for (i, jwk) in jwks.keys.iter().enumerate() {
        let Some(key) = jwk.key().map_err(|what| malformed(format!("key {i}: {what}")))? else {
            continue;
        };
        let kid = jwk.kid.clone().filter(|kid| (1..=MAX_KID_BYTES).contains(&kid.len()));
        let kid = kid.ok_or_else(|| malformed(format!("key {i} has no kid")))?;
        if listed.insert(kid, key).is_some() {
            return Err(malformed(format!("key {i} has the kid of another")));
        }
    }
    Ok(listed)
}

impl Jwk {
    fn key(&self) -> Result<Option<Key>, &'static str> {
        if self.used_for.as_deref().is_some_and(|used_for| used_for != "sig") {
            return Ok(None);
        }
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => ("EdDSA", Key::Ed25519(coordinate(&self.x)?)),
            ("EC", Some("P-256")) => {
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&coordinate(&self.x)?);
                point[33..].copy_from_slice(&coordinate(&self.y)?);
                ("ES256", Key::P256(point))
            }
            _ => return Ok(None),
        };
        match self.alg.as_deref() {
            Some(alg) if alg != algorithm => Err("its alg is not that of its kty and crv"),
            _ => Ok(Some(key)),
        }
    }
}

fn coordinate(text: &Option<String>) -> Result<[u8; 32], &'static str> {
    let text = text.as_deref().ok_or("a coordinate is missing")?;
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| "not base64url")?;
    bytes.try_into().map_err(|_| "a coordinate is not 32 bytes long")
}

#[cfg(test)]
mod tests;
