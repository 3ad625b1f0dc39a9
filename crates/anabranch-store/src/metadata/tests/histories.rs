//! Random local histories against a model that keeps one plain record a cell.

use std::collections::BTreeMap;

use anabranch_core::vector::VersionVector;
use hashbrown::HashMap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    version: u64,
    db_version: u64,
    seq: u64,
}

#[derive(Clone, Debug, Default)]
struct Row {
    number: u64,
    length: u64,
    cells: BTreeMap<u16, Cell>,
}

/// specs/tables.md, 1.5, word for word.
#[derive(Default)]
struct Model {
    rows: BTreeMap<(TableId, Vec<u8>), Row>,
    n_rows: u64,
    db_version: u64,
    seq: u64,
}

impl Model {
    fn stamp(&mut self, at: &(TableId, Vec<u8>), column: u16, version: u64) {
        let (db_version, seq) = (self.db_version, self.seq);
        self.seq += 1;
        let row = self.rows.get_mut(at).unwrap();
        row.cells.insert(column, Cell { version, db_version, seq });
        if column == 0 {
            row.length = version;
        }
    }

    fn version(&self, at: &(TableId, Vec<u8>), column: u16) -> u64 {
        self.rows[at].cells.get(&column).map_or(0, |cell| cell.version)
    }

    fn bump(&mut self, at: &(TableId, Vec<u8>), columns: &[u16]) {
        for column in columns {
            let version = self.version(at, *column) + 1;
            self.stamp(at, *column, version);
        }
    }

    /// Makes the row known; tells whether it was.
    fn know(&mut self, at: &(TableId, Vec<u8>)) -> bool {
        let known = self.rows.contains_key(at);
        if !known {
            self.n_rows += 1;
            let row = Row { number: self.n_rows, length: 1, ..Row::default() };
            self.rows.insert(at.clone(), row);
        }
        known
    }

    fn insert(&mut self, at: &(TableId, Vec<u8>), columns: &[u16]) {
        if self.know(at) {
            match self.version(at, 0) {
                0 => self.seq += 1,
                length => self.stamp(at, 0, length + 1 + length % 2),
            }
        }
        self.bump(at, columns);
    }

    fn update(&mut self, at: &(TableId, Vec<u8>), columns: &[u16]) {
        self.bump(at, columns);
    }

    fn delete(&mut self, at: &(TableId, Vec<u8>)) {
        let length = self.rows[at].length + 1;
        self.rows.get_mut(at).unwrap().cells.clear();
        self.stamp(at, 0, length);
    }

    fn rekey(&mut self, old: &(TableId, Vec<u8>), new: &(TableId, Vec<u8>), changed: &[u16]) {
        self.know(new);
        let mut moved: Vec<u16> = self.rows[old].cells.keys().copied().collect();
        moved.extend(self.rows[new].cells.keys());
        moved.sort_unstable();
        moved.dedup();
        moved.retain(|column| *column != 0);
        for column in moved {
            let version = self.version(old, column).max(self.version(new, column)) + 1;
            self.stamp(new, column, version);
        }
        self.delete(old);
        match self.version(new, 0) {
            // Also of a live row that is replaced.
            0 => self.stamp(new, 0, 1),
            length => self.stamp(new, 0, length + 1 + length % 2),
        }
        self.bump(new, changed);
    }
}

fn subset(rng: &mut StdRng, n: u16) -> Vec<u16> {
    let mut columns: Vec<u16> = (1..=n).filter(|_| rng.random()).collect();
    if columns.is_empty() {
        columns.push(rng.random_range(1..=n));
    }
    columns
}

fn mask_of(columns: &[u16]) -> Mask {
    let mut mask = Mask::new();
    columns.iter().for_each(|id| mask.insert(ColumnId(*id)));
    mask
}

struct Shape {
    n_keys: u64,
    n_columns: u16,
    has_rekeys: bool,
    n_tables: u32,
}

