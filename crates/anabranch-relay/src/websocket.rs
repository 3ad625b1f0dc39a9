//! WebSocket frames (RFC 6455), the server's side: messages in, messages out.
//!
//! Written here, and small, because memory is the point: a connection that waits owns 1 KiB
//! to read into and nothing to write from; a large message keeps no buffer behind; a body
//! that goes to many connections is written from where it lies.
//!
//! **Invariant:** no more is kept of a message than has arrived, whatever its header claims.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that a connection which waits has room for.
const MIN_READ_BYTES: usize = 1 << 10;
/// Bytes read at once where much comes, or a large frame.
const MAX_READ_BYTES: usize = 64 << 10;
/// Pieces handed to the operating system at once.
const MAX_SLICES: usize = 32;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// It broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The peer left without a word.
    #[error("the connection ended")]
    Ended,
    /// A text, where all is binary.
    #[error("a text, where messages are binary")]
    Text,
    /// More than is accepted in all for now.
    #[error("more bytes than are accepted in all")]
    TooMany,
    /// Not what the RFC says.
    #[error("not a WebSocket frame: {0}")]
    Protocol(&'static str),
    /// Larger than is accepted now.
    #[error("a message of {found} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What it claims.
        found: u64,
        /// The bound.
        limit: usize,
    },
}

impl SocketError {
    /// The code that a Close frame gives as the reason (RFC 6455, 7.4.1); `None` where there
    /// is nobody to give it to.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            SocketError::Io(_) | SocketError::Ended => None,
            SocketError::Protocol(_) => Some(1002),
            SocketError::Text => Some(1003),
            SocketError::TooMany => Some(1008),
            SocketError::TooLarge { .. } => Some(1009),
        }
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A whole binary message.
    Message(Bytes),
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// The peer lives.
    Pong,
    /// The peer leaves.
    Close,
}

/// Reads what the client sends.
#[derive(Debug)]
pub(crate) struct MessageReader<R> {
    io: R,
    /// Bytes that came and were not taken yet.
    buffer: BytesMut,
    /// The message so far, while its frames come one by one.
    message: Option<BytesMut>,
    /// Bytes read of this connection.
    n_read: u64,
    /// Room for the next read: doubled where it was filled.
    read_bytes: usize,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// `buffer` came with the handshake.
    pub(crate) fn new(io: R, buffer: &[u8]) -> MessageReader<R> {
        let n_read = buffer.len() as u64;
        let buffer = BytesMut::from(buffer);
        MessageReader { io, buffer, message: None, n_read, read_bytes: MIN_READ_BYTES }
    }

    /// Bytes that came since the handshake.
    pub(crate) fn n_read(&self) -> u64 {
        self.n_read
    }

    /// The next message or control frame, of a message of `limit` bytes at most, and of a
    /// connection of `in_all`: frames that complete nothing count too. Nothing is lost if this
    /// is dropped and called again.
    ///
    /// # Errors
    /// [`SocketError`]; the connection cannot go on.
    pub(crate) async fn next(
        &mut self,
        limit: usize,
        in_all: u64,
    ) -> Result<Received, SocketError> {
        loop {
            if self.n_read > in_all {
                return Err(SocketError::TooMany);
            }
            let missing = match self.take(limit)? {
                Step::Received(received) => return Ok(received),
                Step::Frame => continue,
                Step::Missing(missing) => missing,
            };
            self.buffer.reserve(missing.clamp(self.read_bytes, MAX_READ_BYTES));
            match self.io.read_buf(&mut self.buffer).await? {
                0 => return Err(SocketError::Ended),
                n => self.n_read += n as u64,
            }
            let is_full = self.buffer.len() == self.buffer.capacity();
            self.read_bytes = match is_full {
                true => (self.read_bytes * 2).min(MAX_READ_BYTES),
                false => MIN_READ_BYTES,
            };
        }
    }

    /// Takes one frame off the buffer.
    fn take(&mut self, limit: usize) -> Result<Step, SocketError> {
        let Some(head) = Head::parse(&self.buffer)? else { return Ok(Step::Missing(0)) };
        let so_far = self.message.as_ref().map_or(0, BytesMut::len);
        if !head.is_control() && head.n_payload.saturating_add(so_far as u64) > limit as u64 {
            return Err(SocketError::TooLarge { found: head.n_payload, limit });
        }
        let n_frame = head.n_head + head.n_payload as usize;
        if self.buffer.len() < n_frame {
            return Ok(Step::Missing(n_frame - self.buffer.len()));
        }
        let mut frame = self.buffer.split_to(n_frame);
        self.let_go(n_frame);
        frame.advance(head.n_head);
        unmask(&mut frame, head.mask);
        self.accept(&head, frame)
    }

    fn accept(&mut self, head: &Head, payload: BytesMut) -> Result<Step, SocketError> {
        let received = match (head.opcode, self.message.take()) {
            (PING, message) => {
                self.message = message;
                Received::Ping(payload.freeze())
            }
            (PONG, message) => {
                self.message = message;
                Received::Pong
            }
            (CLOSE, _) if is_close(&payload) => Received::Close,
            (CLOSE, _) => return Err(SocketError::Protocol("a Close with no code or reason")),
            (TEXT, _) => return Err(SocketError::Text),
            (BINARY, Some(_)) => return Err(SocketError::Protocol("a message inside another")),
            (CONTINUATION, None) => return Err(SocketError::Protocol("no message to go on with")),
            (BINARY, None) if head.is_final => Received::Message(payload.freeze()),
            (BINARY, None) => {
                self.message = Some(payload);
                return Ok(Step::Frame);
            }
            (CONTINUATION, Some(mut message)) => {
                message.extend_from_slice(&payload);
                if !head.is_final {
                    self.message = Some(message);
                    return Ok(Step::Frame);
                }
                Received::Message(message.freeze())
            }
            _ => return Err(SocketError::Protocol("an unknown opcode")),
        };
        Ok(Step::Received(received))
    }

