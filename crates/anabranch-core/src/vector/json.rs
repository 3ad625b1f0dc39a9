//! Reads the JSON form of a version vector: one object, its keys sites in hex, its values
//! `[version, "chain in hex"]`, of a branch also its root, base and chain there. Strict: this
//! grammar and nothing else of JSON (RFC 8259).

use super::{Held, VectorSyntaxError, VersionVector};
use crate::branch::Branch;
use crate::clock::Chain;
use crate::limits::{MAX_SITE_ID_BYTES, MAX_SITES, MAX_VERSION};
use crate::site::SiteId;

type Result<T> = std::result::Result<T, VectorSyntaxError>;

pub(super) fn read(text: &str) -> Result<VersionVector> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let mut vector = VersionVector::new();
    reader.token(b'{', "expected '{'")?;
    if !reader.take(b'}') {
        loop {
            reader.entry(&mut vector)?;
            if !reader.take(b',') {
                break;
            }
        }
        reader.token(b'}', "expected ',' or '}'")?;
    }
    reader.skip_space();
    if reader.at < reader.text.len() {
        return Err(reader.error("text after the object"));
    }
    Ok(vector)
}

struct Reader<'a> {
    text: &'a [u8],
    /// Offset of the next byte.
    at: usize,
}

impl Reader<'_> {
    fn error(&self, reason: &'static str) -> VectorSyntaxError {
        VectorSyntaxError { reason, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes one punctuation mark and the space before it, if it comes next.
    fn take(&mut self, mark: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(mark);
        self.at += usize::from(is_next);
        is_next
    }

    fn token(&mut self, mark: u8, reason: &'static str) -> Result<()> {
        if self.take(mark) { Ok(()) } else { Err(self.error(reason)) }
    }

    fn entry(&mut self, vector: &mut VersionVector) -> Result<()> {
        self.skip_space();
        let start = VectorSyntaxError { reason: "a site named twice", at: self.at };
        let site = self.site()?;
        if vector.get(site).is_some() {
            return Err(start);
        }
        if vector.len() == MAX_SITES {
            return Err(self.error("too many sites"));
        }
        self.token(b':', "expected ':'")?;
        self.token(b'[', "expected '['")?;
        let version = self.number(1, "expected a version from 1 to 2^53, in digits")?;
        self.token(b',', "expected ','")?;
        let chain = self.chain()?;
        vector.set(site, Held { version, chain });
        if self.take(b',') {
            let root = self.site()?;
            self.token(b',', "expected ','")?;
            let base = self.number(0, "expected a version up to 2^53, in digits")?;
            self.token(b',', "expected ','")?;
            let chain = self.chain()?;
            if base > MAX_VERSION - version {
                return Err(self.error("a branch goes beyond version 2^53 of its root"));
            }
            vector.set_branch(site, Branch { root, base, chain });
        }
        self.token(b']', "expected ']'")
    }

    fn site(&mut self) -> Result<SiteId> {
        let mut bytes = [0; MAX_SITE_ID_BYTES];
        let n_bytes = self.hex(&mut bytes, "expected a site: 1 to 16 bytes in hex, quoted")?;
        SiteId::new(&bytes[..n_bytes]).ok_or_else(|| self.error("a site has 1 to 16 bytes"))
    }

    fn chain(&mut self) -> Result<Chain> {
        let mut chain = [0; 16];
        if self.hex(&mut chain, "expected a chain: 16 bytes in hex, quoted")? != 16 {
            return Err(self.error("a chain has 16 bytes"));
        }
        Ok(Chain(chain))
    }

    /// A number of at least `least`, in digits.
    fn number(&mut self, least: u64, reason: &'static str) -> Result<u64> {
        self.skip_space();
        let n_digits = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let digits = &self.text[self.at..self.at + n_digits];
        if digits.len() > 1 && digits[0] == b'0' {
            return Err(self.error(reason));
        }
        let version = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .filter(|version| (least..=MAX_VERSION).contains(version))
            .ok_or_else(|| self.error(reason))?;
        self.at += n_digits;
        Ok(version)
    }

    /// Reads a quoted text of lower-case hex digits into `bytes`: how many it filled.
    fn hex(&mut self, bytes: &mut [u8], reason: &'static str) -> Result<usize> {
        self.token(b'"', reason)?;
        let mut n_bytes = 0;
        while self.peek() != Some(b'"') {
            let byte = self.text.get(self.at..self.at + 2).and_then(hex_byte);
            let slot = bytes.get_mut(n_bytes);
            let (Some(byte), Some(slot)) = (byte, slot) else {
                return Err(self.error(reason));
            };
            *slot = byte;
            n_bytes += 1;
            self.at += 2;
        }
        self.at += 1;
        Ok(n_bytes)
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    Some(value(digits[0])? << 4 | value(digits[1])?)
}
