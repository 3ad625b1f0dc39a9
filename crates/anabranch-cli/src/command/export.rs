//! `ana export`: what a copy holds, or holds above a vector, as a file for others.
//!
//! Invariant: the file appears under its name whole and on disk, or not at all, and never
//! in place of another without `--force`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anabranch::{Store, VersionVector};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result, io_at};
use crate::open;
use crate::output::{bytes, count};
use crate::progress::Progress;

const AFTER_HELP: &str = "\
Examples:
  ana export a.db --output all.delta
  vector=$(ana status b.db --json | jq -c .vector)
  ana export a.db --since \"$vector\" --output for-b.delta
  ana export a.db --since-db b.db --output for-b.delta
  ana export a.db --output - | ssh host ana import b.db -

Without --since the file holds everything. A file for a copy that holds less
than VECTOR is refused there; one that holds more skips what it has.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// The file to write; - is standard output
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Only what a copy with this version vector lacks (JSON, as `ana status --json` has it)
    #[arg(long, value_name = "VECTOR")]
    since: Option<String>,
    /// Only what this other database lacks
    #[arg(long, value_name = "DB", conflicts_with = "since")]
    since_db: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let from = from_vector(args)?;
    let store = open::readable(&args.db)?;
    if args.output.as_os_str() == "-" {
        // Standard output is the delta: what there is to say goes nowhere.
        copy_parts(&store, &from, console.out())?;
        console.finish()?;
        return Ok(Exit::Ok);
    }
    let written = write_file(&store, &from, &args.output, args.force)?;
    let file = args.output.display().to_string();
    if console.is_json() {
        console.json(&json!({ "file": file, "bytes": written.bytes, "parts": written.parts }))?;
    } else {
        let parts = count(written.parts, "part");
        console.line(format!("{file}: {} in {parts}", bytes(written.bytes)))?;
    }
    Ok(Exit::Ok)
}

fn from_vector(args: &Args) -> Result<VersionVector> {
    if let Some(db) = &args.since_db {
        return Ok(open::readable(db)?.version_vector()?);
    }
    let Some(text) = &args.since else { return Ok(VersionVector::new()) };
    VersionVector::from_json(text.trim()).map_err(|error| {
        Failure::new(Exit::Usage, format!("--since: {error}")).hint(
            "it looks like {\"site in hex\":[version,\"chain in hex\"]}: `ana status DB --json`",
        )
    })
}

#[derive(Default)]
struct Written {
    bytes: u64,
    parts: u64,
}

/// Writes all parts one behind the other, never holding more than one.
fn copy_parts(store: &Store, from: &VersionVector, out: &mut dyn Write) -> Result<Written> {
    let mut progress = Progress::new("reading");
    let mut statement = store.sql().prepare("SELECT bytes FROM ana_parts(?1) ORDER BY part")?;
    let mut rows = statement.query([from.to_json()])?;
    let mut written = Written::default();
    while let Some(row) = rows.next()? {
        let part = row.get_ref(0)?.as_blob().unwrap_or_default();
        out.write_all(part)?;
        written.bytes += part.len() as u64;
        written.parts += 1;
        progress.advance("written", part.len() as u64);
    }
    progress.done();
    Ok(written)
}

fn write_file(
    store: &Store,
    from: &VersionVector,
    path: &Path,
    is_forced: bool,
) -> Result<Written> {
    let at = |error| io_at(path.display(), error);
    if path.is_dir() {
        return Err(Failure::new(Exit::Io, format!("{} is a folder", path.display()))
            .hint("name a file in it"));
    }
    if !is_forced && path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = temporary(folder).map_err(|error| io_at(folder.display(), error))?;
    let written = copy_parts(store, from, &mut file).map_err(|failure| match failure.exit() {
        Exit::Io => failure.at(path.display()),
        _ => failure,
    })?;
    file.as_file().sync_all().map_err(at)?;
    let kept = if is_forced { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => io_at(path.display(), error.error),
    })?;
    // The name is on disk once the folder is.
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at)?;
    Ok(written)
}

/// A file beside the one to be, readable as a file made by hand would be.
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ana-export-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Less what the umask takes away.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Io, format!("{} exists already", path.display()))
        .hint("--force replaces it; or choose another name")
}
