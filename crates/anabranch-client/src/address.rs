//! Where a store syncs to: `ws://`, `wss://`, `dir:` or `s3://`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anabranch_sync::frame::StoreName;

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    target: Target,
}

/// What an address leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A folder, by its absolute path.
    Folder(PathBuf),
    /// A bucket of an S3-compatible storage, and the prefix of all names in it.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
    /// A relay.
    Relay {
        /// Its URL up to `/sync`, without user, query and fragment.
        base: String,
        /// The store that the URL names.
        store: Option<StoreName>,
    },
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It names something, but not how to reach it.
    #[error(
        "{address:?} is no address to sync with: it must begin with ws://, wss://, dir: or s3://"
    )]
    Scheme {
        /// The text.
        address: String,
    },
    /// Something is missing or wrong after the scheme.
    #[error("{address:?} is no address to sync with: {why}")]
    Rest {
        /// The text.
        address: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl Address {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The folder, if it is one; for messages.
    pub fn folder(&self) -> Option<&Path> {
        match &self.target {
            Target::Folder(path) => Some(path),
            _ => None,
        }
    }
}

impl std::fmt::Display for Address {
    /// As the address is kept and shown: without anything secret, a folder with its absolute
    /// path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Target::Folder(path) => write!(f, "dir:{}", path.display()),
            Target::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Target::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Target::Relay { base, store: None } => f.write_str(base),
            Target::Relay { base, store: Some(store) } => write!(f, "{base}/{}", store.as_str()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Address, AddressError> {
        let wrong = |why| AddressError::Rest { address: address.to_string(), why };
        let target = if let Some(path) = address.strip_prefix("dir:") {
            if path.is_empty() {
                return Err(wrong("the folder is missing after dir:"));
            }
            let absolute = std::path::absolute(path).map_err(|_| wrong("no such path can be"))?;
            Target::Folder(absolute)
        } else if let Some(rest) = address.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("the bucket is missing after s3://"));
            }
            let prefix = prefix.trim_matches('/').to_string();
            Target::Bucket { bucket: bucket.to_string(), prefix }
        } else if address.starts_with("ws://") || address.starts_with("wss://") {
            relay(address).map_err(wrong)?
        } else {
            return Err(AddressError::Scheme { address: address.to_string() });
        };
        Ok(Address { target })
    }
}

/// `wss://host/sync` and `store` of `wss://user@host/sync/store?x#y`.
fn relay(address: &str) -> Result<Target, &'static str> {
    let address = address.split(['?', '#']).next().unwrap_or(address);
    let (scheme, rest) = address.split_once("://").ok_or("the host is missing")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    if host.is_empty() || host.starts_with(':') {
        return Err("the host is missing");
    }
    let path = path.trim_end_matches('/');
    let is_base = |path: &str| path == "sync" || path.ends_with("/sync");
    if is_base(path) {
        return Ok(Target::Relay { base: format!("{scheme}://{host}/{path}"), store: None });
    }
    match path.rsplit_once('/').filter(|(base, _)| is_base(base)) {
        Some((base, store)) => {
            let why = "a store's name has up to 128 letters, digits and -_.~, the first no dot";
            let store = Some(StoreName::new(store).ok_or(why)?);
            Ok(Target::Relay { base: format!("{scheme}://{host}/{base}"), store })
        }
        None => Err("the path must end with /sync/ and the name of a store"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("dir:/media/stick", "dir:/media/stick"),
            ("dir:/a/./b/", "dir:/a/b/"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
            ("ws://127.0.0.1:7440/sync/list", "ws://127.0.0.1:7440/sync/list"),
            ("wss://me:secret@host/sync/a?ticket=1", "wss://host/sync/a"),
            ("wss://host/behind/sync/a/", "wss://host/behind/sync/a"),
            ("ws://host/sync", "ws://host/sync"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "/media/stick",
            "http://host",
            "dir:",
            "s3://",
            "s3:///x",
            "ws://",
            "ws://:80/sync/a",
            "ws://host",
            "ws://host/sync/.a",
            "ws://host/a",
            "ws://host/sync/a/b",
            "ws:/host/sync/a",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
