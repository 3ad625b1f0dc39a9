//! Results on standard output: as a table, CSV, JSON, or a line a value.
//!
//! Invariant: what a person sees has no control characters of the data's own: a cell that
//! another copy sent cannot move the cursor or rename the window.

mod csv;
mod json;
mod line;
mod table;

use std::io::{self, Write};

use anabranch::rusqlite::types::ValueRef;
use clap::ValueEnum;

pub(crate) use json::value as json_value;
pub(crate) use table::{Sheet, write_sheet};

use crate::terminal::Terminal;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns under headings, cut to the terminal
    #[default]
    Table,
    /// Comma-separated, first line the names (RFC 4180)
    Csv,
    /// One JSON array of objects a statement
    Json,
    /// One value a line, an empty line between rows
    Line,
}

/// Takes the rows of one result.
pub(crate) trait RowSink {
    /// One row, as many values as there are columns.
    fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()>;
    /// No more rows.
    fn finish(&mut self) -> io::Result<()>;
}

/// A sink for a result with these columns.
pub(crate) fn sink<'a>(
    format: Format,
    columns: Vec<String>,
    terminal: Terminal,
    out: &'a mut dyn Write,
) -> io::Result<Box<dyn RowSink + 'a>> {
    Ok(match format {
        Format::Table => Box::new(table::TableSink::new(columns, terminal, out)),
        Format::Csv => Box::new(csv::CsvSink::new(columns, out)?),
        Format::Json => Box::new(json::JsonSink::new(columns, out)),
        Format::Line => Box::new(line::LineSink::new(columns, out)),
    })
}

/// Text with its control characters made visible, on one line: `\n` for a line feed,
/// `\u{1b}` for an escape.
pub(crate) fn plain(text: &str) -> String {
    if !text.contains(is_hidden) {
        return text.to_string();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_hidden(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Control characters, and those that turn the direction of a line.
fn is_hidden(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `1 row`, `2 rows`, `3,376 rows`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = match noun {
        "copy" if number != 1 => return format!("{} copies", grouped(number)),
        _ if number == 1 => "",
        _ => "s",
    };
    format!("{} {noun}{plural}", grouped(number))
}

/// Digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit a person would choose: `312 B`, `4.2 kB`, `1.5 MB` (powers of 1,000).
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(3376, "row"), "3,376 rows");
        assert_eq!(grouped(1_000_000), "1,000,000");
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert!(bytes(u64::MAX).ends_with(" PB"));
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(plain("Utqiaġvik"), "Utqiaġvik");
        assert_eq!(plain("a\n\x1b[2J\u{202e}"), "a\\n\\u{1b}[2J\\u{202e}");
    }
}
