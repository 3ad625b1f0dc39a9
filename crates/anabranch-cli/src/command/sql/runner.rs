//! Runs statements one by one and shows what each answered.

use anabranch::rusqlite::{self, Connection, Statement};

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, count, sink};
use crate::script;

/// Statements that change rows: the only ones after which SQLite's count of them is new.
const ROW_VERBS: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"];

/// A connection and how to show what it answers.
pub(super) struct Runner<'c> {
    pub(super) connection: &'c Connection,
    pub(super) format: Format,
    /// Given to each change of this run.
    message: Option<String>,
    /// Statements done without error so far.
    n_done: u64,
    /// Whether a person sees each statement's error as it comes.
    pub(super) is_typed: bool,
}

impl<'c> Runner<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        format: Format,
        message: Option<String>,
    ) -> Runner<'c> {
        Runner { connection, format, message, n_done: 0, is_typed: false }
    }

    /// Runs every statement of a text, the last with or without its semicolon.
    pub(super) fn run_all(&mut self, text: &str, console: &mut Console) -> Result<()> {
        let script = script::split(text);
        let rest = Some(script.rest).filter(|rest| !rest.is_empty());
        script.statements.into_iter().chain(rest).try_for_each(|sql| self.run_one(sql, console))
    }

    /// Runs the complete statements of a text; what is left.
    pub(super) fn run_complete(&mut self, text: &str, console: &mut Console) -> Result<String> {
        let script = script::split(text);
        script.statements.into_iter().try_for_each(|sql| self.run_one(sql, console))?;
        Ok(script.rest.to_string())
    }

    /// Runs one statement and shows its rows or the number of rows it changed.
    fn run_one(&mut self, sql: &str, console: &mut Console) -> Result<()> {
        self.try_one(sql, console).map_err(|failure| self.placed(failure, sql))?;
        self.n_done += 1;
        Ok(())
    }

    fn try_one(&self, sql: &str, console: &mut Console) -> Result<()> {
        let verb = script::verb(sql);
        let is_change = ROW_VERBS.contains(&verb.as_str());
        if let Some(message) = self.message.as_ref().filter(|_| is_change || verb == "SELECT") {
            return self.with_message(message, sql, is_change, console);
        }
        self.show(sql, is_change, console)
    }

    /// A message belongs to a transaction: a statement outside one gets its own.
    fn with_message(
        &self,
        message: &str,
        sql: &str,
        is_change: bool,
        console: &mut Console,
    ) -> Result<()> {
        let is_alone = self.connection.is_autocommit();
        if is_alone {
            self.connection.execute_batch("BEGIN")?;
        }
        let outcome = self
            .connection
            .query_row("SELECT ana_message(?1)", [message], |_| Ok(()))
            .map_err(Failure::from)
            .and_then(|()| self.show(sql, is_change, console));
        if is_alone && !self.connection.is_autocommit() {
            let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
            self.connection.execute_batch(end)?;
        }
        outcome
    }

    fn show(&self, sql: &str, is_change: bool, console: &mut Console) -> Result<()> {
        let mut statement = self.connection.prepare(sql)?;
        let is_change = is_change && !statement.readonly();
        if statement.column_count() > 0 {
            self.show_rows(&mut statement, console)?;
        } else {
            statement.raw_execute()?;
            drop(statement);
            let n_changed = if is_change { self.connection.changes() } else { 0 };
            if self.format == Format::Json {
                console.line(format!("{{\"changed\":{n_changed}}}"))?;
                return Ok(());
            }
        }
        if is_change && self.format == Format::Table {
            console.line(count(self.connection.changes(), "row") + " changed")?;
        }
        Ok(())
    }

    fn show_rows(&self, statement: &mut Statement<'_>, console: &mut Console) -> Result<()> {
        let names: Vec<String> = statement.column_names().map(str::to_string).collect();
        let n_columns = names.len();
        let terminal = console.terminal();
        let mut sink = sink(self.format, names, terminal, console.out())?;
        let mut rows = statement.raw_query();
        // Rows that came before an error are shown before the error is.
        let outcome = loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values: rusqlite::Result<Vec<_>> =
                        (0..n_columns).map(|i| row.get_ref(i)).collect();
                    sink.row(&values?)?;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        sink.finish()?;
        outcome
    }

    /// Says which statement failed, if there is more than one, and what stands.
    fn placed(&self, failure: Failure, sql: &str) -> Failure {
        if self.n_done == 0 || self.is_typed {
            return failure;
        }
        let stands = if self.connection.is_autocommit() {
            format!("{} before it stand", count(self.n_done, "statement"))
        } else {
            "the open transaction is rolled back".to_string()
        };
        let start: String = sql.chars().take(30).collect();
        let dots = if start.len() < sql.len() { "…" } else { "" };
        failure.at(format!("statement {} ({start}{dots}; {stands})", self.n_done + 1))
    }

    /// Ends the run: what is not committed is rolled back, and that is an error.
    pub(super) fn end(&self, console: &mut Console) -> Result<()> {
        console.finish()?;
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK")?;
        Err(Failure::new(Exit::Refused, "the transaction was not committed and is rolled back")
            .hint("end it with COMMIT"))
    }
}
