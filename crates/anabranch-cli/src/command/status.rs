//! `ana status`: what a store holds.

use std::path::{Path, PathBuf};

use anabranch::{Branch, ForkedBranch, Held, Peer, SiteId, Status, Store, Sync, VersionVector};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::literal::hex;
use crate::output::{Sheet, bytes, count, grouped, plain};
use crate::people::short;
use crate::terminal::Style;
use crate::{open, time};

const AFTER_HELP: &str = "\
Example:
  ana status notes.db
  ana status notes.db --json
  ana status notes.db --forget wss://relay.exmaple/sync/notes

Copies that hold the same rows show the same six words, whoever merged what.
A peer is what `ana sync` synced with: what it lacks of what is here, and how
the last sync ended. What is on no other disk yet is lost with this one.
The version vector says how many changes of each site this copy holds: give it
to `ana export --since`.
Of a site under whose name several copies wrote (a file that was copied, an old
backup that was written on) each history has a name of its own, and the vector
says what it forked from. Nothing of it is lost.
A change that a rule of this copy refuses is held and not shown, and goes on to
others: SELECT * FROM ana_quarantine lists why, SELECT ana_retry() tries again.";

/// Fewer rows say nothing about what a row costs: our tables take some pages from the start.
const MIN_ROWS: u64 = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The database
    db: PathBuf,
    /// Forget this peer first: mistyped, or gone for good
    #[arg(long, value_name = "PEER")]
    forget: Option<String>,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<Exit> {
    let store = match &args.forget {
        None => open::readable(&args.db)?,
        Some(peer) => forget(&args.db, peer)?,
    };
    let status = store.status()?;
    if console.is_json() {
        console.json(&as_json(&status))?;
    } else {
        print(&store, &status, console)?;
    }
    Ok(Exit::Ok)
}

/// Forgets a peer: as it is shown, or as it was typed.
fn forget(db: &Path, peer: &str) -> Result<Store> {
    let store = open::writable(db)?;
    let known = store.peers()?.into_iter().map(|peer| peer.url);
    let typed = Sync::to(peer).map(|sync| sync.peer()).unwrap_or_default();
    let is_it = |url: &String| *url == peer || *url == typed;
    let Some(url) = known.into_iter().find(is_it) else {
        return Err(Failure::new(Exit::No, format!("{} knows no peer {peer}", db.display()))
            .hint("`ana status` lists those it knows"));
    };
    store.forget_peer(&url)?;
    Ok(store)
}

fn print(store: &Store, status: &Status, console: &mut Console) -> Result<()> {
    let words = console.paint(Style::Good, &status.words);
    let n_rows: u64 = status.tables.iter().map(|(_, rows)| rows).sum();
    let per_row = match n_rows {
        0..MIN_ROWS => String::new(),
        rows => format!(" ({:.1} B a row)", status.metadata_bytes as f64 / rows as f64),
    };
    console.line(format!("digest      {words}"))?;
    console.line(format!("site        {}", status.site))?;
    console.line(format!("db_version  {}", status.db_version))?;
    console.line(format!("file        {}", bytes(status.file_bytes)))?;
    console.line(format!("metadata    {}{per_row}", bytes(status.metadata_bytes)))?;
    let unsynced = match status.unsynced {
        0 => "nothing".to_string(),
        n => console.paint(Style::Bad, &count(n, "change")),
    };
    console.line(format!("on no other disk yet  {unsynced}"))?;
    match &status.compaction {
        Some(compaction) if compaction.bytes > 0 => {
            let n_bytes = bytes(compaction.bytes);
            console
                .line(format!("past, and on all peers  {n_bytes} (`ana compact` frees them)"))?;
        }
        _ => {}
    }
    if !status.floor.is_empty() {
        let n_changes: u64 = status.floor.iter().map(|(_, held)| held.version).sum();
        console.line(format!("forgotten below         {}", count(n_changes, "change")))?;
    }
    if let Some(reason) = &status.quarantine_reason {
        let held = console.paint(Style::Bad, &count(status.quarantined, "change"));
        console.line(format!("held, not shown       {held}: {}", plain(reason)))?;
    }
    if !status.tables.is_empty() {
        let mut sheet = Sheet::new(&["table", ">rows"]);
        for (table, rows) in &status.tables {
            sheet.row([table.clone(), grouped(*rows)]);
        }
        console.line("")?;
        console.sheet(&sheet)?;
    }
    print_peers(store, status, console)?;
    if !status.vector.is_empty() {
        let mut sheet = Sheet::new(&["site", ">version", "chain", ""]);
        for (site, held) in status.vector.iter() {
            let mut mark = if site == status.site { "this copy" } else { "" }.to_string();
            if let Some(Branch { root, base, .. }) = status.vector.branch(site) {
                let space = if mark.is_empty() { "" } else { ", " };
                mark += &format!("{space}forked from {} after {}", short(root), grouped(base));
            }
            let (version, chain) = (grouped(held.version), held.chain.to_string());
            sheet.row([site.to_string(), version, chain[..8].to_string(), mark]);
        }
        console.line("")?;
        console.sheet(&sheet)?;
    }
    Ok(())
}

