//! How fields of frames are written and read: varints, bytes, texts, sites, dots, entries.
//!
//! Strict, as `docs/format.md`, section 0, has it: shortest varints only, every count and
//! length compared with its bound before memory is taken for it.

use anabranch_core::clock::Chain;
use anabranch_core::limits::MAX_VERSION;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held};

use super::FrameError;

type Result<T> = std::result::Result<T, FrameError>;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_site(out: &mut Vec<u8>, site: SiteId) {
    put_bytes(out, site.as_bytes());
}

pub(crate) fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    put_site(out, dot.site);
    put_varint(out, dot.version);
}

pub(crate) fn put_dots(out: &mut Vec<u8>, dots: &[Dot]) {
    put_varint(out, dots.len() as u64);
    dots.iter().for_each(|dot| put_dot(out, *dot));
}

/// A site, a version, and unless that is 0 the chain.
pub(crate) fn put_entry(out: &mut Vec<u8>, site: SiteId, held: Held) {
    put_site(out, site);
    put_varint(out, held.version);
    if held.version > 0 {
        out.extend_from_slice(&held.chain.0);
    }
}

/// Reads forward through one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Length of the frame.
    end: usize,
    /// What the frame is called in errors.
    frame: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], frame: &'static str) -> Reader<'a> {
        Reader { rest: bytes, end: bytes.len(), frame }
    }

    pub(crate) fn named(self, frame: &'static str) -> Reader<'a> {
        Reader { frame, ..self }
    }

    pub(crate) fn malformed(&self, what: &'static str) -> FrameError {
        FrameError::Malformed { frame: self.frame, what, at: self.end - self.rest.len() }
    }

    pub(crate) fn finish(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("bytes after the end")) }
    }

    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut number = 0;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            let is_too_large = i == 9 && bits > 1;
            let is_last = byte & 0x80 == 0;
            let is_longer_than_needed = is_last && bits == 0 && i > 0;
            if is_too_large || is_longer_than_needed {
                break;
            }
            number |= bits << (7 * i);
            if is_last {
                self.rest = &self.rest[i + 1..];
                return Ok(number);
            }
        }
        Err(self.malformed(what))
    }

    /// A number that is at most `limit`.
    pub(crate) fn number(&mut self, what: &'static str, limit: u64) -> Result<u64> {
        let found = self.varint(what)?;
        if found > limit {
            return Err(FrameError::OverLimit { frame: self.frame, what, found, limit });
        }
        Ok(found)
    }

    /// A number that counts things of at least `min_bytes` each, at most `limit` of them.
    pub(crate) fn count(
        &mut self,
        what: &'static str,
        limit: usize,
        min_bytes: usize,
    ) -> Result<usize> {
        let n = self.number(what, limit as u64)? as usize;
        if n.saturating_mul(min_bytes) > self.rest.len() {
            Err(self.malformed(what))
        } else {
            Ok(n)
        }
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.malformed(what));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool> {
        let before = *self;
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(before.malformed(what)),
        }
    }

    pub(crate) fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8]> {
        let len = self.number(what, limit as u64)? as usize;
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.malformed(what));
        };
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str> {
        let before = *self;
        std::str::from_utf8(self.bytes(what, limit)?).map_err(|_| before.malformed(what))
    }

    pub(crate) fn site(&mut self) -> Result<SiteId> {
        let before = *self;
        SiteId::new(self.bytes("site", 16)?).ok_or_else(|| before.malformed("site"))
    }

    /// A version from `least` to the largest there is.
    pub(crate) fn version(&mut self, least: u64) -> Result<u64> {
        let before = *self;
        match self.number("version", MAX_VERSION)? {
            version if version >= least => Ok(version),
            _ => Err(before.malformed("version")),
        }
    }

    pub(crate) fn chain(&mut self) -> Result<Chain> {
        self.array("chain").map(Chain)
    }

    pub(crate) fn dot(&mut self) -> Result<Dot> {
        Ok(Dot { site: self.site()?, version: self.version(1)? })
    }

    pub(crate) fn dots(&mut self, what: &'static str, limit: usize) -> Result<Vec<Dot>> {
        let n = self.count(what, limit, 3)?;
        (0..n).map(|_| self.dot()).collect()
    }

    /// What [`put_entry`] writes; `least` 0 allows an entry that is gone.
    pub(crate) fn entry(&mut self, least: u64) -> Result<(SiteId, Held)> {
        let site = self.site()?;
        let version = self.version(least)?;
        let chain = if version > 0 { self.chain()? } else { Chain::default() };
        Ok((site, Held { version, chain }))
    }

    /// Entries by site, each site once.
    pub(crate) fn entries(&mut self, limit: usize, least: u64) -> Result<Vec<(SiteId, Held)>> {
        let n = self.count("entries of a vector", limit, 3)?;
        let mut entries: Vec<(SiteId, Held)> = Vec::with_capacity(n);
        for _ in 0..n {
            let before = *self;
            let entry = self.entry(least)?;
            if entries.last().is_some_and(|last| last.0 >= entry.0) {
                return Err(before.malformed("order of sites"));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}
