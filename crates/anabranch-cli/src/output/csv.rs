//! `--output csv`: comma-separated values as RFC 4180 has them, with line feeds.
//!
//! NULL is an empty field, a blob its literal `x'…'`, text its bytes.

use std::io::{self, Write};

use anabranch::rusqlite::types::ValueRef;

use super::RowSink;
use crate::literal;

pub(super) struct CsvSink<'a> {
    writer: csv::Writer<&'a mut dyn Write>,
}

impl<'a> CsvSink<'a> {
    pub(super) fn new(columns: Vec<String>, out: &'a mut dyn Write) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(&columns).map_err(unwrapped)?;
        Ok(CsvSink { writer })
    }
}

impl RowSink for CsvSink<'_> {
    fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()> {
        for value in values {
            match value {
                ValueRef::Null => self.writer.write_field(""),
                ValueRef::Text(text) => self.writer.write_field(text),
                other => self.writer.write_field(literal::shown(*other)),
            }
            .map_err(unwrapped)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(unwrapped)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The I/O error inside, so that a closed pipe is known as one.
fn unwrapped(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
