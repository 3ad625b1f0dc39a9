//! What a complete delta lacks: rows here that its maker deleted and forgot, or never had
//! (`docs/decisions/0008-forgetting.md`).
//!
//! While the delta is merged, keys that it names are noted in `ana_seen`, of tables with rows
//! here only. At its end the rows of these tables are walked: what was not named goes, or rises
//! to the restart length in a change of this copy. A row that a constraint does not let go
//! rises too.

use std::collections::BTreeMap;
use std::rc::Rc;

use anabranch_core::delta::{SaltRun, TableDelta};
use anabranch_core::key;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::{Dot, VersionVector};
use anabranch_core::wire::Bounds;
use smallvec::SmallVec;

use super::held;
use super::intake::{columns, listed};
use super::names::Names;
use crate::base;
use crate::buffer::{MergedRecord, Superseded};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::ids::{ColumnId, Key, Ordinal, TableId};
use crate::metadata::mask::Mask;
use crate::metadata::row_clock::{Group, RowClock};
use crate::registry::TableInfo;
use crate::transaction;

/// What must be known of rows that a complete delta may lack.
pub(super) struct Lacking {
    to: VersionVector,
    /// Changes newly held of which there are only salts.
    pub(super) n_adopted: u64,
    /// Tables that the delta has whole, with rows here.
    tables: Vec<Rc<TableInfo>>,
}

/// Takes over what a complete delta says of its floor, before its headers. `None` if it is
/// none, or one whose floor is held here: then nothing that it lacks is alive here.
pub(super) fn begin(
    cx: &Context,
    bounds: &Bounds,
    salts: &[SaltRun],
    names: &Names,
) -> Result<Option<Lacking>> {
    let Some(complete) = &bounds.complete else { return Ok(None) };
    let is_held = complete.floor.iter().all(|(site, low)| names.is_held(site, low.version));
    let floor = names.vector(&complete.floor);
    let mut tables = Vec::new();
    if !is_held {
        for table in complete.tables.iter().filter(|table| table.is_whole) {
            let info = cx.registry.borrow().by_name(&table.name);
            let Some(info) = info else { continue };
            let has_rows = cx.metadata.borrow_mut().has_clocks(info.id)?
                || !held::rows_after(cx, &info.name, &[])?.is_empty();
            if has_rows {
                info.refuse_stale()?;
                tables.push(info);
            }
        }
        let salts = names.salts(salts, &complete.floor);
        cx.metadata.borrow_mut().adopt_salts(&floor, &salts)?;
    }
    let restarts: BTreeMap<String, u64> =
        complete.tables.iter().map(|table| (table.name.clone(), table.restart_length)).collect();
    cx.metadata.borrow_mut().raise_floor(&floor, &restarts)?;
    if is_held {
        return Ok(None);
    }
    let adopted = complete.floor.iter();
    let n_adopted = adopted.map(|(site, low)| low.version.saturating_sub(names.held(site))).sum();
    Ok(Some(Lacking { to: names.vector(&bounds.to), n_adopted, tables }))
}

/// What becomes of a row that the delta lacks.
enum Fate {
    /// Nothing.
    Stays,
    /// A tombstone that was forgotten.
    Forgotten,
    /// It was deleted, and that was forgotten.
    Gone,
    /// It may have been deleted, but was inserted again by who did not know.
    Rises,
}

impl Lacking {
    /// Notes the keys of rows of a table, before they are merged.
    pub(super) fn note(&self, cx: &Context, table: &TableDelta) -> Result<()> {
        let Some(info) = self.tables.iter().find(|info| info.name == table.name) else {
            return Ok(());
        };
        let mut insert = cx
            .db
            .prepare("INSERT OR IGNORE INTO main.ana_seen(tbl, key, gone) VALUES(?1, ?2, 0)")?;
        for row in &table.rows {
            let mut spelled: SmallVec<[ValueRef<'_>; 2]> = SmallVec::new();
            let is_key = key::walk_packed(&row.key, |value| spelled.push(value)).is_ok();
            let folded = key::fold(&spelled, &info.key_columns);
            let (true, Ok(folded)) = (is_key, folded) else { continue };
            if row.causal_length.is_multiple_of(2) {
                // Dead in a former life: of the present one its maker knows nothing.
                let clock = transaction::row_clock(cx, info.id, &folded)?;
                if clock.is_some_and(|clock| clock.causal_length > row.causal_length) {
                    continue;
                }
            }
            insert.execute(&[number(info.id), ValueRef::Blob(&folded)])?;
        }
        Ok(())
    }

    /// Looks at the rows that the delta did not name, after all that it has is merged. `seq`
    /// goes on counting.
    pub(super) fn settle(self, cx: &Context, db_version: u64, seq: &mut u64) -> Result<()> {
        if self.tables.is_empty() {
            return Ok(());
        }
        transaction::flush(cx)?;
        for info in &self.tables {
            let mut table = Table { cx, info, to: &self.to, db_version, seq };
            table.settle()?;
        }
        transaction::flush(cx)?;
        for info in &self.tables {
            drop_clocks(cx, info.id)?;
        }
        Ok(cx.db.execute("DELETE FROM main.ana_seen", &[])?)
    }
}

fn number(table: TableId) -> ValueRef<'static> {
    ValueRef::Integer(table.0.into())
}

