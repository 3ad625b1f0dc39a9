//! `--output line`: a name and a value on each line, for rows too wide to read across.

use std::io::{self, Write};

use anabranch::rusqlite::types::ValueRef;
use unicode_width::UnicodeWidthStr;

use super::{RowSink, plain};
use crate::literal;

pub(super) struct LineSink<'a> {
    names: Vec<String>,
    out: &'a mut dyn Write,
    is_first: bool,
}

impl<'a> LineSink<'a> {
    pub(super) fn new(columns: Vec<String>, out: &'a mut dyn Write) -> Self {
        let columns: Vec<String> = columns.iter().map(|name| plain(name)).collect();
        let width = columns.iter().map(|name| name.width()).max().unwrap_or(0);
        let pad = |name: &String| format!("{}{name}", " ".repeat(width - name.width()));
        LineSink { names: columns.iter().map(pad).collect(), out, is_first: true }
    }
}

impl RowSink for LineSink<'_> {
    fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()> {
        if !self.is_first {
            writeln!(self.out)?;
        }
        self.is_first = false;
        for (name, value) in self.names.iter().zip(values) {
            writeln!(self.out, "{name} = {}", plain(&literal::shown(*value)))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
