//! The reference model: what every copy must hold, said in the papers' words.
//!
//! One file, slow and obvious, on `std` alone: no SQLite, and no function, type or constant
//! of the crates it judges. A [`struct@Copy`] is fed the row operations that SQLite kept (or a
//! change, or a delta) and predicts the table's rows, every column of `crsql_changes`, the
//! version vector and `crsql_db_version()`.
//!
//! Rows are causal-length sets (Yu, Rostad 2020): odd lengths are alive, even ones dead.
//! Cells are registers ordered by column version, then value. Deltas are causal intervals
//! (Almeida, Shoker, Baquero 2018) above a version vector (Parker 1983), made of dots
//! (Bieniusa et al. 2012). A mutation of [`Broken`] breaks one rule, to prove that the
//! comparison with the store would see it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// An SQL value, ordered as cells of equal version are: NULL < BLOB < TEXT < REAL < INTEGER.
#[derive(Clone)]
pub enum Value {
    /// SQL NULL, and NaN.
    Null,
    /// Bytes.
    Blob(Vec<u8>),
    /// Text bytes.
    Text(Vec<u8>),
    /// A double; -0.0 equals 0.0.
    Real(f64),
    /// A 64-bit integer.
    Integer(i64),
}

impl std::fmt::Debug for Value {
    /// As an SQL literal, nearly.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => write!(f, "NULL"),
            Value::Integer(integer) => write!(f, "{integer}"),
            Value::Real(real) => write!(f, "{real:?}"),
            Value::Text(text) => write!(f, "'{}'", String::from_utf8_lossy(text)),
            Value::Blob(bytes) => {
                write!(f, "x'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                write!(f, "'")
            }
        }
    }
}

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Blob(_) => 1,
            Value::Text(_) => 2,
            Value::Real(_) => 3,
            Value::Integer(_) => 4,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Blob(a), Value::Blob(b)) | (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
            (Value::Real(a), Value::Real(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

/// A site id: 1 to 16 bytes.
pub type SiteId = Vec<u8>;
/// For each site the highest version held without gaps.
pub type Vector = BTreeMap<SiteId, u64>;
/// The values of a key, after folding: the identity of a row.
pub type Key = Vec<Value>;

/// The change that wrote a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dot {
    /// Author.
    pub site: SiteId,
    /// The author's version, from 1.
    pub version: u64,
}

/// Who stamped a cell, and what `crsql_changes` says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The change that travels in deltas.
    pub dot: Dot,
    /// The site it first came from: `site_id`.
    pub origin: SiteId,
    /// Local arrival number.
    pub db_version: u64,
    /// `None` where only the order inside a delta decides.
    pub seq: Option<u64>,
}

/// A cell's clock. Its value stands in [`Row::shown`].
#[derive(Clone, Debug)]
pub struct Cell {
    /// 0: left behind by a row raised through `crsql_changes`.
    pub version: u64,
    /// Its last write.
    pub stamp: Stamp,
}

/// One row, alive or dead.
#[derive(Clone, Debug)]
pub struct Row {
    /// Order in which keys of the table were first seen, from 1.
    pub number: u64,
    /// The key as stored.
    pub spelling: Vec<Value>,
    /// Odd: alive.
    pub causal_length: u64,
    /// Whether `crsql_changes` shows the row itself, and how.
    pub sentinel: Option<Stamp>,
    /// The changes that gave it its causal length, with their origins.
    pub births: BTreeMap<Dot, SiteId>,
    /// Clocks, by column.
    pub cells: BTreeMap<usize, Cell>,
    /// Values of all columns while alive.
    pub shown: Vec<Value>,
}

impl Row {
    fn is_alive(&self) -> bool {
        self.causal_length % 2 == 1
    }
}

/// How a key column tells two keys apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Bytes; 5 and 5.0 are equal.
    Binary,
    /// ASCII letters without case.
    NoCase,
}

