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
}

impl Site {
    pub(crate) fn new(name: u8) -> Site {
        let site = SiteId::new(&[name; 16]).unwrap();
        Site { site, salt: 7, vector: VersionVector::new(), time_ms: 1_000 }
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
