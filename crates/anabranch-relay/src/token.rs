//! Who may do what: tokens, the keys they are checked with, what was revoked, tickets.
//!
//! A token is a JWT ([`jws`], [`claims`]); checked, it is a [`Grant`]. A grant is worth
//! something for a store while it has not expired and neither its id nor its subject is
//! revoked: sessions ask again when either may have changed.

use std::path::Path;
use std::sync::Arc;

use anabranch_core::site::SiteId;
use serde_json::json;

use crate::resume::ResumeKey;
use crate::store_id::StoreId;
use anabranch_sync::scope::Scopes;

mod claims;
mod jws;
mod keys;
mod revoked;
mod ticket;

pub(crate) use claims::Audience;
pub use keys::{JwksPlace, JwksUrl, KeyError};
pub(crate) use revoked::Revocations;
pub(crate) use ticket::Tickets;

/// Why a token is worth nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TokenError {
    /// Not a token.
    #[error("not a token: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// No such key.
    #[error("no key is known that could have signed this token")]
    UnknownKey,
    /// Another algorithm than the key's.
    #[error("the key that this token names signs with {expected} only")]
    Algorithm {
        /// The key's.
        expected: &'static str,
    },
    /// Forged or damaged.
    #[error("the token's signature is wrong")]
    Signature,
    /// Too old.
    #[error("the token has expired")]
    Expired,
    /// Too young.
    #[error("the token is not valid yet")]
    NotYet,
    /// Taken back.
    #[error("the token was revoked")]
    Revoked,
    /// For other stores.
    #[error("the token is not for store {store}")]
    Audience {
        /// Which was asked for.
        store: StoreId,
    },
}

/// What a valid token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Who.
    pub(crate) subject: Arc<str>,
    /// The token's own name, by which it can be revoked.
    pub(crate) token_id: Option<Arc<str>>,
    /// For which stores.
    pub(crate) audience: Vec<Audience>,
    /// To do what.
    pub(crate) scopes: Scopes,
    /// Until when, Unix seconds; this one is past it.
    pub(crate) expires_s: u64,
}

impl Grant {
    /// Whether it is for this store.
    pub(crate) fn includes(&self, store: &StoreId) -> bool {
        self.audience.iter().any(|audience| audience.includes(store))
    }
}

/// A token to be made.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// For whom.
    pub(crate) subject: String,
    /// For which stores.
    pub(crate) audience: Vec<Audience>,
    /// Words of scope.
    pub(crate) scope: Vec<String>,
    /// Until when, Unix seconds.
    pub(crate) expires_s: u64,
}

/// A token that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// What its holder shows.
    pub(crate) token: String,
    /// What revokes it.
    pub(crate) id: String,
}

/// Checks and makes tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    keys: keys::Keys,
    revocations: Arc<Revocations>,
}

impl Tokens {
    /// Reads the keys; whether the relay's own was made just now.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn open(
        own_key: &Path,
        secret: Option<&[u8]>,
        jwks: Option<&JwksPlace>,
        revocations: Arc<Revocations>,
    ) -> Result<(Tokens, bool), KeyError> {
        let (own, is_new) = keys::OwnKey::open(own_key)?;
        let keys = keys::Keys::open(own, secret, jwks)?;
        Ok((Tokens { keys, revocations }, is_new))
    }

    /// Fetches keys by URL for as long as the relay runs.
    pub(crate) async fn tend(&self) {
        self.keys.tend().await;
    }

    /// What the relay calls itself: a digest of its public key.
    pub(crate) fn site(&self) -> SiteId {
        self.keys.own().site()
    }

    /// Makes and reads resume tickets.
    pub(crate) fn resume(&self) -> &ResumeKey {
        &self.keys.own().resume
    }

    /// Checks a token; what it grants.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(crate) fn check(&self, token: &str, now_s: u64) -> Result<Grant, TokenError> {
        let payload = jws::open(token, |kid| self.keys.find(kid, now_s))?;
        let grant = claims::grant(&payload, now_s)?;
        self.recheck(&grant, now_s)?;
        Ok(grant)
    }

    /// Whether a grant is still worth something.
    ///
    /// # Errors
    /// [`TokenError::Expired`], [`TokenError::Revoked`].
    pub(crate) fn recheck(&self, grant: &Grant, now_s: u64) -> Result<(), TokenError> {
        if grant.expires_s <= now_s {
            return Err(TokenError::Expired);
        }
        if self.revocations.includes(grant) { Err(TokenError::Revoked) } else { Ok(()) }
    }

    /// Makes a token, signed with the relay's own key.
    pub(crate) fn make(&self, order: &Order, now_s: u64) -> Result<Made, KeyError> {
        let mut id = [0; 12];
        getrandom::fill(&mut id).map_err(|_| KeyError::Random)?;
        let id = data_encoding::BASE64URL_NOPAD.encode(&id);
        let audience: Vec<&str> = order.audience.iter().map(Audience::as_str).collect();
        let payload = json!({
            "sub": order.subject, "aud": audience, "scope": order.scope.join(" "),
            "iat": now_s, "exp": order.expires_s, "jti": id,
        });
        let own = self.keys.own();
        let token = jws::sign(payload.to_string().as_bytes(), &own.kid, &own.pair);
        Ok(Made { token, id })
    }
}
