//! Frames: what the two ends of a connection say, and its bytes (`docs/protocol.md`).
//!
//! A frame is a type (one byte), the channel (varint), and the fields of its family, one
//! file each. A type with its highest bit set may be ignored by who does not know it.
//! Decoding is strict: one spelling for each frame, nothing after its end, every bound
//! checked before memory is taken; `decode(encode(frame))` is `frame`.

use bytes::Bytes;

use crate::channel::ChannelId;
use crate::limits::{MAX_CHANNELS, MAX_FRAME_BYTES, MAX_HELLO_BYTES};

mod blob;
pub(crate) mod codec;
mod delta;
mod error;
mod hello;
mod presence;
mod receipts;
mod resume;
mod vector;

pub use blob::{BlobChunk, BlobId, BlobWant, Chunk, SubtreeHash};
pub use delta::{Delta, DeltaName};
pub use error::{About, Closes, ErrorCode, ErrorFrame, Retry};
pub use hello::{Capabilities, Hello, PROTOCOL, Role, StoreName, Turn};
pub use presence::{Participant, Presence};
pub use receipts::{Place, Reach, Receipt, Receipts};
pub use resume::{Resume, VectorDigest};
pub use vector::{Ack, Chains, Entry, Have, Partial};

use codec::{Reader, put_varint};

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Malformed.
    #[error("malformed {frame} frame: {what} at byte {at}")]
    Malformed {
        /// Which frame.
        frame: &'static str,
        /// Which field.
        what: &'static str,
        /// Offset in the frame.
        at: usize,
    },
    /// More than is accepted.
    #[error("{frame} frame: {found} as {what}, at most {limit} is accepted")]
    OverLimit {
        /// Which frame.
        frame: &'static str,
        /// Of what.
        what: &'static str,
        /// How much.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// A type that this version does not know, and may not ignore.
    #[error("a frame of type {kind}, which this version does not know and may not ignore")]
    UnknownType {
        /// Its number.
        kind: u8,
    },
    /// The peer speaks another protocol.
    #[error("the peer speaks protocol {found}, this version speaks {PROTOCOL}")]
    Protocol {
        /// The peer's.
        found: u64,
    },
    /// A part of a delta whose head is damaged.
    #[error("delta frame: {0}")]
    Part(String),
}

/// What is said on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who speaks, about which store, with which right.
    Hello(Hello),
    /// What is held, as a version vector.
    Have(Have),
    /// A part of a delta.
    Delta(Delta),
    /// What was taken, and how safely.
    Ack(Ack),
    /// Chains of one site at some versions.
    Chains(Chains),
    /// Chunks of a blob are wanted.
    BlobWant(BlobWant),
    /// A chunk of a blob.
    BlobChunk(BlobChunk),
    /// Something was refused.
    Error(ErrorFrame),
    /// A ticket that stands for what both ends hold.
    Resume(Resume),
    /// Who is here, and doing what.
    Presence(Presence),
    /// How far changes got.
    Receipts(Receipts),
}

/// A frame's family, as its first byte says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameKind {
    /// [`Frame::Hello`]
    Hello = 0x01,
    /// [`Frame::Have`]
    Have = 0x02,
    /// [`Frame::Delta`]
    Delta = 0x03,
    /// [`Frame::Ack`]
    Ack = 0x04,
    /// [`Frame::Chains`]
    Chains = 0x05,
    /// [`Frame::BlobWant`]
    BlobWant = 0x06,
    /// [`Frame::BlobChunk`]
    BlobChunk = 0x07,
    /// [`Frame::Error`]
    Error = 0x08,
    /// [`Frame::Resume`]
    Resume = 0x81,
    /// [`Frame::Presence`]
    Presence = 0x82,
    /// [`Frame::Receipts`]
    Receipts = 0x83,
}

/// Set in the types of frames that may be ignored by who does not know them.
pub const MAY_IGNORE: u8 = 0x80;

impl FrameKind {
    /// All kinds, by number.
    pub const ALL: [FrameKind; 11] = [
        FrameKind::Hello,
        FrameKind::Have,
        FrameKind::Delta,
        FrameKind::Ack,
        FrameKind::Chains,
        FrameKind::BlobWant,
        FrameKind::BlobChunk,
        FrameKind::Error,
        FrameKind::Resume,
        FrameKind::Presence,
        FrameKind::Receipts,
    ];

    /// The name that errors and `docs/protocol.md` use.
    pub fn name(self) -> &'static str {
        match self {
            FrameKind::Hello => "Hello",
            FrameKind::Have => "Have",
            FrameKind::Delta => "Delta",
            FrameKind::Ack => "Ack",
            FrameKind::Chains => "Chains",
            FrameKind::BlobWant => "BlobWant",
            FrameKind::BlobChunk => "BlobChunk",
            FrameKind::Error => "Error",
            FrameKind::Resume => "Resume",
            FrameKind::Presence => "Presence",
            FrameKind::Receipts => "Receipts",
        }
    }
}

