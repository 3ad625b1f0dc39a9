//! A relay with a folder of its own, for tests of what it does with stored deltas.

use std::sync::Arc;

use anabranch_core::delta::Delta;
use anabranch_core::wire::encode;
use anabranch_sync::scope::Scopes;

use crate::config::{Config, Settings};
use crate::intake::{Intake, Taken};
use crate::relay::Relay;
use crate::storage::awaited;
use crate::store_id::StoreId;
use crate::token::Grant;

/// A relay without connections.
pub(crate) struct TestRelay {
    pub(crate) relay: Arc<Relay>,
    _folder: tempfile::TempDir,
}

impl TestRelay {
    /// In a new folder.
    pub(crate) fn new() -> TestRelay {
        let folder = tempfile::tempdir().unwrap();
        let data = Some(folder.path().to_path_buf());
        let config = Config::new(Settings { data, ..Settings::default() }).unwrap();
        let relay = Arc::new(Relay::open(config).unwrap().0);
        TestRelay { relay, _folder: folder }
    }

    /// Takes a delta as from somebody who may do anything; it is on disk then.
    pub(crate) async fn take(&self, store: &StoreId, delta: &Delta) {
        let grant = Grant {
            subject: "ann".into(),
            token_id: None,
            audience: Vec::new(),
            scopes: Scopes::ALL,
            expires_s: u64::MAX,
        };
        let mut intake = Intake::new(&self.relay, store.clone(), &grant);
        for part in encode(delta) {
            let (answer, answered) = awaited();
            if let Taken::Delta { .. } =
                intake.take(&self.relay, part.into(), answer).await.unwrap()
            {
                answered.await.unwrap();
            }
        }
    }
}
