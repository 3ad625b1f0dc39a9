//! Every frame type against every scope, and against every token that is worth nothing: over
//! sockets, frame by frame, past the session that knows better.

use anabranch_core::site::SiteId;
use anabranch_core::vector::Dot;
use anabranch_sync::ChannelId;
use anabranch_sync::frame::{
    Ack, BlobChunk, BlobId, BlobWant, Capabilities, Chains, Closes, Decoded, Delta, ErrorCode,
    ErrorFrame, Frame, Have, Hello, Presence, Receipts, Resume, Role, StoreName, Turn, decode,
    encode,
};
use bytes::Bytes;
use serde_json::json;
use tungstenite::{Message, WebSocket};

use crate::auth::{Issuer, now_s, with};
use crate::client::dial;
use crate::deltas::Site;
use crate::world::World;

/// One connection to store `notes`, on which frames are said and heard as they are.
struct Wire(WebSocket<std::net::TcpStream>);

fn zero() -> ChannelId {
    ChannelId::new(0).unwrap()
}

fn site() -> SiteId {
    SiteId::new(&[2; 16]).unwrap()
}

fn hello(token: &str, role: Role) -> Frame {
    Frame::Hello(Hello {
        capabilities: Capabilities::ALL,
        role,
        site: site(),
        store: StoreName::new("notes").unwrap(),
        turn: Turn::Open { token: token.to_string().into(), ticket: Bytes::new() },
    })
}

impl Wire {
    fn connect(world: &World) -> Wire {
        Wire(dial(world, "/sync/notes", None).unwrap())
    }

    /// `false`: the other end has left.
    fn say(&mut self, frame: &Frame) -> bool {
        let bytes = encode(zero(), frame).into_bytes();
        self.0.send(Message::Binary(bytes.into())).is_ok()
    }