/// Takes the clocks that go out of the blocks.
fn drop_clocks(cx: &Context, table: TableId) -> Result<()> {
    let gone = |first: &[u8], next: Option<&[u8]>| -> Result<Vec<Vec<u8>>> {
        let params = [number(table), ValueRef::Blob(first)];
        let sql = "SELECT key FROM main.ana_seen WHERE tbl = ?1 AND gone = 1 AND key >= ?2";
        let rows = match next {
            None => cx.db.query_rows(&format!("{sql} ORDER BY key"), &params)?,
            Some(next) => cx.db.query_rows(
                &format!("{sql} AND key < ?3 ORDER BY key"),
                &[params[0], params[1], ValueRef::Blob(next)],
            )?,
        };
        let key = |row: Vec<Value>| match row.into_iter().next() {
            Some(Value::Blob(key)) => Some(key),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(key).collect())
    };
    cx.metadata.borrow_mut().drop_rows(table, gone)
}

/// A table whose rows are walked.
struct Table<'a> {
    cx: &'a Context,
    info: &'a Rc<TableInfo>,
    to: &'a VersionVector,
    db_version: u64,
    seq: &'a mut u64,
}

impl Table<'_> {
    fn settle(&mut self) -> Result<()> {
        let restart = self.cx.metadata.borrow_mut().restart(self.info.id)?;
        let mut stuck: Vec<(Key, RowClock)> = Vec::new();
        let mut from = Some(Key::new());
        while let Some(first) = from {
            // The borrow ends before rows of the user's table are deleted.
            let (rows, next) = self.cx.metadata.borrow_mut().clocks_from(self.info.id, &first)?;
            from = next;
            for (key, clock) in rows {
                if self.is_seen(&key)? {
                    continue;
                }
                match self.fate(&clock, restart)? {
                    Fate::Stays => {}
                    Fate::Forgotten => self.note_gone(&key)?,
                    Fate::Rises => self.raise(&key, clock, restart)?,
                    Fate::Gone => {
                        if !self.delete(&key, &clock, restart)? {
                            stuck.push((key, clock));
                        }
                    }
                }
            }
        }
        // What referred to them may be gone by now.
        for (key, clock) in stuck {
            if !self.delete(&key, &clock, restart)? {
                self.raise(&key, clock, restart)?;
            }
        }
        self.drop_held()
    }

    fn is_seen(&self, key: &[u8]) -> Result<bool> {
        let sql = "SELECT 1 FROM main.ana_seen WHERE tbl = ?1 AND key = ?2";
        let params = [number(self.info.id), ValueRef::Blob(key)];
        Ok(self.cx.db.query_value(sql, &params)?.is_some())
    }

    fn note_gone(&self, key: &[u8]) -> Result<()> {
        let sql = "REPLACE INTO main.ana_seen(tbl, key, gone) VALUES(?1, ?2, 1)";
        Ok(self.cx.db.execute(sql, &[number(self.info.id), ValueRef::Blob(key)])?)
    }

    fn fate(&self, clock: &RowClock, restart: u64) -> Result<Fate> {
        if clock.causal_length >= restart {
            return Ok(Fate::Stays);
        }
        let mut is_beyond = false;
        for group in clock.groups.iter().filter(|group| group.is_birth) {
            is_beyond |= self.is_beyond(group)?;
        }
        Ok(match (clock.is_alive(), is_beyond) {
            (true, true) => Fate::Rises,
            (true, false) => Fate::Gone,
            (false, true) => Fate::Stays,
            (false, false) => Fate::Forgotten,
        })
    }

    /// Whether the change of a group is not in the delta.
    fn is_beyond(&self, group: &Group) -> Result<bool> {
        let mut metadata = self.cx.metadata.borrow_mut();
        let (dot, ..) = metadata.stamp(group.at, ColumnId::SENTINEL)?;
        let site = metadata.author_site(dot.author)?;
        Ok(!self.to.covers(Dot { site, version: dot.version }))
    }

    /// Whether the row could be deleted.
    fn delete(&mut self, key: &[u8], clock: &RowClock, restart: u64) -> Result<bool> {
        let cells = self.cells_beyond(key, clock, restart)?;
        let values = self.info.unfold(key)?;
        let values: SmallVec<[ValueRef<'_>; 4]> = values.iter().map(Value::as_ref).collect();
        match base::delete(self.cx, self.info, &values) {
            Ok(was_there) => {
                self.count(was_there);
                let place = (self.info.id, key);
                let mut clock = Some(clock.clone());
                for cell in cells {
                    let record = listed(self.cx.metadata.borrow().db_version(), cell);
                    transaction::push_merged(self.cx, place, clock.take(), record, |_, _| ())?;
                }
                held::delete(self.cx, &self.info.name, key)?;
                self.note_gone(key)?;
                Ok(true)
            }
            Err(StoreError::Constraint(_)) if self.cx.is_followed.get() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn count(&self, was_there: bool) {
        if was_there {
            let mut applied = self.cx.delta.applied.borrow_mut();
            let place = applied.tables.iter().position(|(name, _)| *name == self.info.name);
            match place {
                Some(place) => applied.tables[place].1[2] += 1,
                None => applied.tables.push((self.info.name.clone(), [0, 0, 1])),
            }
        }
    }

    /// The cells of a row whose changes are not in the delta.
    fn cells_beyond(&self, key: &[u8], clock: &RowClock, restart: u64) -> Result<Vec<Superseded>> {
        let mut cells = Vec::new();
        for group in clock.groups.iter().filter(|group| group.version > 0) {
            if !self.is_beyond(group)? {
                continue;
            }
            for column in group.mask.iter() {
                let place = self.info.columns.iter().position(|known| known.id == column);
                let Some(place) = place else { continue };
                let value: Option<Value> =
                    base::read_with(self.cx, self.info, key, |row| row.value(place).into())?;
                let Some(value) = value else { continue };
                let mut metadata = self.cx.metadata.borrow_mut();
                let (dot, origin, _) = metadata.stamp(group.at, column)?;
                let site = metadata.origin_site(origin)?;
                cells.push(Superseded {
                    column,
                    version: group.version,
                    causal_length: clock.causal_length,
                    stands: restart - 1,
                    dot,
                    origin: metadata.author_of(site)?,
                    value,
                });
            }
        }
        Ok(cells)
    }

    /// Gives a row that lives a new life at the restart length; its cells keep their versions,
    /// so that every copy that does so makes the same row.
    fn raise(&mut self, key: &[u8], clock: RowClock, restart: u64) -> Result<()> {
        let mut mask = Mask::of(ColumnId::SENTINEL);
        // Cells that a raise through `crsql_changes` left behind travel from here on.
        let versions: Vec<(ColumnId, u64)> =
            columns(&clock).map(|(column, version)| (column, version.max(1))).collect();
        versions.iter().for_each(|(column, _)| mask.insert(*column));
        let record = MergedRecord {
            row: 0,
            first_seq: *self.seq,
            dot: None,
            origin: Ordinal(0),
            db_version: self.db_version,
            is_birth: true,
            is_open: false,
            superseded: None,
            mask,
        };
        *self.seq += u64::from(record.mask.len());
        // As a local write: this is where the row is from now.
        transaction::row_clock(self.cx, self.info.id, key)?;
        transaction::push_merged(self.cx, (self.info.id, key), Some(clock), record, |row, at| {
            row.causal_length = restart;
            row.groups.clear();
            let sentinel = Mask::of(ColumnId::SENTINEL);
            row.groups.push(Group { mask: sentinel, version: restart, at, is_birth: true });
            for (column, version) in versions {
                match row.groups.iter_mut().skip(1).find(|group| group.version == version) {
                    Some(group) => group.mask.insert(column),
                    None => {
                        let mask = Mask::of(column);
                        row.groups.push(Group { mask, version, at, is_birth: false });
                    }
                }
            }
            row.groups.sort_by_key(|group| (group.at, group.version));
        })
    }

    /// Drops what is held of rows that the delta lacks, if its maker knew all of it.
    fn drop_held(&self) -> Result<()> {
        let mut after = Vec::new();
        loop {
            let rows = held::rows_after(self.cx, &self.info.name, &after)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.key.clone();
            for mut row in rows {
                if self.is_seen(&row.key)? {
                    continue;
                }
                let knew = |site, version| self.to.covers(Dot { site, version });
                row.retain(|change| !knew(change.site, change.version));
                if row.is_empty() {
                    held::delete(self.cx, &self.info.name, &row.key)?;
                }
            }
        }
    }
}
