//! What a token says (RFC 7519), and for which stores.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::jws::{given, object};
use super::{Grant, TokenError};
use crate::limits::{CLOCK_SKEW_S, MAX_AUDIENCES, MAX_SUBJECT_BYTES, MAX_TOKEN_ID_BYTES};
use crate::store_id::StoreId;
use anabranch_sync::scope::Scopes;

/// The claims that matter; others are skipped, one given twice is refused.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, deserialize_with = "names")]
    aud: Vec<String>,
    #[serde(default, deserialize_with = "words")]
    scope: Vec<String>,
    exp: f64,
    #[serde(default, deserialize_with = "given")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    iat: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    jti: Option<String>,
}

/// A string, or an array of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

/// One name, spaces and all (RFC 7519, 4.1.3), or an array of them: who may choose one name
/// must not come to several.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(match Texts::deserialize(from)? {
        Texts::One(name) => vec![name],
        Texts::Many(names) => names,
    })
}

/// A string of words (RFC 8693, 4.2), or an array of them.
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(match Texts::deserialize(from)? {
        Texts::One(text) => text.split_ascii_whitespace().map(str::to_string).collect(),
        Texts::Many(words) => words,
    })
}

/// Reads the payload of a token whose signature was right.
///
/// # Errors
/// [`TokenError`] if it says too little, or nothing for this time.
pub(super) fn grant(payload: &[u8], now_s: u64) -> Result<Grant, TokenError> {
    let wrong = TokenError::Malformed { what: "its claims: sub, aud, scope and exp" };
    let claims: Claims = object(payload).ok_or(wrong)?;
    let is_long = |text: &str, limit: usize| text.is_empty() || text.len() > limit;
    if is_long(&claims.sub, MAX_SUBJECT_BYTES) {
        return Err(TokenError::Malformed { what: "its subject" });
    }
    if claims.jti.as_deref().is_some_and(|id| is_long(id, MAX_TOKEN_ID_BYTES)) {
        return Err(TokenError::Malformed { what: "its id" });
    }
    if claims.aud.len() > MAX_AUDIENCES {
        return Err(TokenError::Malformed { what: "more audiences than a token may name" });
    }
    let now = now_s as f64;
    let skewed = now + CLOCK_SKEW_S as f64;
    if !claims.exp.is_finite() || claims.exp <= now {
        return Err(TokenError::Expired);
    }
    if [claims.nbf, claims.iat].into_iter().flatten().any(|begin| begin > skewed) {
        return Err(TokenError::NotYet);
    }
    Ok(Grant {
        subject: claims.sub.into(),
        token_id: claims.jti.map(Arc::from),
        audience: claims.aud.into_iter().map(Audience).collect(),
        scopes: Scopes::from_words(claims.scope.iter().map(String::as_str)),
        expires_s: claims.exp as u64,
    })
}

/// A store, or with a `*` at the end all whose name begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audience(pub(super) String);

impl Audience {
    /// Takes what a store's name, or the beginning of one and `*`, could be.
    pub(crate) fn new(text: &str) -> Option<Audience> {
        let is_pattern = match text.strip_suffix('*') {
            Some("") => true,
            Some(prefix) => StoreId::new(prefix).is_some(),
            None => StoreId::new(text).is_some(),
        };
        is_pattern.then(|| Audience(text.to_string()))
    }

    /// As a token has it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this store.
    pub(crate) fn includes(&self, store: &StoreId) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => store.as_str().starts_with(prefix),
            None => self.0 == store.as_str(),
        }
    }

    /// Whether all that `other` names is named by this too.
    pub(crate) fn contains(&self, other: &Audience) -> bool {
        match (self.0.strip_suffix('*'), other.0.strip_suffix('*')) {
            (Some(prefix), Some(narrower)) => narrower.starts_with(prefix),
            (Some(prefix), None) => other.0.starts_with(prefix),
            (None, _) => self.0 == other.0,
        }
    }
}
