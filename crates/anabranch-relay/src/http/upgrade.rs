//! How a WebSocket begins: the handshake of RFC 6455, section 4.2.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::{Request, StatusCode};

use super::stores::parameter;
use super::{Answer, Problem, admit, grant, text};
use crate::connection;
use crate::doorstep::Waiting;
use crate::metrics::Counted;
use crate::relay::Relay;
use crate::store_id::StoreId;
use crate::token::Grant;
use anabranch_clock as clock;

/// Answers the handshake and leaves the connection to a task of its own.
///
/// A token in the header or a ticket in the query is checked here; without either the first
/// Hello must bring one.
pub(super) fn upgrade(
    relay: &Arc<Relay>,
    mut request: Request<Incoming>,
    store: Option<StoreId>,
) -> Result<Answer, Problem> {
    let key = handshake_key(&request)?;
    let grant = early_grant(relay, &request)?;
    if let (Some(store), Some(grant)) = (&store, &grant)
        && !grant.includes(store)
    {
        return Err(crate::token::TokenError::Audience { store: store.clone() }.into());
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let task = relay.tasks().enter();
    let counted = request.extensions_mut().remove::<Arc<Counted>>();
    let waiting = request.extensions_mut().remove::<Arc<Waiting>>();
    let spoken = Arc::clone(relay);
    tokio::spawn(async move {
        // Where the answer could not be sent there is nobody to talk to.
        if let Ok(io) = upgraded.await {
            connection::run(spoken, io, store, (grant, waiting)).await;
        }
        drop(counted);
        drop(task);
    });
    let mut answer = text("");
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.clear();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&key).map_err(|_| not_a_handshake("key"))?;
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(answer)
}

/// What the answer must contain.
fn handshake_key<B>(request: &Request<B>) -> Result<String, Problem> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let has_word = |name, word: &str| {
        header(name).is_some_and(|list| {
            list.split(',').any(|found| found.trim().eq_ignore_ascii_case(word))
        })
    };
    if !has_word(UPGRADE, "websocket") || !has_word(CONNECTION, "upgrade") {
        return Err(not_a_handshake("Upgrade and Connection"));
    }
    if header(SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(not_a_handshake("Sec-WebSocket-Version"));
    }
    let key = header(SEC_WEBSOCKET_KEY).ok_or_else(|| not_a_handshake("Sec-WebSocket-Key"))?;
    let is_key = data_encoding::BASE64.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16);
    if is_key {
        Ok(crate::websocket::accept_key(key.as_bytes()))
    } else {
        Err(not_a_handshake("Sec-WebSocket-Key"))
    }
}

fn not_a_handshake(header: &str) -> Problem {
    let detail = format!("this path speaks WebSocket (RFC 6455), version 13: {header}");
    Problem::new(StatusCode::UPGRADE_REQUIRED, "websocket", detail)
}

/// What the request itself proves.
fn early_grant(relay: &Relay, request: &Request<Incoming>) -> Result<Option<Grant>, Problem> {
    if let Some(ticket) = parameter(request, "ticket") {
        let redeemed = relay.tickets().redeem(ticket, clock::now_s());
        let detail = "the ticket is unknown, used, or older than 30 seconds";
        let refused = Problem::new(StatusCode::UNAUTHORIZED, "ticket", detail);
        let grant = redeemed.ok_or(refused)?;
        // It may have been revoked since.
        relay.tokens().recheck(&grant, clock::now_s())?;
        admit(request);
        return Ok(Some(grant));
    }
    if request.headers().contains_key(hyper::header::AUTHORIZATION) {
        return grant(relay, request).map(Some);
    }
    Ok(None)
}