/// A conflict-free table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Key columns in PRIMARY KEY order.
    pub key: Vec<Fold>,
    /// Replicated columns in declaration order, with their defaults.
    pub columns: Vec<(String, Value)>,
    /// All rows ever known.
    pub rows: BTreeMap<Key, Row>,
    next_number: u64,
}

impl Table {
    /// An empty table.
    pub fn new(name: &str, key: &[Fold], columns: &[(&str, Value)]) -> Table {
        Table {
            name: name.to_string(),
            key: key.to_vec(),
            columns: columns
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            rows: BTreeMap::new(),
            next_number: 1,
        }
    }

    /// The identity of a key: what the table's key index takes for equal.
    pub fn fold(&self, key: &[Value]) -> Key {
        let fold_one = |(value, fold): (&Value, &Fold)| match value {
            Value::Text(text) if *fold == Fold::NoCase => Value::Text(text.to_ascii_lowercase()),
            Value::Real(real) => {
                let integer = *real as i64;
                if integer as f64 == *real && *real < 9.3e18 && integer != i64::MAX {
                    Value::Integer(integer)
                } else {
                    value.clone()
                }
            }
            _ => value.clone(),
        };
        key.iter().zip(&self.key).map(fold_one).collect()
    }

    fn defaults(&self) -> Vec<Value> {
        self.columns.iter().map(|(_, default)| default.clone()).collect()
    }

    /// The row of a key; a key never seen gets a number and the causal length 0.
    fn row(&mut self, key: &[Value]) -> &mut Row {
        let (folded, shown) = (self.fold(key), self.defaults());
        let next_number = &mut self.next_number;
        self.rows.entry(folded).or_insert_with(|| {
            *next_number += 1;
            Row {
                number: *next_number - 1,
                spelling: key.to_vec(),
                causal_length: 0,
                sentinel: None,
                births: BTreeMap::new(),
                cells: BTreeMap::new(),
                shown,
            }
        })
    }
}

/// One row of `crsql_changes`, as it is shown and as it is merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `[table]`.
    pub table: String,
    /// Values of `pk`.
    pub key: Vec<Value>,
    /// Column index; `None` is the row itself, '-1'.
    pub column: Option<usize>,
    /// `val`.
    pub value: Value,
    /// `col_version`.
    pub version: u64,
    /// `db_version`.
    pub db_version: u64,
    /// `site_id`; empty: this copy.
    pub site: SiteId,
    /// `cl`.
    pub causal_length: u64,
    /// `seq`.
    pub seq: Option<u64>,
}

/// What a delta says of one row.
#[derive(Clone, Debug)]
pub struct RowDelta {
    /// Index of the table.
    pub table: usize,
    /// The key as spelled.
    pub key: Vec<Value>,
    /// Causal length.
    pub causal_length: u64,
    /// Births above `from`, with origins.
    pub births: Vec<(Dot, SiteId)>,
    /// Cells above `from`: column, version, dot, origin, value.
    pub cells: Vec<(usize, u64, Dot, SiteId, Value)>,
}

/// Everything held above `from`.
#[derive(Clone, Debug)]
pub struct Delta {
    /// What the receiver must hold.
    pub from: Vector,
    /// What it holds then.
    pub to: Vector,
    /// Rows.
    pub rows: Vec<RowDelta>,
}

/// One rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say which rule")]
pub enum Broken {
    Nothing,
    // Merging.
    ShorterLifeWins,
    EqualDeathWins,
    DeathKeepsCells,
    RaiseKeepsVersions,
    RaiseResetsValues,
    LowerVersionWins,
    SmallerValueWins,
    EqualValueWins,
    TypesIgnored,
    UnknownRowNeedsNoSentinel,
    ImportKeepsNoOrigin,
    ImportIgnoresDbVersion,
    ImportMovesForeignVector,
    DeltaRaiseKeepsCells,
    DeltaIgnoresDeath,
    DeltaOmitsImports,
    DeltaKeepsLeftovers,
    SmallerSpellingWins,
    CaseTellsKeysApart,
    // Local writes.
    InsertForgetsDeath,
    ReplaceRestartsVersions,
    ReplaceTakesNoSeq,
    UnchangedColumnsCount,
    IntegerEqualsReal,
    DeleteIsNoBirth,
    KeyUpdateKeepsVersions,
    KeyUpdateForgetsOldKey,
    KeyUpdateSentinelsFirst,
    SpellingIsNoRebirth,
    EmptyUpdateTakesVersion,
}

