//! A real database beside its model: what SQLite kept of each statement is read from a
//! shadow table that triggers fill, and told to the model.
//!
//! SQLite undoes the shadow's rows together with the user's, so the shadow is exact under
//! savepoints, aborts and rollbacks. It is an ordinary table of the same file.

use std::path::{Path, PathBuf};

use anabranch::Store;
use rusqlite::types::{ToSqlOutput, ValueRef as SqlRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use crate::model::{self, Change, Copy, Value, Vector};
use crate::shapes::{Shape, quote};

/// Why a history stops: the store and the model disagree, or the store says that it is ill.
pub type Mismatch = String;

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => SqlRef::Null,
            Value::Integer(integer) => SqlRef::Integer(*integer),
            Value::Real(real) => SqlRef::Real(*real),
            Value::Text(bytes) => SqlRef::Text(bytes),
            Value::Blob(bytes) => SqlRef::Blob(bytes),
        }))
    }
}

impl From<SqlRef<'_>> for Value {
    fn from(value: SqlRef<'_>) -> Value {
        match value {
            SqlRef::Null => Value::Null,
            SqlRef::Integer(integer) => Value::Integer(integer),
            SqlRef::Real(real) => Value::Real(real),
            SqlRef::Text(bytes) => Value::Text(bytes.to_vec()),
            SqlRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        }
    }
}

/// All rows of a query.
///
/// # Errors
/// SQLite's, with the statement.
pub fn query(db: &Connection, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>, Mismatch> {
    let read = || -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut statement = db.prepare_cached(sql)?;
        let n = statement.column_count();
        let rows = statement.query_map(params_from_iter(params), |row| {
            (0..n).map(|index| row.get_ref(index).map(Value::from)).collect()
        })?;
        rows.collect()
    };
    read().map_err(|error| format!("{sql}: {error}"))
}

/// The only value of a query.
///
/// # Errors
/// SQLite's, with the statement.
pub fn scalar(db: &Connection, sql: &str, params: &[Value]) -> Result<Value, Mismatch> {
    let mut rows = query(db, sql, params)?;
    rows.pop().and_then(|mut row| row.pop()).ok_or_else(|| format!("{sql}: no row"))
}

/// A database file, its connections, and the model of it.
pub struct Replica {
    /// Connections to the one file.
    pub stores: Vec<Store>,
    /// What it must hold.
    pub model: Copy,
    shapes: Vec<&'static Shape>,
    path: PathBuf,
    last_shadow: i64,
    savepoints: Vec<(String, Copy, i64)>,
    /// Whether a delta was applied: then `seq` and ties are not the model's to say.
    has_deltas: bool,
}

