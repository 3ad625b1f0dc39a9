//! Rows under headings, each column as wide as it needs, the whole as wide as the
//! terminal: longer cells end in `…`, columns without room are left out and counted.

use std::io::{self, Write};

use anabranch::rusqlite::types::ValueRef;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{RowSink, plain};
use crate::literal;
use crate::terminal::{Style, Terminal};

/// Rows looked at before widths are fixed: enough to see the data, few enough to hold.
const ROWS_MEASURED: usize = 1000;
/// Columns narrower than this are not worth cutting.
const MIN_COLUMN: usize = 6;
/// Between two columns.
const GAP: &str = "  ";

/// A small table of text, written at once.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    columns: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Sheet {
    /// A table with these headings; one that begins with `>` is aligned right.
    pub(crate) fn new(columns: &[&str]) -> Sheet {
        Sheet {
            columns: columns.iter().map(|name| name.trim_start_matches('>').to_string()).collect(),
            right: columns.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of text.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| plain(&cell.into())).collect();
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Whether there is nothing to show.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Writes a sheet, headings first.
pub(crate) fn write_sheet(
    sheet: &Sheet,
    terminal: Terminal,
    out: &mut dyn Write,
) -> io::Result<()> {
    let layout = Layout::fit(&sheet.columns, &sheet.rows, &sheet.right, terminal);
    layout.write_head(&sheet.columns, terminal, out)?;
    sheet.rows.iter().try_for_each(|row| layout.write_row(row, out))?;
    layout.write_foot(terminal, out)
}

/// The sink of `--output table`.
pub(super) struct TableSink<'a> {
    columns: Vec<String>,
    terminal: Terminal,
    out: &'a mut dyn Write,
    /// Rows held until widths are known.
    waiting: Vec<Vec<String>>,
    /// For each column: only numbers so far.
    right: Vec<bool>,
    layout: Option<Layout>,
}

impl<'a> TableSink<'a> {
    pub(super) fn new(columns: Vec<String>, terminal: Terminal, out: &'a mut dyn Write) -> Self {
        let right = vec![true; columns.len()];
        let columns = columns.iter().map(|name| plain(name)).collect();
        TableSink { columns, terminal, out, waiting: Vec::new(), right, layout: None }
    }

    fn settle(&mut self) -> io::Result<()> {
        if self.layout.is_some() {
            return Ok(());
        }
        let layout = Layout::fit(&self.columns, &self.waiting, &self.right, self.terminal);
        layout.write_head(&self.columns, self.terminal, self.out)?;
        for row in self.waiting.drain(..) {
            layout.write_row(&row, self.out)?;
        }
        self.layout = Some(layout);
        Ok(())
    }
}

impl RowSink for TableSink<'_> {
    fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()> {
        for (right, value) in self.right.iter_mut().zip(values) {
            *right &= !matches!(value, ValueRef::Text(_) | ValueRef::Blob(_));
        }
        let cells = values.iter().map(|value| plain(&literal::shown(*value))).collect::<Vec<_>>();
        if let Some(layout) = &self.layout {
            return layout.write_row(&cells, self.out);
        }
        self.waiting.push(cells);
        if self.waiting.len() == ROWS_MEASURED {
            self.settle()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.settle()?;
        match &self.layout {
            Some(layout) => layout.write_foot(self.terminal, self.out),
            None => Ok(()),
        }
    }
}

/// Widths of the columns that are shown.
struct Layout {
    widths: Vec<usize>,
    right: Vec<bool>,
    /// Columns that found no room.
    n_hidden: usize,
    /// Whether cells are cut: not in a pipe.
    is_cut: bool,
}

impl Layout {
    fn fit(columns: &[String], rows: &[Vec<String>], right: &[bool], terminal: Terminal) -> Layout {
        let mut widths: Vec<usize> = columns.iter().map(|name| name.width()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let n_columns = widths.len();
        if let Some(room) = terminal.width() {
            shrink(&mut widths, room);
        }
        Layout {
            n_hidden: n_columns - widths.len(),
            widths,
            right: right.to_vec(),
            is_cut: terminal.width().is_some(),
        }
    }

    fn write_head(
        &self,
        columns: &[String],
        terminal: Terminal,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let head = self.line(columns);
        writeln!(out, "{}", terminal.paint(Style::Bold, &head))?;
        let dash = if terminal.is_terminal() { "─" } else { "-" };
        let rule: Vec<String> = self.widths.iter().map(|width| dash.repeat(*width)).collect();
        writeln!(out, "{}", terminal.paint(Style::Dim, &rule.join(GAP)))
    }

    fn write_row(&self, cells: &[String], out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.line(cells))
    }

    fn write_foot(&self, terminal: Terminal, out: &mut dyn Write) -> io::Result<()> {
        if self.n_hidden == 0 {
            return Ok(());
        }
        let columns = super::count(self.n_hidden as u64, "column");
        let note = format!("({columns} more: a wider terminal or --output line shows them)");
        writeln!(out, "{}", terminal.paint(Style::Dim, &note))
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (i, (width, cell)) in self.widths.iter().zip(cells).enumerate() {
            if i > 0 {
                line.push_str(GAP);
            }
            let cell = if self.is_cut { cut(cell, *width) } else { cell.clone() };
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            if self.right[i] {
                line.push_str(&padding);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.push_str(&padding);
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Makes columns fit: the widest give first; when all are narrow, the last are dropped.
fn shrink(widths: &mut Vec<usize>, room: usize) {
    let needed = |widths: &[usize]| {
        widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
    };
    let least = |widths: &[usize]| {
        let narrow: Vec<usize> = widths.iter().map(|width| *width.min(&MIN_COLUMN)).collect();
        needed(&narrow)
    };
    while widths.len() > 1 && least(widths) > room {
        widths.pop();
    }
    while needed(widths) > room {
        let widest = *widths.iter().max().expect("a result has a column");
        let next = widths.iter().copied().filter(|width| *width < widest).max().unwrap_or(1);
        let n_widest = widths.iter().filter(|width| **width == widest).count();
        let excess = (needed(widths) - room).div_ceil(n_widest);
        let to = widest.saturating_sub(excess).max(next).max(1);
        if to == widest {
            return;
        }
        let mut left = needed(widths) - room;
        for width in widths.iter_mut().filter(|width| **width == widest) {
            let taken = (widest - to).min(left);
            *width -= taken;
            left -= taken;
        }
    }
}

/// The text, or as much as fits and `…`.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let mut kept = String::new();
    let mut used = 1;
    for letter in text.chars() {
        used += letter.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(letter);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_shrink_to_the_room() {
        for (before, room, after) in [
            (vec![3, 4], 80, vec![3, 4]),
            (vec![10, 70, 70], 80, vec![10, 33, 33]),
            (vec![10, 71, 70], 81, vec![10, 33, 34]),
            (vec![100], 20, vec![20]),
            (vec![20; 30], 80, vec![6; 10]),
        ] {
            let mut widths = before.clone();
            shrink(&mut widths, room);
            let used = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
            assert!(used <= room, "{before:?} in {room}: {widths:?}");
            if before.len() == after.len() {
                assert_eq!(widths.iter().sum::<usize>(), after.iter().sum::<usize>(), "{before:?}");
            } else {
                assert_eq!(widths.len(), after.len());
            }
        }
    }

    #[test]
    fn cells_are_cut_by_width_not_bytes() {
        assert_eq!(cut("Utqiaġvik", 9), "Utqiaġvik");
        assert_eq!(cut("Utqiaġvik", 7), "Utqiaġ…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
    }
}
