//! A relay with a folder of its own, and what deltas are made of, for tests of what it does with
//! stored ones.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anabranch_core::change::{ChangeHeader, ChangeKind};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::Delta;
use anabranch_core::site::SiteId;
use anabranch_core::vector::Held;
use anabranch_core::wire::encode;
use anabranch_sync::scope::Scopes;

use crate::config::{Config, Settings};
use crate::intake::{Intake, Taken};
use crate::relay::Relay;
use crate::storage::{Body, awaited};
use crate::store_id::StoreId;
use crate::token::Grant;

/// A site of this name.
pub(crate) fn site(name: u8) -> SiteId {
    SiteId::new(&[name; 16]).unwrap()
}

/// A site's first versions: of all of them the salt is 3.
pub(crate) fn held(name: u8, version: u64) -> Held {
    let chain = (1..=version).fold(Chain::default(), |c, v| c.next(site(name), v, 3));
    Held { version, chain }
}

/// The header of one of them.
pub(crate) fn header(name: u8, version: u64) -> ChangeHeader {
    ChangeHeader {
        site: site(name),
        version,
        salt: 3,
        time: Hlc(1),
        deps: Vec::new(),
        author: None,
        message: None,
        kind: ChangeKind::Edit,
        blobs: Vec::new(),
    }
}

/// A relay without connections.
pub(crate) struct TestRelay {
    pub(crate) relay: Arc<Relay>,
    folder: tempfile::TempDir,
}

impl TestRelay {
    /// In a new folder.
    pub(crate) fn new() -> TestRelay {
        let folder = tempfile::tempdir().unwrap();
        let data = Some(folder.path().to_path_buf());
        let config = Config::new(Settings { data, ..Settings::default() }).unwrap();
        let relay = Arc::new(Relay::open(config).unwrap().0);
        TestRelay { relay, folder }
    }

    /// Makes the files of a delta so old.
    pub(crate) fn age(&self, body: &Body, age: Duration) {
        let Body::Blobs(parts) = body else { return };
        for (hash, _) in parts.iter() {
            let name = hash.to_string();
            let path = self.folder.path().join("blobs").join(&name[..2]).join(&name[2..4]);
            let file = File::options().write(true).open(path.join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
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
