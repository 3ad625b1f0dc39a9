//! Durable appends: what a relay acknowledges, against one sync of the disk for each change.

use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rusqlite::Connection;

use super::options::Options;
use super::peer::{Peer, join_all, on_one_thread};
use super::relay::Relay;
use super::writer::Writer;
use crate::measure::median;
use crate::report::{Table, verdict_rate};

/// Times the rate of one change and one sync on the same disk.
const BAR: f64 = 20.0;

/// One run: changes a second, and what they cost the relay.
#[derive(Clone, Copy, Default)]
struct Rate {
    per_second: f64,
    relay_cpu_us: f64,
    own_cpu_us: f64,
}

/// What writers in one run do.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    n_writers: usize,
    /// Changes of one delta.
    n_together: usize,
    /// Changes that a writer has on their way at a time.
    window: u64,
    n_each: usize,
}

/// Appends acknowledged, and what the disk does alone.
///
/// # Errors
/// The relay's, the disk's.
pub fn appends(options: &Options) -> Result<String> {
    let n_writers = options.size(64, 4);
    let loads = [
        ("relay, 1 writer, one by one", 1, 1, 1, options.size(300, 5)),
        ("relay, 64 writers, one by one", n_writers, 1, 1, options.size(300, 5)),
        ("relay, 64 writers, 8 on their way", n_writers, 1, 8, options.size(800, 16)),
        ("relay, 64 writers, 16 in a delta", n_writers, 16, 32, options.size(4800, 64)),
    ]
    .map(|(name, n_writers, n_together, window, n_each)| Load {
        name,
        n_writers,
        n_together,
        window,
        n_each,
    });
    let n_probes = options.size(500, 10);
    let (mut files, mut databases) = (Vec::new(), Vec::new());
    let mut rates = vec![Vec::new(); loads.len()];
    for _ in 0..options.runs {
        let relay = Relay::start(&options.ana)?;
        files.push(file_syncs(relay.data(), n_probes)?);
        databases.push(database_commits(relay.data(), n_probes)?);
        for (load, rates) in loads.iter().zip(&mut rates) {
            rates.push(on_one_thread(append(&relay, *load))?);
        }
        files.push(file_syncs(relay.data(), n_probes)?);
    }
    Ok(report(&loads, &files, &databases, &rates))
}

fn report(loads: &[Load], files: &[f64], databases: &[f64], rates: &[Vec<Rate>]) -> String {
    let columns = ["", "changes/s", "x plain file", "x SQLite", "relay CPU each", "bar", ""];
    let mut table = Table::new(&columns);
    let [file, database] = [files, databases].map(|rates| median(rates, |rate| *rate));
    let mut row = |name: &str, rate: Rate, cpu: String, is_barred: bool| {
        let ratio = rate.per_second / file;
        table.row(vec![
            name.into(),
            format!("{:.0}", rate.per_second),
            format!("{ratio:.1}"),
            format!("{:.1}", rate.per_second / database),
            cpu,
            if is_barred { format!("{BAR:.0} x plain file") } else { String::new() },
            if is_barred { verdict_rate(ratio, BAR) } else { String::new() },
        ]);
    };
    let alone = |per_second| Rate { per_second, ..Rate::default() };
    row("plain file: write, fdatasync", alone(file), String::new(), false);
    row("plain SQLite: WAL, synchronous=FULL, one row", alone(database), String::new(), false);
    for (load, rates) in loads.iter().zip(rates) {
        let of = |what: fn(&Rate) -> f64| median(rates, what);
        let cpu = format!(
            "{:.0} us (load generator {:.0} us)",
            of(|rate| rate.relay_cpu_us),
            of(|rate| rate.own_cpu_us)
        );
        row(load.name, alone(of(|rate| rate.per_second)), cpu, load.n_writers > 1);
    }
    format!("## Durable appends\n\n{table}\n")
}

/// Small writes to the end of a file, each synced: how many a second.
fn file_syncs(folder: &Path, n: usize) -> Result<f64> {
    let changes = Writer::new(0).write(n)?;
    let path = folder.join("probe");
    let mut file = std::fs::File::create(&path)?;
    let start = Instant::now();
    for change in &changes {
        file.write_all(change.part.part())?;
        file.sync_data()?;
    }
    let rate = n as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// The same bytes as rows of SQLite, each committed: how many a second.
fn database_commits(folder: &Path, n: usize) -> Result<f64> {
    let changes = Writer::new(0).write(n)?;
    let path = folder.join("probe.db");
    let db = Connection::open(&path)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    db.execute_batch("CREATE TABLE change(id INTEGER PRIMARY KEY, part BLOB)")?;
    let mut insert = db.prepare("INSERT INTO change(part) VALUES(?1)")?;
    let start = Instant::now();
    for change in &changes {
        insert.execute([&change.part.part()[..]])?;
    }
    let rate = n as f64 / start.elapsed().as_secs_f64();
    drop(insert);
    drop(db);
    for suffix in ["", "-wal", "-shm"] {
        // The last connection took the log with it.
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    Ok(rate)
}

thread_local! {
    /// So that no two runs write to one store: a site writes its history once.
    static N_STORES: Cell<u64> = const { Cell::new(0) };
}

async fn append(relay: &Relay, load: Load) -> Result<Rate> {
    let mut writers = Vec::new();
    for _ in 0..load.n_writers {
        let number = N_STORES.replace(N_STORES.get() + 1);
        let mut writer = Writer::new(number);
        let changes = writer.write_together(load.n_each, load.n_together)?;
        let peer = Peer::connect(relay, &format!("append-{number}"), writer.site).await?;
        writers.push((peer, changes));
    }
    let before = (relay.process().cpu()?, super::usage::Process::own().cpu()?);
    let start = Instant::now();
    let tasks = writers.into_iter().map(|(mut peer, changes)| {
        tokio::task::spawn_local(async move {
            for change in changes {
                while peer.n_open() >= load.window {
                    peer.send().await?;
                    peer.receive().await?;
                }
                peer.commit(change);
            }
            peer.send().await?;
            while peer.n_open() > 0 {
                peer.receive().await?;
            }
            Ok(peer)
        })
    });
    let peers = join_all(tasks.collect()).await?;
    let seconds = start.elapsed().as_secs_f64();
    let n = (load.n_writers * load.n_each) as f64;
    let after = (relay.process().cpu()?, super::usage::Process::own().cpu()?);
    drop(peers);
    let each_us = |after: std::time::Duration, before| {
        1e6 * after.checked_sub(before).unwrap_or_default().as_secs_f64() / n
    };
    Ok(Rate {
        per_second: n / seconds,
        relay_cpu_us: each_us(after.0, before.0),
        own_cpu_us: each_us(after.1, before.1),
    })
}
