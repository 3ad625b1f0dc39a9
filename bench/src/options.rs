//! Options of the command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::side::{KeyKind, Side};
use crate::workload::fresh;

const HELP: &str = "\
cargo xtask bench tables [--runs N] [--quick] [--against EXTENSION] [--write FILE]

  --runs N       runs of each workload, alternating between the sides (default 5)
  --quick        1 run, integer keys unless --key says so, no million-row part
  --key KIND     only keys of this kind: integer, text or uuid
  --against P    also measures the extension at P (the same SQL, entry sqlite3_crsqlite_init)
  --only TEXT    only work whose name holds TEXT; local work, unless --part doors
  --part NAME    only this part: local, doors, delta, sizes, folding or seeks
  --write FILE   writes the report there too
";

/// What was asked.
#[derive(Default)]
pub struct Options {
    /// Runs of each workload.
    pub runs: usize,
    /// One run, integer keys, nothing that takes minutes.
    pub is_quick: bool,
    /// The only kind of key wanted.
    pub key: Option<KeyKind>,
    /// Another extension to measure.
    pub against: Option<PathBuf>,
    /// Part of the names of wanted workloads.
    pub only: Option<String>,
    /// The only part wanted.
    pub part: Option<String>,
    /// Where the report goes too.
    pub write: Option<PathBuf>,
}

/// The parts of the report.
const PARTS: [&str; 6] = ["local", "doors", "delta", "sizes", "folding", "seeks"];

impl Options {
    /// Finds out before anything is measured whether all of it can be.
    ///
    /// # Errors
    /// No such part, or an extension that cannot be loaded or does not know the SQL.
    pub fn check(&self) -> Result<()> {
        if let Some(part) = self.part.as_ref().filter(|part| !PARTS.contains(&part.as_str())) {
            bail!("no part `{part}`: {}", PARTS.join(", "));
        }
        if let Some(path) = &self.against {
            let side = Side::Extension(path.clone());
            fresh(&side, KeyKind::Integer)
                .with_context(|| format!("--against {}", path.display()))?;
        }
        Ok(())
    }
}

/// Reads the command line; `--help` ends the program.
///
/// # Errors
/// An unknown option, or one without its value.
pub fn options() -> Result<Options> {
    let mut options = Options { runs: 5, ..Options::default() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--runs" => options.runs = value()?.parse().context("--runs needs a number")?,
            "--quick" => (options.is_quick, options.runs) = (true, 1),
            "--against" => options.against = Some(value()?.into()),
            "--key" => options.key = Some(key_named(&value()?)?),
            "--part" => options.part = Some(value()?),
            "--only" => options.only = Some(value()?),
            "--write" => options.write = Some(value()?.into()),
            "--help" => {
                print!("{HELP}");
                std::process::exit(0);
            }
            other => bail!("no option `{other}`\n\n{HELP}"),
        }
    }
    Ok(options)
}

const ALL_KEYS: [KeyKind; 3] = [KeyKind::Integer, KeyKind::Text, KeyKind::Uuid];

fn key_named(name: &str) -> Result<KeyKind> {
    let key = ALL_KEYS.into_iter().find(|key| format!("{key:?}").to_lowercase() == name);
    key.with_context(|| format!("no kind of key `{name}`: integer, text or uuid"))
}

/// Whether a workload of this name was asked for.
pub fn wanted(options: &Options, name: &str) -> bool {
    options.only.as_ref().is_none_or(|text| name.contains(text.as_str()))
}

/// The sides to compare; plain SQLite is first, a bare trigger second, ours third.
pub fn sides(options: &Options) -> Vec<Side> {
    let mut sides = vec![Side::Plain, Side::Trigger, Side::Ours];
    sides.extend(options.against.clone().map(Side::Extension));
    sides
}

/// The kinds of keys to measure.
pub fn keys(options: &Options) -> Vec<KeyKind> {
    match options.key {
        Some(key) => vec![key],
        None if options.is_quick => vec![KeyKind::Integer],
        None => ALL_KEYS.into(),
    }
}
