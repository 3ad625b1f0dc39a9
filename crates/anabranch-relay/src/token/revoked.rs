//! Tokens and subjects that are worth nothing any more, in memory as in storage.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use super::Grant;
use crate::storage::{Revoked, RevokedKind};

/// All that is revoked, and a signal when more is.
#[derive(Debug)]
pub(crate) struct Revocations {
    names: RwLock<HashMap<(RevokedKind, String), u64>>,
    changed: watch::Sender<u64>,
}

impl Default for Revocations {
    fn default() -> Revocations {
        Revocations { names: RwLock::default(), changed: watch::Sender::new(0) }
    }
}

impl Revocations {
    /// Takes what is on disk.
    pub(crate) fn add(&self, all: impl IntoIterator<Item = Revoked>) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        for revoked in all {
            names.insert((revoked.kind, revoked.name), revoked.until_s);
        }
        drop(names);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Becomes ready whenever something was revoked.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether a grant's token or subject is among them.
    pub(crate) fn includes(&self, grant: &Grant) -> bool {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if names.is_empty() {
            return false;
        }
        let is_revoked = |kind, name: &str| names.contains_key(&(kind, name.to_string()));
        is_revoked(RevokedKind::Subject, &grant.subject)
            || grant.token_id.as_deref().is_some_and(|id| is_revoked(RevokedKind::Token, id))
    }
}