    /// The next frame; `None` at the end.
    fn hear(&mut self) -> Option<Frame> {
        loop {
            match self.0.read() {
                Ok(Message::Binary(bytes)) => match decode(&bytes).unwrap() {
                    Decoded::Frame(_, frame) => return Some(frame),
                    Decoded::Ignored { .. } => {}
                },
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Goes on until something is acknowledged.
    fn until_acked(&mut self) {
        while !matches!(self.hear().expect("an acknowledgement"), Frame::Ack(_)) {}
    }

    /// The errors that come before the next Hello, or up to one that closes something.
    fn errors(&mut self) -> Vec<ErrorFrame> {
        let mut errors = Vec::new();
        loop {
            match self.hear() {
                None | Some(Frame::Hello(_)) => return errors,
                Some(Frame::Error(error)) => {
                    let closes = error.closes != Closes::Nothing;
                    errors.push(error);
                    if closes {
                        return errors;
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// One frame of each type that may follow a Hello, and the scope that it needs.
fn frames() -> Vec<(&'static str, Frame)> {
    let blob = BlobId([1; 32]);
    let dot = Dot { site: site(), version: 1 };
    let part = Delta::new(Site::new(2).write_one().into()).unwrap();
    let ticket = Resume { ticket: vec![1].into(), yours: [0; 16], mine: [0; 16] };
    vec![
        ("", Frame::Have(Have::default())),
        ("read", Frame::Ack(Ack::default())),
        ("read", Frame::Chains(Chains::Ask { site: site(), versions: vec![1] })),
        ("read", Frame::BlobWant(BlobWant { blob, first: 0, count: 1 })),
        ("read", Frame::Receipts(Receipts::Ask(vec![dot]))),
        ("presence", Frame::Presence(Presence { from: None, state: Some(Bytes::new()) })),
        ("write", Frame::BlobChunk(BlobChunk { blob, chunk: None })),
        ("write", Frame::Delta(part)),
        ("admin", Frame::Receipts(Receipts::Tell(Vec::new()))),
        ("admin", Frame::Resume(ticket)),
    ]
}

#[test]
fn every_frame_against_every_scope() {
    let world = World::new();
    for scope in ["", "presence", "read", "write", "admin"] {
        for (needed, frame) in frames() {
            let token = world.token("ann", "notes", scope);
            let mut wire = Wire::connect(&world);
            wire.say(&hello(&token, Role::Peer));
            assert_eq!(wire.errors(), [], "{scope:?}");
            wire.say(&Frame::Have(Have::default()));
            wire.say(&frame);
            if scope == "write" && matches!(frame, Frame::Delta(_)) {
                // It is in the store when that is asked what it holds.
                wire.until_acked();
            }
            // A new token is answered behind whatever was said of the frame.
            wire.say(&hello(&token, Role::Peer));
            let errors = wire.errors();
            let is_enough = match (scope, needed) {
                (_, "") | ("admin", _) => true,
                ("write", needed) => needed != "admin",
                (scope, needed) => scope == needed,
            };
            let what = format!("{:?} with {scope:?}: {errors:?}", frame.kind());
            match is_enough {
                true => assert!(errors.iter().all(|e| e.code != ErrorCode::Forbidden), "{what}"),
                false => {
                    assert_eq!(errors.len(), 1, "{what}");
                    let said = (errors[0].code, errors[0].closes);
                    assert_eq!(said, (ErrorCode::Forbidden, Closes::Nothing), "{what}");
                }
            }
        }
        // To be a relay is an admin's.
        let mut wire = Wire::connect(&world);
        wire.say(&hello(&world.token("ann", "notes", scope), Role::Relay));
        let errors: Vec<ErrorCode> = wire.errors().iter().map(|error| error.code).collect();
        let expected: &[ErrorCode] = if scope == "admin" { &[] } else { &[ErrorCode::Forbidden] };
        assert_eq!(errors, expected, "relay with {scope:?}");
    }
    let admin = world.token("root", "notes", "admin");
    let facts = world.with_token("GET", "/api/stores/notes", &admin, b"").json();
    assert_eq!(facts["changes"], 1, "of those who may write, the first brought it");
}

/// A token that is worth nothing, and each frame behind it: the frame is never looked at.
#[test]
fn every_frame_behind_a_bad_token() {
    let issuer = Issuer::new();
    let world = &issuer.world;
    let claims = with(issuer.claims(), "scope", json!("admin"));
    let ed = json!({ "alg": "EdDSA", "kid": "ed" });
    let good = issuer.sign(ed.clone(), &claims, "ed");
    let mut forged = good.clone();
    forged.replace_range(good.len() - 4.., "AAAA");
    let sign = |header, key| issuer.sign(header, &claims, key);
    let claim =
        |name: &str, value| issuer.sign(ed.clone(), &with(claims.clone(), name, value), "ed");
    let root = world.token("root", "*", "admin");
    let order = json!({ "subject": "x", "audience": ["notes"], "scope": ["write"] }).to_string();
    let made = world.with_token("POST", "/api/token", &root, order.as_bytes()).json();
    let revoke = json!({ "token_id": made["id"] }).to_string();
    assert_eq!(world.with_token("POST", "/api/revoke", &root, revoke.as_bytes()).status, 200);
    let (unauthorized, ended) = (ErrorCode::Unauthorized, ErrorCode::TokenEnded);
    let bad = [
        ("no token", String::new(), unauthorized),
        ("no JWT", "x".to_string(), unauthorized),
        ("a bad signature", forged, unauthorized),
        ("alg none", sign(json!({ "alg": "none", "kid": "ed" }), ""), unauthorized),
        ("public key as secret", sign(json!({ "alg": "HS256" }), "public key"), unauthorized),
        ("RS256", sign(json!({ "alg": "RS256", "kid": "rsa" }), "secret"), unauthorized),
        ("another's kid", sign(json!({ "alg": "EdDSA", "kid": "es" }), "ed"), unauthorized),
        ("a kid that is a path", sign(json!({ "alg": "HS256", "kid": "../x" }), ""), unauthorized),
        ("no end", claim("exp", serde_json::Value::Null), unauthorized),
        ("another store", claim("aud", json!("note")), ErrorCode::Forbidden),
        ("expired", claim("exp", json!(now_s() - 30)), ended),
        ("revoked", made["token"].as_str().unwrap().to_string(), ended),
    ];
    for (what, token, code) in bad {
        for (_, frame) in frames() {
            let mut wire = Wire::connect(world);
            wire.say(&hello(&token, Role::Peer));
            // It may be cut off while it is being told.
            let _ = wire.say(&frame) && wire.say(&hello(&token, Role::Peer));
            let errors = wire.errors();
            let said = format!("{what}, then {:?}: {errors:?}", frame.kind());
            assert_eq!(errors[0].code, code, "{said}");
            assert_ne!(errors[0].closes, Closes::Nothing, "{said}");
        }
    }
    assert_eq!(world.with_token("GET", "/api/stores/notes", &root, b"").status, 404, "not opened");
}

/// What was good until it was revoked: no frame is taken after.
#[test]
fn every_frame_after_a_revocation() {
    let world = World::new();
    let root = world.token("root", "*", "admin");
    for (_, frame) in frames() {
        let order = json!({ "subject": "x", "audience": ["notes"], "scope": ["write"] });
        let made = world.with_token("POST", "/api/token", &root, order.to_string().as_bytes());
        let made = made.json();
        let mut wire = Wire::connect(&world);
        wire.say(&hello(made["token"].as_str().unwrap(), Role::Peer));
        assert_eq!(wire.errors(), []);
        wire.say(&Frame::Have(Have::default()));
        let revoke = json!({ "token_id": made["id"] }).to_string();
        assert_eq!(world.with_token("POST", "/api/revoke", &root, revoke.as_bytes()).status, 200);
        hear_that_the_token_has_ended(&mut wire);
        let _ = wire.say(&frame);
        // On the channel that is gone; a Hello with the same token opens none.
        let _ = wire.say(&hello(made["token"].as_str().unwrap(), Role::Peer));
        assert_eq!(wire.errors()[0].code, ErrorCode::TokenEnded, "{:?}", frame.kind());
    }
    assert_eq!(
        world.with_token("GET", "/api/stores/notes", &root, b"").status,
        404,
        "nothing came"
    );
}

fn hear_that_the_token_has_ended(wire: &mut Wire) {
    let told = loop {
        match wire.hear() {
            Some(Frame::Error(error)) => break error,
            Some(_) => {}
            None => panic!("no word"),
        }
    };
    assert_eq!((told.code, told.closes), (ErrorCode::TokenEnded, Closes::Channel));
}

/// What was good until it ended while somebody was connected: no frame is taken after.
#[test]
fn every_frame_after_the_token_has_ended() {
    let world = World::new();
    let token = world.token_for("ann", "notes", "admin", 3);
    let wires: Vec<(Frame, Wire)> = frames()
        .into_iter()
        .map(|(_, frame)| {
            let mut wire = Wire::connect(&world);
            wire.say(&hello(&token, Role::Peer));
            assert_eq!(wire.errors(), []);
            wire.say(&Frame::Have(Have::default()));
            (frame, wire)
        })
        .collect();
    for (frame, mut wire) in wires {
        hear_that_the_token_has_ended(&mut wire);
        let _ = wire.say(&frame) && wire.say(&hello(&token, Role::Peer));
        assert_eq!(wire.errors()[0].code, ErrorCode::TokenEnded, "{:?}", frame.kind());
    }
    let root = world.token("root", "*", "admin");
    assert_eq!(world.with_token("GET", "/api/stores/notes", &root, b"").status, 404);
}
