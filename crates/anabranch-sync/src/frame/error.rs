//! Error: something was refused, and what the receiver can do about it.
//!
//! ```text
//! code (varint) | retry (varint: 0 never, n: after n - 1 ms)
//! closes (1: 0 nothing, 1 channel, 2 connection)
//! about (1: 0 nothing, 1 delta (16), 2 change: site | version) | text (at most 1 KiB)
//! ```

use anabranch_core::vector::Dot;

use super::codec::{Reader, put_bytes, put_dot, put_varint};
use super::{DeltaName, FrameError};
use crate::limits::MAX_ERROR_TEXT_BYTES;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The sender ends the channel or connection on purpose: it stops, or was asked to.
    Closing,
    /// A frame that cannot be read.
    Malformed,
    /// A frame of a type that may not be ignored and is not known.
    UnknownType,
    /// Another protocol number.
    Protocol,
    /// A frame that has no place here.
    Unexpected,
    /// No token, or none that is valid.
    Unauthorized,
    /// The token has ended or was revoked: send a new one.
    TokenEnded,
    /// The token does not allow this frame.
    Forbidden,
    /// There is no such store, or this connection may not name it.
    NoStore,
    /// A bound of the protocol was broken.
    OverLimit,
    /// Too much at a time.
    RateLimited,
    /// A quota of the store is used up; the text names it.
    OverQuota,
    /// A step was waited for in vain.
    TimedOut,
    /// The delta begins above what is held here.
    Missing,
    /// A change is too far ahead of the clock here.
    ClockAhead,
    /// Two histories under one site.
    SiteReused,
    /// The delta names a table, column or kind that is not known here.
    UnknownName,
    /// The delta holds something that this version cannot read.
    Unsupported,
    /// Bytes do not match their checksum or hash.
    Damaged,
    /// Changes of a site that another subject owns.
    NotOwner,
    /// Not now.
    Busy,
    /// The disk here is full or failing.
    Storage,
    /// A fault of the sender's.
    Internal,
    /// The delta names blobs that are wanted first: a Have follows when they have come.
    BlobsFirst,
    /// A code of a later version.
    Other(u64),
}

/// Codes by number.
const CODES: [ErrorCode; 24] = [
    ErrorCode::Closing,
    ErrorCode::Malformed,
    ErrorCode::UnknownType,
    ErrorCode::Protocol,
    ErrorCode::Unexpected,
    ErrorCode::Unauthorized,
    ErrorCode::TokenEnded,
    ErrorCode::Forbidden,
    ErrorCode::NoStore,
    ErrorCode::OverLimit,
    ErrorCode::RateLimited,
    ErrorCode::OverQuota,
    ErrorCode::TimedOut,
    ErrorCode::Missing,
    ErrorCode::ClockAhead,
    ErrorCode::SiteReused,
    ErrorCode::UnknownName,
    ErrorCode::Unsupported,
    ErrorCode::Damaged,
    ErrorCode::NotOwner,
    ErrorCode::Busy,
    ErrorCode::Storage,
    ErrorCode::Internal,
    ErrorCode::BlobsFirst,
];

impl ErrorCode {
    /// Its number in frames and in logs.
    pub fn number(self) -> u64 {
        match self {
            ErrorCode::Other(number) => number,
            known => CODES.iter().zip(0..).find(|(code, _)| **code == known).map_or(0, |at| at.1),
        }
    }

    /// The code of a number.
    pub fn of(number: u64) -> ErrorCode {
        let known = usize::try_from(number).ok().and_then(|at| CODES.get(at).copied());
        known.unwrap_or(ErrorCode::Other(number))
    }
}

/// Whether the same thing may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not without somebody's doing.
    Never,
    /// After so many milliseconds.
    AfterMs(u64),
}

/// What ends with the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closes {
    /// Nothing: the channel goes on.
    Nothing,
    /// The channel; others go on.
    Channel,
    /// The connection.
    Connection,
}

/// What the error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing that has a name.
    Nothing,
    /// A delta: none of it was kept.
    Delta(DeltaName),
    /// A change, or a site's history at a version.
    Change(Dot),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFrame {
    /// What.
    pub code: ErrorCode,
    /// Whether to try again.
    pub retry: Retry,
    /// What ends.
    pub closes: Closes,
    /// Of what.
    pub about: About,
    /// For people; at most [`MAX_ERROR_TEXT_BYTES`].
    pub text: String,
}

impl ErrorFrame {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.code.number());
        put_varint(
            out,
            match self.retry {
                Retry::Never => 0,
                Retry::AfterMs(ms) => ms.saturating_add(1),
            },
        );
        out.push(self.closes as u8);
        match self.about {
            About::Nothing => out.push(0),
            About::Delta(delta) => {
                out.push(1);
                out.extend_from_slice(&delta.0);
            }
            About::Change(dot) => {
                out.push(2);
                put_dot(out, dot);
            }
        }
        put_bytes(
            out,
            &self.text.as_bytes()[..self.text.floor_char_boundary(MAX_ERROR_TEXT_BYTES)],
        );
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<ErrorFrame, FrameError> {
        let code = ErrorCode::of(reader.varint("code")?);
        let retry = match reader.varint("retry")? {
            0 => Retry::Never,
            after => Retry::AfterMs(after - 1),
        };
        let closes = match reader.byte("what closes")? {
            0 => Closes::Nothing,
            1 => Closes::Channel,
            2 => Closes::Connection,
            _ => return Err(reader.malformed("what closes")),
        };
        let about = match reader.byte("what it is about")? {
            0 => About::Nothing,
            1 => About::Delta(DeltaName(reader.array("name of a delta")?)),
            2 => About::Change(reader.dot()?),
            _ => return Err(reader.malformed("what it is about")),
        };
        let text = reader.text("text", MAX_ERROR_TEXT_BYTES)?.to_owned();
        Ok(ErrorFrame { code, retry, closes, about, text })
    }
}
