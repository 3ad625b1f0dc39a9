//! What a connection waits for beside its socket, and what comes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anabranch_core::vector::VersionVector;
use anabranch_sync::StoreEvent;
use anabranch_sync::frame::{DeltaName, Partial};
use anabranch_sync::ticket::Basis;

use super::lane::Exported;
use crate::blobs::BlobHash;
use crate::hub::Seat;
use crate::intake::Intake;
pub(super) use crate::intake::Taken as Took;
use crate::storage::StorageError;

/// Something that is under way.
pub(super) type Job = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What is read when a store is opened.
pub(super) struct Opened {
    pub(super) vector: Arc<VersionVector>,
    /// How often the store's names had changed then.
    pub(super) n_renamings: u64,
    pub(super) partials: Vec<Partial>,
    /// What the shown ticket stands for, if it does.
    pub(super) resumed: Option<Basis>,
    /// Blobs that the peer is asked for, if it may bring some.
    pub(super) missing: Vec<BlobHash>,
}

/// What came of it, for the lane of this serial number.
pub(super) enum Outcome {
    /// A store was opened.
    Opened { serial: u32, seat: Seat, opened: Result<Opened, StorageError> },
    /// A question was answered.
    Read { serial: u32, event: Box<StoreEvent>, exported: Option<Exported> },
    /// A part was checked.
    Took { serial: u32, delta: DeltaName, intake: Intake, took: Result<Took, StorageError> },
}
