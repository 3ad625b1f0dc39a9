//! A site that writes small changes, one delta each, as a store would make them.

use std::sync::Arc;

use anabranch_core::change::{ChangeHeader, ChangeKind};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{Birth, CellDelta, Delta, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key::pack;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::wire::encode;
use anabranch_sync::frame;
use anyhow::{Context, Result};
use bytes::Bytes;

use crate::side::scatter;

/// Milliseconds since 1970 of all changes: past for every relay.
const TIME_MS: u64 = 1_700_000_000_000;

/// A change, or several as one, ready to be sent.
#[derive(Clone)]
pub struct Change {
    /// The only part of its delta.
    pub part: frame::Delta,
    /// What a copy must hold to take it.
    pub from: Arc<VersionVector>,
    /// What it holds afterwards.
    pub to: Arc<VersionVector>,
}

/// A site that writes rows of one table.
pub struct Writer {
    /// Its name.
    pub site: SiteId,
    chain: Chain,
    version: u64,
}

impl Writer {
    /// The site of this number.
    pub fn new(number: u64) -> Writer {
        let words = [scatter(number + 1), scatter(!number)].map(u64::to_le_bytes);
        let mut random = [0; 16];
        random.copy_from_slice(&words.concat());
        Writer { site: SiteId::from_random(random), chain: Chain::default(), version: 0 }
    }

    /// The next `n` changes of one row with two cells: some 20 bytes of text and a number.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn write(&mut self, n: usize) -> Result<Vec<Change>> {
        (0..n).map(|_| self.write_delta(1)).collect()
    }

    /// The same, where `n_each` at a time are one delta.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn write_together(&mut self, n: usize, n_each: usize) -> Result<Vec<Change>> {
        (0..n / n_each).map(|_| self.write_delta(n_each)).collect()
    }

    fn write_delta(&mut self, n_changes: usize) -> Result<Change> {
        let from = self.vector();
        let (mut headers, mut rows) = (Vec::new(), Vec::new());
        for _ in 0..n_changes {
            self.version += 1;
            let salt = scatter(self.version);
            self.chain = self.chain.next(self.site, self.version, salt);
            headers.push(self.header(salt));
            rows.push(self.row());
        }
        let to = self.vector();
        let columns = vec!["body".to_owned(), "place".to_owned()];
        let delta = Delta {
            from: (*from).clone(),
            to: (*to).clone(),
            sites: vec![self.site],
            headers,
            tables: vec![TableDelta { name: "note".to_owned(), columns, rows }],
            ..Delta::default()
        };
        let part = encode(&delta).pop().context("a delta has a part")?;
        let part = frame::Delta::new(part.into()).ok().context("a part that was just made")?;
        Ok(Change { part, from, to })
    }

    /// What it holds: its own changes.
    pub fn vector(&self) -> Arc<VersionVector> {
        let mut vector = VersionVector::new();
        if self.version > 0 {
            vector.set(self.site, Held { version: self.version, chain: self.chain });
        }
        Arc::new(vector)
    }

    fn header(&self, salt: u64) -> ChangeHeader {
        ChangeHeader {
            site: self.site,
            version: self.version,
            salt,
            time: Hlc((TIME_MS + self.version) << 16),
            deps: Vec::new(),
            author: None,
            message: None,
            kind: ChangeKind::Edit,
            blobs: Vec::new(),
        }
    }

    fn row(&self) -> RowDelta {
        let dot = DeltaDot { site: SiteIdx(0), version: self.version };
        let origin = SiteIdx(0);
        let text = format!("note {:016x}", scatter(self.version));
        let values = [Value::Text(text.into_bytes()), Value::Integer(self.version as i64)];
        let cell = |(column, value)| CellDelta { column, version: 1, dot, origin, value };
        RowDelta {
            key: pack(&[ValueRef::Integer(self.version as i64)]).expect("one value"),
            causal_length: 1,
            births: vec![Birth { dot, origin }],
            cells: (0..).zip(values).map(cell).collect(),
        }
    }
}

/// Where a delta of one part leads.
///
/// # Errors
/// The bytes are no such part.
pub fn end_of(part: &Bytes) -> Result<VersionVector> {
    let piece = anabranch_core::wire::Decoder::new().push(part)?;
    Ok(piece.bounds.context("a first part names its bounds")?.to)
}
