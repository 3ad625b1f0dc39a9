//! TLS 1.3 with given certificates.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;
use crate::relay::StartError;

/// Reads certificate chain and key.
///
/// # Errors
/// [`StartError::Tls`].
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, StartError> {
    let wrong =
        |path: &Path, what: String| StartError::Tls { what: format!("{}: {what}", path.display()) };
    let at_cert = |error: rustls::pki_types::pem::Error| wrong(&files.cert, error.to_string());
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .map_err(at_cert)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(at_cert)?;
    if chain.is_empty() {
        return Err(wrong(&files.cert, "no certificate in it".to_string()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| wrong(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong(&files.cert, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.key, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
