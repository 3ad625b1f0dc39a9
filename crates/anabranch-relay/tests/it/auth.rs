//! Who may do what, as tables: tokens that are worth nothing, scopes against frames and
//! routes, spellings of paths, and tokens that end while somebody is connected.

use anabranch_relay::Settings;
use anabranch_sync::frame::ErrorCode;
use anabranch_sync::{ChannelId, Event};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::client::{Client, Copy, dial};
use crate::deltas::Site;
use crate::world::World;

const SECRET: &str = "a secret of more than thirty-two bytes";

pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A relay that takes all three algorithms, and who signs for it.
pub(crate) struct Issuer {
    pub(crate) world: World,
    ed: Ed25519KeyPair,
    es: EcdsaKeyPair,
    _keys: tempfile::TempDir,
}

impl Issuer {
    pub(crate) fn new() -> Issuer {
        let random = ring::rand::SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ed = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let es = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let es = EcdsaKeyPair::from_pkcs8(algorithm, es.as_ref(), &random).unwrap();
        let point = es.public_key().as_ref();
        let jwks = json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
              "x": BASE64URL_NOPAD.encode(ed.public_key().as_ref()) },
            { "kty": "EC", "crv": "P-256", "kid": "es", "alg": "ES256",
              "x": BASE64URL_NOPAD.encode(&point[1..33]),
              "y": BASE64URL_NOPAD.encode(&point[33..]) },
            { "kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB" },
        ]});
        let keys = tempfile::tempdir().unwrap();
        let path = keys.path().join("jwks.json");
        std::fs::write(&path, jwks.to_string()).unwrap();
        let world = World::with(Settings {
            jwks: Some(path.display().to_string()),
            jwt_secret: Some(SECRET.to_string()),
            ..Settings::default()
        });
        Issuer { world, ed, es, _keys: keys }
    }

    /// Signs with the key that `with` names, whatever the header says.
    pub(crate) fn sign(&self, header: Value, claims: &Value, with: &str) -> String {
        let message = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(header.to_string().as_bytes()),
            BASE64URL_NOPAD.encode(claims.to_string().as_bytes())
        );
        let hmac = |key: &[u8]| {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
            ring::hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
        };
        let signature = match with {
            "ed" => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
            "es" => {
                let random = ring::rand::SystemRandom::new();
                self.es.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
            }
            "secret" => hmac(SECRET.as_bytes()),
            "public key" => hmac(self.ed.public_key().as_ref()),
            _ => Vec::new(),
        };
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    pub(crate) fn claims(&self) -> Value {
        json!({ "sub": "ann", "aud": "notes", "scope": "read", "exp": now_s() + 600 })
    }

    /// The status of a read of store `notes` with this token, and what is said.
    fn status(&self, token: &str) -> (u16, String) {
        let answer = self.world.with_token("GET", "/api/stores/notes", token, b"");
        (answer.status, answer.text())
    }
}

