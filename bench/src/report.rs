//! The report: Markdown tables, so that it can stand in `docs/`.

/// A Markdown table under construction.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: &[&str]) -> Table {
        Table { header: header.iter().map(|cell| (*cell).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        eprintln!("{}", cells.join(" | "));
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "| {} |", self.header.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.header.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

/// Whether a measured ratio keeps its bar, for the last column.
pub fn verdict(measured: f64, bar: f64) -> String {
    if measured <= bar {
        "reached".into()
    } else {
        format!("missed by {:.0} %", 100.0 * (measured / bar - 1.0))
    }
}

/// Whether a measured rate keeps its bar.
pub fn verdict_rate(measured: f64, bar: f64) -> String {
    if measured >= bar {
        "reached".into()
    } else {
        format!("missed by {:.0} %", 100.0 * (1.0 - measured / bar))
    }
}
