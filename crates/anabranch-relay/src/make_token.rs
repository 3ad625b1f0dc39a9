//! Tokens made on the relay's machine, by who can read its key.

use std::path::Path;
use std::sync::Arc;

use anabranch_sync::scope::Scope;

use crate::limits::{MAX_AUDIENCES, MAX_SUBJECT_BYTES, MAX_TOKEN_LIFE_S};
use crate::token::{Audience, KeyError, Order, Revocations, Tokens};
use anabranch_clock as clock;

/// A token to be made.
#[derive(Clone, Debug)]
pub struct TokenOrder {
    /// For whom: 1 to 256 bytes.
    pub subject: String,
    /// Names of stores, or beginnings of them with `*` at the end.
    pub stores: Vec<String>,
    /// `read`, `write`, `presence`, `admin`.
    pub scope: Vec<String>,
    /// How long it lives, in seconds: up to ten years.
    pub life_s: u64,
}

/// A token that was made.
#[derive(Clone, Debug)]
pub struct MadeToken {
    /// What its holder shows.
    pub token: String,
    /// What revokes it.
    pub id: String,
    /// Until when, Unix seconds.
    pub expires_s: u64,
}

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenOrderError {
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no relay's key in the directory.
    #[error("{path}: no relay has kept its key here")]
    NoRelay {
        /// The directory.
        path: String,
    },
    /// Not what a token can say.
    #[error("{found:?}: {expected}")]
    Value {
        /// What was asked for.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// Makes a token with the key of the relay whose data directory is `data`.
///
/// The relay may run meanwhile.
///
/// # Errors
/// [`TokenOrderError`]; no key is made.
pub fn make_token(data: &Path, order: &TokenOrder) -> Result<MadeToken, TokenOrderError> {
    let path = data.join(crate::relay::KEY_FILE);
    if !path.exists() {
        return Err(TokenOrderError::NoRelay { path: data.display().to_string() });
    }
    let order = order.checked()?;
    let (tokens, _) = Tokens::open(&path, None, None, Arc::<Revocations>::default())?;
    let made = tokens.make(&order, clock::now_s())?;
    Ok(MadeToken { token: made.token, id: made.id, expires_s: order.expires_s })
}

impl TokenOrder {
    /// The same, as a token says it.
    pub(crate) fn checked(&self) -> Result<Order, TokenOrderError> {
        let wrong =
            |found: &str, expected| TokenOrderError::Value { found: found.into(), expected };
        if !(1..=MAX_SUBJECT_BYTES).contains(&self.subject.len()) {
            return Err(wrong(&self.subject, "a subject has 1 to 256 bytes"));
        }
        if !(1..=MAX_AUDIENCES).contains(&self.stores.len()) {
            return Err(wrong("", "a token is for 1 to 256 stores or patterns"));
        }
        let mut audience = Vec::new();
        for text in &self.stores {
            let expected =
                "a store's name has 1 to 128 letters, digits, -, _, . or ~, or ends in *";
            audience.push(Audience::new(text).ok_or_else(|| wrong(text, expected))?);
        }
        for word in &self.scope {
            if Scope::ALL.into_iter().all(|scope| scope.word() != word) {
                return Err(wrong(word, "scopes are read, write, presence and admin"));
            }
        }
        if !(1..=MAX_TOKEN_LIFE_S).contains(&self.life_s) {
            return Err(wrong(&self.life_s.to_string(), "a token lives up to ten years"));
        }
        let expires_s = clock::now_s() + self.life_s;
        Ok(Order { subject: self.subject.clone(), audience, scope: self.scope.clone(), expires_s })
    }
}
