//! Sites that write: deltas as a store would make them.

use anabranch_core::change::{ChangeHeader, ChangeKind};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{Birth, CellDelta, Delta, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key::pack;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::wire::encode;

/// One site that writes rows of one table.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) site: SiteId,
    pub(crate) salt: u64,
    /// What it holds.
    pub(crate) vector: VersionVector,
    pub(crate) time_ms: u64,
    /// Blobs that each change names from here on.
    pub(crate) blobs: Vec<[u8; 32]>,
}

impl Site {
    pub(crate) fn new(name: u8) -> Site {
        let site = SiteId::new(&[name; 16]).unwrap();
        Site { site, salt: 7, vector: VersionVector::new(), time_ms: 1_000, blobs: Vec::new() }
    }

    pub(crate) fn version(&self) -> u64 {
        self.vector.version(self.site)
    }

    /// Goes back to an earlier version, as a store does that never heard of later ones.
    pub(crate) fn cut(&mut self, version: u64) {
        let chain = (1..=version)
            .fold(Chain::default(), |chain, version| chain.next(self.site, version, self.salt));
        self.vector.set(self.site, Held { version, chain });
    }

    /// The parts of a delta of `n` changes, of one row each, with texts of so many bytes.
    pub(crate) fn write(&mut self, n: u64, text_bytes: usize) -> Vec<Vec<u8>> {
        encode(&self.delta(n, text_bytes))
    }

    /// One change with a short text: one part.
    pub(crate) fn write_one(&mut self) -> Vec<u8> {
        self.write(1, 5).pop().unwrap()
    }

    pub(crate) fn delta(&mut self, n: u64, text_bytes: usize) -> Delta {
        let from = self.vector.clone();
        let first = self.version() + 1;
        let mut chain = from.get(self.site).map_or(Chain::default(), |held| held.chain);
        let (mut headers, mut rows) = (Vec::new(), Vec::new());
        for version in first..first + n {
            chain = chain.next(self.site, version, self.salt);
            headers.push(self.header(version));
            rows.push(row(version, text_bytes));
        }
        self.vector.set(self.site, Held { version: first + n - 1, chain });
        let columns = vec!["body".to_string()];
        Delta {
            from,
            to: self.vector.clone(),
            sites: vec![self.site],
            headers,
            tables: vec![TableDelta { name: "note".to_string(), columns, rows }],
            ..Delta::default()
        }
    }

    fn header(&self, version: u64) -> ChangeHeader {
        ChangeHeader {
            site: self.site,
            version,
            salt: self.salt,
            time: Hlc(self.time_ms << 16),
            deps: Vec::new(),
            author: None,
            message: None,
            kind: ChangeKind::Edit,
            blobs: self.blobs.clone(),
        }
    }
}

fn row(version: u64, text_bytes: usize) -> RowDelta {
    let dot = DeltaDot { site: SiteIdx(0), version };
    let origin = SiteIdx(0);
    // Noise, so that zstd cannot make it small.
    let mut noise = blake3::Hasher::new().update(&version.to_le_bytes()).finalize_xof();
    let mut text = vec![0; text_bytes];
    noise.fill(&mut text);
    let value = Value::Blob(text);
    RowDelta {
        key: pack(&[ValueRef::Integer(version as i64)]).unwrap(),
        causal_length: 1,
        births: vec![Birth { dot, origin }],
        cells: vec![CellDelta { column: 0, version: 1, dot, origin, value }],
    }
}

/// The first part of a delta with another body: head and checksums fit, as a client of
/// another version would make them. `n_decoded` is what the head claims.
pub(crate) fn with_body(part: &[u8], body: &[u8], n_decoded: u32) -> Vec<u8> {
    let packed = zstd::bulk::compress(body, 1).unwrap();
    let mut part = part[..64].to_vec();
    part[32..36].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    part[36..40].copy_from_slice(&n_decoded.to_le_bytes());
    part[40..56].copy_from_slice(&blake3::hash(&packed).as_bytes()[..16]);
    let name = blake3::hash(&part[40..56]);
    part[8..24].copy_from_slice(&name.as_bytes()[..16]);
    let check = blake3::hash(&part[..56]);
    part[56..64].copy_from_slice(&check.as_bytes()[..8]);
    part.extend_from_slice(&packed);
    part
}
