//! Errors of HTTP: `application/problem+json` (RFC 9457).

use http_body_util::BodyExt;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Answer, Cut, full};
use crate::storage::StorageError;
use crate::token::TokenError;

/// What went wrong, for a program and for a person.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// A word that does not change.
    kind: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl ToString) -> Problem {
        Problem { status, kind, detail: detail.to_string(), retry_after_s: None }
    }

    /// Nothing here, also for paths that are written in an unusual way.
    pub(crate) fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing at this path")
    }

    /// The token does not allow it.
    pub(crate) fn scope(needed: &str) -> Problem {
        let detail = format!("the token lacks the scope {needed}, or is for other stores");
        Problem::new(StatusCode::FORBIDDEN, "scope", detail)
    }

    /// As a response.
    pub(crate) fn answer(self) -> Answer {
        let body = json!({
            "type": format!("urn:anabranch:problem:{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut answer = Response::new(full(body.to_string()).map_err(Cut::from).boxed_unsync());
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Problem {
        let (status, kind) = match error {
            TokenError::Audience { .. } => (StatusCode::FORBIDDEN, "audience"),
            TokenError::Expired => (StatusCode::UNAUTHORIZED, "token-expired"),
            TokenError::Revoked => (StatusCode::UNAUTHORIZED, "token-revoked"),
            _ => (StatusCode::UNAUTHORIZED, "token"),
        };
        Problem::new(status, kind, error)
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Problem {
        let (status, kind) = match &error {
            StorageError::Gap { .. } => (StatusCode::CONFLICT, "gap"),
            StorageError::SiteReused { .. } | StorageError::FalseBranch { .. } => {
                (StatusCode::CONFLICT, "site-reused")
            }
            StorageError::NotOwner { .. } => (StatusCode::FORBIDDEN, "not-owner"),
            StorageError::ClockAhead(_) => (StatusCode::CONFLICT, "clock-ahead"),
            StorageError::StoreFull { .. } | StorageError::BlobsFull { .. } => {
                (StatusCode::INSUFFICIENT_STORAGE, "quota")
            }
            StorageError::BlobsFirst { .. } => (StatusCode::CONFLICT, "blobs"),
            StorageError::TooFast { .. } => (StatusCode::TOO_MANY_REQUESTS, "quota"),
            StorageError::Wire(_) => (StatusCode::BAD_REQUEST, "delta"),
            StorageError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            StorageError::Backend(_) | StorageError::Damaged { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "storage")
            }
        };
        let retry_after_s = match &error {
            StorageError::TooFast { retry_ms, .. } => Some(retry_ms.div_ceil(1000)),
            StorageError::ClockAhead(ahead) => {
                Some(ahead.retry_at_ms.saturating_sub(ahead.now_ms).div_ceil(1000))
            }
            StorageError::Stopping => Some(1),
            _ => None,
        };
        Problem { retry_after_s, ..Problem::new(status, kind, error) }
    }
}