pub(crate) fn with(mut claims: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

/// 404 means that the token was good: there is no store yet.
#[test]
fn tokens_that_are_good() {
    let issuer = Issuer::new();
    let claims = issuer.claims();
    let ed = json!({ "alg": "EdDSA", "kid": "ed" });
    for (header, claims, key) in [
        (ed.clone(), claims.clone(), "ed"),
        (json!({ "alg": "ES256", "kid": "es", "typ": "JWT" }), claims.clone(), "es"),
        (json!({ "alg": "HS256" }), claims.clone(), "secret"),
        (ed.clone(), with(claims.clone(), "aud", json!("*")), "ed"),
        (ed.clone(), with(claims.clone(), "aud", json!("no*")), "ed"),
        (ed.clone(), with(claims.clone(), "aud", json!(["other", "notes"])), "ed"),
        (ed.clone(), with(claims.clone(), "scope", json!(["read", "unknown"])), "ed"),
        (ed.clone(), with(claims.clone(), "scope", json!("unknown write")), "ed"),
        (ed.clone(), with(claims.clone(), "nbf", json!(now_s() + 50)), "ed"),
        (ed.clone(), with(claims.clone(), "iat", json!(now_s() + 50)), "ed"),
        (ed.clone(), with(claims.clone(), "exp", json!(now_s() as f64 + 10.5)), "ed"),
        (ed.clone(), with(claims.clone(), "exp", json!(1e300)), "ed"),
    ] {
        let token = issuer.sign(header, &claims, key);
        let (status, text) = issuer.status(&token);
        assert_eq!(status, 404, "{claims}: {text}");
    }
}

#[test]
fn tokens_that_are_worth_nothing() {
    let issuer = Issuer::new();
    let claims = issuer.claims();
    let ed = json!({ "alg": "EdDSA", "kid": "ed" });
    let good = issuer.sign(ed.clone(), &claims, "ed");
    let mut forged = good.clone();
    forged.replace_range(good.len() - 4.., "AAAA");
    let other = issuer.sign(ed.clone(), &with(claims.clone(), "scope", json!("admin")), "ed");
    let payload = other.split('.').nth(1).unwrap();
    let swapped: Vec<&str> = good.split('.').collect();
    let swapped = format!("{}.{payload}.{}", swapped[0], swapped[2]);
    let header = |header: Value, key: &str| issuer.sign(header, &claims, key);
    let claim = |name: &str, value: Value| {
        issuer.sign(ed.clone(), &with(claims.clone(), name, value), "ed")
    };
    let array = json!(["ann", "notes", "read", now_s() + 600]);
    let array = issuer.sign(ed.clone(), &array, "ed");
    let mut begin = claims.clone();
    begin["nbf"] = Value::Null;
    let begin = issuer.sign(ed.clone(), &begin, "ed");
    for (what, token, status) in [
        ("nothing", String::new(), 401),
        ("no token", "x".to_string(), 401),
        ("two dots and no more", "..".to_string(), 401),
        ("a bad signature", forged, 401),
        ("another's payload", swapped, 401),
        ("a signature cut off", good[..good.len() - 2].to_string(), 401),
        ("padding", format!("{good}="), 401),
        ("a fourth part", format!("{good}.x"), 401),
        ("alg none", header(json!({ "alg": "none", "kid": "ed" }), ""), 401),
        ("alg none, no kid", header(json!({ "alg": "none" }), ""), 401),
        ("no alg", header(json!({ "kid": "ed" }), "ed"), 401),
        ("alg in small letters", header(json!({ "alg": "eddsa", "kid": "ed" }), "ed"), 401),
        ("public key as secret", header(json!({ "alg": "HS256", "kid": "ed" }), "public key"), 401),
        ("public key as secret, no kid", header(json!({ "alg": "HS256" }), "public key"), 401),
        (
            "the secret for a listed key",
            header(json!({ "alg": "HS256", "kid": "ed" }), "secret"),
            401,
        ),
        ("a listed key for the secret", header(json!({ "alg": "EdDSA" }), "ed"), 401),
        ("one key for the other", header(json!({ "alg": "ES256", "kid": "ed" }), "es"), 401),
        ("the other's kid", header(json!({ "alg": "EdDSA", "kid": "es" }), "ed"), 401),
        ("RS256", header(json!({ "alg": "RS256", "kid": "rsa" }), "secret"), 401),
        ("an unknown kid", header(json!({ "alg": "EdDSA", "kid": "ED" }), "ed"), 401),
        (
            "a kid that is a path",
            header(json!({ "alg": "HS256", "kid": "../../dev/null" }), ""),
            401,
        ),
        ("an empty kid", header(json!({ "alg": "HS256", "kid": "" }), "secret"), 401),
        ("a kid that is no text", header(json!({ "alg": "EdDSA", "kid": 1 }), "ed"), 401),
        ("a key of its own", header(json!({ "alg": "EdDSA", "jwk": { "kty": "oct" } }), "ed"), 401),
        ("crit", header(json!({ "alg": "EdDSA", "kid": "ed", "crit": ["b64"] }), "ed"), 401),
        ("b64", header(json!({ "alg": "EdDSA", "kid": "ed", "b64": false }), "ed"), 401),
        ("no subject", claim("sub", Value::Null), 401),
        ("an empty subject", claim("sub", json!("")), 401),
        ("no end", claim("exp", Value::Null), 401),
        ("an end that is no number", claim("exp", json!("soon")), 401),
        ("ended", claim("exp", json!(now_s())), 401),
        ("ended a little ago", claim("exp", json!(now_s() - 30)), 401),
        ("begins later", claim("nbf", json!(now_s() + 120)), 401),
        ("made later", claim("iat", json!(now_s() + 120)), 401),
        ("no audience", claim("aud", Value::Null), 403),
        ("another store", claim("aud", json!("note")), 403),
        ("a store in capitals", claim("aud", json!("NOTES")), 403),
        ("other stores", claim("aud", json!("x*")), 403),
        ("a star inside", claim("aud", json!("n*s")), 403),
        ("no scope", claim("scope", Value::Null), 403),
        ("another scope", claim("scope", json!("presence")), 403),
        ("a scope in capitals", claim("scope", json!("READ")), 403),
        ("crit null", header(json!({ "alg": "EdDSA", "kid": "ed", "crit": null }), "ed"), 401),
        ("kid null", header(json!({ "alg": "HS256", "kid": null }), "secret"), 401),
        ("a header in an array", header(json!(["EdDSA", "ed", 0, 0]), "ed"), 401),
        ("a header in a short array", header(json!(["EdDSA", "ed"]), "ed"), 401),
        ("claims in an array", array, 401),
        ("a begin that is null", begin, 401),
        ("an end before 1970", claim("exp", json!(-1e300)), 401),
        ("scopes that are no text", claim("scope", json!(["read", 1])), 401),
        ("two stores in one string", claim("aud", json!("other notes")), 403),
        ("an empty audience", claim("aud", json!("")), 403),
        ("a store and NUL", claim("aud", json!("notes\0")), 403),
        ("a store in wide letters", claim("aud", json!("\u{ff4e}otes")), 403),
        ("two stars", claim("aud", json!("**")), 403),
        ("a long one", claim("note", json!("x".repeat(7000))), 401),
    ] {
        let (found, text) = issuer.status(&token);
        assert_eq!(found, status, "{what}: {text}");
    }
}

/// A header or claims that say one thing twice, and base64url with bits that mean nothing.
#[test]
fn tokens_have_one_reading() {
    let issuer = Issuer::new();
    let sign = |header: &str, claims: &str| {
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = issuer.ed.sign(message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    };
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let claims = issuer.claims().to_string();
    let good = sign(header, &claims);
    assert_eq!(issuer.status(&good).0, 404);
    let twice =
        |name: &str, value: &str| claims.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    // 64 bytes leave four bits of the last digit unused.
    let last = good.as_bytes()[good.len() - 1];
    let loose = format!("{}{}", &good[..good.len() - 1], (last + 1) as char);
    for (what, token) in [
        ("alg twice", sign(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#, &claims)),
        ("kid twice", sign(r#"{"alg":"EdDSA","kid":"x","kid":"ed"}"#, &claims)),
        ("aud twice", sign(header, &twice("aud", "\"other\""))),
        ("aud twice, once escaped", sign(header, &twice("a\\u0075d", "\"other\""))),
        ("exp twice", sign(header, &twice("exp", "1"))),
        ("something behind", sign(header, &format!("{claims}{{}}"))),
        ("loose bits", loose),
    ] {
        let (found, text) = issuer.status(&token);
        assert!([400, 401].contains(&found), "{what}: {found} {text}");
    }
}

/// An end beyond what a clock counts is one that never comes.
#[test]
fn a_token_without_a_real_end_opens_a_channel() {
    let issuer = Issuer::new();
    let claims = with(issuer.claims(), "exp", json!(1e300));
    let token = issuer.sign(json!({ "alg": "EdDSA", "kid": "ed" }), &claims, "ed");
    let (_client, _) = settled(&issuer.world, &token);
}

/// What each scope lets its holder do over HTTP.
#[test]
fn routes_against_scopes() {
    let world = World::new();
    let part = Site::new(1).write_one();
    let root = world.token("root", "*", "admin");
    assert_eq!(world.with_token("POST", "/api/stores/s/import", &root, &part).status, 200);
    let order = br#"{"subject":"x","audience":["s"],"scope":["read"]}"#;
    let import = "/api/stores/s/import";
    //   route                                    none  presence  read  write  admin
    let table: [(&str, &str, &[u8], [u16; 5]); 8] = [
        ("GET", "/api/stores/s", b"", [403, 403, 200, 200, 200]),
        ("GET", "/api/stores/s/export", b"", [403, 403, 200, 200, 200]),
        ("POST", import, &part, [403, 403, 403, 200, 200]),
        ("GET", "/api/stores", b"", [403, 403, 403, 403, 200]),
        ("POST", "/api/token", order, [403, 403, 403, 403, 201]),
        ("POST", "/api/ticket", b"", [201, 201, 201, 201, 201]),
        ("POST", "/api/revoke", br#"{"token_id":"x"}"#, [403, 403, 403, 403, 403]),
        ("DELETE", "/api/stores/s", b"", [403, 403, 403, 403, 200]),
    ];
    for (method, path, body, expected) in table {
        for (scope, status) in ["", "presence", "read", "write", "admin"].into_iter().zip(expected)
        {
            let token = world.token("ann", "s", scope);
            let answer = world.with_token(method, path, &token, body);
            assert_eq!(answer.status, status, "{method} {path} with {scope:?}: {}", answer.text());
        }
        assert_eq!(world.http(method, path, &[], body).status, 401, "{path}");
    }
}

#[test]
fn a_made_token_never_exceeds_its_maker() {
    let world = World::new();
    let maker = world.token("maker", "team-* notes", "admin");
    for (audience, status) in [
        ("notes", 201),
        ("team-a", 201),
        ("team-*", 201),
        ("team-a*", 201),
        ("*", 403),
        ("team*", 403),
        ("notes*", 403),
        ("other", 403),
    ] {
        let order = json!({ "subject": "x", "audience": [audience], "scope": ["write"] });
        let answer = world.with_token("POST", "/api/token", &maker, order.to_string().as_bytes());
        assert_eq!(answer.status, status, "{audience}: {}", answer.text());
        if status == 201 {
            let token = answer.json()["token"].as_str().unwrap().to_string();
            let store = audience.replace('*', "b");
            let path = format!("/api/stores/{store}");
            assert_eq!(world.with_token("GET", &path, &token, b"").status, 404, "it works");
        }
    }
}

#[test]
fn a_made_admin_does_not_outlive_its_maker() {
    let world = World::new();
    let maker = world.token_for("maker", "notes", "admin", 600);
    for (scope, life_s, status) in [
        (["read"], Some(100_000), 201),
        (["admin"], Some(100_000), 403),
        (["admin"], Some(60), 201),
        (["admin"], None, 201),
    ] {
        let mut order = json!({ "subject": "x", "audience": ["notes"], "scope": scope });
        if let Some(life_s) = life_s {
            order["expires_in"] = json!(life_s);
        }
        let answer = world.with_token("POST", "/api/token", &maker, order.to_string().as_bytes());
        assert_eq!(answer.status, status, "{scope:?} {life_s:?}: {}", answer.text());
        if scope == ["admin"] && status == 201 {
            let expires_s = answer.json()["expires"].as_u64().unwrap();
            assert!(expires_s <= now_s() + 600, "{}", answer.text());
        }
    }
}

#[test]
fn one_subject_cannot_use_up_all_tickets() {
    let world = World::new();
    let (greedy, other) = (world.token("ann", "a", "read"), world.token("bob", "b", "read"));
    let make = |token: &str| world.with_token("POST", "/api/ticket", token, b"").status;
    let statuses: Vec<u16> = (0..101).map(|_| make(&greedy)).collect();
    assert_eq!((statuses[99], statuses[100]), (201, 503));
    assert_eq!(make(&other), 201);
}

/// An import may take hours; its token may end meanwhile.
#[test]
fn what_is_revoked_ends_an_import() {
    use std::io::{Read, Write};
    let world = World::new();
    let admin = world.token("root", "*", "admin");
    let token = world.token("ann", "notes", "write");
    let mut site = Site::new(1);
    let (first, second) = (site.write_one(), site.write_one());
    let mut stream = world.connect();
    let n = first.len() + second.len();
    let head = format!(
        "POST /api/stores/notes/import HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {n}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&first).unwrap();
    while world.with_token("GET", "/api/stores/notes", &admin, b"").status != 200 {}
    let revoked = world.with_token("POST", "/api/revoke", &admin, br#"{"subject":"ann"}"#);
    assert_eq!(revoked.status, 200);
    stream.write_all(&second).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let facts = world.with_token("GET", "/api/stores/notes", &admin, b"").json();
    assert_eq!(facts["changes"], 1);
}

/// Pages of a list are cut by stores that its reader is for: no other is named.
#[test]
fn a_list_names_no_store_of_others() {
    let world = World::new();
    let root = world.token("root", "*", "admin");
    let part = Site::new(1).write_one();
    // Together, for each waits for the disk.
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (world, root, part) = (&world, &root, &part);
            scope.spawn(move || {
                for n in (thread..1001).step_by(16) {
                    let path = format!("/api/stores/a{n}/import");
                    assert_eq!(world.with_token("POST", &path, root, part).status, 200);
                }
            });
        }
    });
    assert_eq!(world.with_token("POST", "/api/stores/z/import", &root, &part).status, 200);
    let list = |token: &str, path: &str| world.with_token("GET", path, token, b"").json();
    let own = list(&world.token("zoe", "z*", "admin"), "/api/stores");
    assert_eq!((own["stores"].as_array().unwrap().len(), &own["next"]), (1, &Value::Null));
    let all = list(&root, "/api/stores");
    assert_eq!((all["stores"].as_array().unwrap().len(), &all["next"]), (1000, &json!("a998")));
    let rest = list(&root, "/api/stores?after=a998");
    assert_eq!((rest["stores"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));
}

#[test]
fn spellings_of_a_path_reach_no_store() {
    let world = World::new();
    let token = world.token("ann", "*", "admin");
    for path in [
        "/sync//notes",
        "//sync/notes",
        "/sync/notes/",
        "/sync/notes//",
        "/sync/./notes",
        "/sync/x/../notes",
        "/sync/%6eotes",
        "/sync/notes%2f",
        "/sync/notes%00",
        "/sync/..",
        "/sync/.notes",
        "/sync/no%2etes",
        "/sync/notes;x=1",
        "/Sync/notes",
        "/sync/n\u{f6}tes",
        "/api/stores//export",
        "/api/stores/notes/export/",
        "/api/stores/notes%2Fexport",
        "/api/stores/../stores/notes",
        "/api//stores/notes",
        "/api/stores/notes/../other",
        "/sync/%2e%2e/api/stores",
        "/sync/notes%2Fx",
        "/sync/notes%5c",
        "/sync/notes\0",
        "/sync/\0",
        "/SYNC/notes",
        "/api/stores/%2e",
        "/api/stores/%2e%2e",
        "/api/stores/..%2fnotes",
        "/api/stores/notes%00/export",
        "/api/stores/notes/EXPORT",
        "/API/stores",
        "/api/stores/",
        "/api/",
        "/api/openapi.json/",
        "/api/%74oken",
        "/healthz/",
        "//healthz",
        "/%68ealthz",
        "/metrics/",
        "/metrics%2f",
        "/METRICS",
        "/../metrics",
    ] {
        let mut request = vec![("Authorization", format!("Bearer {token}"))];
        request.push(("Upgrade", "websocket".to_string()));
        request.push(("Connection", "upgrade".to_string()));
        request.push(("Sec-WebSocket-Version", "13".to_string()));
        request.push(("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".to_string()));
        let headers: Vec<(&str, &str)> = request.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = world.http("GET", path, &headers, b"");
        assert!([400, 404].contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    // The store of the path is the only one.
    let mut client = Client::connect(&world, "/sync/notes", Some(&token));
    client.open("other", Copy::new(Site::new(1)), "");
    assert_eq!(client.until_closed().code, ErrorCode::NoStore);
}

/// How a WebSocket's first Hello is answered.
#[test]
fn handshakes_and_hellos() {
    let world = World::new();
    let good = world.token("ann", "notes", "read");
    let other = world.token("ann", "other", "read");
    assert_eq!(dial(&world, "/sync/notes", Some(&other)).err(), Some(403), "for another store");
    assert_eq!(dial(&world, "/sync", Some("x.y.z")).err(), Some(401), "no token");
    for (header, token, expected) in [
        (None, good.as_str(), None),
        (Some(good.as_str()), "", None),
        (Some(good.as_str()), good.as_str(), None),
        (None, "", Some(ErrorCode::Unauthorized)),
        (None, "x.y.z", Some(ErrorCode::Unauthorized)),
        (None, other.as_str(), Some(ErrorCode::Forbidden)),
        (Some(good.as_str()), other.as_str(), Some(ErrorCode::Forbidden)),
    ] {
        let mut client = Client::connect(&world, "/sync/notes", header);
        let channel = client.open("notes", Copy::new(Site::new(1)), token);
        match expected {
            None => client.until_converged(channel),
            Some(code) => assert_eq!(client.until_closed().code, code, "{header:?} {token}"),
        }
    }
}

#[test]
fn a_ticket_opens_one_connection() {
    let world = World::new();
    let token = world.token("ann", "notes", "write");
    let made = world.with_token("POST", "/api/ticket", &token, b"").json();
    let path = format!("/sync/notes?ticket={}", made["ticket"].as_str().unwrap());
    let mut client = Client::connect(&world, &path, None);
    let channel = client.open("notes", Copy::new(Site::new(1)), "");
    client.until_converged(channel);
    assert_eq!(dial(&world, &path, None).err(), Some(401), "used");
    assert_eq!(dial(&world, "/sync/notes?ticket=x", None).err(), Some(401), "unknown");
    assert_eq!(dial(&world, "/sync/notes?ticket=", None).err(), Some(401), "empty");
    assert_eq!(dial(&world, "/sync/notes?token=x", None).err(), None, "not a ticket: no token yet");
}

/// A client connected with this token, which has said and heard everything.
fn settled(world: &World, token: &str) -> (Client, ChannelId) {
    let mut client = Client::connect(world, "/sync/notes", None);
    let channel = client.open("notes", Copy::new(Site::new(1)), token);
    client.until_converged(channel);
    (client, channel)
}

#[test]
fn a_token_that_ends_ends_its_channel() {
    let world = World::new();
    let token = world.token_for("ann", "notes", "write", 2);
    let (mut client, channel) = settled(&world, &token);
    // The session is told in time to bring a new one; it brings none.
    assert_eq!(client.until_closed().code, ErrorCode::TokenEnded);

    let (mut client, again) = settled(&world, &world.token_for("ann", "notes", "write", 2));
    assert_eq!(channel, again);
    let renewed = Bytes::from(world.token("ann", "notes", "write"));
    client.session().renew_token(again, renewed).unwrap();
    client.write(again, 1, 5);
    client.until_converged(again);
}

#[test]
fn what_is_revoked_ends_live_connections() {
    let mut world = World::new();
    let admin = world.token("root", "*", "admin");
    let order = json!({ "subject": "ann", "audience": ["notes"], "scope": ["write"] });
    let make = |world: &World| {
        world.with_token("POST", "/api/token", &admin, order.to_string().as_bytes()).json()
    };
    let (one, two) = (make(&world), make(&world));
    let token_of = |made: &Value| made["token"].as_str().unwrap().to_string();
    let (mut first, _) = settled(&world, &token_of(&one));
    let (mut second, channel) = settled(&world, &token_of(&two));
    let revoke = |world: &World, body: Value| {
        let answer = world.with_token("POST", "/api/revoke", &admin, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    revoke(&world, json!({ "token_id": one["id"] }));
    assert_eq!(first.until_closed().code, ErrorCode::TokenEnded);
    second.write(channel, 1, 5);
    second.until_converged(channel);
    revoke(&world, json!({ "subject": "ann" }));
    assert_eq!(second.until_closed().code, ErrorCode::TokenEnded);
    for made in [&one, &two] {
        let read = world.with_token("GET", "/api/stores/notes", &token_of(made), b"");
        assert_eq!(read.status, 401, "{}", read.text());
    }
    world.restart();
    let read = world.with_token("GET", "/api/stores/notes", &token_of(&two), b"");
    assert_eq!(read.status, 401, "remembered: {}", read.text());
}

/// A reader is sent what there is, and what it sends itself is refused, frame by frame.
#[test]
fn a_reader_cannot_write() {
    let world = World::new();
    let (mut writer, w) = settled(&world, &world.token("ann", "notes", "write"));
    writer.write(w, 1, 5);
    writer.until_converged(w);
    let token = world.token("bob", "notes", "read");
    let mut reader = Client::connect(&world, "/sync/notes", None);
    let mut copy = Copy::new(Site::new(2));
    copy.write(1, 5);
    let part = copy.deltas[0][0].clone();
    let channel = reader.open("notes", copy, &token);
    let vector = writer.copy(w).writer.vector.clone();
    reader.until_holds(channel, &vector);
    // Its session knows better than to send; so it is sent past the session.
    let delta = anabranch_sync::frame::Delta::new(part).unwrap();
    reader.send_raw(channel, &anabranch_sync::frame::Frame::Delta(delta));
    let refused = reader.until(|event| match event {
        Event::PeerRefused { error, .. } => Some(error.code),
        _ => None,
    });
    assert_eq!(refused, ErrorCode::Forbidden);
    let facts = world.with_token("GET", "/api/stores/notes", &token, b"").json();
    assert_eq!(facts["changes"], 1);
}
