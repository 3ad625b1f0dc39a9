//! WebSocket frames (RFC 6455), the server's side: messages in, messages out.
//!
//! Written here, and small, because memory is the point: a connection that waits owns nothing
//! to read into and nothing to write from; a large message keeps no buffer behind; a large body
//! that goes to many connections is written from where it lies. Small messages that wait are one
//! piece of memory and one system call.
//!
//! **Invariant:** no more is kept of a message than has arrived, whatever its header claims.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes read at once, on the stack of whoever reads: some dozens of small changes.
const SMALL_READ_BYTES: usize = 16 << 10;
/// Bytes read at once of a large frame.
const MAX_READ_BYTES: usize = 64 << 10;
/// Pieces handed to the operating system at once.
const MAX_SLICES: usize = 32;
/// Bodies up to this size are copied behind their heads: cheaper than a piece of its own.
const MAX_COPIED_BYTES: usize = 4 << 10;
/// Room for a first small message.
const MIN_PIECE_BYTES: usize = 512;

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
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// `buffer` came with the handshake.
    pub(crate) fn new(io: R, buffer: &[u8]) -> MessageReader<R> {
        let n_read = buffer.len() as u64;
        let buffer = BytesMut::from(buffer);
        MessageReader { io, buffer, message: None, n_read }
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
            let n = if missing > SMALL_READ_BYTES {
                self.buffer.reserve(missing.min(MAX_READ_BYTES));
                self.io.read_buf(&mut self.buffer).await?
            } else {
                poll_fn(|context| self.poll_small(context)).await?
            };
            match n {
                0 => return Err(SocketError::Ended),
                n => self.n_read += n as u64,
            }
        }
    }

    /// The next message or control frame, if all of it has come.
    ///
    /// # Errors
    /// As [`MessageReader::next`].
    pub(crate) fn next_ready(&mut self, limit: usize) -> Option<Result<Received, SocketError>> {
        loop {
            match self.take(limit) {
                Ok(Step::Received(received)) => return Some(Ok(received)),
                Ok(Step::Frame) => {}
                Ok(Step::Missing(_)) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads what there is by way of the stack: a connection that waits keeps no room for it.
    fn poll_small(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); SMALL_READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut room))?;
        self.buffer.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
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
    let [a, b, c, d] = mask;
    let wide = u64::from_le_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    rest.iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Writes what goes to the client.
#[derive(Debug, Default)]
pub(crate) struct MessageWriter {
    /// Pieces of frames, in order; the first may be partly written.
    pieces: VecDeque<Bytes>,
    /// What follows them.
    last: BytesMut,
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

    /// Queues a binary message: `head`, then `body`, which is not copied if it is large.
    pub(crate) fn message(&mut self, head: &[u8], body: Bytes) {
        self.begin(BINARY, head.len() + body.len());
        self.add(head);
        if body.len() <= MAX_COPIED_BYTES {
            return self.add(&body);
        }
        self.n_bytes += body.len();
        self.end_piece();
        self.pieces.push_back(body);
    }

    /// Queues a request for a sign of life.
    pub(crate) fn ping(&mut self) {
        self.begin(PING, 0);
    }

    /// Queues the answer to a ping.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        self.begin(PONG, payload.len());
        self.add(payload);
    }

    /// Queues a Close frame.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let mut n_reason = reason.len().min(123);
        while !reason.is_char_boundary(n_reason) {
            n_reason -= 1;
        }
        self.begin(CLOSE, 2 + n_reason);
        self.add(&code.to_be_bytes());
        self.add(&reason.as_bytes()[..n_reason]);
    }

    /// Writes some of what waits. Nothing is lost if this is dropped and called again.
    ///
    /// # Errors
    /// Of the connection.
    pub(crate) async fn write(&mut self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut n_slices = 0;
        self.end_piece();
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

    fn begin(&mut self, opcode: u8, n_payload: usize) {
        let (head, n_head) = frame_head(opcode, n_payload);
        self.add(&head[..n_head]);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.n_bytes += bytes.len();
        if self.last.capacity() == 0 {
            self.last.reserve(bytes.len().max(MIN_PIECE_BYTES));
        }
        self.last.extend_from_slice(bytes);
    }

    /// What was added so far is a piece.
    fn end_piece(&mut self) {
        if !self.last.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.last).freeze());
        }
    }
}

/// The head of an unmasked frame that is a message of its own, and how long it is.
fn frame_head(opcode: u8, n_payload: usize) -> ([u8; 10], usize) {
    let mut head = [0; 10];
    head[0] = FIN | opcode;
    let n_head = match n_payload {
        0..=125 => {
            head[1] = n_payload as u8;
            2
        }
        126..=0xffff => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(n_payload as u16).to_be_bytes());
            4
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&(n_payload as u64).to_be_bytes());
            10
        }
    };
    (head, n_head)
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
