//! Requests to a relay's HTTP, many on one connection.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::relay::Relay;

/// Longest answer that is read.
const MAX_BODY_BYTES: usize = 1 << 20;

/// A connection that is kept.
pub struct Http {
    stream: BufStream<TcpStream>,
    token: String,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// The relay is away.
    pub async fn connect(relay: &Relay) -> Result<Http> {
        let stream = TcpStream::connect(relay.address()).await?;
        stream.set_nodelay(true)?;
        Ok(Http { stream: BufStream::new(stream), token: relay.token().to_owned() })
    }

    /// Brings a delta to a store, as one request.
    ///
    /// # Errors
    /// Anything but success.
    pub async fn import(&mut self, store: &str, part: &[u8]) -> Result<()> {
        let (token, n) = (&self.token, part.len());
        let head = format!(
            "POST /api/stores/{store}/import HTTP/1.1\r\nHost: relay\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {n}\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(part).await?;
        self.stream.flush().await?;
        let (status, body) = self.answer().await?;
        ensure!(status == 200, "import: {status} {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    /// Status and body.
    async fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let (mut status, mut n_body) = (None, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(n) = line.strip_prefix("content-length:") {
                n_body = n.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
            status = status.or_else(|| line.split(' ').nth(1).and_then(|word| word.parse().ok()));
        }
        ensure!(n_body <= MAX_BODY_BYTES, "an answer of {n_body} bytes");
        let mut body = vec![0; n_body];
        self.stream.read_exact(&mut body).await?;
        Ok((status.context("no status")?, body))
    }
}
