//! A scan over `crsql_changes`.
//!
//! Values are read from the user's table when they are asked for, one row at a time and
//! once for all its cells. A cursor holds no borrow of the context between calls: the same
//! connection may write while it reads, and sees what stood when each chunk was read.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::error::Result as SqlResult;
use anabranch_sqlite::vtab::Cursor;

use super::filter::Filter;
use super::image::RowImage;
use super::order::Order;
use super::source::{Chunk, Item, Source};
use super::{Column, SENTINEL_NAME, rowid};
use crate::context::Context;
use crate::error::{Result, StoreError};
use crate::transaction;

pub(super) struct ChangesCursor {
    cx: Rc<Context>,
    /// `None` before the first scan.
    source: Option<Source>,
    chunk: Chunk,
    /// Index into the items of `chunk`; at their end only at the end of the scan.
    at: usize,
    /// The base row of the present item, once asked for.
    image: OnceCell<RowImage>,
    /// Its packed key, once asked for.
    pk: OnceCell<Vec<u8>>,
    /// An image of an earlier row, for its memory.
    spare: Cell<RowImage>,
}

impl ChangesCursor {
    pub(super) fn new(cx: Rc<Context>) -> ChangesCursor {
        ChangesCursor {
            cx,
            source: None,
            chunk: Chunk::default(),
            at: 0,
            image: OnceCell::new(),
            pk: OnceCell::new(),
            spare: Cell::default(),
        }
    }

    fn start(&mut self, index_string: &str, arguments: &[ValueRef<'_>]) -> Result<()> {
        transaction::flush(&self.cx).map_err(read_only_hint)?;
        self.cx.refresh()?;
        crate::crr::outrun_before_reading(&self.cx);
        let (tests, order) = index_string.split_once(';').unwrap_or((index_string, ""));
        let filter = Filter::decode(tests, arguments);
        self.forget_row();
        self.source = Some(Source::start(self.cx.clone(), filter, Order::decode(order))?);
        self.load()
    }

    fn load(&mut self) -> Result<()> {
        self.at = 0;
        self.chunk = match &mut self.source {
            Some(source) => source.next_chunk()?,
            None => Chunk::default(),
        };
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        let before = self.at;
        self.at += 1;
        if self.at < self.chunk.items.len() {
            let (old, new) = (&self.chunk.items[before], &self.chunk.items[self.at]);
            let (old, new) = (self.chunk.record(old), self.chunk.record(new));
            if (old.table, &old.key) != (new.table, &new.key) {
                self.forget_row();
            }
            return Ok(());
        }
        self.forget_row();
        self.load()
    }

    fn forget_row(&mut self) {
        self.pk.take();
        if let Some(image) = self.image.take() {
            self.spare.set(image);
        }
    }

    fn item(&self) -> Result<(&Source, &Item)> {
        let source = self.source.as_ref();
        source
            .zip(self.chunk.items.get(self.at))
            .ok_or_else(|| StoreError::Refused("no row to read".to_string()))
    }

    fn value(&self, column: Column) -> Result<ValueRef<'_>> {
        let (source, item) = self.item()?;
        match column {
            Column::Pk => Ok(ValueRef::Blob(self.pk(item)?)),
            Column::Cid => Ok(ValueRef::Text(self.cid(item)?)),
            Column::Val => match self.chunk.view(item).position(self.chunk.cell(item).column) {
                Some(position) => Ok(self.image(item)?.value(position)),
                None => Ok(ValueRef::Null),
            },
            other => Ok(source.column(&self.chunk, item, other)),
        }
    }

    /// The column's name; of a cell whose base row is gone `-1`.
    fn cid(&self, item: &Item) -> Result<&[u8]> {
        let (view, column) = (self.chunk.view(item), self.chunk.cell(item).column);
        let is_shown = view.position(column).is_none() || self.image(item)?.is_there();
        Ok(if is_shown { view.name(column).as_bytes() } else { SENTINEL_NAME.as_bytes() })
    }

    fn pk(&self, item: &Item) -> Result<&[u8]> {
        let (info, record) = (&self.chunk.view(item).info, self.chunk.record(item));
        if info.has_spellings && record.causal_length % 2 == 1 {
            let image = self.image(item)?;
            if image.is_there() {
                return Ok(image.pk());
            }
        }
        if let Some(pk) = self.pk.get() {
            return Ok(pk);
        }
        let pk = info.pack_folded(&record.key)?;
        Ok(self.pk.get_or_init(|| pk))
    }

    fn image(&self, item: &Item) -> Result<&RowImage> {
        if let Some(image) = self.image.get() {
            return Ok(image);
        }
        let mut image = self.spare.take();
        image.load(&self.cx, &self.chunk.view(item).info, &self.chunk.record(item).key)?;
        Ok(self.image.get_or_init(|| image))
    }
}

/// Says what is wrong when what this transaction wrote cannot be made readable.
fn read_only_hint(error: StoreError) -> StoreError {
    match error {
        StoreError::Sql(sql) if sql.primary() == SqlError::READONLY => StoreError::Sql(SqlError {
            code: sql.code,
            message: "crsql_changes cannot show what this transaction wrote while \
                          query_only is on"
                .to_string(),
        }),
        other => other,
    }
}

impl Cursor for ChangesCursor {
    fn filter(&mut self, _: i32, text: &str, args: &[ValueRef<'_>]) -> SqlResult<()> {
        Ok(self.start(text, args)?)
    }

    fn next(&mut self) -> SqlResult<()> {
        Ok(self.advance()?)
    }

    fn is_eof(&self) -> bool {
        self.at >= self.chunk.items.len()
    }

    fn column(&self, index: usize) -> SqlResult<ValueRef<'_>> {
        match Column::ALL.get(index) {
            Some(column) => Ok(self.value(*column)?),
            None => Ok(ValueRef::Null),
        }
    }

    fn rowid(&self) -> SqlResult<i64> {
        let (_, item) = self.item()?;
        Ok(rowid(&self.chunk.view(item).info, self.chunk.record(item).number))
    }
}
