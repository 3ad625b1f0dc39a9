//! Proof of sameness: a hash of what is shown, independent of history and of who merged.
//!
//! BLAKE3, 32 bytes, over: `"anabranch digest 1\n"`; then table by table, by name in byte
//! order: `01`, the name, the number of columns, their names in byte order; then each row,
//! in the order of the table's key: `02` and its values in the order of the columns.
//! A name is its length and its bytes. A value is its type (0 NULL, 1 INTEGER, 2 REAL,
//! 3 TEXT, 4 BLOB), then INTEGER 8 bytes, REAL 8 bytes IEEE 754 (-0.0 as 0.0, NaN is
//! NULL), TEXT and BLOB their length and bytes. Numbers are u64 or i64, little-endian.

use crate::value::ValueRef;

/// Hashes tables as they are shown; equal digests mean equal tables.
#[derive(Clone, Debug)]
pub struct Digest {
    hasher: blake3::Hasher,
    /// Name of the table under way.
    table: Option<String>,
    n_columns: usize,
    /// One row, collected so that the hash works on stretches worth its while.
    row: Vec<u8>,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

impl Digest {
    /// The digest of no tables so far.
    pub fn new() -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"anabranch digest 1\n");
        Digest { hasher, table: None, n_columns: 0, row: Vec::new() }
    }

    /// Starts a table. Tables come by name, columns too, keys among them, in byte order.
    ///
    /// # Panics
    /// If a table or a column is out of order.
    pub fn table(&mut self, name: &str, columns: &[&str]) {
        assert!(self.table.as_deref().is_none_or(|last| last < name), "tables by name, each once");
        assert!(columns.is_sorted_by(|a, b| a < b), "columns by name, each once");
        self.table = Some(name.to_owned());
        self.n_columns = columns.len();
        self.hasher.update(&[1]);
        self.sized(name.as_bytes());
        self.hasher.update(&(columns.len() as u64).to_le_bytes());
        columns.iter().for_each(|column| self.sized(column.as_bytes()));
    }

    /// Adds a row of the table under way: its values in the order of the columns. Rows
    /// come in the order of the table's key, as its key index has them.
    ///
    /// # Panics
    /// If there are not as many values as columns, or no table.
    pub fn row<'a>(&mut self, values: impl IntoIterator<Item = ValueRef<'a>>) {
        assert!(self.table.is_some(), "rows come after their table");
        self.row.clear();
        self.row.push(2);
        let mut n_values = 0;
        for value in values {
            put_value(&mut self.row, value);
            n_values += 1;
        }
        assert_eq!(n_values, self.n_columns, "a value for each column");
        self.hasher.update(&self.row);
    }

    /// The digest.
    pub fn finish(self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

fn put_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push(0),
        ValueRef::Integer(integer) => {
            out.push(1);
            out.extend_from_slice(&integer.to_le_bytes());
        }
        ValueRef::Real(real) if real.is_nan() => out.push(0),
        ValueRef::Real(real) => {
            out.push(2);
            let canonical = if real == 0.0 { 0.0 } else { real };
            out.extend_from_slice(&canonical.to_le_bytes());
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            out.push(if matches!(value, ValueRef::Text(_)) { 3 } else { 4 });
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}