/// The transaction that is open.
#[derive(Clone, Debug, Default)]
struct Pending {
    db_version: u64,
    next_seq: u64,
    has_own_change: bool,
    has_cells: bool,
    impacted: u64,
}

/// One copy of the database.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Its site id.
    pub site: SiteId,
    /// Its tables, in the order in which they became conflict-free.
    pub tables: Vec<Table>,
    /// What it holds.
    pub vector: Vector,
    /// `crsql_db_version()`.
    pub db_version: u64,
    /// `merge-equal-values`.
    pub merges_equal_values: bool,
    /// The broken rule.
    pub broken: Broken,
    pending: Pending,
}

impl Copy {
    /// An empty copy.
    pub fn new(site: SiteId, tables: Vec<Table>, broken: Broken) -> Copy {
        let mut copy = Copy {
            site,
            tables,
            vector: Vector::new(),
            db_version: 0,
            merges_equal_values: false,
            broken,
            pending: Pending::default(),
        };
        if broken == Broken::CaseTellsKeysApart {
            copy.tables.iter_mut().for_each(|table| table.key.fill(Fold::Binary));
        }
        copy
    }

    /// Index of a table.
    pub fn table(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.name == name)
    }

    /// The transaction commits.
    pub fn commit(&mut self) {
        if self.pending.has_own_change {
            *self.vector.entry(self.site.clone()).or_default() += 1;
        }
        if self.pending.has_cells {
            self.db_version = self.db_version.max(self.pending.db_version);
        }
        self.pending = Pending::default();
    }

    /// `crsql_rows_impacted()`.
    pub fn impacted(&self) -> u64 {
        self.pending.impacted
    }

    /// Takes the next `seq` of this transaction for a local write.
    fn next_stamp(&mut self) -> Stamp {
        let seq = self.take_seq();
        self.touch(0);
        Stamp {
            dot: self.own_dot(),
            origin: self.site.clone(),
            db_version: self.pending.db_version,
            seq: Some(seq),
        }
    }

    fn take_seq(&mut self) -> u64 {
        self.pending.next_seq += 1;
        self.pending.next_seq - 1
    }

    /// This copy writes something of its own at `db_version` or above.
    fn touch(&mut self, db_version: u64) {
        self.pending.db_version = self.pending.db_version.max(self.db_version + 1).max(db_version);
        self.pending.has_own_change = true;
        self.pending.has_cells = true;
    }

    fn own_dot(&self) -> Dot {
        let held = self.vector.get(&self.site).copied().unwrap_or(0);
        Dot { site: self.site.clone(), version: held + 1 }
    }

    fn own_birth(&self) -> BTreeMap<Dot, SiteId> {
        BTreeMap::from([(self.own_dot(), self.site.clone())])
    }

    // ------------------------------------------------------------------ local writes

    /// INSERT, as its trigger saw it; onto a live row: OR REPLACE without a delete.
    pub fn insert(&mut self, table: usize, key: &[Value], values: &[Value]) {
        let row = self.tables[table].row(key).clone();
        let is_respelled = row.is_alive() && !same_spelling(&row.spelling, key);
        if is_respelled && self.broken != Broken::SpellingIsNoRebirth {
            self.delete(table, key);
            return self.insert(table, key, values);
        }
        let is_known = row.causal_length > 0;
        let is_key_only = self.tables[table].columns.is_empty();
        let mut row = row;
        if row.sentinel.is_some() && self.broken != Broken::InsertForgetsDeath {
            row.causal_length += 1 + row.causal_length % 2;
            row.sentinel = Some(self.next_stamp());
            row.births = self.own_birth();
        } else if is_key_only {
            row.causal_length = 1;
            row.sentinel = Some(self.next_stamp());
            row.births = self.own_birth();
        } else if is_known {
            if self.broken != Broken::ReplaceTakesNoSeq {
                self.take_seq();
            }
            row.causal_length |= 1;
        } else {
            row.causal_length = 1;
            row.births = self.own_birth();
        }
        row.spelling = key.to_vec();
        row.shown = values.to_vec();
        if self.broken == Broken::ReplaceRestartsVersions {
            row.cells.clear();
        }
        for column in 0..values.len() {
            self.bump(&mut row, column);
        }
        *self.tables[table].row(key) = row;
    }

    /// DELETE, as its trigger saw it.
    pub fn delete(&mut self, table: usize, key: &[Value]) {
        let mut row = self.tables[table].row(key).clone();
        row.causal_length = row.causal_length.max(1) / 2 * 2 + 2;
        row.sentinel = Some(self.next_stamp());
        if self.broken != Broken::DeleteIsNoBirth {
            row.births = self.own_birth();
        }
        row.cells.clear();
        row.shown = self.tables[table].defaults();
        *self.tables[table].row(key) = row;
    }

    /// UPDATE, as its trigger saw it.
    pub fn update(
        &mut self,
        table: usize,
        keys: (&[Value], &[Value]),
        old: &[Value],
        new: &[Value],
    ) {
        let (old_key, new_key) = keys;
        let folds = (self.tables[table].fold(old_key), self.tables[table].fold(new_key));
        if folds.0 != folds.1 {
            return self.update_key(table, old_key, new_key, old, new);
        }
        if !same_spelling(old_key, new_key) && self.broken != Broken::SpellingIsNoRebirth {
            self.delete(table, old_key);
            return self.insert(table, new_key, new);
        }
        if self.broken == Broken::EmptyUpdateTakesVersion {
            self.touch(0);
        }
        let mut row = self.tables[table].row(old_key).clone();
        row.spelling = new_key.to_vec();
        row.shown = new.to_vec();
        for column in self.changed(old, new) {
            self.bump(&mut row, column);
        }
        *self.tables[table].row(old_key) = row;
    }

    /// An update of the key: moved cells, then the old key's death, then the new key's
    /// birth, then the changed cells.
    fn update_key(
        &mut self,
        table: usize,
        old_key: &[Value],
        new_key: &[Value],
        old: &[Value],
        new: &[Value],
    ) {
        let from = self.tables[table].row(old_key).clone();
        let mut into = self.tables[table].row(new_key).clone();
        let is_sentinel_first = self.broken == Broken::KeyUpdateSentinelsFirst;
        if is_sentinel_first {
            self.delete(table, old_key);
        }
        let overwritten = std::mem::take(&mut into.cells);
        for column in 0..new.len() {
            let version = |cells: &BTreeMap<usize, Cell>| cells.get(&column).map(|c| c.version);
            // A cell of a row that was replaced must be answered, even if the moved row
            // has no clock there: other copies still hold it.
            let must_answer = overwritten.contains_key(&column);
            if !from.cells.contains_key(&column) && !must_answer {
                continue;
            }
            let mut stamp = self.next_stamp();
            let mut version = version(&from.cells).max(version(&overwritten)).unwrap_or(0) + 1;
            if self.broken == Broken::KeyUpdateKeepsVersions {
                version -= 1;
                stamp = from.cells.get(&column).map_or(stamp, |cell| cell.stamp.clone());
            }
            into.cells.insert(column, Cell { version, stamp });
        }
        if !is_sentinel_first && self.broken != Broken::KeyUpdateForgetsOldKey {
            self.delete(table, old_key);
        }
        let is_respelled = into.is_alive() && !same_spelling(&into.spelling, new_key);
        into.causal_length = match into.sentinel {
            Some(_) => into.causal_length + 1 + into.causal_length % 2,
            None if is_respelled => 3,
            None => 1,
        };
        into.sentinel = Some(self.next_stamp());
        into.births = self.own_birth();
        into.spelling = new_key.to_vec();
        into.shown = new.to_vec();
        for column in self.changed(old, new) {
            self.bump(&mut into, column);
        }
        *self.tables[table].row(new_key) = into;
    }

    fn bump(&mut self, row: &mut Row, column: usize) {
        let version = row.cells.get(&column).map_or(0, |cell| cell.version) + 1;
        let stamp = self.next_stamp();
        row.cells.insert(column, Cell { version, stamp });
    }

    /// Columns whose type or value differ.
    fn changed(&self, old: &[Value], new: &[Value]) -> Vec<usize> {
        let is_changed = |column: &usize| match (&old[*column], &new[*column]) {
            (Value::Integer(i), Value::Real(r)) | (Value::Real(r), Value::Integer(i))
                if self.broken == Broken::IntegerEqualsReal =>
            {
                *i as f64 != *r
            }
            (a, b) => a != b || self.broken == Broken::UnchangedColumnsCount,
        };
        (0..old.len()).filter(is_changed).collect()
    }

    // ---------------------------------------------------- merging, through crsql_changes

    /// `INSERT INTO crsql_changes`; how many rows it impacted.
    pub fn merge(&mut self, change: &Change) -> u64 {
        let Some(table) = self.table(&change.table) else { return 0 };
        let impacted = self.merge_into(table, change);
        self.pending.impacted += impacted;
        impacted
    }

    fn merge_into(&mut self, table: usize, change: &Change) -> u64 {
        let folded = self.tables[table].fold(&change.key);
        let known = self.tables[table].rows.get(&folded);
        let local = known.map_or(0, |row| row.causal_length);
        let incoming = change.causal_length;
        if incoming < local && self.broken != Broken::ShorterLifeWins {
            return 0;
        }
        if incoming.is_multiple_of(2) {
            if incoming == local && self.broken != Broken::EqualDeathWins {
                return 0;
            }
            let stamp = self.import_stamp(change);
            let broken = self.broken;
            let row = self.tables[table].row(&change.key);
            row.causal_length = incoming;
            row.births = BTreeMap::from([(stamp.dot.clone(), stamp.origin.clone())]);
            row.sentinel = Some(stamp);
            if broken != Broken::DeathKeepsCells {
                row.cells.clear();
            }
            return 1;
        }
        let Some(column) = change.column else {
            if incoming == local {
                return 0;
            }
            self.raise(table, change, true);
            return 1;
        };
        if incoming != local {
            let needs_sentinel =
                local > 0 || incoming > 1 && self.broken != Broken::UnknownRowNeedsNoSentinel;
            self.raise(table, change, needs_sentinel);
            self.write(table, change, column);
            return 1 + u64::from(needs_sentinel);
        }
        let wins = known.is_some_and(|row| {
            let cell = row.cells.get(&column);
            let held = cell.map(|cell| (cell.version, &row.shown[column], &cell.stamp.origin));
            self.is_winner(held, (change.version, &change.value, &change.site))
        });
        if wins {
            self.write(table, change, column);
        }
        u64::from(wins)
    }

    /// A row starts a new life through `crsql_changes`: what was there stays as leftovers.
    fn raise(&mut self, table: usize, change: &Change, has_sentinel: bool) {
        let stamp = self.import_stamp(change);
        let (broken, defaults) = (self.broken, self.tables[table].defaults());
        let row = self.tables[table].row(&change.key);
        row.spelling = change.key.clone();
        if !row.is_alive() || broken == Broken::RaiseResetsValues {
            row.shown = defaults;
        }
        for cell in row.cells.values_mut() {
            if broken != Broken::RaiseKeepsVersions {
                cell.version = 0;
            }
            cell.stamp.db_version = stamp.db_version;
            cell.stamp.dot = stamp.dot.clone();
        }
        row.causal_length = change.causal_length;
        row.births = BTreeMap::from([(stamp.dot.clone(), stamp.origin.clone())]);
        row.sentinel = has_sentinel.then_some(stamp);
    }

    fn write(&mut self, table: usize, change: &Change, column: usize) {
        let stamp = self.import_stamp(change);
        let row = self.tables[table].row(&change.key);
        row.shown[column] = change.value.clone();
        row.cells.insert(column, Cell { version: change.version, stamp });
    }

    /// A winning change becomes part of this copy's own change; its origin stays.
    fn import_stamp(&mut self, change: &Change) -> Stamp {
        let is_own = change.site.is_empty() || self.broken == Broken::ImportKeepsNoOrigin;
        let heard =
            if self.broken == Broken::ImportIgnoresDbVersion { 0 } else { change.db_version };
        self.touch(heard);
        if self.broken == Broken::ImportMovesForeignVector && !is_own {
            let held = self.vector.entry(change.site.clone()).or_default();
            *held = (*held).max(change.db_version);
        }
        Stamp {
            dot: self.own_dot(),
            origin: if is_own { self.site.clone() } else { change.site.clone() },
            db_version: self.pending.db_version,
            seq: change.seq,
        }
    }

    /// Whether a cell replaces what is held at the same causal length.
    pub fn is_winner(
        &self,
        held: Option<(u64, &Value, &SiteId)>,
        incoming: (u64, &Value, &SiteId),
    ) -> bool {
        let Some((version, value, origin)) = held else { return true };
        let by_value = match self.broken {
            Broken::SmallerValueWins => value.cmp(incoming.1),
            Broken::TypesIgnored => numbers_first(incoming.1, value),
            _ => incoming.1.cmp(value),
        };
        match (incoming.0.cmp(&version), by_value) {
            (Ordering::Less, _) => self.broken == Broken::LowerVersionWins,
            (Ordering::Greater, _) => self.broken != Broken::LowerVersionWins,
            (_, Ordering::Equal) => {
                self.broken == Broken::EqualValueWins
                    || self.merges_equal_values && incoming.2 > origin
            }
            (_, by_value) => by_value == Ordering::Greater,
        }
    }

    // ------------------------------------------------------------- merging, as deltas

    /// Everything held above `from`: a full cut.
    pub fn export(&self, from: &Vector) -> Delta {
        let is_above = |dot: &Dot| from.get(&dot.site).copied().unwrap_or(0) < dot.version;
        let mut rows = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            for row in table.rows.values() {
                let is_sent = |dot: &Dot, origin: &SiteId| {
                    is_above(dot)
                        && (self.broken != Broken::DeltaOmitsImports || *origin == dot.site)
                };
                let births = row.births.iter().filter(|(dot, origin)| is_sent(dot, origin));
                let births = births.map(|(dot, origin)| (dot.clone(), origin.clone())).collect();
                let mut delta = RowDelta {
                    table: index,
                    key: row.spelling.clone(),
                    causal_length: row.causal_length,
                    births,
                    cells: Vec::new(),
                };
                for (column, cell) in &row.cells {
                    let Stamp { dot, origin, .. } = &cell.stamp;
                    if cell.version > 0 && is_sent(dot, origin) {
                        let value = row.shown[*column].clone();
                        delta.cells.push((
                            *column,
                            cell.version,
                            dot.clone(),
                            origin.clone(),
                            value,
                        ));
                    }
                }
                if !delta.births.is_empty() || !delta.cells.is_empty() {
                    rows.push(delta);
                }
            }
        }
        Delta { from: from.clone(), to: self.vector.clone(), rows }
    }

    /// `ana_apply`: the number of changes newly held, or `None` if changes are missing.
    pub fn apply(&mut self, delta: &Delta) -> Option<u64> {
        let held = |site: &SiteId| self.vector.get(site).copied().unwrap_or(0);
        if delta.from.iter().any(|(site, version)| held(site) < *version) {
            return None;
        }
        let n_new = delta.to.iter().map(|(site, to)| to.saturating_sub(held(site))).sum();
        let db_version = self.pending.db_version.max(self.db_version + 1);
        for row in &delta.rows {
            self.join_row(row, db_version);
        }
        for (site, version) in &delta.to {
            let held = self.vector.entry(site.clone()).or_default();
            *held = (*held).max(*version);
        }
        Some(n_new)
    }

    fn join_row(&mut self, delta: &RowDelta, db_version: u64) {
        let is_new = |dot: &Dot| self.vector.get(&dot.site).copied().unwrap_or(0) < dot.version;
        let births: BTreeMap<Dot, SiteId> =
            delta.births.iter().filter(|(dot, _)| is_new(dot)).cloned().collect();
        let cells: Vec<_> = delta.cells.iter().filter(|cell| is_new(&cell.2)).cloned().collect();
        if births.is_empty() && cells.is_empty() {
            return;
        }
        let (broken, defaults) = (self.broken, self.tables[delta.table].defaults());
        let mut row = self.tables[delta.table].row(&delta.key).clone();
        let mut has_won = false;
        let mut impacted = 0;
        if delta.causal_length < row.causal_length {
            return;
        }
        let is_death = delta.causal_length.is_multiple_of(2);
        let stamp = |dot: &Dot, origin: &SiteId| Stamp {
            dot: dot.clone(),
            origin: origin.clone(),
            db_version,
            seq: None,
        };
        if delta.causal_length > row.causal_length {
            if is_death && broken == Broken::DeltaIgnoresDeath {
                return;
            }
            has_won = true;
            row.causal_length = delta.causal_length;
            let needs_sentinel = delta.causal_length > 1 || cells.is_empty();
            impacted += u64::from(needs_sentinel);
            row.sentinel =
                births.iter().next().filter(|_| needs_sentinel).map(|(d, o)| stamp(d, o));
            row.births = births;
            row.spelling = delta.key.clone();
            if broken != Broken::DeltaRaiseKeepsCells {
                row.cells.clear();
                row.shown = defaults;
            }
        } else if is_death {
            return;
        } else if !births.is_empty() {
            let order = compare_spellings(&delta.key, &row.spelling);
            let wins = if broken == Broken::SmallerSpellingWins {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            if order == wins {
                row.spelling = delta.key.clone();
            }
            row.births.extend(births);
            if broken != Broken::DeltaKeepsLeftovers {
                for (column, default) in defaults.into_iter().enumerate() {
                    if row.cells.get(&column).is_some_and(|cell| cell.version == 0) {
                        row.cells.remove(&column);
                        row.shown[column] = default;
                    }
                }
            }
        }
        for (column, version, dot, origin, value) in cells {
            let held = row.cells.get(&column);
            let held = held.map(|cell| (cell.version, &row.shown[column], &cell.stamp.origin));
            if self.is_winner(held, (version, &value, &origin)) {
                row.cells.insert(column, Cell { version, stamp: stamp(&dot, &origin) });
                row.shown[column] = value;
                has_won = true;
                impacted += 1;
            }
        }
        self.pending.impacted += impacted;
        if has_won {
            self.pending.has_cells = true;
            self.pending.db_version = db_version;
        }
        *self.tables[delta.table].row(&delta.key) = row;
    }

    // ------------------------------------------------------------------- what is shown

    /// `SELECT * FROM crsql_changes`, in its order.
    pub fn changes(&self) -> Vec<Change> {
        let mut shown = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            for row in table.rows.values() {
                let mut show = |column: Option<usize>, version, stamp: &Stamp| {
                    let name = column.map_or("-1", |column| &table.columns[column].0);
                    let order = (stamp.db_version, stamp.seq, index, row.number, name.to_string());
                    let change = Change {
                        table: table.name.clone(),
                        key: row.spelling.clone(),
                        column,
                        value: column.map_or(Value::Null, |column| row.shown[column].clone()),
                        version,
                        db_version: stamp.db_version,
                        site: stamp.origin.clone(),
                        causal_length: row.causal_length,
                        seq: stamp.seq,
                    };
                    shown.push((order, change));
                };
                if let Some(stamp) = &row.sentinel {
                    show(None, row.causal_length, stamp);
                }
                for (column, cell) in &row.cells {
                    show(Some(*column), cell.version, &cell.stamp);
                }
            }
        }
        shown.sort_by(|(a, _), (b, _)| a.cmp(b));
        shown.into_iter().map(|(_, change)| change).collect()
    }

    /// The live rows of a table: the key as spelled, then the columns; by folded key.
    pub fn live_rows(&self, table: usize) -> Vec<(Vec<Value>, Vec<Value>)> {
        let rows = self.tables[table].rows.values().filter(|row| row.is_alive());
        rows.map(|row| (row.spelling.clone(), row.shown.clone())).collect()
    }
}

