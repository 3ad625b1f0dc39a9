//! Key files: what is taken, what is refused, and how keys are rotated.

use super::*;

/// A point of P-256 (RFC 7515, appendix A.3.1) and a key of Ed25519 (RFC 8037, appendix A.2).
const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"es",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"ed",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn keys_of(file: &Path) -> Result<Keys, KeyError> {
    let (own, _) = OwnKey::open(&file.with_extension("key"))?;
    Keys::open(own, None, Some(&JwksPlace::File(file.to_path_buf())))
}

#[test]
fn key_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let list = |keys: &[&str]| format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let other = r#"{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"}"#;
    let encryption = ED.replace("{\"kty\"", "{\"use\":\"enc\",\"kty\"");
    for (text, expected) in [
        (list(&[]), Ok(0)),
        (list(&[EC, ED]), Ok(2)),
        (list(&[EC, other]), Ok(1)),
        (list(&[&encryption]), Ok(0)),
        (list(&[&ED.replace("OKP", "okp")]), Ok(0)),
        (list(&[ED, ED]), Err("kid of another")),
        (list(&[&ED.replace("\"kid\":\"ed\",", "")]), Err("has no kid")),
        (list(&[&ED.replace("11qY", "")]), Err("coordinate")),
        (list(&[&ED.replace("11q", "1=q")]), Err("base64url")),
        (list(&[&ED.replace("{\"kty\"", "{\"alg\":\"ES256\",\"kty\"")]), Err("its alg")),
        ("[]".to_string(), Err("invalid length")),
        ("{".to_string(), Err("EOF")),
    ] {
        fs::write(&file, &text).unwrap();
        match (keys_of(&file), expected) {
            (Ok(keys), Ok(n)) => assert_eq!(keys.listed.read().unwrap().len(), n, "{text}"),
            (Err(error), Err(what)) => {
                let error = error.to_string();
                assert!(error.contains(what) && error.contains("jwks.json"), "{text}: {error}");
            }
            (found, expected) => panic!("{text}: {found:?}, {expected:?}"),
        }
    }
}

/// The new key is listed beside the old one, then alone; a torn file changes nothing.
#[test]
fn keys_are_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let mut n_writes = 0;
    let mut write = |text: &str| {
        fs::write(&file, text).unwrap();
        // Each version of the file has a time of its own, however coarse the file system's.
        n_writes += 1;
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + n_writes);
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    };
    write(&format!(r#"{{"keys":[{ED}]}}"#));
    let keys = keys_of(&file).unwrap();
    let mut now_s = 1000;
    let mut known = |kid| {
        now_s += JWKS_REREAD_S;
        keys.find(Some(kid), now_s).is_ok()
    };
    assert!(known("ed") && !known("es"));
    write(&format!(r#"{{"keys":[{ED},{EC}]}}"#));
    assert!(known("ed") && known("es"));
    write("{");
    assert!(known("ed") && known("es"));
    write(&format!(r#"{{"keys":[{EC}]}}"#));
    assert!(!known("ed") && known("es"));
}

#[test]
fn the_own_key_is_made_once_and_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.key");
    let (made, is_new) = OwnKey::open(&path).unwrap();
    let (read, is_new_again) = OwnKey::open(&path).unwrap();
    assert_eq!((is_new, is_new_again), (true, false));
    assert_eq!((made.kid.clone(), made.site()), (read.kid.clone(), read.site()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    fs::write(&path, b"no key").unwrap();
    assert!(OwnKey::open(&path).is_err());
}

/// Keys by URL are rotated with both listed for a while; a failure leaves them; what is taken
/// off the list is worth nothing. Time goes when it is told to.
#[test]
fn keys_by_url_are_rotated() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    // While somebody works elsewhere a paused clock does not go by itself.
    let (release, held) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (own, _) = OwnKey::open(&folder.path().join("relay.key")).unwrap();
        let place = JwksPlace::Url(JwksUrl::parse(&url).unwrap());
        let keys = Keys::open(own, None, Some(&place)).unwrap();
        let keys = std::sync::Arc::new(keys);
        let tending = std::sync::Arc::clone(&keys);
        let tending = tokio::spawn(async move { tending.tend().await });
        let second = ED.replace("\"ed\"", "\"ed2\"");
        let known = || ["ed", "ed2"].map(|kid| keys.find(Some(kid), 0).is_ok());
        let answer = async |status: &str, listed: &[&str], expected: [bool; 2]| {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let body = format!(r#"{{"keys":[{}]}}"#, listed.join(","));
            let n = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {n}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Until whoever asked has gone, and what came is in place.
            while stream.read(&mut head).await.is_ok_and(|n| n > 0) {}
            while known() != expected {
                tokio::task::yield_now().await;
            }
        };
        answer("200 OK", &[ED], [true, false]).await;
        // A token named the second: it is asked for soon.
        tokio::time::advance(JWKS_RETRY).await;
        answer("200 OK", &[ED, &second], [true, true]).await;
        tokio::time::advance(JWKS_RETRY).await;
        tokio::task::yield_now().await;
        tokio::time::advance(JWKS_REFETCH).await;
        answer("500 Internal Server Error", &[], [true, true]).await;
        tokio::time::advance(JWKS_RETRY).await;
        answer("200 OK", &[&second], [false, true]).await;
        tending.abort();
    });
    drop(release);
}
