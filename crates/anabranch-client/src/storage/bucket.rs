//! A prefix of a bucket in S3-compatible storage, through the crate `object_store`.
//!
//! Keys, region and endpoint come from the environment, as other programs take them
//! (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …) or
//! from the machine's role. A put is whole or not at all by itself; "if absent" is a
//! condition of the request.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use tokio::runtime::Runtime;

use super::{Entry, Pieces, Storage, StorageError};
use crate::limits::{MAX_FILES, MAX_PUT_BYTES};

/// A bucket, and the prefix of all names in it.
pub(crate) struct Bucket {
    store: AmazonS3,
    /// Empty, or with a slash at its end.
    prefix: String,
    /// For messages.
    url: String,
    runtime: Runtime,
}

impl Bucket {
    /// Reads keys and endpoint from the environment; asks nobody yet.
    pub(crate) fn new(bucket: &str, prefix: &str) -> Result<Bucket, StorageError> {
        let url = format!("s3://{bucket}/{prefix}").trim_end_matches('/').to_string();
        let denied = |why: String| StorageError::Denied { place: url.clone(), why };
        // Whoever set one before decides; it is the same for all TLS of this process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_allow_http(endpoint.starts_with("http://"))
            .with_retry(retries())
            .build()
            .map_err(|error| denied(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| denied(error.to_string()))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Bucket { store, prefix, url, runtime })
    }

    fn path(&self, path: &str) -> Result<Path, StorageError> {
        Path::parse(format!("{}{path}", self.prefix)).map_err(|error| StorageError::Failed {
            place: format!("{}/{path}", self.url),
            why: error.to_string(),
        })
    }

    fn failed(&self, path: &str, error: object_store::Error) -> StorageError {
        use object_store::Error;
        let place = format!("{}/{path}", self.url);
        let why = plain_words(&error);
        match error {
            _ if why.starts_with("NoSuchBucket") => {
                StorageError::Denied { place: self.url.clone(), why }
            }
            Error::NotFound { .. } => StorageError::Gone { place },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                StorageError::Denied { place, why }
            }
            Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. } => StorageError::Failed { place, why },
            // What is left are requests that nobody answered, or not in time.
            _ => StorageError::Offline { place: self.url.clone(), why },
        }
    }

    /// Pieces too large for one request, as an upload in parts that ends all at once.
    async fn upload(&self, path: &Path, pieces: &dyn Pieces) -> object_store::Result<()> {
        let mut upload = self.store.put_multipart(path).await?;
        let mut group = Vec::new();
        let mut n_bytes = 0;
        for index in 0..pieces.len() {
            let piece = piece(pieces, index)?;
            n_bytes += piece.len() as u64;
            group.push(piece);
            if n_bytes >= MAX_PUT_BYTES {
                upload.put_part(PutPayload::from_iter(group.drain(..))).await?;
                n_bytes = 0;
            }
        }
        if !group.is_empty() {
            upload.put_part(PutPayload::from_iter(group)).await?;
        }
        match upload.complete().await {
            Ok(_) => Ok(()),
            Err(error) => {
                // What was sent costs money until it is dropped.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }
}

/// A piece, or why it cannot be had.
fn piece(pieces: &dyn Pieces, index: usize) -> object_store::Result<Bytes> {
    let piece = pieces.piece(index).map_err(|error| object_store::Error::Generic {
        store: "the temporary file of a delta",
        source: error.into(),
    })?;
    Ok(piece.unwrap_or_default())
}

impl Storage for Bucket {
    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError> {
        let prefix = self.path(folder)?;
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|error| self.failed(folder, error))?;
        let entry = |object: object_store::ObjectMeta| {
            let name = object.location.filename()?.to_string();
            let modified_ms = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0);
            Some(Entry { name, n_bytes: object.size, modified_ms })
        };
        let is_ours = |entry: &Entry| !entry.name.starts_with('.');
        Ok(listed.objects.into_iter().take(MAX_FILES).filter_map(entry).filter(is_ours).collect())
    }

    fn get(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        let location = self.path(path)?;
        let read = async {
            // A range beyond the end is an error to some servers, and not to others.
            let size = self.store.head(&location).await?.size;
            let range = range.start.min(size)..range.end.min(size);
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            self.store.get_range(&location, range).await
        };
        let bytes = self.runtime.block_on(read).map_err(|error| self.failed(path, error))?;
        Ok(bytes.into())
    }

    fn put(&self, path: &str, pieces: &dyn Pieces) -> Result<(), StorageError> {
        let location = self.path(path)?;
        let put = async {
            if pieces.n_bytes() > MAX_PUT_BYTES {
                return self.upload(&location, pieces).await;
            }
            let all = (0..pieces.len()).map(|index| piece(pieces, index));
            let payload = PutPayload::from_iter(all.collect::<object_store::Result<Vec<_>>>()?);
            match self.store.put_opts(&location, payload, PutMode::Create.into()).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.runtime.block_on(put).map_err(|error| self.failed(path, error))
    }

    fn delete(&self, path: &str) -> Result<(), StorageError> {
        let location = self.path(path)?;
        match self.runtime.block_on(self.store.delete(&location)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    fn has_folder(&self, _: &str) -> Result<Option<bool>, StorageError> {
        // Folders are only parts of names here.
        Ok(None)
    }
}

/// Some tries within a quarter of a minute: a person waits, and a watch comes again.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            ..BackoffConfig::default()
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(15),
    }
}

/// The innermost cause, for the words around it name the crate and repeat the path; of an
/// answer of the server its code and message (S3 API, "Error responses").
fn plain_words(error: &object_store::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_string())
    };
    match (field("Code"), field("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text,
    }
}
