//! The routes of HTTP, each with what it answers.

use anabranch_relay::Settings;

use crate::deltas::{Site, with_body};
use crate::world::World;

#[test]
fn a_relay_says_that_it_lives() {
    let world = World::new();
    for (path, status, text) in [
        ("/healthz", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/metrics", 200, "\nanabranch_relay_connections "),
        ("/api", 200, "<table>"),
        ("/api/openapi.json", 200, "\"openapi\":\"3.1.0\""),
        ("/", 404, "urn:anabranch:problem:not-found"),
        ("/sync", 426, "Sec-WebSocket"),
    ] {
        let answer = world.http("GET", path, &[], b"");
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(text) || path == "/sync", "{path}: {}", answer.text());
        let is_problem = answer.head.contains("application/problem+json");
        assert_eq!(is_problem, status >= 400, "{path}: {}", answer.head);
    }
}

#[test]
fn the_document_names_every_route() {
    let world = World::new();
    let document = world.http("GET", "/api/openapi.json", &[], b"").json();
    let paths = document["paths"].as_object().unwrap();
    let mut n_operations = 0;
    for (path, operations) in paths {
        let path = path.replace("{store}", "s");
        for method in operations.as_object().unwrap().keys() {
            n_operations += 1;
            let answer = world.http(&method.to_uppercase(), &path, &[], b"");
            assert!(![404, 405].contains(&answer.status), "{method} {path}: {}", answer.text());
        }
    }
    assert_eq!(n_operations, 13);
}

#[test]
fn stores_are_exported_imported_listed_and_deleted() {
    let world = World::new();
    let admin = world.token("root", "*", "admin");
    let mut site = Site::new(1);
    let deltas: Vec<Vec<u8>> = (0..3).map(|_| site.write_one()).collect();
    let body = deltas.concat();
    let answer = world.with_token("POST", "/api/stores/notes/import", &admin, &body);
    assert_eq!((answer.status, answer.json()["stored"].as_u64()), (200, Some(3)));
    // Again: nothing new, and none of it stored twice.
    let again = world.with_token("POST", "/api/stores/notes/import", &admin, &body).json();
    assert_eq!((again["stored"].as_u64(), again["covered"].as_u64()), (Some(0), Some(3)));

    let facts = world.with_token("GET", "/api/stores/notes", &admin, b"").json();
    assert_eq!(
        (&facts["changes"], &facts["sites"], &facts["deltas"]),
        (&3.into(), &1.into(), &3.into())
    );
    assert_eq!(facts["delivered"][0]["subject"], "root");
    assert_eq!(facts["delivered"][0]["last"], 3);
    // Subjects are people: only an admin learns who they are.
    let writer = world.token("ann", "notes", "write");
    let answer = world.with_token("GET", "/api/stores/notes", &writer, b"");
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains("root") && answer.json().get("delivered").is_none());

    let export = world.with_token("GET", "/api/stores/notes/export", &admin, b"");
    assert_eq!(export.body, body);
    let since = Site { vector: site.vector.clone(), ..Site::new(1) }.vector.to_json();
    let since: String = since.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = format!("/api/stores/notes/export?since={since}");
    assert_eq!(world.with_token("GET", &path, &admin, b"").body, b"");

    let listed = world.with_token("GET", "/api/stores", &admin, b"").json();
    assert_eq!(listed["stores"][0]["store"], "notes");
    assert_eq!(world.with_token("DELETE", "/api/stores/notes", &admin, b"").status, 200);
    for method in ["GET", "DELETE"] {
        assert_eq!(world.with_token(method, "/api/stores/notes", &admin, b"").status, 404);
    }
}

