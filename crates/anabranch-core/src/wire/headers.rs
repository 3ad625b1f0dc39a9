//! Headers of changes, by column.
//!
//! ```text
//! n_spans, then each: site (index in `to`), first version, how many
//! kinds: run-length          salts: 8 bytes each, little-endian
//! times: zigzag deltas       authors, messages: text
//! dependencies: of each header how many, then site (index in `to`), version, chain (16)
//! text: 0 as in the header before (none at first), 1 none, else length + 2 and UTF-8
//! ```
//!
//! Each column but the salts and dependencies is as long as there are headers; the kinds
//! stand in a stretch with a length. The blobs that headers name are a section of their own,
//! which most parts do without:
//!
//! ```text
//! how many headers name some, then each: distance from the one before (from the first), how
//! many blobs, hashes (32 each)
//! ```

use std::collections::BTreeMap;

use super::WireError;
use super::runs::{RunReader, RunWriter};
use super::varint::{Reader, copied_text, put_varint, room, unzigzag, zigzag};
use crate::change::{ChangeHeader, ChangeKind, Dep};
use crate::clock::{Chain, Hlc};
use crate::limits::{
    MAX_AUTHOR_BYTES, MAX_CHANGE_BLOBS, MAX_MESSAGE_BYTES, MAX_PART_HEADERS, MAX_VERSION,
};
use crate::site::SiteId;

/// Fewest bytes of a dependency: site, version, chain.
const MIN_DEP_BYTES: usize = 18;

/// Collects the headers of one part.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderWriter {
    n_headers: usize,
    /// Site, first version, how many.
    spans: Vec<(u32, u64, u64)>,
    kinds: RunWriter,
    salts: Vec<u8>,
    times: Vec<u8>,
    time: u64,
    authors: TextWriter,
    messages: TextWriter,
    deps: Vec<u8>,
    /// Headers that name blobs, the number of the last of them and one, and what they name.
    n_naming: u64,
    named_end: usize,
    blobs: Vec<u8>,
}

impl HeaderWriter {
    /// Appends a header whose site and dependencies are all in `places`, the order of `to`.
    pub(super) fn push(&mut self, header: &ChangeHeader, places: &BTreeMap<SiteId, u32>) {
        let place = places[&header.site];
        match self.spans.last_mut() {
            Some(span) if span.0 == place && span.1 + span.2 == header.version => span.2 += 1,
            _ => self.spans.push((place, header.version, 1)),
        }
        self.n_headers += 1;
        self.kinds.push(kind_code(header.kind));
        self.salts.extend_from_slice(&header.salt.to_le_bytes());
        put_varint(&mut self.times, zigzag(header.time.0.wrapping_sub(self.time) as i64));
        self.time = header.time.0;
        self.authors.push(header.author.as_deref());
        self.messages.push(header.message.as_deref());
        put_varint(&mut self.deps, header.deps.len() as u64);
        for dep in &header.deps {
            put_varint(&mut self.deps, u64::from(places[&dep.site]));
            put_varint(&mut self.deps, dep.version);
            self.deps.extend_from_slice(&dep.chain.0);
        }
        if !header.blobs.is_empty() {
            put_varint(&mut self.blobs, (self.n_headers - 1 - self.named_end) as u64);
            put_varint(&mut self.blobs, header.blobs.len() as u64);
            header.blobs.iter().for_each(|blob| self.blobs.extend_from_slice(blob));
            (self.n_naming, self.named_end) = (self.n_naming + 1, self.n_headers);
        }
    }

    pub(super) fn n_headers(&self) -> usize {
        self.n_headers
    }

    /// Bytes that [`HeaderWriter::finish`] will give, at most.
    pub(super) fn len(&self) -> usize {
        let texts = self.authors.out.len() + self.messages.out.len();
        let fixed = self.salts.len() + self.times.len() + self.deps.len() + self.blobs.len();
        64 + 24 * self.spans.len() + self.kinds.len() + fixed + texts
    }

    /// Bytes that the texts grow to when they are read.
    pub(super) fn n_text_bytes(&self) -> usize {
        self.authors.n_full_bytes + self.messages.n_full_bytes
    }

    /// The content of the section of blobs, if any are named.
    pub(super) fn take_blobs(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.blobs.len() + 4);
        put_varint(&mut out, self.n_naming);
        out.append(&mut self.blobs);
        (self.n_naming > 0).then_some(out)
    }

    /// The section's content.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        put_varint(&mut out, self.spans.len() as u64);
        for (place, first, count) in &self.spans {
            put_varint(&mut out, u64::from(*place));
            put_varint(&mut out, *first);
            put_varint(&mut out, *count);
        }
        self.kinds.finish_stretch_into(&mut out);
        for column in [&self.salts, &self.times, &self.authors.out, &self.messages.out, &self.deps]
        {
            out.extend_from_slice(column);
        }
        out
    }
}

#[derive(Clone, Debug, Default)]
struct TextWriter {
    out: Vec<u8>,
    previous: Option<String>,
    n_full_bytes: usize,
}

impl TextWriter {
    fn push(&mut self, text: Option<&str>) {
        self.n_full_bytes += text.map_or(0, str::len);
        if text == self.previous.as_deref() {
            self.out.push(0);
            return;
        }
        match text {
            None => self.out.push(1),
            Some(text) => {
                put_varint(&mut self.out, text.len() as u64 + 2);
                self.out.extend_from_slice(text.as_bytes());
            }
        }
        self.previous = text.map(str::to_owned);
    }
}

