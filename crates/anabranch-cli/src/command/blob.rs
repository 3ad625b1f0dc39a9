//! `ana blob`: bytes by their hash, put into a database and got out of it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anabranch::rusqlite::OptionalExtension;
use anabranch::{End, Store, Sync};
use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Failure, Result, io_at};
use crate::hint::word;
use crate::literal::{hash_of, hex};
use crate::open;
use crate::output::bytes;

const AFTER_HELP: &str = "\
Examples:
  ana blob put notes.db photo.jpg
  ana blob get notes.db HASH --output photo.jpg
  ana blob get notes.db HASH --from wss://relay.example/sync/notes
  ana sync notes.db dir:/media/stick --blob HASH

A blob is named by the BLAKE3 hash of its bytes, 64 hexadecimal digits, and kept
in the database beside the tables; ana_blob_put(bytes) and ana_blob(hash) in SQL
do the same. Put the hash into a cell. The next sync gives the bytes to a relay;
from there they come where they are asked for.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Keep a file's bytes; prints their hash
    Put {
        /// The database
        db: PathBuf,
        /// The file; - is standard input
        file: PathBuf,
    },
    /// Write out the bytes that have a hash
    Get {
        /// The database
        db: PathBuf,
        /// 64 hexadecimal digits
        hash: String,
        /// The file to write, which must not exist; default: standard output
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Where to bring it from if it is not here, as for `ana sync`
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        /// What the relay wants to see; default: the variable ANABRANCH_TOKEN
        #[arg(long, requires = "from")]
        token: Option<String>,
    },
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    match &args.what {
        What::Put { db, file } => put(db, file, console),
        What::Get { db, hash, output, from, token } => {
            if let Some(url) = from {
                bring(db, hash, url, token.as_deref())?;
            }
            get(db, hash, output.as_deref(), console)
        }
    }
}

fn put(db: &Path, file: &Path, console: &mut Console) -> Result<Exit> {
    let store = open::writable(db)?;
    let mut content = Vec::new();
    let name = file.display().to_string();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut content)?;
    } else {
        let read = File::open(file).and_then(|mut file| file.read_to_end(&mut content));
        read.map_err(|error| io_at(&name, error))?;
    }
    let put = "SELECT ana_blob_put(?1)";
    let hash: Vec<u8> = store.sql().query_row(put, [&content], |row| row.get(0))?;
    if console.is_json() {
        console.json(&json!({ "hash": hex(&hash), "bytes": content.len() }))?;
    } else {
        console.line(hex(&hash))?;
    }
    Ok(Exit::Ok)
}

/// Syncs with a peer that may have the blob, unless it is here.
fn bring(db: &Path, hash: &str, url: &str, token: Option<&str>) -> Result<()> {
    let (store, blob) = (open::writable(db)?, hash_of(hash)?);
    let is_here = "SELECT ana_blob(?1) IS NOT NULL";
    if store.sql().query_row(is_here, [&blob[..]], |row| row.get(0))? {
        return Ok(());
    }
    let sync = Sync::to(url)?.token(super::sync::token(token)).blob(blob);
    match sync.run(&store, &mut |_| ())?.end {
        End::Offline(why) => Err(Failure::new(Exit::Io, format!("offline: {why}"))),
        End::Refused(why) => Err(Failure::new(Exit::Refused, why)),
        // What is missing in the end is said by who looks for it.
        _ => Ok(()),
    }
}

fn get(db: &Path, hash: &str, output: Option<&Path>, console: &mut Console) -> Result<Exit> {
    let store = open::readable(db)?;
    let content = content(&store, hash, db)?;
    let Some(output) = output else {
        // Bytes as they are, also with --json: there is no text in them.
        console.out().write_all(&content)?;
        return Ok(Exit::Ok);
    };
    let name = output.display().to_string();
    let written = File::create_new(output).and_then(|mut file| file.write_all(&content));
    written.map_err(|error| io_at(&name, error))?;
    if console.is_json() {
        console.json(&json!({ "hash": hash, "bytes": content.len(), "file": name }))?;
    } else {
        console.line(format!("{name}: {}", bytes(content.len() as u64)))?;
    }
    Ok(Exit::Ok)
}

fn content(store: &Store, hash: &str, db: &Path) -> Result<Vec<u8>> {
    let bytes = hash_of(hash)?;
    let get = "SELECT ana_blob(?1)";
    let content: Option<Option<Vec<u8>>> =
        store.sql().query_row(get, [&bytes[..]], |row| row.get(0)).optional()?;
    content.flatten().ok_or_else(|| {
        let db = db.display().to_string();
        Failure::new(Exit::No, format!("{db} has no blob {hash}"))
            .hint(format!("`ana blob get {} {hash} --from URL` brings it", word(&db)))
    })
}