/// What only a later version can read is kept as it came, and given to those who can.
#[test]
fn what_cannot_be_read_is_kept() {
    let world = World::new();
    let admin = world.token("root", "*", "admin");
    let mut site = Site::new(1);
    let part = site.write_one();
    let mut body = anabranch_core::wire::body(&part).unwrap();
    // A document update, and a section that has no name yet.
    body.extend_from_slice(&[20, 3, 1, 2, 3, 99, 1, 7]);
    let later = with_body(&part, &body, body.len() as u32);
    let import = |part: &[u8]| world.with_token("POST", "/api/stores/notes/import", &admin, part);
    assert_eq!(import(&later).json()["stored"], 1);
    assert_eq!(import(&site.write_one()).json()["stored"], 1);
    let export = world.with_token("GET", "/api/stores/notes/export", &admin, b"");
    assert!(export.body.starts_with(&later));
}

#[test]
fn bad_bodies_are_refused_and_change_nothing() {
    let world = World::new();
    let admin = world.token("root", "*", "admin");
    let good = Site::new(1).write_one();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let import = "/api/stores/notes/import";
    for (path, body, status, what) in [
        (import, &good[..good.len() - 1], 400, "cut off"),
        (import, &good[..10], 400, "cut off in its head"),
        (import, &damaged[..], 400, "damaged"),
        (import, &[b'x'; 100][..], 400, "no delta"),
        ("/api/token", b"{", 400, "no JSON"),
        ("/api/token", b"[]", 400, "no object"),
        ("/api/token", br#"{"subject":"a","audience":["a/b"],"scope":[]}"#, 400, "a bad store"),
        ("/api/token", br#"{"subject":"","audience":["a"],"scope":[]}"#, 400, "no subject"),
        ("/api/token", br#"{"subject":"a","audience":["a"],"scope":["root"]}"#, 400, "a bad word"),
        ("/api/token", br#"{"subject":"a","audience":[],"scope":[]}"#, 400, "for nothing"),
        ("/api/revoke", br#"{}"#, 400, "nothing to revoke"),
    ] {
        let answer = world.with_token("POST", path, &admin, body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }
    assert_eq!(world.with_token("GET", "/api/stores/notes", &admin, b"").status, 404);
}

#[test]
fn quotas_are_named() {
    let world = World::with(Settings {
        max_store_bytes: Some(1500),
        max_changes_per_second: Some(2),
        ..Settings::default()
    });
    let token = world.token("ann", "*", "write");
    let import = |store: &str, body: &[u8]| {
        world.with_token("POST", &format!("/api/stores/{store}/import"), &token, body)
    };
    let large = Site::new(1).write(1, 2000).concat();
    let full = import("a", &large);
    assert_eq!(full.status, 507);
    assert!(full.text().contains("quota store-bytes"), "{}", full.text());

    let mut site = Site::new(2);
    assert_eq!(import("b", &site.write(10, 1).concat()).status, 200, "a run may exceed the rate");
    let fast = import("b", &site.write_one());
    assert_eq!(fast.status, 429);
    assert!(fast.text().contains("quota changes-per-second"), "{}", fast.text());
    assert!(fast.head.to_ascii_lowercase().contains("retry-after"), "{}", fast.head);
    assert_eq!(import("c", &Site::new(3).write_one()).status, 200, "another store");
}

#[test]
fn pages_of_other_origins_are_kept_out() {
    let origins = Some(vec!["https://app.example".to_string()]);
    let world = World::with(Settings { origins, ..Settings::default() });
    for (origin, status) in [
        ("https://app.example", 200),
        ("https://app.example.evil", 403),
        ("https://evil.example", 403),
        ("http://app.example", 403),
        ("null", 403),
    ] {
        for path in ["/healthz", "/api/openapi.json"] {
            let answer = world.http("GET", path, &[("Origin", origin)], b"");
            assert_eq!(answer.status, status, "{origin} {path}");
            let is_allowed = answer.head.to_ascii_lowercase().contains("access-control-allow");
            assert_eq!(is_allowed, status == 200, "{}", answer.head);
        }
    }
    let asked = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")];
    assert_eq!(world.http("OPTIONS", "/api/token", &asked, b"").status, 204);
}
