//! Many stores, few of them active: whose memory a relay keeps.

use std::time::Instant;

use anyhow::Result;
use futures_util::future::try_join_all;

use super::http::Http;
use super::options::Options;
use super::peer::{Peer, on_one_thread};
use super::relay::Relay;
use super::usage::mib;
use super::writer::Writer;
use crate::report::Table;

/// Stores on disk.
const STORES: usize = 100_000;
/// Stores with a connection that writes.
const ACTIVE: usize = 100;
/// Changes that each active store takes.
const CHANGES: usize = 10;
/// Connections that fill the relay.
const FILLERS: usize = 128;

/// Memory of a relay with many stores.
///
/// # Errors
/// The relay's.
pub fn stores(options: &Options) -> Result<String> {
    let n = options.size(STORES, 300);
    let n_active = options.size(ACTIVE, 10);
    let mut few = Relay::start(&options.ana)?;
    on_one_thread(fill(&few, n_active))?;
    few.restart()?;
    let few_bytes = on_one_thread(active(&few, n_active))?;
    drop(few);

    let mut many = Relay::start(&options.ana)?;
    let start = Instant::now();
    on_one_thread(fill(&many, n))?;
    let per_second = n as f64 / start.elapsed().as_secs_f64();
    let filled_bytes = many.process().resident_bytes()?;
    many.restart()?;
    let started_bytes = many.process().resident_bytes()?;
    let many_bytes = on_one_thread(active(&many, n_active))?;

    let mut table = Table::new(&["", "relay's memory"]);
    let mut row = |name: String, bytes| table.row(vec![name, mib(bytes)]);
    row(format!("{n_active} stores, all of them active"), few_bytes);
    row(format!("{n} stores, just started"), started_bytes);
    row(format!("{n} stores, {n_active} of them active"), many_bytes);
    row(format!("just after {n} stores were made, {per_second:.0} a second"), filled_bytes);
    let more = many_bytes as f64 / few_bytes as f64;
    let verdict = if more <= BAR { "reached" } else { "missed" };
    Ok(format!(
        "## Many stores\n\n{table}\nWith {n} stores {more:.2} x the memory of {n_active} (bar: it \
         follows the active ones; taken as at most {BAR} x): {verdict}.\n\n"
    ))
}

/// How much more memory a thousand times as many stores may take.
const BAR: f64 = 1.25;

/// Makes stores of one change each.
async fn fill(relay: &Relay, n: usize) -> Result<()> {
    let fillers = (0..FILLERS).map(|filler| async move {
        let mut http = Http::connect(relay).await?;
        for number in (filler..n).step_by(FILLERS) {
            let changes = Writer::new(number as u64).write(1)?;
            http.import(&format!("store-{number}"), changes[0].part.part()).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(fillers).await?;
    Ok(())
}

/// Connects to stores and writes to each; the relay's memory then.
async fn active(relay: &Relay, n: usize) -> Result<u64> {
    let peers = (0..n).map(|number| async move {
        // Another site than the one that made the store.
        let mut writer = Writer::new((STORES + number) as u64);
        let mut peer = Peer::connect(relay, &format!("store-{number}"), writer.site).await?;
        for change in writer.write(CHANGES)? {
            peer.commit(change);
            peer.send().await?;
            while peer.n_open() > 0 {
                peer.receive().await?;
            }
        }
        anyhow::Ok(peer)
    });
    let peers = try_join_all(peers).await?;
    let bytes = relay.process().resident_bytes()?;
    drop(peers);
    Ok(bytes)
}
