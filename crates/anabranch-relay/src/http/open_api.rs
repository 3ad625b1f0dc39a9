//! What the HTTP routes are, for programs (OpenAPI 3.1) and as a page.

use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};

use super::{Answer, text};

/// One operation of the interface.
struct Operation {
    /// Method and path.
    route: (&'static str, &'static str),
    /// The scope that its token needs; empty: no token.
    scope: &'static str,
    /// Media type of the body; empty: none.
    takes: &'static str,
    /// Status and media type of the answer.
    gives: (&'static str, &'static str),
    summary: &'static str,
}

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

const fn operation(
    route: (&'static str, &'static str),
    scope: &'static str,
    takes: &'static str,
    gives: (&'static str, &'static str),
    summary: &'static str,
) -> Operation {
    Operation { route, scope, takes, gives, summary }
}

const OPERATIONS: &[Operation] = &[
    operation(("get", "/healthz"), "", "", ("200", TEXT), "Whether the process lives"),
    operation(("get", "/readyz"), "", "", ("200", TEXT), "Whether the storage answers"),
    operation(
        ("get", "/metrics"),
        "",
        "",
        ("200", TEXT),
        "Counters for Prometheus; who delivers is shown to admins",
    ),
    operation(
        ("get", "/sync"),
        "any",
        "",
        ("101", TEXT),
        "WebSocket with any number of stores, one a channel",
    ),
    operation(
        ("get", "/sync/{store}"),
        "any",
        "",
        ("101", TEXT),
        "WebSocket whose channel 0 is this store",
    ),
    operation(
        ("post", "/api/token"),
        "admin",
        JSON,
        ("201", JSON),
        "Make a token: {subject, audience: [..], scope: [..], expires_in}",
    ),
    operation(
        ("post", "/api/ticket"),
        "any",
        "",
        ("201", JSON),
        "Make a one-time ticket for /sync?ticket=, good for 30 s",
    ),
    operation(
        ("post", "/api/revoke"),
        "admin",
        JSON,
        ("200", JSON),
        "Revoke a token {token_id} or all of a subject {subject}",
    ),
    operation(
        ("get", "/api/stores"),
        "admin",
        "",
        ("200", JSON),
        "List stores; ?after= goes on behind a name",
    ),
    operation(
        ("get", "/api/stores/{store}"),
        "read",
        "",
        ("200", JSON),
        "Size, vector, and, for an admin, who delivered which versions",
    ),
    operation(("delete", "/api/stores/{store}"), "admin", "", ("200", JSON), "Forget a store"),
    operation(
        ("get", "/api/stores/{store}/export"),
        "read",
        "",
        ("200", BYTES),
        "Deltas above ?since= (a vector as JSON), one behind the other, as `ana import` takes them",
    ),
    operation(
        ("post", "/api/stores/{store}/import"),
        "write",
        BYTES,
        ("200", JSON),
        "Take deltas, one behind the other, as `ana export` writes them",
    ),
];

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let (method, path) = operation.route;
        paths.entry(path).or_insert_with(|| json!({}))[method] = operation.json();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Anabranch relay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Keeps and forwards deltas. Errors are application/problem+json.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
            "schemas": { "Problem": {
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": { "type": "string" }, "title": { "type": "string" },
                    "status": { "type": "integer" }, "detail": { "type": "string" },
                },
            }},
        },
    })
}

impl Operation {
    fn json(&self) -> Value {
        let problem = json!({ "$ref": "#/components/schemas/Problem" });
        let (status, kind) = self.gives;
        let mut operation = json!({
            "summary": self.summary,
            "responses": {
                status: { "description": "Done", "content": { kind: {} } },
                "default": {
                    "description": "A problem",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        });
        if !self.scope.is_empty() {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = json!(format!("Scope: {}", self.scope));
        }
        if !self.takes.is_empty() {
            operation["requestBody"] = json!({ "required": true, "content": { self.takes: {} } });
        }
        if self.route.1.contains("{store}") {
            operation["parameters"] = json!([{
                "name": "store", "in": "path", "required": true,
                "schema": { "type": "string", "pattern": "^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}$" },
            }]);
        }
        operation
    }
}

/// The same as a page without a script.
pub(super) fn page() -> Answer {
    let mut rows = String::new();
    for Operation { route: (method, path), scope, summary, .. } in OPERATIONS {
        let method = method.to_ascii_uppercase();
        rows.push_str(&format!(
            "<tr><td><code>{method}</code><td><code>{path}</code><td>{summary}<td>{scope}\n"
        ));
    }
    let mut answer = text(include_str!("page.html").replace("{rows}", &rows));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    answer
}
