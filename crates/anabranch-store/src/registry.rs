//! The conflict-free tables of this file as this connection knows them.
//!
//! A table is conflict-free while a trigger calls with its token. It is stale when its
//! triggers are not the ones that would be made for it today: somebody altered it.
//!
//! A watch on the schema says when to read anew. It proves nothing about the rows of ours that
//! SQLite may undo without telling us: what was read inside a transaction that is not followed
//! is tentative, and read again at the next use.
//!
//! A table that is registered and has no trigger any more vanished: it is not among them, and
//! what is known of its rows is kept for a table of its name.

use std::rc::Rc;

use anabranch_core::key::{self, KeyColumn, KeyError};
use anabranch_core::value::Value;
use anabranch_sqlite::{Db, SchemaWatch};
use hashbrown::{HashMap, HashSet};

use crate::base::quote_text;
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, TableId};
use crate::metadata::mask::Mask;
use crate::shape::text;

mod load;

/// A conflict-free table.
#[derive(Clone, Debug)]
pub(crate) struct TableInfo {
    pub(crate) id: TableId,
    /// As declared.
    pub(crate) name: String,
    /// Random; what its triggers call with.
    pub(crate) token: i64,
    /// Order in which tables became conflict-free, from 0.
    pub(crate) order: u32,
    /// Key columns in PRIMARY KEY order.
    pub(crate) key: Vec<KeyPart>,
    /// The same, as folding takes them.
    pub(crate) key_columns: Vec<KeyColumn>,
    /// Replicated columns (not of the key, not generated) in declaration order. Ids of
    /// columns that are gone, or not yet made replicated, are not among them.
    pub(crate) columns: Vec<ColumnInfo>,
    /// The ids of `columns`.
    pub(crate) mask: Mask,
    /// The stored spelling of a key may differ from its folded form.
    pub(crate) has_spellings: bool,
    /// A name of its rowid; `None` where there is none, or it is the key.
    pub(crate) rowid: Option<&'static str>,
    /// The table's columns are not those its triggers were made for.
    pub(crate) is_stale: bool,
    /// A trigger of somebody's that fires before ours and may skip them.
    pub(crate) outrun_by: Option<String>,
    /// Before ours were the newest a row may have been written past them, even if only by a
    /// statement with OR FAIL.
    pub(crate) may_be_missed: bool,
    /// Some trigger of somebody's fires before ours: what it writes is captured first.
    pub(crate) is_outrun: bool,
}

/// A key column.
#[derive(Clone, Debug)]
pub(crate) struct KeyPart {
    pub(crate) name: String,
    pub(crate) column: KeyColumn,
}

/// A replicated column.
#[derive(Clone, Debug)]
pub(crate) struct ColumnInfo {
    pub(crate) id: ColumnId,
    pub(crate) name: String,
}

impl TableInfo {
    /// A replicated column by id; `None` for one that was dropped.
    pub(crate) fn column(&self, id: ColumnId) -> Option<&ColumnInfo> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// A replicated column by exact name.
    pub(crate) fn column_named(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The values of a folded key, as its columns' affinity spells them.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: every folded key was read from the log or the clocks.
    pub(crate) fn unfold(&self, folded: &[u8]) -> Result<Vec<Value>> {
        key::unfold(folded, &self.key_columns).map_err(|error| self.damaged_key(&error))
    }

    /// A folded key as its columns' affinity spells it, packed.
    ///
    /// # Errors
    /// As [`TableInfo::unfold`].
    pub(crate) fn pack_folded(&self, folded: &[u8]) -> Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(1 + folded.len());
        self.pack_folded_into(folded, &mut packed)?;
        Ok(packed)
    }

    /// Appends a folded key to `out` as its columns' affinity spells it, packed.
    ///
    /// # Errors
    /// As [`TableInfo::unfold`].
    pub(crate) fn pack_folded_into(&self, folded: &[u8], out: &mut Vec<u8>) -> Result<()> {
        key::pack_folded(folded, &self.key_columns, out).map_err(|error| self.damaged_key(&error))
    }

    fn damaged_key(&self, error: &KeyError) -> StoreError {
        StoreError::Damaged {
            place: format!("a key of table {} ({error})", self.name),
            what: "not a folded key of its columns",
        }
    }

    /// Refuses a table whose columns or triggers are not those that are replicated.
    pub(crate) fn refuse_stale(&self) -> Result<()> {
        if !self.is_stale {
            return Ok(());
        }
        let (name, quoted) = (&self.name, quote_text(&self.name));
        let what = format!("table {name} was altered: run SELECT crsql_as_crr({quoted})");
        Err(StoreError::Refused(what))
    }
}