/// Each peer, how much of what is here it has, and how the last sync ended.
fn print_peers(store: &Store, status: &Status, console: &mut Console) -> Result<()> {
    if status.peers.is_empty() {
        return Ok(());
    }
    let mut sheet = Sheet::new(&["peer", ">lacks", "answered", "last error"]);
    for peer in &status.peers {
        let lacks = match lacks(status, peer) {
            0 => "nothing".to_string(),
            n => count(n, "change"),
        };
        let seen = peer.seen_ms.map_or(Ok("never".to_string()), |ms| time::local(store, ms))?;
        sheet.row([peer.url.clone(), lacks, seen, peer.error.clone().unwrap_or_default()]);
    }
    console.line("")?;
    console.sheet(&sheet)
}

/// How many changes are here and, as far as is known, not there.
fn lacks(status: &Status, peer: &Peer) -> u64 {
    let missing =
        |(site, held): (SiteId, Held)| held.version.saturating_sub(peer.held.version(site));
    status.vector.iter().map(missing).sum()
}

fn peer_json(status: &Status, peer: &Peer) -> Value {
    json!({
        "url": peer.url,
        "role": peer.role.name(),
        "site": peer.site.map(|site| hex(site.as_bytes())),
        "held": vector_json(&peer.held),
        "lacks": lacks(status, peer),
        "seen_ms": peer.seen_ms,
        "error": peer.error,
        "error_ms": peer.error_ms,
    })
}

fn as_json(status: &Status) -> Value {
    let peers: Vec<_> = status.peers.iter().map(|peer| peer_json(status, peer)).collect();
    let tables: Vec<_> =
        status.tables.iter().map(|(name, rows)| json!({ "name": name, "rows": rows })).collect();
    json!({
        "site": hex(status.site.as_bytes()),
        "db_version": status.db_version,
        "vector": vector_json(&status.vector),
        "forked": forked_json(&ForkedBranch::new_in(&status.vector, &VersionVector::new())),
        "digest": hex(&status.digest),
        "words": status.words,
        "tables": tables,
        "unsynced": status.unsynced,
        "quarantined": status.quarantined,
        "quarantine_reason": status.quarantine_reason,
        "floor": vector_json(&status.floor),
        "forgettable_bytes": status.compaction.as_ref().map(|compaction| compaction.bytes),
        "peers": peers,
        "file_bytes": status.file_bytes,
        "metadata_bytes": status.metadata_bytes,
    })
}

/// Histories that had forked, as JSON.
pub(super) fn forked_json(branches: &[ForkedBranch]) -> Value {
    let branch = |branch: &ForkedBranch| {
        let (site, root) = (hex(branch.site.as_bytes()), hex(branch.root.as_bytes()));
        json!({ "site": site, "root": root, "base": branch.base })
    };
    branches.iter().map(branch).collect()
}

/// The vector as `ana_version_vector()` writes it.
pub(super) fn vector_json(vector: &VersionVector) -> Value {
    serde_json::from_str(&vector.to_json()).expect("a version vector writes valid JSON")
}