fn key(shape: u64, value: u64) -> Vec<u8> {
    match shape {
        0 => int_key(value as i64).to_vec(),
        1 => (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) as u128 * 77).to_be_bytes().to_vec(),
        _ => format!("user/{value}").into_bytes(),
    }
}

/// Pushes one random operation that the row's state allows, on both sides.
fn random_op(rng: &mut StdRng, shape: &Shape, keys: u64, model: &mut Model, ops: &mut LocalBuffer) {
    let table = TableId(rng.random_range(1..=shape.n_tables));
    let at = (table, key(keys, rng.random_range(0..shape.n_keys)));
    let all: Vec<u16> = (1..=shape.n_columns).collect();
    let is_alive = model.rows.get(&at).is_some_and(|row| row.length % 2 == 1);
    match rng.random_range(0..10) {
        0..=2 if is_alive => {
            model.delete(&at);
            push(ops, table, LocalKind::Delete, Mask::new(), &at.1);
        }
        3 if is_alive && shape.has_rekeys => {
            let new = (table, key(keys, rng.random_range(0..shape.n_keys)));
            if new == at {
                return;
            }
            let changed = if rng.random() { subset(rng, shape.n_columns) } else { Vec::new() };
            model.rekey(&at, &new, &changed);
            push(ops, table, LocalKind::Rekey, Mask::new(), &at.1);
            push(ops, table, LocalKind::Rekeyed, mask_of(&changed), &new.1);
        }
        4..=8 if is_alive => {
            let changed = subset(rng, shape.n_columns);
            model.update(&at, &changed);
            push(ops, table, LocalKind::Update, mask_of(&changed), &at.1);
        }
        _ => {
            model.insert(&at, &all);
            push(ops, table, LocalKind::Insert, mask_of(&all), &at.1);
        }
    }
}

type Shown = (TableId, Vec<u8>, u16, u64, u64, u64, u64);

fn expected(model: &Model) -> Vec<Shown> {
    let mut cells = Vec::new();
    for ((table, key), row) in &model.rows {
        for (column, cell) in &row.cells {
            let Cell { version, db_version, seq } = *cell;
            cells.push((*table, key.clone(), *column, version, db_version, seq, row.length));
        }
    }
    cells.sort_by_key(|cell| (cell.4, cell.5));
    cells
}

fn shown(records: &[LiveRecord]) -> Vec<Shown> {
    let mut all = Vec::new();
    for r in records {
        for cell in &r.cells {
            let length = r.causal_length;
            let key = r.key.to_vec();
            all.push((r.table, key, cell.column.0, cell.version, r.db_version, cell.seq, length));
        }
    }
    all
}

fn compare(metadata: &mut Metadata, model: &Model, seed: u64) {
    let mut findings = Vec::new();
    metadata.check(&mut |_, place, what| findings.push(format!("{place}: {what}"))).unwrap();
    assert_eq!(findings, [""; 0], "seed {seed}");
    let scan = metadata.scan_since(0).unwrap();
    let mut all = shown(&read_all(scan, metadata));
    all.sort_by_key(|cell| (cell.4, cell.5));
    assert_eq!(all, expected(model), "seed {seed}");
    let half = model.db_version / 2;
    let scan = metadata.scan_since(half).unwrap();
    let mut since = shown(&read_all(scan, metadata));
    since.sort_by_key(|cell| (cell.4, cell.5));
    let newer: Vec<_> = expected(model).into_iter().filter(|cell| cell.4 > half).collect();
    assert_eq!(since, newer, "seed {seed}");
    let scan = metadata.scan_above(&VersionVector::new(), &HashMap::new()).unwrap();
    let above = read_all(scan, metadata);
    let births = above.iter().filter(|record| record.is_birth).count();
    assert_eq!(births, model.rows.len(), "seed {seed}: every row has one birth");
    let mut above = shown(&above);
    above.sort_by_key(|cell| (cell.4, cell.5));
    assert_eq!(above, expected(model), "seed {seed}");
    let mut by_row: BTreeMap<(TableId, Vec<u8>), Vec<Shown>> = BTreeMap::new();
    for cell in expected(model) {
        by_row.entry((cell.0, cell.1.clone())).or_default().push(cell);
    }
    let mut numbers: Vec<(TableId, u64, u64)> = Vec::new();
    for ((table, key), row) in model.rows.iter().step_by(1 + model.rows.len() / 500) {
        let clock = metadata.row(*table, key).unwrap().unwrap();
        assert_eq!(clock.causal_length, row.length);
        numbers.push((*table, row.number, clock.number));
        let mut of_row = shown(&metadata.row_records(*table, key).unwrap());
        of_row.sort_by_key(|cell| (cell.4, cell.5));
        assert_eq!(of_row, by_row[&(*table, key.clone())], "seed {seed}");
    }
    numbers.sort_unstable();
    assert!(
        numbers.is_sorted_by(|a, b| a.0 < b.0 || a.2 < b.2),
        "seed {seed}: numbers as first seen"
    );
}