/// All tables, by token, id and name; re-read when the schema changes.
pub(crate) struct Registry {
    watch: SchemaWatch,
    /// The tables are read, and the schema has not changed since.
    is_read: bool,
    /// What was read may be undone without a word.
    is_tentative: bool,
    /// How often tables were read.
    generation: u64,
    /// Tables in order, with what they were made of.
    tables: Vec<load::Loaded>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<TableId, usize>,
    by_token: HashMap<i64, usize>,
    /// Tables with TEMP triggers, which fire before all others.
    with_temp_triggers: HashSet<String>,
    /// As `is_read`, for `with_temp_triggers`.
    is_temp_read: bool,
}

impl Registry {
    /// Nothing read yet.
    pub(crate) fn new() -> Registry {
        Registry {
            watch: SchemaWatch::default(),
            is_read: false,
            is_tentative: false,
            generation: 0,
            tables: Vec::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            by_token: HashMap::new(),
            with_temp_triggers: HashSet::new(),
            is_temp_read: false,
        }
    }

    /// Re-reads if the schema changed; dropped tables leave. `is_followed`: the end of the
    /// present transaction will be told.
    pub(crate) fn refresh(&mut self, db: &Db, is_followed: bool) -> Result<()> {
        if self.watch.has_changed(db)? {
            self.invalidate();
        }
        if self.is_read && !self.is_tentative {
            return Ok(());
        }
        self.read(db, is_followed)
    }

    fn read(&mut self, db: &Db, is_followed: bool) -> Result<()> {
        self.is_read = false;
        self.generation += 1;
        let loaded = load::load(db, std::mem::take(&mut self.tables))?;
        self.by_name.clear();
        self.by_id.clear();
        self.by_token.clear();
        for (index, table) in loaded.iter().enumerate() {
            self.by_name.insert(table.info.name.clone(), index);
            self.by_id.insert(table.info.id, index);
            self.by_token.insert(table.info.token, index);
        }
        self.tables = loaded;
        self.is_tentative = !db.is_autocommit() && !is_followed;
        self.is_read = true;
        Ok(())
    }

    /// Re-reads which tables have TEMP triggers, if [`Registry::refresh`] saw a change.
    pub(crate) fn refresh_temp(&mut self, db: &Db) -> Result<()> {
        if self.is_temp_read {
            return Ok(());
        }
        if !db.has_temp() {
            // Asking by name would make it, and cost a statement in each of the host's.
            self.generation += u64::from(!self.with_temp_triggers.is_empty());
            self.with_temp_triggers.clear();
            self.is_temp_read = true;
            return Ok(());
        }
        self.generation += 1;
        let sql = "SELECT DISTINCT tbl_name FROM temp.sqlite_master WHERE type = 'trigger'";
        let rows = db.query_rows(sql, &[])?;
        self.with_temp_triggers = rows.iter().map(|row| text(&row[0]).to_lowercase()).collect();
        self.is_temp_read = true;
        Ok(())
    }

    /// Whether triggers of somebody's fire before those of a table.
    pub(crate) fn is_outrun(&self, table: &TableInfo) -> bool {
        table.is_outrun
            || !self.with_temp_triggers.is_empty()
                && self.with_temp_triggers.contains(&table.name.to_lowercase())
    }

    /// Whether such a trigger may keep a row and skip those of the table.
    pub(crate) fn may_be_skipped(&self, table: &TableInfo) -> bool {
        table.outrun_by.is_some() || !table.is_outrun && self.is_outrun(table)
    }

    /// Tables whose triggers must be made again to be the newest.
    pub(crate) fn outrun(&self) -> Vec<Rc<TableInfo>> {
        let tables = self.tables.iter().map(|table| &table.info);
        tables.filter(|table| table.is_outrun && !table.is_stale).cloned().collect()
    }

    /// Re-reads at next use.
    pub(crate) fn invalidate(&mut self) {
        self.is_read = false;
        self.is_temp_read = false;
    }

    /// Changes whenever tables were read anew: what was asked before may differ.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// By exact name.
    pub(crate) fn by_name(&self, name: &str) -> Option<Rc<TableInfo>> {
        self.by_name.get(name).map(|index| self.tables[*index].info.clone())
    }

    /// By id.
    pub(crate) fn by_id(&self, id: TableId) -> Option<Rc<TableInfo>> {
        self.by_id.get(&id).map(|index| self.tables[*index].info.clone())
    }

    /// By the token its triggers call with.
    pub(crate) fn by_token(&self, token: i64) -> Option<Rc<TableInfo>> {
        self.by_token.get(&token).map(|index| self.tables[*index].info.clone())
    }

    /// All tables, in the order in which they became conflict-free.
    pub(crate) fn all(&self) -> Vec<Rc<TableInfo>> {
        self.tables.iter().map(|table| table.info.clone()).collect()
    }

    /// Compiles what is kept.
    pub(crate) fn prepare(&self, db: &Db) -> Result<()> {
        Ok(self.watch.prepare(db)?)
    }

    /// Drops what is kept, so that the connection can close.
    pub(crate) fn drop_statements(&self) {
        self.watch.clear();
    }
}
