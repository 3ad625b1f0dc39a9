//! kill -9 of a writing process, again and again: what it acknowledged is there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::Value;
use crate::replica::{open, query, scalar};

/// Starts `writer` on one database `n_cycles` times and kills it after some lines and a
/// little more; the number of transactions acknowledged in all.
///
/// # Errors
/// A lost transaction, a finding of `ana_check`, or a writer that will not start.
pub fn run(writer: &Path, folder: &Path, n_cycles: u64, seed: u64) -> Result<u64, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let path = folder.join("killed.db");
    let mut last = 0;
    for cycle in 0..n_cycles {
        let n_lines = rng.random_range(1..12);
        let more = rng.random_range(0..4_000_000);
        let acknowledged = kill_once(writer, &path, seed + cycle, n_lines, more)?;
        let (last_n, digest) = acknowledged.ok_or("the writer said nothing")?;
        last = last_n;
        check(&path, last, &digest)
            .map_err(|what| format!("seed {seed}, cycle {cycle}: {what}"))?;
    }
    Ok(last)
}

/// The last acknowledged number and digest of one writer's life.
fn kill_once(
    writer: &Path,
    path: &Path,
    seed: u64,
    n_lines: usize,
    n_spins: u32,
) -> Result<Option<(u64, String)>, String> {
    let mut child = Command::new(writer)
        .arg(path)
        .arg(seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", writer.display()))?;
    let out = child.stdout.take().ok_or("no pipe")?;
    let mut lines = BufReader::new(out).lines();
    let mut acknowledged = None;
    for line in lines.by_ref().take(n_lines) {
        acknowledged = Some(line.map_err(|error| error.to_string())?);
    }
    // The kill must fall anywhere inside a transaction, not only behind a line.
    (0..n_spins).for_each(|_| std::hint::spin_loop());
    child.kill().map_err(|error| error.to_string())?;
    child.wait().map_err(|error| error.to_string())?;
    for line in lines {
        acknowledged = Some(line.map_err(|error| error.to_string())?);
    }
    let parse = |line: String| {
        let (n, digest) = line.split_once(' ')?;
        // A line that was cut by the kill tells nothing.
        (digest.len() == 64).then_some(())?;
        Some((n.parse().ok()?, digest.to_string()))
    };
    Ok(acknowledged.and_then(parse))
}

fn check(path: &Path, last: u64, digest: &str) -> Result<(), String> {
    let store = open(path)?;
    let db = store.sql();
    let count = scalar(
        db,
        "SELECT count(*) FROM acknowledged WHERE n <= ?1",
        &[Value::Integer(last as i64)],
    )?;
    if count != Value::Integer(last as i64) {
        return Err(format!("{last} transactions were acknowledged, {count:?} are there"));
    }
    let top = scalar(db, "SELECT max(n) FROM acknowledged", &[])?;
    let found = scalar(db, "SELECT hex(ana_digest())", &[])?;
    // One transaction more may have been committed and not acknowledged.
    if top == Value::Integer(last as i64) && found != crate::replica::text(digest) {
        return Err(format!("digest {found:?}, acknowledged {digest}"));
    }
    let findings = query(db, "SELECT * FROM ana_check", &[])?;
    let integrity = scalar(db, "PRAGMA integrity_check", &[])?;
    if !findings.is_empty() || integrity != crate::replica::text("ok") {
        return Err(format!("ana_check: {findings:?}, integrity: {integrity:?}"));
    }
    Ok(())
}
