//! A copy, looked at from outside while others write to it: at any instant each side's rows
//! are those of one of its transactions, and no later look shows an earlier one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anabranch::{PeerRole, Store, VersionVector};

use super::ledger::{Expected, SIDES, Side};

pub(super) struct Copy {
    path: PathBuf,
    expected: [Expected; 2],
    /// How far each side was seen here.
    seen: [u64; 2],
    /// Up to where this copy's own writer was told that its transactions are committed.
    pub(super) n_acknowledged: u64,
}

impl Copy {
    pub(super) fn new(path: PathBuf) -> Copy {
        Copy { path, expected: Default::default(), seen: [0, 0], n_acknowledged: 0 }
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self) -> Store {
        Store::open_read_only(&self.path).unwrap()
    }

    /// A side's last transaction here.
    pub(super) fn progress(&self, side: Side) -> u64 {
        progress(&self.open(), side)
    }

    /// Looks at both sides' rows, in one snapshot.
    pub(super) fn look(&mut self, seed: u64) -> Result<(), String> {
        let store = self.open();
        store.sql().execute_batch("BEGIN").unwrap();
        for side in SIDES {
            let n = progress(&store, side);
            let seen = &mut self.seen[side as usize];
            if n < *seen {
                return Err(format!("{side:?} was at {seen} and is at {n}"));
            }
            *seen = n;
            let rows = rows(&store, side);
            let expected = self.expected[side as usize].at(seed, side, n);
            if rows != *expected {
                return Err(format!("rows of {side:?} at {n}: {}", difference(&rows, expected)));
            }
        }
        Ok(())
    }

    /// What the relay has said to hold, as this copy noted it.
    pub(super) fn acknowledged(&self) -> VersionVector {
        let peers = self.open().peers().unwrap();
        let relay = peers.into_iter().find(|peer| peer.role == PeerRole::Relay);
        relay.map(|peer| peer.held).unwrap_or_default()
    }
}

fn progress(store: &Store, side: Side) -> u64 {
    let sql = "SELECT coalesce(max(n), 0) FROM progress WHERE side = ?1";
    let n: i64 = store.sql().query_row(sql, [side.name()], |row| row.get(0)).unwrap();
    n as u64
}

fn rows(store: &Store, side: Side) -> BTreeMap<String, u64> {
    let mut select = store.sql().prepare("SELECT id, body FROM note WHERE id GLOB ?1").unwrap();
    let rows = select.query_map([format!("{}*", side.name())], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// The first few rows that are not as they must be.
fn difference(found: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> String {
    let lost = expected.iter().filter(|(id, body)| found.get(*id) != Some(body));
    let more = found.iter().filter(|(id, _)| !expected.contains_key(*id));
    let lost: Vec<_> = lost.take(5).map(|(id, body)| (id, body, found.get(id))).collect();
    let more: Vec<_> = more.take(5).collect();
    format!("expected and found: {lost:?}; not expected: {more:?}")
}
