//! Options of the command line, and the sizes that follow from them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask bench sync [--quick] [--runs N] [--part NAME] [--write FILE]

  --quick             sizes that take seconds, one run: does it work at all
  --runs N            runs of what is short; medians are shown (default 5)
  --part NAME         only appends, first-sync, delivery, idle or stores; may be given again
  --write FILE        writes the report there too
  --ana FILE          the program `ana` (default: beside this one)
  --node-modules DIR  where the npm packages are; without it Hocuspocus is not measured
";

const PARTS: [&str; 5] = ["appends", "first-sync", "delivery", "idle", "stores"];

/// What was asked.
pub struct Options {
    /// Runs of what is short.
    pub runs: usize,
    /// Sizes that take seconds.
    pub is_quick: bool,
    /// The only parts wanted; none: all.
    pub parts: Vec<String>,
    /// Where the report goes too.
    pub write: Option<PathBuf>,
    /// The program that serves.
    pub ana: PathBuf,
    /// Where `@hocuspocus/server` and the like are.
    pub node_modules: Option<PathBuf>,
}

impl Options {
    /// Whether a part of the report is wanted.
    pub fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// A size: the full one, or one that takes seconds.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.is_quick { quick } else { full }
    }
}

/// Reads the command line; `--help` ends the program.
///
/// # Errors
/// An unknown option, or one without its value; no `ana` beside this program.
pub fn options() -> Result<Options> {
    let name = format!("ana{}", std::env::consts::EXE_SUFFIX);
    let mut options = Options {
        runs: 5,
        is_quick: false,
        parts: Vec::new(),
        write: None,
        ana: std::env::current_exe()?.with_file_name(name),
        node_modules: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--runs" => options.runs = value()?.parse().context("--runs needs a number")?,
            "--quick" => (options.is_quick, options.runs) = (true, 1),
            "--part" => options.parts.push(value()?),
            "--write" => options.write = Some(value()?.into()),
            "--ana" => options.ana = value()?.into(),
            "--node-modules" => options.node_modules = Some(Path::new(&value()?).canonicalize()?),
            "--help" => {
                print!("{HELP}");
                std::process::exit(0);
            }
            other => bail!("no option `{other}`\n\n{HELP}"),
        }
    }
    if let Some(part) = options.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("no part `{part}`: {}", PARTS.join(", "));
    }
    if options.runs == 0 {
        bail!("--runs needs at least 1");
    }
    if !options.ana.is_file() {
        bail!("{}: no such program; build it, or say --ana", options.ana.display());
    }
    Ok(options)
}
