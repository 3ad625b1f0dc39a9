//! HTTP: what can be asked with a request and an answer, and how a WebSocket begins.
//!
//! A request is refused in this order: its path, its origin, its token, the token's stores,
//! its scope. Until the token was found good nothing is read but the head of the request.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    AUTHORIZATION, CONTENT_TYPE, HeaderValue, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;

use crate::doorstep::Waiting;
use crate::limits::BODY_TIMEOUT;
use crate::metrics;
use crate::relay::Relay;
use crate::store_id::StoreId;
use crate::token::{Grant, TokenError};
use anabranch_clock as clock;
use anabranch_sync::scope::Scope;

mod body;
mod open_api;
mod path;
mod problem;
mod stores;
mod tokens;
mod upgrade;

pub(crate) use body::{Cut, full};
pub(crate) use path::{NoRoute, Route};
pub(crate) use problem::Problem;

/// What a request is answered with.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Cut>>;

/// Answers a request; never fails.
pub(crate) async fn answer(relay: Arc<Relay>, request: Request<Incoming>) -> Answer {
    metrics::count(&relay.metrics().requests);
    let origin = request.headers().get(ORIGIN).cloned();
    let answered = match allowed_origin(&relay, origin.as_ref()) {
        Ok(()) if request.method() == Method::OPTIONS => Ok(preflight()),
        Ok(()) => dispatch(&relay, request).await,
        Err(problem) => Err(problem),
    };
    let mut answer = answered.unwrap_or_else(Problem::answer);
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        if answer.status() != StatusCode::FORBIDDEN {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
    answer
}

async fn dispatch(relay: &Arc<Relay>, request: Request<Incoming>) -> Result<Answer, Problem> {
    let route = path::route(request.method(), request.uri().path()).map_err(no_route)?;
    match route {
        Route::Health => Ok(text("ok\n")),
        Route::Ready => ready(relay).await,
        Route::Metrics => {
            // Everybody may count; who delivers is for admins.
            let grant = grant(relay, &request).ok();
            let is_admin = grant.is_some_and(|grant| grant.scopes.has(Scope::Admin));
            let mut answer = text(metrics::text(relay, is_admin));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(answer)
        }
        Route::Page => Ok(open_api::page()),
        Route::OpenApi => Ok(json_answer(StatusCode::OK, &open_api::document())),
        Route::MakeToken => tokens::make(relay, request).await,
        Route::MakeTicket => tokens::make_ticket(relay, &request),
        Route::Revoke => tokens::revoke(relay, request).await,
        Route::Stores => stores::list(relay, &request).await,
        Route::Facts(store) => stores::facts(relay, &request, &store).await,
        Route::Export(store) => stores::export(relay, &request, store).await,
        Route::Import(store) => stores::import(relay, request, store).await,
        Route::Delete(store) => stores::delete(relay, &request, &store).await,
        Route::Sync(store) => upgrade::upgrade(relay, request, store),
    }
}

/// Browsers say which page asks; others say nothing and prove themselves with their token.
fn allowed_origin(relay: &Relay, origin: Option<&HeaderValue>) -> Result<(), Problem> {
    let Some(origin) = origin else { return Ok(()) };
    let listed = &relay.config().origins;
    if listed.iter().any(|one| one == "*" || one.as_bytes() == origin.as_bytes()) {
        return Ok(());
    }
    let detail =
        "pages of this origin may not connect: the relay's setting `origins` lists those that may";
    Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail))
}

fn preflight() -> Answer {
    let mut answer = text("");
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, DELETE");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = HeaderValue::from_static("authorization, content-type");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    answer
}

fn no_route(reason: NoRoute) -> Problem {
    match reason {
        NoRoute::Path => Problem::not_found(),
        NoRoute::Method(allowed) => {
            let detail = format!("this path takes {allowed} only");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
        }
    }
}

/// Whether the storage answers.
async fn ready(relay: &Relay) -> Result<Answer, Problem> {
    if relay.is_stopping() {
        return Err(crate::storage::StorageError::Stopping.into());
    }
    relay.storage().stores(None, 1).await?;
    Ok(text("ready\n"))
}

/// What the request's token grants.
fn grant<B>(relay: &Relay, request: &Request<B>) -> Result<Grant, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token else {
        let detail = "a token is needed, as `Authorization: Bearer TOKEN`";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "token", detail));
    };
    let grant = checked(relay, token)?;
    admit(request);
    Ok(grant)
}

/// The connection has shown a valid token.
fn admit<B>(request: &Request<B>) {
    if let Some(waiting) = request.extensions().get::<Arc<Waiting>>() {
        waiting.admit();
    }
}

/// Checks a token, and counts it where it is refused.
pub(crate) fn checked(relay: &Relay, token: &str) -> Result<Grant, TokenError> {
    let grant = relay.tokens().check(token, clock::now_s());
    if grant.is_err() {
        metrics::count(&relay.metrics().tokens_refused);
    }
    grant
}

/// The grant of a token that allows `scope` on `store`.
fn grant_for<B>(
    relay: &Relay,
    request: &Request<B>,
    store: &StoreId,
    scope: Scope,
) -> Result<Grant, Problem> {
    let grant = grant(relay, request)?;
    if !grant.includes(store) || !grant.scopes.has(scope) {
        return Err(Problem::scope(scope.word()));
    }
    Ok(grant)
}

fn text(text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(text).map_err(Cut::from).boxed_unsync());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = text(format!("{value}\n"));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Reads a small JSON object.
async fn json_body(request: Request<Incoming>) -> Result<Value, Problem> {
    let limited = http_body_util::Limited::new(request.into_body(), crate::limits::MAX_JSON_BYTES);
    let wrong = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "json", detail);
    let body = tokio::time::timeout(BODY_TIMEOUT, limited.collect()).await;
    let body = body.map_err(|_| wrong("the body stalled"))?;
    let body = body.map_err(|_| wrong("the body is larger than 64 KiB"))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| wrong(&error.to_string()))
}
