//! Routes about stores: what there is, export, import, delete.

use std::sync::Arc;

use anabranch_core::limits::MAX_PART_BYTES;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{HEAD_BYTES, part_head};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::body::{Cut, Sent};
use super::{Answer, Problem, grant, grant_for, json_answer};
use crate::intake::{Intake, Taken, must_be_complete};
use crate::limits::{BODY_TIMEOUT, MAX_LISTED_STORES, MAX_READ_BYTES, MAX_READ_DELTAS};
use crate::relay::Relay;
use crate::storage::{Appended, Delivered, StorageError, StoreFacts, Wanted, awaited};
use crate::store_id::StoreId;
use crate::token::{Grant, TokenError};
use anabranch_clock as clock;
use anabranch_sync::scope::Scope;

/// The stores that an admin's token is for, by name; `?after=` goes on.
pub(super) async fn list<B>(relay: &Relay, request: &Request<B>) -> Result<Answer, Problem> {
    let grant = grant(relay, request)?;
    if !grant.scopes.has(Scope::Admin) {
        return Err(Problem::scope("admin"));
    }
    let after = match parameter(request, "after") {
        None => None,
        Some(name) => Some(StoreId::new(name).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, "parameter", "after is not the name of a store")
        })?),
    };
    let stores = own_stores(relay, &grant, after).await?;
    let next = stores.last().filter(|_| stores.len() == MAX_LISTED_STORES as usize);
    let next = next.map(|last| last.store.as_str());
    let body = json!({ "next": next, "stores": stores.iter().map(facts_json).collect::<Value>() });
    Ok(json_answer(StatusCode::OK, &body))
}

/// One answer's worth of the stores that a grant is for. The page ends with one of these: the
/// name of another's store, where the search has come to, is nothing to be told.
async fn own_stores(
    relay: &Relay,
    grant: &Grant,
    mut after: Option<StoreId>,
) -> Result<Vec<StoreFacts>, StorageError> {
    let mut own = Vec::new();
    loop {
        let found = relay.storage().stores(after, MAX_LISTED_STORES).await?;
        let is_last = found.len() < MAX_LISTED_STORES as usize;
        after = found.last().map(|facts| facts.store.clone());
        own.extend(found.into_iter().filter(|facts| grant.includes(&facts.store)));
        own.truncate(MAX_LISTED_STORES as usize);
        if is_last || own.len() == MAX_LISTED_STORES as usize {
            return Ok(own);
        }
    }
}

/// What there is to say of one store.
pub(super) async fn facts<B>(
    relay: &Relay,
    request: &Request<B>,
    store: &StoreId,
) -> Result<Answer, Problem> {
    let grant = grant_for(relay, request, store, Scope::Read)?;
    let facts = relay.storage().facts(store).await?.ok_or_else(no_store)?;
    let vector = relay.storage().vector(store).await?.to_json();
    let mut body = facts_json(&facts);
    body["vector"] = serde_json::from_str(&vector).unwrap_or_default();
    // Subjects are people.
    if grant.scopes.has(Scope::Admin) {
        let delivered = relay.storage().deliverers(store).await?.into_iter();
        body["delivered"] = delivered.map(|delivered| delivered_json(&delivered)).collect();
    }
    Ok(json_answer(StatusCode::OK, &body))
}

fn delivered_json(delivered: &Delivered) -> Value {
    json!({
        "site": delivered.site.to_string(), "first": delivered.first, "last": delivered.last,
        "subject": delivered.subject,
    })
}

/// All deltas above `?since=` (a vector as JSON), one behind the other: `ana import` takes
/// them.
pub(super) async fn export<B>(
    relay: &Arc<Relay>,
    request: &Request<B>,
    store: StoreId,
) -> Result<Answer, Problem> {
    let grant = grant_for(relay, request, &store, Scope::Read)?;
    let held = match parameter(request, "since") {
        None => VersionVector::new(),
        Some(text) => VersionVector::from_json(&decoded(text)?).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "parameter", format!("since: {error}"))
        })?,
    };
    relay.storage().facts(&store).await?.ok_or_else(no_store)?;
    tracing::info!(%store, subject = %grant.subject, "export");
    let (pieces, sent) = mpsc::channel(2);
    let relay = Arc::clone(relay);
    tokio::spawn(async move {
        if let Err(error) = send_all(&relay, &store, &grant, held, &pieces).await {
            tracing::warn!(%store, %error, "export ended early");
            // The reader may be gone.
            let _ = pieces.send(Err(Cut)).await;
        }
    });
    let mut answer = Response::new(Sent(sent).boxed_unsync());
    let kind = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(answer)
}

/// Why an export ends early.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("nobody reads it")]
    Stalled,
}