/// `(most operations of one transaction, transactions)`.
fn run(seed: u64, shape: &Shape, n_ops: usize, n_transactions: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let keys = seed % 3;
    let (_conn, db) = fresh();
    let mut metadata = Metadata::open(&db).unwrap();
    let mut model = Model::default();
    for i in 0..n_transactions {
        (model.seq, model.db_version) = (0, model.db_version + 1);
        let before = model.rows.clone();
        let before_n = model.n_rows;
        let mut ops = LocalBuffer::default();
        for _ in 0..rng.random_range(1..=n_ops) {
            random_op(&mut rng, shape, keys, &mut model, &mut ops);
        }
        if ops.ops.is_empty() {
            model.db_version -= 1;
            continue;
        }
        if rng.random_range(0..8) == 0 {
            // Rolled back after it was flushed.
            db.execute_batch("BEGIN").unwrap();
            let mut change = PendingChange::default();
            metadata.write_local(&mut change, &ops).unwrap();
            metadata.write_header(&change, 1).unwrap();
            db.execute_batch("ROLLBACK").unwrap();
            metadata.invalidate();
            (model.rows, model.n_rows) = (before, before_n);
            model.db_version -= 1;
        } else {
            transact(&db, &mut metadata, &ops);
        }
        assert_eq!(metadata.db_version(), model.db_version);
        if i % 16 == 0 {
            compare(&mut metadata, &model, seed);
        }
    }
    compare(&mut metadata, &model, seed);
    let mut again = Metadata::open(&db).unwrap();
    compare(&mut again, &model, seed);
    assert_eq!(metadata.vector(), again.vector(), "seed {seed}");
    assert_eq!(again.pending_dot().version, model.db_version + 1);
    let headers = all_headers(&mut again);
    assert_eq!(headers.len() as u64, model.db_version, "seed {seed}: a header a change");
    let mut chain = anabranch_core::clock::Chain::default();
    for header in headers {
        chain = chain.next(header.site, header.version, header.salt);
        assert_eq!(again.chain_at(header.site, header.version).unwrap(), Some(chain));
    }
}

#[test]
fn small_transactions() {
    for seed in 0..4 {
        let has_rekeys = seed % 4 == 3;
        let shape = Shape { n_keys: 40, n_columns: 3, has_rekeys, n_tables: 2 };
        run(seed, &shape, 3, 350);
    }
}

#[test]
fn mixed_transactions() {
    for seed in 100..104 {
        let has_rekeys = seed % 4 == 3;
        let shape = Shape { n_keys: 600, n_columns: 4, has_rekeys, n_tables: 1 };
        run(seed, &shape, 200, 14);
    }
}

#[test]
fn large_transactions() {
    for seed in 200..201 {
        let shape = Shape { n_keys: 30_000, n_columns: 2, has_rekeys: false, n_tables: 2 };
        run(seed, &shape, 10_000, 3);
    }
}