/// What [`decode`] finds in well-formed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A frame and its channel.
    Frame(ChannelId, Frame),
    /// A frame of an unknown type that may be ignored.
    Ignored {
        /// Its type.
        kind: u8,
    },
}

impl Frame {
    /// Its family.
    pub fn kind(&self) -> FrameKind {
        match self {
            Frame::Hello(_) => FrameKind::Hello,
            Frame::Have(_) => FrameKind::Have,
            Frame::Delta(_) => FrameKind::Delta,
            Frame::Ack(_) => FrameKind::Ack,
            Frame::Chains(_) => FrameKind::Chains,
            Frame::BlobWant(_) => FrameKind::BlobWant,
            Frame::BlobChunk(_) => FrameKind::BlobChunk,
            Frame::Error(_) => FrameKind::Error,
            Frame::Resume(_) => FrameKind::Resume,
            Frame::Presence(_) => FrameKind::Presence,
            Frame::Receipts(_) => FrameKind::Receipts,
        }
    }
}

/// A frame to be sent: `head`, then `body`, as one message.
///
/// The body of a delta or chunk is shared, not copied: who sends one change to many
/// connections encodes it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Type, channel and fields; the whole frame if `body` is empty.
    pub head: Vec<u8>,
    /// What follows, up to the end of the frame.
    pub body: Bytes,
}

impl Transmit {
    /// Length of the frame in bytes.
    pub fn len_bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The whole frame in one piece; copies the body if there is one.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.head.extend_from_slice(&self.body);
        self.head
    }
}

/// Writes a frame.
///
/// # Panics
/// If a field is beyond its bound, which no decoder would take.
pub fn encode(channel: ChannelId, frame: &Frame) -> Transmit {
    let mut head = vec![frame.kind() as u8];
    put_varint(&mut head, u64::from(channel.number()));
    let mut body = Bytes::new();
    match frame {
        Frame::Hello(hello) => hello.put(&mut head),
        Frame::Have(have) => have.put(&mut head),
        Frame::Delta(delta) => body = delta.put(&mut head),
        Frame::Ack(ack) => ack.put(&mut head),
        Frame::Chains(chains) => chains.put(&mut head),
        Frame::BlobWant(want) => want.put(&mut head),
        Frame::BlobChunk(chunk) => body = chunk.put(&mut head),
        Frame::Error(error) => error.put(&mut head),
        Frame::Resume(resume) => resume.put(&mut head),
        Frame::Presence(presence) => presence.put(&mut head),
        Frame::Receipts(receipts) => receipts.put(&mut head),
    }
    let transmit = Transmit { head, body };
    debug_assert!(transmit.len_bytes() <= MAX_FRAME_BYTES);
    transmit
}

/// Reads one frame; long bytes in it share memory with `bytes`.
///
/// # Errors
/// [`FrameError`]: the connection cannot go on, for what follows may depend on it.
pub fn decode(bytes: &Bytes) -> Result<Decoded, FrameError> {
    let mut reader = Reader::new(bytes, "unnamed");
    let number = reader.byte("type")?;
    let Some(kind) = FrameKind::ALL.into_iter().find(|kind| *kind as u8 == number) else {
        return match number & MAY_IGNORE {
            0 => Err(FrameError::UnknownType { kind: number }),
            _ => Ok(Decoded::Ignored { kind: number }),
        };
    };
    let mut reader = reader.named(kind.name());
    let limit = if kind == FrameKind::Hello { MAX_HELLO_BYTES } else { MAX_FRAME_BYTES };
    if bytes.len() > limit {
        let (frame, found, limit) = (kind.name(), bytes.len() as u64, limit as u64);
        return Err(FrameError::OverLimit { frame, what: "length", found, limit });
    }
    let channel = reader.number("channel", u64::from(MAX_CHANNELS) - 1)? as u32;
    let channel = ChannelId::new(channel).ok_or_else(|| reader.malformed("channel"))?;
    let frame = match kind {
        FrameKind::Hello => Frame::Hello(Hello::read(&mut reader, bytes)?),
        FrameKind::Have => Frame::Have(Have::read(&mut reader)?),
        FrameKind::Delta => Frame::Delta(Delta::read(&mut reader, bytes)?),
        FrameKind::Ack => Frame::Ack(Ack::read(&mut reader)?),
        FrameKind::Chains => Frame::Chains(Chains::read(&mut reader)?),
        FrameKind::BlobWant => Frame::BlobWant(BlobWant::read(&mut reader)?),
        FrameKind::BlobChunk => Frame::BlobChunk(BlobChunk::read(&mut reader, bytes)?),
        FrameKind::Error => Frame::Error(ErrorFrame::read(&mut reader)?),
        FrameKind::Resume => Frame::Resume(Resume::read(&mut reader, bytes)?),
        FrameKind::Presence => Frame::Presence(Presence::read(&mut reader, bytes)?),
        FrameKind::Receipts => Frame::Receipts(Receipts::read(&mut reader)?),
    };
    reader.finish()?;
    Ok(Decoded::Frame(channel, frame))
}