impl Replica {
    /// Makes a database with all tables of `shapes`.
    ///
    /// # Errors
    /// Whatever fails; nothing of this may.
    pub fn create(
        path: PathBuf,
        shapes: Vec<&'static Shape>,
        broken: model::Broken,
    ) -> Result<Replica, Mismatch> {
        let store = open(&path)?;
        let db = store.sql();
        let setup = |sql: &str| db.execute_batch(sql).map_err(|error| format!("{sql}: {error}"));
        setup("PRAGMA synchronous = OFF")?;
        setup(
            "CREATE TABLE shadow(id INTEGER PRIMARY KEY, tbl, op, k0, k1, n0, n1,
               o0, o1, o2, o3, v0, v1, v2, v3)",
        )?;
        for shape in &shapes {
            setup(shape.ddl)?;
            setup(&shadow_triggers(shape))?;
        }
        for shape in &shapes {
            scalar(db, "SELECT crsql_as_crr(?1)", &[text(shape.name)])?;
        }
        let Value::Blob(site) = scalar(db, "SELECT crsql_site_id()", &[])? else {
            return Err("crsql_site_id() is no blob".into());
        };
        let model = Copy::new(site, shapes.iter().map(|shape| shape.model()).collect(), broken);
        let mut replica = Replica {
            stores: vec![store],
            model,
            shapes,
            path,
            last_shadow: 0,
            savepoints: Vec::new(),
            has_deltas: false,
        };
        replica.catch_up(0)?;
        Ok(replica)
    }

    /// Opens one more connection, or all anew.
    ///
    /// # Errors
    /// Whatever fails.
    pub fn reopen(&mut self, n: usize) -> Result<(), Mismatch> {
        self.stores.clear();
        for _ in 0..n {
            let store = open(&self.path)?;
            store.sql().execute_batch("PRAGMA synchronous = OFF").map_err(|e| e.to_string())?;
            self.stores.push(store);
        }
        Ok(())
    }

    /// A connection.
    pub fn db(&self, connection: usize) -> &Connection {
        self.stores[connection].sql()
    }

    /// Shapes of its tables.
    pub fn shapes(&self) -> &[&'static Shape] {
        &self.shapes
    }

    /// Runs a statement, which may fail, and tells the model what SQLite kept of it.
    ///
    /// # Errors
    /// A disagreement; not the statement's own error, which is returned as a text.
    pub fn run(
        &mut self,
        connection: usize,
        sql: &str,
        params: &[Value],
    ) -> Result<Option<String>, Mismatch> {
        let was_open = !self.savepoints.is_empty();
        let error = query_unchecked(self.db(connection), sql, params).err();
        if was_open && self.db(connection).is_autocommit() {
            // The statement rolled the whole transaction back.
            self.restore(0);
            self.savepoints.clear();
            return Ok(error.or(Some("rolled back".into())));
        }
        self.catch_up(connection)?;
        if !was_open {
            self.model.commit();
        }
        Ok(error)
    }

    /// Opens a transaction or a savepoint.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open_savepoint(&mut self, connection: usize, name: &str) -> Result<(), Mismatch> {
        let sql = match name {
            "BEGIN" => "BEGIN".to_string(),
            name => format!("SAVEPOINT {name}"),
        };
        query_unchecked(self.db(connection), &sql, &[])?;
        self.savepoints.push((name.to_string(), self.model.clone(), self.last_shadow));
        Ok(())
    }

    /// Names of open savepoints, the transaction first.
    pub fn savepoints(&self) -> Vec<String> {
        self.savepoints.iter().map(|(name, ..)| name.clone()).collect()
    }

    /// ROLLBACK TO the savepoint at `depth`, or ROLLBACK.
    ///
    /// # Errors
    /// SQLite's.
    pub fn roll_back(&mut self, connection: usize, depth: usize) -> Result<(), Mismatch> {
        let name = self.savepoints[depth].0.clone();
        if name == "BEGIN" {
            query_unchecked(self.db(connection), "ROLLBACK", &[])?;
            self.restore(0);
            self.savepoints.clear();
        } else {
            query_unchecked(self.db(connection), &format!("ROLLBACK TO {name}"), &[])?;
            self.restore(depth);
            self.savepoints.truncate(depth + 1);
        }
        Ok(())
    }

    /// RELEASE of the savepoint at `depth`, or COMMIT.
    ///
    /// # Errors
    /// SQLite's.
    pub fn release(&mut self, connection: usize, depth: usize) -> Result<(), Mismatch> {
        let sql = match self.savepoints[depth].0.as_str() {
            "BEGIN" => "COMMIT".to_string(),
            name => format!("RELEASE {name}"),
        };
        query_unchecked(self.db(connection), &sql, &[])?;
        self.savepoints.truncate(depth);
        if depth == 0 {
            self.model.commit();
        }
        Ok(())
    }

    fn restore(&mut self, depth: usize) {
        let (_, model, last_shadow) = &self.savepoints[depth];
        self.model = model.clone();
        self.last_shadow = *last_shadow;
    }

    /// Tells the model what the shadow says since the last time.
    fn catch_up(&mut self, connection: usize) -> Result<(), Mismatch> {
        let sql = "SELECT id, tbl, op, k0, k1, n0, n1, o0, o1, o2, o3, v0, v1, v2, v3
                   FROM shadow WHERE id > ?1 ORDER BY id";
        let rows = query(self.db(connection), sql, &[Value::Integer(self.last_shadow)])?;
        for row in rows {
            let Value::Integer(id) = row[0] else { return Err("shadow without id".into()) };
            self.last_shadow = id;
            let name = row[1].clone();
            let table = self.shapes.iter().position(|shape| text(shape.name) == name);
            let table = table.ok_or("shadow of an unknown table")?;
            let (n_key, n) = (self.shapes[table].key.len(), self.shapes[table].columns.len());
            let (old_key, new_key) = (&row[3..3 + n_key], &row[5..5 + n_key]);
            let (old, new) = (&row[7..7 + n], &row[11..11 + n]);
            match &row[2] {
                op if *op == text("i") => self.model.insert(table, new_key, new),
                op if *op == text("d") => self.model.delete(table, old_key),
                _ => self.model.update(table, (old_key, new_key), old, new),
            }
        }
        Ok(())
    }

    /// All rows of `crsql_changes` that a filter selects, in its order.
    ///
    /// # Errors
    /// SQLite's, or a row that no rule allows.
    pub fn changes(&self, connection: usize, filter: &str) -> Result<Vec<Change>, Mismatch> {
        let sql = format!(
            "SELECT [table], pk, cid, val, col_version, db_version, site_id, cl, seq
             FROM crsql_changes {filter}"
        );
        let rows = query(self.db(connection), &sql, &[])?;
        rows.iter().map(|row| self.read_change(row)).collect()
    }

    fn read_change(&self, row: &[Value]) -> Result<Change, Mismatch> {
        let bad = || format!("crsql_changes shows {row:?}");
        let number = |index: usize| match row[index] {
            Value::Integer(number) if number >= 0 => Ok(number as u64),
            _ => Err(bad()),
        };
        let name = |index: usize| match &row[index] {
            Value::Text(bytes) => String::from_utf8(bytes.clone()).map_err(|_| bad()),
            _ => Err(bad()),
        };
        let (Value::Blob(pk), Value::Blob(site)) = (&row[1], &row[6]) else { return Err(bad()) };
        let (table, cid) = (name(0)?, name(2)?);
        let shape = self.shapes.iter().find(|shape| shape.name == table).ok_or_else(bad)?;
        let column = shape.columns.iter().position(|(name, ..)| *name == cid);
        if column.is_none() && cid != "-1" {
            return Err(bad());
        }
        let key = model::unpack(pk).ok_or_else(bad)?;
        if model::pack(&key) != *pk {
            return Err(format!("a pk that is not packed as it should: {row:?}"));
        }
        Ok(Change {
            table,
            key,
            column,
            value: row[3].clone(),
            version: number(4)?,
            db_version: number(5)?,
            site: site.clone(),
            causal_length: number(7)?,
            seq: Some(number(8)?),
        })
    }

    /// Merges one change through `crsql_changes`, here and in the model.
    ///
    /// # Errors
    /// Any: a change that another copy shows must be taken.
    pub fn merge(&mut self, connection: usize, change: &Change) -> Result<(), Mismatch> {
        let number = |number: u64| Value::Integer(number as i64);
        let table = self.model.table(&change.table).ok_or("unknown table")?;
        let cid = change.column.map_or("-1", |column| self.shapes[table].columns[column].0);
        let params = [
            text(&change.table),
            Value::Blob(model::pack(&change.key)),
            text(cid),
            change.value.clone(),
            number(change.version),
            number(change.db_version),
            Value::Blob(change.site.clone()),
            number(change.causal_length),
            number(change.seq.unwrap_or(0)),
        ];
        let sql = "INSERT INTO crsql_changes VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        query_unchecked(self.db(connection), sql, &params)
            .map_err(|error| format!("{error}: {change:?}"))?;
        self.model.merge(change);
        if self.savepoints.is_empty() {
            self.model.commit();
        } else {
            let impacted = scalar(self.db(connection), "SELECT crsql_rows_impacted()", &[])?;
            if impacted != number(self.model.impacted()) {
                let model = self.model.impacted();
                return Err(format!("rows impacted {impacted:?}, model {model}: {change:?}"));
            }
        }
        Ok(())
    }

    /// The delta above a vector (as JSON; `None`: everything), as bytes and as the model's.
    ///
    /// # Errors
    /// SQLite's.
    pub fn export(
        &self,
        connection: usize,
        above: Option<&(String, Vector)>,
    ) -> Result<(Vec<u8>, model::Delta), Mismatch> {
        let json = above.map_or(Value::Null, |(json, _)| text(json));
        let bytes = scalar(self.db(connection), "SELECT ana_export(?1)", &[json])?;
        let Value::Blob(bytes) = bytes else { return Err("ana_export() is no blob".into()) };
        let from = above.map_or_else(Vector::new, |(_, vector)| vector.clone());
        Ok((bytes, self.model.export(&from)))
    }

    /// Applies a delta, here and in the model, which must agree whether it can be.
    ///
    /// # Errors
    /// A disagreement.
    pub fn apply(
        &mut self,
        connection: usize,
        delta: &(Vec<u8>, model::Delta),
    ) -> Result<(), Mismatch> {
        let found =
            scalar(self.db(connection), "SELECT ana_apply(?1)", &[Value::Blob(delta.0.clone())]);
        let expected = self.model.apply(&delta.1);
        self.has_deltas |= expected.is_some();
        if self.savepoints.is_empty() {
            self.model.commit();
        }
        match (found, expected) {
            (Ok(found), Some(n)) if found == Value::Integer(n as i64) => Ok(()),
            (Err(error), None) if error.contains("missing") => Ok(()),
            (found, expected) => Err(format!(
                "ana_apply of {:?} to {:?}, {} rows: {found:?}, model {expected:?}",
                delta.1.from,
                delta.1.to,
                delta.1.rows.len()
            )),
        }
    }

    /// The version vector as SQL gives it, and as the model has it: they must agree.
    ///
    /// # Errors
    /// A disagreement.
    pub fn vector(&self, connection: usize) -> Result<(String, Vector), Mismatch> {
        let json = scalar(self.db(connection), "SELECT ana_version_vector()", &[])?;
        let Value::Text(json) = json else { return Err("ana_version_vector() is no text".into()) };
        let json = String::from_utf8(json).map_err(|error| error.to_string())?;
        let found: Vector = read_vector(&json).into_iter().map(|(s, v, _)| (s, v)).collect();
        if found != self.model.vector {
            return Err(format!("vector {found:?}, model {:?}", self.model.vector));
        }
        Ok((json, found))
    }

    /// Compares all that can be seen with the model.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn compare(&self, connection: usize) -> Result<(), Mismatch> {
        self.compare_rows(connection)?;
        self.compare_changes(connection)?;
        let db_version = scalar(self.db(connection), "SELECT crsql_db_version()", &[])?;
        if db_version != Value::Integer(self.model.db_version as i64) {
            return Err(format!("db_version {db_version:?}, model {}", self.model.db_version));
        }
        if self.savepoints.is_empty() {
            self.vector(connection)?;
            let findings = query(self.db(connection), "SELECT * FROM ana_check", &[])?;
            if !findings.is_empty() {
                return Err(format!("ana_check: {findings:?}"));
            }
        }
        Ok(())
    }

    fn compare_rows(&self, connection: usize) -> Result<(), Mismatch> {
        for (table, shape) in self.shapes.iter().enumerate() {
            let found = self.rows(connection, shape)?;
            let model = self.model.live_rows(table);
            for (found, model) in found.iter().zip(&model) {
                if found != model {
                    return Err(format!("{} holds {found:?}, model {model:?}", shape.name));
                }
            }
            if found.len() != model.len() {
                let (n, m) = (found.len(), model.len());
                return Err(format!("{} has {n} rows, model {m}", shape.name));
            }
        }
        Ok(())
    }

    /// The rows of a table, by folded key.
    ///
    /// # Errors
    /// SQLite's.
    #[expect(clippy::type_complexity, reason = "key values and column values of each row")]
    pub fn rows(
        &self,
        connection: usize,
        shape: &Shape,
    ) -> Result<Vec<(Vec<Value>, Vec<Value>)>, Mismatch> {
        let sql = format!("SELECT {} FROM {}", shape.column_names().join(", "), quote(shape.name));
        let n_key = shape.key.len();
        let table = shape.model();
        let rows = query(self.db(connection), &sql, &[])?.into_iter();
        let mut rows: Vec<_> = rows
            .map(|mut row| {
                let values = row.split_off(n_key);
                (row, values)
            })
            .collect();
        rows.sort_by_key(|(key, _)| table.fold(key));
        Ok(rows)
    }

    fn compare_changes(&self, connection: usize) -> Result<(), Mismatch> {
        let mut found = self.changes(connection, "")?;
        let mut model = self.model.changes();
        let order = |change: &Change| (change.db_version, change.seq);
        if let Some(pair) = found.windows(2).find(|pair| order(&pair[0]) > order(&pair[1])) {
            return Err(format!("crsql_changes is out of order: {pair:?}"));
        }
        if self.has_deltas {
            // A delta's rows have an order of their own: compare as sets.
            let name = |change: &Change| {
                let table = self.model.table(&change.table).expect("read_change checked it");
                (table, self.model.tables[table].fold(&change.key), change.column)
            };
            found.sort_by_key(name);
            model.sort_by_key(name);
        }
        if found.len() != model.len() {
            return Err(self.differences(&found, &model));
        }
        for (found, model) in found.iter().zip(&model) {
            let table = self.model.table(&model.table).expect("the model's own");
            let mut expected = model.clone();
            expected.seq = model.seq.or(found.seq);
            let fold = |key: &[Value]| self.model.tables[table].fold(key);
            if model.causal_length % 2 == 0 && fold(&model.key) == fold(&found.key) {
                // The spelling of a dead row's key is nobody's.
                expected.key = found.key.clone();
            }
            if *found != expected {
                return Err(format!("crsql_changes shows\n  {found:?}, model\n  {expected:?}"));
            }
        }
        Ok(())
    }

    fn differences(&self, found: &[Change], model: &[Change]) -> Mismatch {
        let name = |change: &Change| {
            let table = self.model.table(&change.table).unwrap_or(0);
            (table, self.model.tables[table].fold(&change.key), change.column)
        };
        let only = |these: &[Change], those: &[Change]| -> Vec<Change> {
            let is_known = |this: &&Change| those.iter().any(|that| name(that) == name(this));
            these.iter().filter(|this| !is_known(this)).cloned().collect()
        };
        let (extra, missing) = (only(found, model), only(model, found));
        format!("crsql_changes: only shown {extra:#?}, only in the model {missing:#?}")
    }
}

