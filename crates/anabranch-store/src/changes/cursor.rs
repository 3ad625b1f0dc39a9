//! A scan over `crsql_changes`.
//!
//! Values are read from the user's table when the first of them is asked for, some rows at
//! a time. A cursor holds no borrow of the context between calls: the same connection may
//! write while it reads, and sees what stood when each chunk was read.

use std::rc::Rc;

use anabranch_core::value::ValueRef;
use anabranch_sqlite::SqlError;
use anabranch_sqlite::error::Result as SqlResult;
use anabranch_sqlite::vtab::Cursor;

use super::filter::Filter;
use super::image::{RowImage, RowImages};
use super::order::Order;
use super::source::{Chunk, Source, shown_pk};
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
    images: RowImages,
    /// The packed key of the record `pk_of`, if it is not among the images.
    pk: Vec<u8>,
    /// `None`: `pk` is of no record of the chunk.
    pk_of: Option<u32>,
}

impl ChangesCursor {
    pub(super) fn new(cx: Rc<Context>) -> ChangesCursor {
        ChangesCursor {
            cx,
            source: None,
            chunk: Chunk::default(),
            at: 0,
            images: RowImages::default(),
            pk: Vec::new(),
            pk_of: None,
        }
    }

    fn start(&mut self, index_string: &str, arguments: &[ValueRef<'_>]) -> Result<()> {
        transaction::flush(&self.cx).map_err(read_only_hint)?;
        self.cx.refresh()?;
        crate::crr::outrun_before_reading(&self.cx);
        let (tests, order) = index_string.split_once(';').unwrap_or((index_string, ""));
        let filter = Filter::decode(tests, arguments);
        self.source = Some(Source::start(self.cx.clone(), filter, Order::decode(order))?);
        self.load()
    }

    fn load(&mut self) -> Result<()> {
        self.at = 0;
        self.images.forget();
        self.pk_of = None;
        self.chunk = match &mut self.source {
            Some(source) => source.next_chunk()?,
            None => Chunk::default(),
        };
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        self.at += 1;
        if self.at < self.chunk.items.len() {
            return Ok(());
        }
        self.load()
    }

    /// A column that needs no look at the user's table: most of each row.
    #[inline]
    fn at_hand(&self, column: Column) -> Option<ValueRef<'_>> {
        let item = self.chunk.items.get(self.at)?;
        Some(self.chunk.row(item).value(item, &[], column))
    }

    /// `pk`, `cid` or `val`.
    fn looked_up(&mut self, column: Column) -> Result<ValueRef<'_>> {
        let Some(item) = self.chunk.items.get(self.at) else { return Err(no_row()) };
        match (column, item.position()) {
            (Column::Pk, _) => self.pk().map(ValueRef::Blob),
            // A cell whose base row is gone is shown as the row's.
            (Column::Cid, Some(_)) if !self.image(false)?.is_there() => {
                Ok(ValueRef::Text(SENTINEL_NAME.as_bytes()))
            }
            (Column::Val, Some(position)) => Ok(self.image(true)?.value(position)),
            _ => self.at_hand(column).ok_or_else(no_row),
        }
    }

    fn image(&mut self, has_value: bool) -> Result<RowImage<'_>> {
        self.images.of(&self.cx, &self.chunk, self.at, has_value)
    }

    fn pk(&mut self) -> Result<&[u8]> {
        let record = self.chunk.items[self.at].record;
        if self.pk_of == Some(record) {
            return Ok(&self.pk);
        }
        self.pk_of = (!self.chunk.view(self.at).info.has_spellings).then_some(record);
        shown_pk(&self.cx, &self.chunk, self.at, &mut self.images, &mut self.pk)
    }
}

fn no_row() -> StoreError {
    StoreError::Refused("no row to read".to_string())
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

    fn column(&mut self, index: usize) -> SqlResult<ValueRef<'_>> {
        match Column::ALL.get(index) {
            Some(column @ (Column::Pk | Column::Cid | Column::Val)) => Ok(self.looked_up(*column)?),
            Some(column) => self.at_hand(*column).ok_or_else(|| no_row().into()),
            None => Ok(ValueRef::Null),
        }
    }

    fn rowid(&self) -> SqlResult<i64> {
        let item = self.chunk.items.get(self.at).ok_or_else(no_row)?;
        let row = self.chunk.row(item);
        Ok(rowid(&row.view.info, row.record.number))
    }
}