/// Sends deltas until there are no more, or nobody reads.
async fn send_all(
    relay: &Relay,
    store: &StoreId,
    grant: &Grant,
    held: VersionVector,
    pieces: &mpsc::Sender<Result<Bytes, Cut>>,
) -> Result<(), ExportError> {
    let held = Arc::new(held);
    let mut after = None;
    loop {
        let wanted = Wanted {
            held: Arc::clone(&held),
            after,
            max_deltas: MAX_READ_DELTAS,
            max_bytes: MAX_READ_BYTES,
        };
        let deltas = relay.storage().deltas(store, wanted).await?;
        let Some(last) = deltas.last() else { return Ok(()) };
        after = Some(last.id);
        for delta in deltas {
            for number in 0..delta.body.n_parts() {
                relay.tokens().recheck(grant, clock::now_s())?;
                let part = relay.read_part(&delta, number).await?;
                match tokio::time::timeout(BODY_TIMEOUT, pieces.send(Ok(part))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(ExportError::Stalled),
                }
            }
        }
    }
}

/// Takes the parts of any number of deltas, one behind the other.
pub(super) async fn import(
    relay: &Arc<Relay>,
    request: Request<Incoming>,
    store: StoreId,
) -> Result<Answer, Problem> {
    let grant = grant_for(relay, &request, &store, Scope::Write)?;
    let mut intake = Intake::new(relay, store.clone(), &grant);
    let mut body = request.into_body();
    let mut waiting = BytesMut::new();
    let (mut n_stored, mut n_covered) = (0, 0);
    loop {
        while let Some(part) = next_part(&mut waiting)? {
            // A body may come for hours.
            relay.tokens().recheck(&grant, clock::now_s())?;
            let (answer, answered) = awaited();
            let Taken::Delta { size, .. } = intake.take(relay, part, answer).await? else {
                continue;
            };
            let appended = answered.await;
            relay.note_appended(&appended, (&store, &grant.subject), size);
            match appended? {
                Appended::Stored(_) => n_stored += 1,
                Appended::Covered(_) => n_covered += 1,
            }
        }
        let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body stalled");
        let frame = tokio::time::timeout(BODY_TIMEOUT, body.frame()).await.map_err(late)?;
        let Some(frame) = frame else { break };
        let cut = |_| Problem::new(StatusCode::BAD_REQUEST, "delta", "the body was cut off");
        if let Some(bytes) = frame.map_err(cut)?.data_ref() {
            waiting.extend_from_slice(bytes);
        }
    }
    must_be_complete(&intake).map_err(StorageError::from)?;
    if !waiting.is_empty() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "delta", "the last part is cut off"));
    }
    let body = json!({ "stored": n_stored, "covered": n_covered });
    Ok(json_answer(StatusCode::OK, &body))
}

/// Cuts the next part off what came, if it is whole.
fn next_part(waiting: &mut BytesMut) -> Result<Option<Bytes>, Problem> {
    if waiting.len() < HEAD_BYTES {
        return Ok(None);
    }
    let (_, n_bytes) = part_head(waiting).map_err(StorageError::from)?;
    debug_assert!(n_bytes <= MAX_PART_BYTES);
    Ok((waiting.len() >= n_bytes).then(|| waiting.split_to(n_bytes).freeze()))
}

/// Forgets a store; who is connected to it starts anew.
pub(super) async fn delete<B>(
    relay: &Relay,
    request: &Request<B>,
    store: &StoreId,
) -> Result<Answer, Problem> {
    let grant = grant_for(relay, request, store, Scope::Admin)?;
    if !relay.storage().delete(store).await? {
        return Err(no_store());
    }
    relay.hub().evict(store);
    tracing::info!(%store, by = %grant.subject, "store deleted");
    Ok(json_answer(StatusCode::OK, &json!({ "deleted": true })))
}

fn facts_json(facts: &StoreFacts) -> Value {
    json!({
        "store": facts.store.as_str(), "created_ms": facts.created_ms, "bytes": facts.n_bytes,
        "deltas": facts.n_deltas, "changes": facts.n_changes, "sites": facts.n_sites,
    })
}

fn no_store() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-store", "there is no such store")
}

/// A parameter of the query, as it is written there.
pub(super) fn parameter<'a, B>(request: &'a Request<B>, name: &str) -> Option<&'a str> {
    let query = request.uri().query()?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Percent-decoded (RFC 3986, 2.1).
fn decoded(text: &str) -> Result<String, Problem> {
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, "parameter", "not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).ok_or_else(wrong)?;
        let byte = data_encoding::HEXLOWER_PERMISSIVE.decode(digits).map_err(|_| wrong())?;
        bytes.extend(byte);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}