/// Site, version and chain of each entry of a vector in JSON.
pub fn read_vector(json: &str) -> Vec<(Vec<u8>, u64, String)> {
    let mut parts = json.split('"');
    let mut entries = Vec::new();
    parts.next();
    while let (Some(site), Some(version), Some(chain)) = (parts.next(), parts.next(), parts.next())
    {
        let digits: String = version.chars().filter(char::is_ascii_digit).collect();
        let site = (0..site.len() / 2).map(|n| u8::from_str_radix(&site[2 * n..2 * n + 2], 16));
        let site: Result<Vec<u8>, _> = site.collect();
        entries.push((site.unwrap_or_default(), digits.parse().unwrap_or(0), chain.to_string()));
        parts.next();
    }
    entries
}

/// Opens a database file; its site id stays, wherever the file lies.
///
/// # Errors
/// SQLite's and the store's.
pub fn open(path: &Path) -> Result<Store, Mismatch> {
    let db = Connection::open(path).map_err(|error| format!("open: {error}"))?;
    Store::from_connection(db).map_err(|error| format!("open: {error}"))
}

fn query_unchecked(db: &Connection, sql: &str, params: &[Value]) -> Result<(), Mismatch> {
    let run = || -> rusqlite::Result<()> {
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(params))?;
        while rows.next()?.is_some() {}
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// A text value.
pub fn text(text: &str) -> Value {
    Value::Text(text.as_bytes().to_vec())
}

fn shadow_triggers(shape: &Shape) -> String {
    let (table, n_key) = (quote(shape.name), shape.key.len());
    let names = shape.column_names();
    let (key, columns) = names.split_at(n_key);
    let name = shape.name.replace('\'', "''");
    let part = |which: &str, names: &[String]| -> String {
        names.iter().map(|name| format!(", {which}.{name}")).collect()
    };
    let slots =
        |slot: &str, n: usize| -> String { (0..n).map(|i| format!(", {slot}{i}")).collect() };
    let (k, n) = (slots("k", key.len()), slots("n", key.len()));
    let (o, v) = (slots("o", columns.len()), slots("v", columns.len()));
    let old = part("old", key) + &part("old", columns);
    let new = part("new", key) + &part("new", columns);
    let one = |event: &str, op: &str, into: String, values: String| {
        format!(
            "CREATE TRIGGER {} AFTER {event} ON {table} WHEN crsql_internal_sync_bit() = 0 BEGIN
               INSERT INTO shadow(tbl, op{into}) VALUES('{name}', '{op}'{values}); END;",
            quote(&format!("shadow {} {op}", shape.name))
        )
    };
    one("INSERT", "i", format!("{n}{v}"), new.clone())
        + &one("DELETE", "d", format!("{k}{o}"), old.clone())
        + &one("UPDATE", "u", format!("{k}{o}{n}{v}"), old + &new)
}