fn same_spelling(a: &[Value], b: &[Value]) -> bool {
    compare_spellings(a, b) == Ordering::Equal
}

fn compare_spellings(a: &[Value], b: &[Value]) -> Ordering {
    a.cmp(b)
}

/// SQLite's own order of types, where numbers of both types compare: one broken rule.
fn numbers_first(a: &Value, b: &Value) -> Ordering {
    let class = |value: &Value| match value {
        Value::Null => (0, 0.0),
        Value::Integer(i) => (1, *i as f64),
        Value::Real(r) => (1, *r),
        Value::Text(_) => (2, 0.0),
        Value::Blob(_) => (3, 0.0),
    };
    class(a).partial_cmp(&class(b)).unwrap_or(Ordering::Equal).then(a.cmp(b))
}

/// The packed form of a key: a count, then for each value a byte of length and type, and
/// its bytes, big-endian.
pub fn pack(key: &[Value]) -> Vec<u8> {
    let mut out = vec![key.len() as u8];
    let number = |out: &mut Vec<u8>, kind: u8, number: u64| {
        let bytes = number.to_be_bytes();
        let n_zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push((8 - n_zeros as u8) << 3 | kind);
        out.extend(&bytes[n_zeros..]);
    };
    for value in key {
        match value {
            Value::Null => out.push(5),
            Value::Integer(integer) => number(&mut out, 1, *integer as u64),
            Value::Real(real) => {
                out.push(2);
                out.extend(real.to_be_bytes());
            }
            Value::Text(bytes) | Value::Blob(bytes) => {
                let kind = if matches!(value, Value::Text(_)) { 3 } else { 4 };
                number(&mut out, kind, bytes.len() as u64);
                out.extend(bytes);
            }
        }
    }
    out
}

/// The values of a packed key, or `None`.
pub fn unpack(bytes: &[u8]) -> Option<Vec<Value>> {
    let (count, mut rest) = bytes.split_first()?;
    let mut key = Vec::new();
    for _ in 0..*count {
        let (tag, after) = rest.split_first()?;
        let (n, kind) = (usize::from(tag >> 3), tag & 7);
        let n = if kind == 2 { 8 } else { n };
        let (head, after) = after.split_at_checked(n)?;
        rest = after;
        let number = head.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        key.push(match kind {
            1 => Value::Integer(number as i64),
            2 => Value::Real(f64::from_bits(number)),
            3 | 4 => {
                let (bytes, after) = rest.split_at_checked(number as usize)?;
                rest = after;
                if kind == 3 { Value::Text(bytes.to_vec()) } else { Value::Blob(bytes.to_vec()) }
            }
            5 => Value::Null,
            _ => return None,
        });
    }
    rest.is_empty().then_some(key)
}
