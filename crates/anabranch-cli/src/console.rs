//! Where a command writes: standard output, buffered, and whether a program reads it.

use std::io::{self, BufWriter, Stdout, Write};

use serde_json::Value;

use crate::failure::Result;
use crate::output::{Sheet, write_sheet};
use crate::terminal::{Style, Terminal};

/// Standard output and how to write to it.
pub(crate) struct Console {
    out: BufWriter<Stdout>,
    is_json: bool,
    terminal: Terminal,
}

impl Console {
    /// Looks at standard output; `is_json` is the flag `--json`.
    pub(crate) fn new(is_json: bool) -> Console {
        Console { out: BufWriter::new(io::stdout()), is_json, terminal: Terminal::stdout() }
    }

    /// Whether a program reads the answer.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// What is at the other end.
    pub(crate) fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// Cuts tables at `width` columns even in a pipe.
    pub(crate) fn assume_width(&mut self, width: usize) {
        self.terminal = self.terminal.or_width(width);
    }

    /// The raw writer.
    pub(crate) fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<()> {
        Ok(writeln!(self.out, "{}", text.as_ref())?)
    }

    /// A heading, with an empty line before it.
    pub(crate) fn heading(&mut self, text: &str) -> Result<()> {
        let text = self.terminal.paint(Style::Bold, text);
        Ok(writeln!(self.out, "\n{text}")?)
    }

    /// A small table.
    pub(crate) fn sheet(&mut self, sheet: &Sheet) -> Result<()> {
        Ok(write_sheet(sheet, self.terminal, &mut self.out)?)
    }

    /// A JSON document on one line.
    pub(crate) fn json(&mut self, value: &Value) -> Result<()> {
        Ok(writeln!(self.out, "{value}")?)
    }

    /// Text in a style.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        self.terminal.paint(style, text)
    }

    /// Writes out what is buffered.
    pub(crate) fn finish(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}