/// Reads one section; `to` is the delta's sites in order, `budget` what texts may grow to.
pub(super) fn read(
    mut section: Reader<'_>,
    to: &[SiteId],
    budget: &mut usize,
) -> Result<Vec<ChangeHeader>, WireError> {
    let mut headers = read_spans(&mut section, to)?;
    let mut kinds = RunReader::new(section.stretch("kinds of changes")?);
    for header in &mut headers {
        header.kind = kind_of(kinds.next("kind of a change")?, &section)?;
    }
    kinds.finish("kinds of changes")?;
    for header in &mut headers {
        header.salt = u64::from_le_bytes(section.array("salt")?);
    }
    let mut time = 0_u64;
    for header in &mut headers {
        time = time.wrapping_add(unzigzag(section.varint("time")?) as u64);
        header.time = Hlc(time);
    }
    read_texts(&mut section, &mut headers, MAX_AUTHOR_BYTES, budget, |header| &mut header.author)?;
    read_texts(&mut section, &mut headers, MAX_MESSAGE_BYTES, budget, |header| {
        &mut header.message
    })?;
    for header in &mut headers {
        header.deps = read_deps(&mut section, to)?;
    }
    section.finish("bytes after the headers")?;
    Ok(headers)
}

fn read_spans(section: &mut Reader<'_>, to: &[SiteId]) -> Result<Vec<ChangeHeader>, WireError> {
    let n_spans = section.count("spans of headers", MAX_PART_HEADERS)?;
    let mut headers = Vec::new();
    for _ in 0..n_spans {
        let site = to[section.index("site of a header", to.len())? as usize];
        let first = section.varint("version of a header")?;
        let n_left = MAX_PART_HEADERS - headers.len();
        let count = section.count("headers", n_left)?;
        if first > MAX_VERSION {
            return Err(section.malformed("version of a header"));
        }
        headers.try_reserve(count).map_err(|_| WireError::OutOfMemory)?;
        headers.extend((first..first + count as u64).map(|version| ChangeHeader {
            site,
            version,
            salt: 0,
            time: Hlc(0),
            deps: Vec::new(),
            author: None,
            message: None,
            kind: ChangeKind::Edit,
            blobs: Vec::new(),
        }));
    }
    Ok(headers)
}

fn read_texts(
    section: &mut Reader<'_>,
    headers: &mut [ChangeHeader],
    limit: usize,
    budget: &mut usize,
    field: impl Fn(&mut ChangeHeader) -> &mut Option<String>,
) -> Result<(), WireError> {
    let mut previous = None;
    for header in headers {
        match section.count("bytes of text", limit + 2)? {
            0 => {}
            1 => previous = None,
            len => {
                let bytes = section.take(len - 2, "text")?;
                previous = Some(std::str::from_utf8(bytes).map_err(|_| section.malformed("text"))?);
            }
        }
        spend(budget, previous.map_or(0, str::len))?;
        *field(header) = previous.map(copied_text).transpose()?;
    }
    Ok(())
}

fn read_deps(section: &mut Reader<'_>, to: &[SiteId]) -> Result<Vec<Dep>, WireError> {
    let n_deps = section.count("dependencies", to.len())?;
    let mut deps = room(n_deps.min(section.len() / MIN_DEP_BYTES + 1))?;
    for _ in 0..n_deps {
        let site = to[section.index("site of a dependency", to.len())? as usize];
        let version = section.varint("version of a dependency")?;
        let chain = Chain(section.array("chain of a dependency")?);
        deps.push(Dep { site, version, chain });
    }
    Ok(deps)
}

/// Reads the section of blobs into the headers that stand before it.
pub(super) fn read_blobs(
    mut section: Reader<'_>,
    headers: &mut [ChangeHeader],
) -> Result<(), WireError> {
    let n_naming = section.count("headers that name blobs", headers.len())?;
    let mut rest = headers.iter_mut();
    for _ in 0..n_naming {
        let distance = section.count("distance to a header", rest.len())?;
        let header = rest.nth(distance).ok_or_else(|| section.malformed("a header's number"))?;
        let n_blobs = section.count("blobs of a change", MAX_CHANGE_BLOBS)?;
        if n_blobs == 0 || !header.blobs.is_empty() {
            return Err(section.malformed("blobs of a change"));
        }
        header.blobs = room(n_blobs.min(section.len() / 32 + 1))?;
        for _ in 0..n_blobs {
            header.blobs.push(section.array("hash of a blob")?);
        }
        if !header.blobs.is_sorted_by(|a, b| a < b) {
            return Err(section.malformed("blobs out of order"));
        }
    }
    section.finish("bytes after the blobs")
}

/// Takes `n_bytes` from what a part may grow to beyond its own bytes.
pub(super) fn spend(budget: &mut usize, n_bytes: usize) -> Result<(), WireError> {
    let limit = crate::limits::MAX_PART_DECODED_BYTES;
    *budget = budget.checked_sub(n_bytes).ok_or(WireError::OverLimit {
        what: "bytes of keys and texts",
        found: (limit + 1) as u64,
        limit: limit as u64,
    })?;
    Ok(())
}

fn kind_code(kind: ChangeKind) -> u64 {
    match kind {
        ChangeKind::Edit => 1,
        ChangeKind::Import => 2,
        ChangeKind::Schema => 3,
        ChangeKind::Restore => 4,
    }
}

fn kind_of(code: u64, section: &Reader<'_>) -> Result<ChangeKind, WireError> {
    match code {
        1 => Ok(ChangeKind::Edit),
        2 => Ok(ChangeKind::Import),
        3 => Ok(ChangeKind::Schema),
        4 => Ok(ChangeKind::Restore),
        _ => Err(section.malformed("kind of a change")),
    }
}
