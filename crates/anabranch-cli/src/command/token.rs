//! `ana token`: a token for somebody, made with a relay's own key.

use std::path::PathBuf;

use anabranch_relay::{DEFAULT_DATA, KeyError, TokenOrder, TokenOrderError, make_token};
use serde_json::json;

use super::serve::told;
use crate::console::Console;
use crate::failure::{Exit, Failure, Result};

const AFTER_HELP: &str = "\
Examples:
  ana token --subject ann --store notes --scope write
  ana token --subject bot --store 'team-*' --scope read --expires 1h
  ANABRANCH_TOKEN=$(ana token --subject ann --store notes --scope write) \\
    ana sync my.db ws://127.0.0.1:7440/sync/notes

Run it where the relay keeps its data; the relay may be running. write lets
read and show presence too; admin lets everything. --json also prints the
token's id, by which POST /api/revoke takes it back.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// For whom: a name, an address
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// For which store; may be given again; * at the end is a pattern
    #[arg(long = "store", value_name = "STORE", required = true)]
    stores: Vec<String>,
    /// What it allows: read, write, presence, admin; may be given again
    #[arg(long, value_name = "WORD", default_values_t = ["write".to_string()])]
    scope: Vec<String>,
    /// How long it lives: 90s, 30m, 12h, 30d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = seconds)]
    expires: u64,
    /// The relay's data directory
    #[arg(long, value_name = "DIR", env = "ANABRANCH_DATA", default_value = DEFAULT_DATA)]
    data: PathBuf,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let order = TokenOrder {
        subject: args.subject.clone(),
        stores: args.stores.clone(),
        scope: args.scope.clone(),
        life_s: args.expires,
    };
    let made = make_token(&args.data, &order).map_err(failure)?;
    if console.is_json() {
        console.json(&json!({ "token": made.token, "id": made.id, "expires": made.expires_s }))?;
    } else {
        console.line(made.token)?;
    }
    Ok(Exit::Ok)
}

/// Reads a number with a unit.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "a number and a unit: 90s, 30m, 12h, 30d".to_string();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

fn failure(error: TokenOrderError) -> Failure {
    let (exit, hint) = match &error {
        TokenOrderError::Value { .. } => (Exit::Usage, "`ana token --help` shows an example"),
        TokenOrderError::NoRelay { .. } => (
            Exit::Io,
            "--data names the directory that `ana serve` uses; its first start makes a key",
        ),
        TokenOrderError::Key(KeyError::Io { .. }) => {
            (Exit::Io, "run it as who runs the relay: only they may read its key")
        }
        _ => (Exit::Refused, "the file is no key that `ana serve` made"),
    };
    Failure::new(exit, told(&error)).hint(hint)
}
