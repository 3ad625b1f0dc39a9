//! A stream that counts its bytes: what tells a slow line from a dead one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use anabranch_sync::Traffic;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
#[derive(Debug)]
pub(super) struct Counted<S> {
    io: S,
    traffic: Traffic,
}

impl<S> Counted<S> {
    pub(super) fn new(io: S) -> Counted<S> {
        Counted { io, traffic: Traffic::default() }
    }

    /// What has moved so far.
    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        self.traffic.n_read += (buffer.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.traffic.is_blocked = polled.is_pending();
        if let Poll::Ready(Ok(n_written)) = &polled {
            self.traffic.n_written += *n_written as u64;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
