//! Keys by URL: fetched, rotated, and never replaced by what is no list of keys. Who serves them
//! here is a thread that answers each request as the test says.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};

use anabranch_relay::{Config, Settings};
use data_encoding::BASE64URL_NOPAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::world::World;

/// Who issues tokens: a server of keys, and the keys.
struct Issuer {
    url: String,
    /// What the next request is answered with.
    answers: Sender<Vec<u8>>,
    /// Requests that came, each told before it is answered.
    asked: Receiver<String>,
}

impl Issuer {
    fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys.json", listener.local_addr().unwrap());
        let (answers, next) = channel::<Vec<u8>>();
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while stream.read_line(&mut head).is_ok_and(|n| n > 2) {}
                // The test is over when nobody says what to answer.
                if tell.send(head).is_err() {
                    return;
                }
                let Ok(answer) = next.recv() else { return };
                // Who has heard enough may be gone.
                let _ = stream.get_mut().write_all(&answer);
            }
        });
        Issuer { url, answers, asked }
    }

    /// Waits for a request, and answers it.
    fn answer(&self, status: &str, body: &str) {
        self.asked.recv().unwrap();
        let n = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {n}\r\n\r\n{body}");
        self.answers.send(answer.into_bytes()).unwrap();
    }
}

struct Signer {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(kid: &'static str) -> Signer {
        let pair = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        Signer { kid, pair: Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap() }
    }

    fn jwk(&self) -> Value {
        let x = BASE64URL_NOPAD.encode(self.pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x })
    }

    fn token(&self) -> String {
        let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let exp = exp.as_secs() + 600;
        let claims = json!({ "sub": "ann", "aud": "notes", "scope": "read", "exp": exp });
        let header = json!({ "alg": "EdDSA", "kid": self.kid });
        let encode = |part: &Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

fn list(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() }).to_string()
}

/// 404 means that the token was good: there is no store yet.
fn is_good(world: &World, signer: &Signer) -> bool {
    match world.with_token("GET", "/api/stores/notes", &signer.token(), b"").status {
        404 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

#[test]
fn keys_come_by_url() {
    let (issuer, first) = (Issuer::start(), Signer::new("first"));
    let world = World::with(Settings { jwks: Some(issuer.url.clone()), ..Settings::default() });
    // Nobody has answered yet: the relay runs, and takes its own tokens.
    assert!(!is_good(&world, &first));
    let own = world.token("root", "*", "admin");
    assert_eq!(world.with_token("GET", "/api/stores", &own, b"").status, 200);
    issuer.answer("200 OK", &list(&[&first]));
    while !is_good(&world, &first) {}
}

/// A list that is too large, of another kind or behind a redirect is none.
#[test]
fn what_is_no_list_of_keys_is_not_taken() {
    let first = Signer::new("first");
    let good = list(&[&first]);
    let elsewhere = "302 Found\r\nLocation: http://127.0.0.1:1/keys";
    for (status, body) in [
        ("404 Not Found", good.clone()),
        ("500 Internal Server Error", good.clone()),
        (elsewhere, good.clone()),
        ("200 OK", "no JSON".to_string()),
        ("200 OK", good.replace("\"x\"", "\"z\"")),
        ("200 OK", good.replacen('{', &format!("{{\"_\":\"{}\",", "x".repeat(1 << 20)), 1)),
    ] {
        let issuer = Issuer::start();
        let world = World::with(Settings { jwks: Some(issuer.url.clone()), ..Settings::default() });
        issuer.answer(status, &body);
        assert!(!is_good(&world, &first), "{status} {:.20}", body);
        assert_eq!(world.http("GET", "/healthz", &[], b"").status, 200);
    }
}

#[test]
fn an_address_that_may_not_be_asked_is_refused() {
    for url in ["http://issuer.example/keys", "ftp://issuer.example/keys", "https://"] {
        let settings = Settings { jwks: Some(url.to_string()), ..Settings::default() };
        let error = Config::new(settings).unwrap_err().to_string();
        assert!(error.contains("jwks") && error.contains(url), "{error}");
    }
}
