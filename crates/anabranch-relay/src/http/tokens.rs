//! Routes that make and take back tokens.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Problem, grant, json_answer, json_body};
use crate::limits::{DEFAULT_TOKEN_LIFE_S, MAX_SUBJECT_BYTES, MAX_TOKEN_LIFE_S, TICKET_LIFE_S};
use crate::relay::Relay;
use crate::storage::{Revoked, RevokedKind};
use crate::token::{Audience, Grant, Order};
use anabranch_clock as clock;
use anabranch_sync::scope::Scope;

/// What `POST /api/token` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenOrder {
    subject: String,
    audience: Vec<String>,
    scope: Vec<String>,
    expires_in: Option<u64>,
}

/// What `POST /api/revoke` takes: one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    token_id: Option<String>,
    subject: Option<String>,
}

/// Makes a token, never for more stores than the maker's own.
pub(super) async fn make(relay: &Relay, request: Request<Incoming>) -> Result<Answer, Problem> {
    let grant = admin(relay, &request)?;
    let order = parse(json_body(request).await?)?;
    let order = checked(order, &grant)?;
    let now_s = clock::now_s();
    let made = relay.tokens().make(&order, now_s).map_err(no_random)?;
    tracing::info!(by = %grant.subject, subject = %order.subject, id = %made.id, "token made");
    let body = json!({ "token": made.token, "id": made.id, "expires": order.expires_s });
    Ok(json_answer(StatusCode::CREATED, &body))
}

/// Makes a one-time ticket that stands for the request's token.
pub(super) fn make_ticket<B>(relay: &Relay, request: &Request<B>) -> Result<Answer, Problem> {
    let grant = grant(relay, request)?;
    let made = relay.tickets().make(grant, clock::now_s()).map_err(no_random)?;
    let Some(ticket) = made else {
        let detail = "too many tickets are open";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "tickets", detail));
    };
    let body = json!({ "ticket": ticket, "expires_in": TICKET_LIFE_S });
    Ok(json_answer(StatusCode::CREATED, &body))
}

/// Revokes one token, or all of a subject, those on live connections too.
pub(super) async fn revoke(
    relay: &Arc<Relay>,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    let grant = admin(relay, &request)?;
    if !grant.audience.iter().any(|audience| audience.as_str() == "*") {
        let detail = "who revokes must be an admin of all stores";
        return Err(Problem::new(StatusCode::FORBIDDEN, "audience", detail));
    }
    let wanted: Revocation = parse(json_body(request).await?)?;
    let (kind, name) = match (wanted.token_id, wanted.subject) {
        (Some(id), None) => (RevokedKind::Token, id),
        (None, Some(subject)) => (RevokedKind::Subject, subject),
        _ => return Err(wrong("one of token_id and subject is needed")),
    };
    if name.is_empty() || name.len() > MAX_SUBJECT_BYTES {
        return Err(wrong("a name has 1 to 256 bytes"));
    }
    // No token of ours lives longer; those of other makers who date them further do so at
    // their own risk.
    let revoked = Revoked { kind, name, until_s: clock::now_s() + MAX_TOKEN_LIFE_S };
    relay.storage().revoke(revoked.clone()).await?;
    tracing::info!(by = %grant.subject, kind = ?kind, name = %revoked.name, "revoked");
    relay.revocations().add([revoked]);
    Ok(json_answer(StatusCode::OK, &json!({ "revoked": true })))
}

fn admin<B>(relay: &Relay, request: &Request<B>) -> Result<Grant, Problem> {
    let grant = grant(relay, request)?;
    if grant.scopes.has(Scope::Admin) { Ok(grant) } else { Err(Problem::scope("admin")) }
}

/// An order that a token can say, and that does not exceed its maker's stores.
fn checked(order: TokenOrder, maker: &Grant) -> Result<Order, Problem> {
    let is_admin = order.scope.iter().any(|word| word == Scope::Admin.word());
    // Whoever makes admins could otherwise be one for ever.
    let left_s = match is_admin {
        true => maker.expires_s.saturating_sub(clock::now_s()),
        false => u64::MAX,
    };
    let life_s = order.expires_in.unwrap_or(DEFAULT_TOKEN_LIFE_S.min(left_s));
    if life_s > left_s {
        let detail = format!("an admin's token that you make can live for {left_s} s, as yours");
        return Err(Problem::new(StatusCode::FORBIDDEN, "expiry", detail));
    }
    let TokenOrder { subject, audience, scope, .. } = order;
    let order = crate::make_token::TokenOrder { subject, stores: audience, scope, life_s };
    let order = order.checked().map_err(|error| wrong(&error.to_string()))?;
    let is_own = |one: &Audience| maker.audience.iter().any(|own| own.contains(one));
    if let Some(foreign) = order.audience.iter().find(|one| !is_own(one)) {
        let store = foreign.as_str();
        let detail = format!("your token is not for {store}, so one that you make cannot be");
        return Err(Problem::new(StatusCode::FORBIDDEN, "audience", detail));
    }
    Ok(order)
}

fn parse<T: for<'de> Deserialize<'de>>(value: serde_json::Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|error| wrong(&error.to_string()))
}

fn wrong(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "json", detail)
}

fn no_random(error: crate::token::KeyError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "random", error)
}
