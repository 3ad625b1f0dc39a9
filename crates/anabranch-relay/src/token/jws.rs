//! Signed tokens: JWS compact serialization (RFC 7515, section 7.1) with EdDSA (RFC 8037),
//! ES256 or HS256 (RFC 7518).
//!
//! **Invariant:** the algorithm is a property of the key. The header's `alg` must repeat it
//! and chooses nothing, so `none`, and a public key taken for a secret, cannot be expressed
//! (RFC 8725, sections 2.1 and 3.1).

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Deserializer};

use super::TokenError;
use crate::limits::MAX_TOKEN_BYTES;

/// What signatures are checked with.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// EdDSA with curve Ed25519: 32 bytes.
    Ed25519([u8; 32]),
    /// ES256: the uncompressed point, 65 bytes.
    P256([u8; 65]),
    /// HS256.
    Hmac(ring::hmac::Key),
}

impl Key {
    /// What the header must say.
    fn algorithm(&self) -> &'static str {
        match self {
            Key::Ed25519(_) => "EdDSA",
            Key::P256(_) => "ES256",
            Key::Hmac(_) => "HS256",
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ring::error::Unspecified> {
        match self {
            Key::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Key::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            Key::Hmac(key) => ring::hmac::verify(key, message, signature),
        }
    }
}

/// The protected header, as far as it matters.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "given")]
    kid: Option<String>,
    /// Extensions that must be understood: none is.
    #[serde(default, deserialize_with = "given")]
    crit: Option<serde::de::IgnoredAny>,
    /// "unencoded payload" (RFC 7797), which `crit` must name: refused either way.
    #[serde(default, deserialize_with = "given")]
    b64: Option<serde::de::IgnoredAny>,
}

/// A member that may be left out, but not be `null`: no claim and no parameter that matters
/// here may (RFC 7515, 4.1; RFC 7519, 4.1).
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads a JSON object. Left to itself `serde` takes an array for a struct too, its members in
/// order: a text that a key signed for another purpose.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(json).ok().filter(|_| is_object)
}

/// Checks a token's signature; its payload.
///
/// `key_of` finds a key by the header's `kid`.
///
/// # Errors
/// [`TokenError`].
pub(super) fn open(
    token: &str,
    key_of: impl FnOnce(Option<&str>) -> Result<Key, TokenError>,
) -> Result<Vec<u8>, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed { what: "longer than a token may be" });
    }
    let (message, signature) =
        token.rsplit_once('.').ok_or(TokenError::Malformed { what: "no signature" })?;
    let (header, payload) =
        message.split_once('.').ok_or(TokenError::Malformed { what: "no payload" })?;
    let header = decode(header)?;
    let header: Header = object(&header).ok_or(TokenError::Malformed { what: "its header" })?;
    if header.crit.is_some() || header.b64.is_some() {
        return Err(TokenError::Malformed { what: "its header asks for an extension" });
    }
    let key = key_of(header.kid.as_deref())?;
    if header.alg != key.algorithm() {
        return Err(TokenError::Algorithm { expected: key.algorithm() });
    }
    key.verify(message.as_bytes(), &decode(signature)?).map_err(|_| TokenError::Signature)?;
    decode(payload)
}

/// Signs `payload` with EdDSA.
pub(super) fn sign(payload: &[u8], kid: &str, key: &Ed25519KeyPair) -> String {
    let header = serde_json::json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }).to_string();
    let mut token = BASE64URL_NOPAD.encode(header.as_bytes());
    token.push('.');
    token.push_str(&BASE64URL_NOPAD.encode(payload));
    let signature = BASE64URL_NOPAD.encode(key.sign(token.as_bytes()).as_ref());
    token.push('.');
    token.push_str(&signature);
    token
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|_| TokenError::Malformed { what: "not base64url" })
}
