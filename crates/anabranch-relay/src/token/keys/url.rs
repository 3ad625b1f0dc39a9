//! Keys by URL: where they may be fetched from, and one fetch.
//!
//! A relay trusts whoever answers there with every store, so it is asked over TLS, or on this
//! machine only. No redirect is followed, and what comes is bounded in size and time.

use std::fmt;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::limits::{JWKS_TIMEOUT, MAX_JWKS_BYTES};

/// An address of keys that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl {
    uri: Uri,
    host: String,
    port: u16,
    is_encrypted: bool,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer in time")]
    TimedOut,
    #[error("no connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is larger than {MAX_JWKS_BYTES} bytes, or was cut")]
    Body,
    #[error("{0}")]
    Refused(&'static str),
}

impl JwksUrl {
    /// Reads `https://…`, or `http://` with an address of this machine.
    ///
    /// # Errors
    /// What it should be.
    pub(crate) fn parse(text: &str) -> Result<JwksUrl, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "no URL")?;
        let authority = uri.authority().ok_or("no host")?;
        if authority.as_str().contains('@') {
            return Err("a name and a password have no place in it");
        }
        let host = authority.host().trim_matches(['[', ']']).to_string();
        let is_here = host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_here => false,
            Some("http") => return Err("without TLS only an address of this machine is asked"),
            _ => return Err("https:// is expected"),
        };
        let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        Ok(JwksUrl { uri, host, port, is_encrypted })
    }

    /// Asks for the keys.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) async fn fetch(&self) -> Result<Bytes, FetchError> {
        let asked = tokio::time::timeout(JWKS_TIMEOUT, self.ask());
        asked.await.map_err(|_| FetchError::TimedOut)?
    }

    async fn ask(&self) -> Result<Bytes, FetchError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        if !self.is_encrypted {
            return self.ask_over(stream).await;
        }
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| FetchError::Refused("the host is no name of a server"))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls()?));
        self.ask_over(connector.connect(name, stream).await?).await
    }

    async fn ask_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Bytes, FetchError> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender, or with the timeout around both.
        let answering = async {
            let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
            let request = Request::get(path)
                .header(HOST, self.uri.authority().map_or("", |authority| authority.as_str()))
                .header(ACCEPT, "application/json")
                .header(USER_AGENT, "anabranch")
                .body(Empty::<Bytes>::new())
                .map_err(|_| FetchError::Refused("the path cannot be asked for"))?;
            let answer = sender.send_request(request).await?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), MAX_JWKS_BYTES as usize).collect().await;
            Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
        };
        tokio::pin!(answering, connection);
        tokio::select! {
            answer = &mut answering => answer,
            // What it read before it ended is in the answer.
            _ = &mut connection => answering.await,
        }
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

/// TLS as the system trusts: its certificates, or those that `SSL_CERT_FILE` names.
fn tls() -> Result<rustls::ClientConfig, FetchError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| FetchError::Refused("no version of TLS"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_or_this_machine() {
        for (text, is_good) in [
            ("https://issuer.example/keys", true),
            ("https://issuer.example:8443/.well-known/jwks.json?x=1", true),
            ("https://[2001:db8::1]/keys", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://[::1]:8080/keys", true),
            ("http://issuer.example/keys", false),
            ("http://10.0.0.1/keys", false),
            // A name may be told to lead elsewhere.
            ("http://localhost:8080/keys", false),
            ("http://127.0.0.1@issuer.example/keys", false),
            ("http://127.0.0.1.issuer.example/keys", false),
            ("https://ann:secret@issuer.example/keys", false),
            ("ftp://issuer.example/keys", false),
            ("https://", false),
            ("https:///keys", false),
            ("/keys", false),
        ] {
            assert_eq!(JwksUrl::parse(text).is_ok(), is_good, "{text}");
        }
    }
}
