//! How the storage's and the token's errors are told to a peer.

use anabranch_core::vector::Dot;
use anabranch_core::wire::WireError;
use anabranch_sync::Refusal;
use anabranch_sync::frame::{ErrorCode, Retry};

use crate::limits::STORAGE_RETRY_MS;
use crate::storage::StorageError;
use crate::token::TokenError;

/// What a peer is told of a delta or a question that failed.
pub(super) fn of_storage(error: &StorageError) -> Refusal {
    let (code, retry) = match error {
        // Of another history's beginning only the two vectors can tell how much is common.
        StorageError::Gap { .. } | StorageError::SiteReused { .. } => {
            (ErrorCode::Missing, Retry::AfterMs(0))
        }
        StorageError::FalseBranch { .. } => (ErrorCode::SiteReused, Retry::Never),
        StorageError::NotOwner { .. } => (ErrorCode::NotOwner, Retry::Never),
        StorageError::ClockAhead(ahead) => {
            let wait_ms = ahead.retry_at_ms.saturating_sub(ahead.now_ms);
            (ErrorCode::ClockAhead, Retry::AfterMs(wait_ms))
        }
        StorageError::StoreFull { .. } => (ErrorCode::OverQuota, Retry::Never),
        StorageError::BlobsFull { .. } => (ErrorCode::OverQuota, Retry::Never),
        // Until the Have that follows.
        StorageError::BlobsFirst { .. } => (ErrorCode::BlobsFirst, Retry::Never),
        StorageError::TooFast { retry_ms, .. } => (ErrorCode::OverQuota, Retry::AfterMs(*retry_ms)),
        StorageError::Wire(WireError::Unsupported { .. } | WireError::UnknownSection { .. }) => {
            (ErrorCode::Unsupported, Retry::Never)
        }
        StorageError::Wire(WireError::Checksum) => (ErrorCode::Damaged, Retry::AfterMs(0)),
        StorageError::Wire(_) => (ErrorCode::Malformed, Retry::Never),
        StorageError::Backend(_) => (ErrorCode::Storage, Retry::AfterMs(STORAGE_RETRY_MS)),
        StorageError::Damaged { .. } => (ErrorCode::Storage, Retry::Never),
        StorageError::Stopping => (ErrorCode::Busy, Retry::AfterMs(STORAGE_RETRY_MS)),
    };
    let mut refusal = Refusal::new(code, retry, error.to_string());
    refusal.change = match error {
        StorageError::SiteReused { site, version } => Some(Dot { site: *site, version: *version }),
        _ => None,
    };
    refusal
}

/// What a peer is told of its token.
pub(super) fn of_token(error: &TokenError) -> Refusal {
    let code = match error {
        TokenError::Expired | TokenError::Revoked => ErrorCode::TokenEnded,
        TokenError::Audience { .. } => ErrorCode::Forbidden,
        _ => ErrorCode::Unauthorized,
    };
    Refusal::new(code, Retry::Never, error.to_string())
}

/// The relay stops, and will be back.
pub(super) fn stopping() -> Refusal {
    Refusal::new(ErrorCode::Closing, Retry::AfterMs(STORAGE_RETRY_MS), "the relay is stopping")
}

/// The store was deleted.
pub(super) fn store_deleted() -> Refusal {
    Refusal::new(ErrorCode::NoStore, Retry::AfterMs(0), "the store was deleted")
}
