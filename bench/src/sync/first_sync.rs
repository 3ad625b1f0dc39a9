//! A first sync: many changes through the relay to a fresh copy, against a local merge.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anabranch::Store;
use anyhow::{Context, Result, ensure};

use super::options::Options;
use super::relay::Relay;
use super::usage::{Process, mib};
use crate::measure::median;
use crate::report::{Table, verdict_rate};

/// Committed transactions, of one row each.
const CHANGES: usize = 1_000_000;
/// Share of a local merge's rate.
const BAR: f64 = 0.5;
/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What a program took.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
    peak_bytes: u64,
}

/// One way to move all changes.
struct Way {
    name: &'static str,
    took: Vec<Took>,
    relay_cpu: Vec<f64>,
    relay_peak_bytes: u64,
}

/// All changes to a fresh copy.
///
/// # Errors
/// What `ana` says, and copies that differ at the end.
pub fn first_sync(options: &Options) -> Result<String> {
    let n = options.size(CHANGES, 500);
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source.db");
    make_source(&source, n)?;
    let mut ways = ["local `ana merge`", "`ana sync` to the relay", "`ana sync` to a fresh copy"]
        .map(|name| Way { name, took: Vec::new(), relay_cpu: Vec::new(), relay_peak_bytes: 0 });
    for run in 0..options.runs.min(3) {
        let path = |name: &str| folder.path().join(format!("{name}-{run}.db"));
        let [a, b, c] = [path("a"), path("b"), path("c")];
        std::fs::copy(&source, &a)?;
        make_empty(&b)?;
        ways[0].took.push(ana(options, &["merge".as_ref(), a.as_os_str(), b.as_os_str()], "")?);
        drop((std::fs::remove_file(&a), std::fs::remove_file(&b)));

        let relay = Relay::start(&options.ana)?;
        let url = relay.url("notes");
        std::fs::copy(&source, &a)?;
        make_empty(&c)?;
        for (way, db) in ways[1..].iter_mut().zip([&a, &c]) {
            let before = relay.process().cpu()?;
            relay.process().forget_peak()?;
            let words = ["sync".as_ref(), db.as_os_str(), url.as_ref()];
            way.took.push(ana(options, &words, relay.token())?);
            let cpu = relay.process().cpu()?.saturating_sub(before);
            way.relay_cpu.push(cpu.as_secs_f64());
            way.relay_peak_bytes = way.relay_peak_bytes.max(relay.process().peak_bytes()?);
        }
        must_be_equal(&a, &c)?;
        drop((std::fs::remove_file(&a), std::fs::remove_file(&c)));
    }
    Ok(report(n, &ways))
}

fn report(n: usize, ways: &[Way; 3]) -> String {
    let columns =
        ["", "changes/s", "CPU s", "peak memory", "relay: CPU s", "relay: peak", "bar", ""];
    let mut table = Table::new(&columns);
    let rate = |way: &Way| n as f64 / median(&way.took, |took| took.wall);
    for (at, way) in ways.iter().enumerate() {
        let peak = way.took.iter().map(|took| took.peak_bytes).max().unwrap_or(0);
        let (relay_cpu, relay_peak) = match at {
            0 => (String::new(), String::new()),
            _ => {
                let cpu = median(&way.relay_cpu, |cpu| *cpu);
                (format!("{cpu:.2}"), mib(way.relay_peak_bytes))
            }
        };
        let (bar, verdict) = match at {
            2 => {
                let ratio = rate(way) / rate(&ways[0]);
                (
                    format!("{BAR} x the merge"),
                    format!("{ratio:.2} x: {}", verdict_rate(ratio, BAR)),
                )
            }
            _ => (String::new(), String::new()),
        };
        table.row(vec![
            way.name.into(),
            format!("{:.0}", rate(way)),
            format!("{:.2}", median(&way.took, |took| took.cpu)),
            mib(peak),
            relay_cpu,
            relay_peak,
            bar,
            verdict,
        ]);
    }
    format!("## First sync\n\n{n} changes, a transaction of one row each.\n\n{table}\n")
}

const TABLE: &str = "CREATE TABLE note(id INTEGER PRIMARY KEY NOT NULL, body TEXT, place INTEGER)";

fn make_empty(path: &Path) -> Result<Store> {
    let store = Store::open(path)?;
    store.sql().execute_batch(TABLE)?;
    store.make_conflict_free("note")?;
    Ok(store)
}

fn make_source(path: &Path, n: usize) -> Result<()> {
    let store = make_empty(path)?;
    let db = store.sql();
    // Nothing is measured yet, and a source that is lost is made again.
    db.pragma_update(None, "synchronous", "off")?;
    let mut insert = db.prepare("INSERT INTO note VALUES(?1, ?2, ?3)")?;
    for n in 1..=n as i64 {
        insert.execute((n, format!("note {n:08}"), n % 100))?;
    }
    Ok(())
}

fn must_be_equal(a: &Path, b: &Path) -> Result<()> {
    let digests = [a, b].map(|path| anyhow::Ok(Store::open(path)?.digest()?));
    let [a, b] = digests;
    ensure!(a? == b?, "the copies differ after a sync");
    Ok(())
}

/// Runs `ana` to its end.
fn ana(options: &Options, words: &[&std::ffi::OsStr], token: &str) -> Result<Took> {
    let start = Instant::now();
    let mut command = Command::new(&options.ana);
    command.arg("--json").args(words).env("ANABRANCH_TOKEN", token).stdout(Stdio::null());
    let mut child = command.spawn().context("cannot start ana")?;
    let process = Process(child.id());
    let (mut cpu, mut peak_bytes) = (0.0, 0);
    let status = loop {
        // Between its end and our looking there is nothing to be read any more.
        peak_bytes = process.peak_bytes().unwrap_or(peak_bytes);
        cpu = process.cpu().map_or(cpu, |cpu| cpu.as_secs_f64());
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    ensure!(status.success(), "ana {words:?}: {status}");
    Ok(Took { wall: start.elapsed().as_secs_f64(), cpu, peak_bytes })
}