    /// Keeps no memory that a large frame needed.
    fn let_go(&mut self, n_frame: usize) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        } else if n_frame > MAX_READ_BYTES {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
    }
}

enum Step {
    Received(Received),
    /// A frame was taken, the message goes on.
    Frame,
    /// So many bytes at least must come first; 0: not known yet.
    Missing(usize),
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The beginning of a frame.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    n_payload: u64,
    n_head: usize,
}

impl Head {
    /// Reads a head; `None` if bytes are missing.
    fn parse(bytes: &[u8]) -> Result<Option<Head>, SocketError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(SocketError::Protocol("reserved bits"));
        }
        if second & MASKED == 0 {
            return Err(SocketError::Protocol("a client's frame without a mask"));
        }
        let (n_payload, n_length) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            length => (u64::from(length), 0),
        };
        let is_shortest = match n_length {
            2 => n_payload >= 126,
            8 => n_payload > u64::from(u16::MAX) && n_payload < 1 << 63,
            _ => true,
        };
        if !is_shortest {
            return Err(SocketError::Protocol("a length that is too long"));
        }
        let (is_final, opcode) = (first & FIN != 0, first & 0x0f);
        let Some(mask) = rest[n_length..].first_chunk() else { return Ok(None) };
        let n_head = 2 + n_length + 4;
        let head = Head { is_final, opcode, mask: *mask, n_payload, n_head };
        if head.is_control() && (!is_final || n_payload > 125) {
            return Err(SocketError::Protocol("a control frame that is long or in pieces"));
        }
        Ok(Some(head))
    }

    fn is_control(&self) -> bool {
        self.opcode & 8 != 0
    }
}

/// Whether a Close frame holds nothing, or a code that may be sent and a text (RFC 6455,
/// 5.5.1 and 7.4).
fn is_close(payload: &[u8]) -> bool {
    match payload.split_first_chunk() {
        None => payload.is_empty(),
        Some((code, reason)) => {
            let code = u16::from_be_bytes(*code);
            let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            may_be_sent && std::str::from_utf8(reason).is_ok()
        }
    }
}

/// The same operation masks and unmasks (RFC 6455, 5.3).
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let mut chunks = bytes.chunks_exact_mut(4);
    for chunk in &mut chunks {
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    chunks.into_remainder().iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// Writes what goes to the client.
#[derive(Debug, Default)]
pub(crate) struct MessageWriter {
    /// Pieces of frames, in order; the first may be partly written.
    pieces: VecDeque<Bytes>,
    n_bytes: usize,
    n_written: u64,
}

impl MessageWriter {
    /// Bytes that wait to be written.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Bytes written since the handshake.
    pub(crate) fn n_written(&self) -> u64 {
        self.n_written
    }

    /// Queues a binary message: `head`, then `body`, which is not copied.
    pub(crate) fn message(&mut self, head: &[u8], body: Bytes) {
        let mut piece = frame_head(BINARY, head.len() + body.len());
        piece.extend_from_slice(head);
        self.push(piece.into());
        if !body.is_empty() {
            self.push(body);
        }
    }

    /// Queues a request for a sign of life.
    pub(crate) fn ping(&mut self) {
        self.push(frame_head(PING, 0).into());
    }

    /// Queues the answer to a ping.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        let mut piece = frame_head(PONG, payload.len());
        piece.extend_from_slice(payload);
        self.push(piece.into());
    }

    /// Queues a Close frame.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let mut n_reason = reason.len().min(123);
        while !reason.is_char_boundary(n_reason) {
            n_reason -= 1;
        }
        let mut piece = frame_head(CLOSE, 2 + n_reason);
        piece.extend_from_slice(&code.to_be_bytes());
        piece.extend_from_slice(&reason.as_bytes()[..n_reason]);
        self.push(piece.into());
    }

    /// Writes some of what waits. Nothing is lost if this is dropped and called again.
    ///
    /// # Errors
    /// Of the connection.
    pub(crate) async fn write(&mut self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut n_slices = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            n_slices += 1;
        }
        let mut n_written = io.write_vectored(&slices[..n_slices]).await?;
        if n_written == 0 && self.n_bytes > 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.n_bytes -= n_written;
        self.n_written += n_written as u64;
        while n_written > 0 {
            let Some(piece) = self.pieces.front_mut() else { break };
            let n = n_written.min(piece.len());
            piece.advance(n);
            n_written -= n;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        Ok(())
    }

    fn push(&mut self, piece: Bytes) {
        self.n_bytes += piece.len();
        self.pieces.push_back(piece);
    }
}

/// The head of an unmasked frame that is a message of its own.
fn frame_head(opcode: u8, n_payload: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(16);
    head.push(FIN | opcode);
    match n_payload {
        0..=125 => head.push(n_payload as u8),
        126..=0xffff => {
            head.push(126);
            head.extend_from_slice(&(n_payload as u16).to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&(n_payload as u64).to_be_bytes());
        }
    }
    head
}

/// What proves that a server understood the handshake (RFC 6455, 4.2.2).
pub(crate) fn accept_key(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    data_encoding::BASE64.encode(context.finish().as_ref())
}

#[cfg(test)]
mod tests;
