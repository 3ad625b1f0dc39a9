//! What the HTTP routes are, for programs (OpenAPI 3.1) and as a page.

use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};

use super::{Answer, text};

/// One operation of the interface.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// The scope that its token needs; `None`: no token.
    scope: Option<&'static str>,
    /// Media types of body and answer.
    takes: Option<&'static str>,
    gives: &'static str,
    status: &'static str,
}

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    Operation { method: "get", path: "/healthz", summary: "Whether the process lives", scope: None, takes: None, gives: TEXT, status: "200" },
    Operation { method: "get", path: "/readyz", summary: "Whether the storage answers", scope: None, takes: None, gives: TEXT, status: "200" },
    Operation { method: "get", path: "/metrics", summary: "Counters for Prometheus; who delivers is shown to admins", scope: None, takes: None, gives: TEXT, status: "200" },
    Operation { method: "get", path: "/sync", summary: "WebSocket with any number of stores, one a channel", scope: Some("any"), takes: None, gives: TEXT, status: "101" },
    Operation { method: "get", path: "/sync/{store}", summary: "WebSocket whose channel 0 is this store", scope: Some("any"), takes: None, gives: TEXT, status: "101" },
    Operation { method: "post", path: "/api/token", summary: "Make a token: {subject, audience: [..], scope: [..], expires_in}", scope: Some("admin"), takes: Some(JSON), gives: JSON, status: "201" },
    Operation { method: "post", path: "/api/ticket", summary: "Make a one-time ticket for the query of /sync?ticket=, good for 30 s", scope: Some("any"), takes: None, gives: JSON, status: "201" },
    Operation { method: "post", path: "/api/revoke", summary: "Revoke a token {token_id} or all of a subject {subject}", scope: Some("admin"), takes: Some(JSON), gives: JSON, status: "200" },
    Operation { method: "get", path: "/api/stores", summary: "List stores; ?after= goes on behind a name", scope: Some("admin"), takes: None, gives: JSON, status: "200" },
    Operation { method: "get", path: "/api/stores/{store}", summary: "Size, vector, and who delivered which versions", scope: Some("read"), takes: None, gives: JSON, status: "200" },
    Operation { method: "delete", path: "/api/stores/{store}", summary: "Forget a store", scope: Some("admin"), takes: None, gives: JSON, status: "200" },
    Operation { method: "get", path: "/api/stores/{store}/export", summary: "Deltas above ?since= (a vector as JSON), one behind the other, as `ana import` takes them", scope: Some("read"), takes: None, gives: BYTES, status: "200" },
    Operation { method: "post", path: "/api/stores/{store}/import", summary: "Take deltas, one behind the other, as `ana export` writes them", scope: Some("write"), takes: Some(BYTES), gives: JSON, status: "200" },
];

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.json();
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
        let mut operation = json!({
            "summary": self.summary,
            "responses": {
                self.status: { "description": "Done", "content": { self.gives: {} } },
                "default": {
                    "description": "A problem",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        });
        if let Some(scope) = self.scope {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = json!(format!("Scope: {scope}"));
        }
        if let Some(kind) = self.takes {
            operation["requestBody"] = json!({ "required": true, "content": { kind: {} } });
        }
        if self.path.contains("{store}") {
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
    for operation in OPERATIONS {
        let scope = operation.scope.unwrap_or("");
        let method = operation.method.to_ascii_uppercase();
        rows.push_str(&format!(
            "<tr><td><code>{method}</code></td><td><code>{}</code></td><td>{}</td><td>{scope}</td></tr>\n",
            operation.path, operation.summary,
        ));
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Anabranch relay</title>\n\
         <style>body{{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         td,th{{text-align:left;padding:.3rem 1rem .3rem 0;vertical-align:top}}</style>\n\
         <h1>Anabranch relay</h1>\n<p>Tokens go into <code>Authorization: Bearer</code>. Errors are \
         <code>application/problem+json</code>. For programs: <a href=\"/api/openapi.json\">\
         openapi.json</a>.</p>\n<table><tr><th></th><th>path</th><th></th><th>scope</th></tr>\n\
         {rows}</table></html>\n",
    );
    let mut answer = text(page);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    answer
}
