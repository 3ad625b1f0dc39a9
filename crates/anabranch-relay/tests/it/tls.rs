//! TLS with the certificate and key beside this file, which were made for it and serve nothing
//! else.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use anabranch_relay::{Config, Settings, StartError, bind};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::world::World;

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

fn settings(cert: &str, key: &str) -> Settings {
    Settings { tls_cert: Some(file(cert)), tls_key: Some(file(key)), ..Settings::default() }
}

#[test]
fn a_relay_speaks_tls() {
    let world = World::with(settings("cert.pem", "key.pem"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "relay.test".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, world.connect());
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The end may come without a word of TLS.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.ends_with(b"ok\n"), "{}", String::from_utf8_lossy(&answer));

    // Who speaks no TLS is not answered.
    let mut plain = world.connect();
    plain.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
}

#[test]
fn bad_files_are_refused_by_name() {
    let data = tempfile::tempdir().unwrap();
    for (cert, key, named) in [
        ("missing.pem", "key.pem", "missing.pem"),
        ("cert.pem", "missing.pem", "missing.pem"),
        ("key.pem", "key.pem", "key.pem"),
        ("cert.pem", "cert.pem", "cert.pem"),
    ] {
        let path = data.path().join("relay");
        let settings = Settings { data: Some(path.clone()), ..settings(cert, key) };
        let settings = Settings { listen: Some("127.0.0.1:0".to_string()), ..settings };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = runtime.block_on(bind(Config::new(settings).unwrap()));
        let Err(error @ StartError::Tls { .. }) = started else { panic!("{cert} {key}") };
        assert!(error.to_string().contains(named), "{error}");
        assert!(!path.exists(), "a failed start makes nothing");
    }
}
