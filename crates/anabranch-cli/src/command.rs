//! The commands, one file each.

mod blob;
mod changes;
mod check;
mod compact;
mod crr;
mod diverge;
mod export;
mod import;
mod init;
mod log;
mod merge;
mod receipts;
mod repair;
mod serve;
mod sql;
mod status;
mod sync;
mod token;
mod r#try;

use clap::Subcommand;

use crate::console::Console;
use crate::failure::{Exit, Result};

/// What `ana` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show in a minute what merging is: two people, one data set, offline and live
    Try(r#try::Args),
    /// Make a store: a new database, or our tables in one that exists
    Init(init::Args),
    /// Run SQL, or talk to a database
    Sql(sql::Args),
    /// Make tables conflict-free, so that all copies may edit them
    Crr(crr::Args),
    /// Merge two databases, both ways
    Merge(merge::Args),
    /// Sync with a relay or a shared folder
    Sync(sync::Args),
    /// Run a relay: a server that keeps changes and forwards them
    Serve(serve::Args),
    /// Make a token that a relay takes
    Token(token::Args),
    /// Say how far each change got: whose disk it is on, who has seen it
    Receipts(receipts::Args),
    /// Find the first cell in which two databases differ, and who wrote it
    Diverge(diverge::Args),
    /// Say what a database holds: tables, versions, digest, size
    Status(status::Args),
    /// Keep bytes by their hash, and get them back
    Blob(blob::Args),
    /// List changes: who wrote when, and why
    Log(log::Args),
    /// List the cells that changed, as crsql_changes has them
    Changes(changes::Args),
    /// Write what another copy lacks to a file
    Export(export::Args),
    /// Take in a file that export wrote
    Import(import::Args),
    /// Forget what is past and all peers have, to free space
    Compact(compact::Args),
    /// Look for anything wrong in a database
    Check(check::Args),
    /// Make good what went wrong outside of a database: a clock that ran ahead
    Repair(repair::Args),
}

impl Command {
    /// Runs the command; the exit status, or why it failed.
    pub(crate) fn run(self, console: &mut Console) -> Result<Exit> {
        match self {
            Command::Try(args) => r#try::run(&args, console),
            Command::Init(args) => init::run(&args, console),
            Command::Sql(args) => sql::run(&args, console),
            Command::Crr(args) => crr::run(&args, console),
            Command::Merge(args) => merge::run(&args, console),
            Command::Sync(args) => sync::run(&args, console),
            Command::Serve(args) => serve::run(&args, console),
            Command::Token(args) => token::run(&args, console),
            Command::Receipts(args) => receipts::run(&args, console),
            Command::Diverge(args) => diverge::run(&args, console),
            Command::Status(args) => status::run(&args, console),
            Command::Blob(args) => blob::run(&args, console),
            Command::Log(args) => log::run(&args, console),
            Command::Changes(args) => changes::run(&args, console),
            Command::Export(args) => export::run(&args, console),
            Command::Import(args) => import::run(&args, console),
            Command::Compact(args) => compact::run(&args, console),
            Command::Repair(args) => repair::run(&args, console),
            Command::Check(args) => check::run(&args, console),
        }
    }
}
