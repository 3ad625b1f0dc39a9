//! How a command fails: what went wrong, what to do next, and the exit status.
//!
//! Every error of the library, of SQLite and of the file system becomes a [`Failure`] in
//! this file and nowhere else.

use std::fmt::Display;
use std::io::{self, Write};

use anabranch::rusqlite::ErrorCode;
use anabranch::{Error, rusqlite};
use serde_json::json;

/// Exit status of `ana`; the numbers are a promise (`ana --help`, docs/cli.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for `sql`: committed.
    Ok = 0,
    /// The question was answered with no: the copies differ, the check found something.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Out of reach: a file is missing, or cannot be read or written; a relay is offline.
    Io = 3,
    /// SQLite, the store or a relay refused: a statement, a delta, a file that is no
    /// database, a token.
    Refused = 4,
    /// Not all of it was done, and running the command again goes on: another program holds
    /// the database; `sync` got part of the way.
    Again = 5,
}

/// An error on its way to the person or program that ran `ana`.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    hint: Option<String>,
    exit: Exit,
    /// The reader of a pipe went away: nobody is left to tell.
    is_quiet: bool,
}

/// What fallible functions of this program return.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// An error with the exit status it ends the program with.
    pub(crate) fn new(exit: Exit, what: impl Display) -> Failure {
        Failure { what: what.to_string(), hint: None, exit, is_quiet: false }
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Display) -> Failure {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds the hint that goes with a message of SQLite or the store, if there is one.
    fn with_known_hint(mut self) -> Failure {
        self.hint = crate::hint::for_message(&self.what, self.exit).map(str::to_string);
        self
    }

    /// Adds the hint that goes with the message, or this one.
    pub(crate) fn known_hint_or(self, hint: impl Display) -> Failure {
        let failure = self.with_known_hint();
        if failure.hint.is_some() { failure } else { failure.hint(hint) }
    }

    /// Puts a place before the message: `place: what`.
    pub(crate) fn at(mut self, place: impl Display) -> Failure {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The status to exit with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints two lines for people, or one JSON object for programs, on standard error.
    pub(crate) fn report(&self, as_json: bool) {
        if self.is_quiet {
            return;
        }
        let text = if as_json {
            json!({ "error": self.what, "hint": self.hint, "exit": self.exit as u8 }).to_string()
        } else {
            let what = crate::output::plain(&self.what);
            let hint = self.hint.as_deref().map(crate::output::plain);
            format!(
                "error: {what}{}",
                hint.map_or(String::new(), |hint| format!("\n  hint: {hint}"))
            )
        };
        // Where nobody listens to errors, the exit status must do.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// An error of the file system, with the path it concerns.
pub(crate) fn io_at(path: impl Display, error: io::Error) -> Failure {
    let failure = Failure::new(Exit::Io, format!("{path}: {}", lower(&error)));
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint("check the spelling of the path"),
        io::ErrorKind::IsADirectory => failure.hint("name a file in it"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure.hint("choose a file or folder that you may write")
        }
        io::ErrorKind::StorageFull => failure.hint("free some space and run the command again"),
        _ => failure,
    }
}

/// The message of an I/O error as our other messages are: without "(os error 2)".
fn lower(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl From<io::Error> for Failure {
    /// Errors of standard output and input; files go through [`io_at`].
    fn from(error: io::Error) -> Failure {
        let is_quiet = error.kind() == io::ErrorKind::BrokenPipe;
        let mut failure = Failure::new(Exit::Io, format!("standard output: {}", lower(&error)));
        failure.is_quiet = is_quiet;
        failure
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        let what = sqlite_message(&error);
        let exit = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Exit::Again,
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied,
            ) => Exit::Io,
            _ => Exit::Refused,
        };
        Failure::new(exit, what).with_known_hint()
    }
}

/// SQLite's words alone: rusqlite adds the statement and offsets.
fn sqlite_message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Sql(error) => error.into(),
            Error::Busy(error) => error.into(),
            Error::Open { source, .. } => source.into(),
            Error::Address(error) => Failure::new(Exit::Usage, error)
                .hint("`ana sync --help` shows what an address looks like"),
            Error::Temporary(what) => Failure::new(Exit::Again, what)
                .hint("TMPDIR names a folder for temporary files with more room"),
            other => Failure::new(Exit::Refused, other).with_known_hint(),
        }
    }
}
