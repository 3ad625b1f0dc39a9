//! Connections that wait: what each costs the relay.

use anyhow::Result;

use super::options::Options;
use super::peer::{Peer, on_one_thread};
use super::relay::Relay;
use super::usage::mib;
use super::writer::Writer;
use crate::report::{Table, verdict};

/// Connections that are held.
const CONNECTIONS: usize = 10_000;
/// Connections on one store.
const ON_ONE_STORE: usize = 10;
/// KiB of the relay's memory for a connection, at most.
const BAR_KIB: f64 = 16.0;
/// What the first ones cost stays: threads, caches, the allocator's arenas.
const FIRST: usize = 100;
/// Handshakes at a time: below the queue of connections that wait to be accepted.
const AT_A_TIME: usize = 64;

/// Memory of idle connections.
///
/// # Errors
/// The relay's, or the system's for want of descriptors.
pub fn idle(options: &Options) -> Result<String> {
    let n = options.size(CONNECTIONS, 200);
    let relay = Relay::start(&options.ana)?;
    let (before, after) = on_one_thread(async {
        let first = connect(&relay, 0, FIRST).await?;
        let before = relay.process().resident_bytes()?;
        let all = connect(&relay, FIRST, n).await?;
        let after = relay.process().resident_bytes()?;
        drop((first, all));
        Ok((before, after))
    })?;
    let each_kib = after.saturating_sub(before) as f64 / n as f64 / 1024.0;
    let mut table = Table::new(&["", "measured", "bar", ""]);
    table.row(vec![
        format!("{n} connections held, {ON_ONE_STORE} on a store: relay's memory for each"),
        format!("{each_kib:.1} KiB (from {} to {})", mib(before), mib(after)),
        format!("{BAR_KIB:.0} KiB"),
        verdict(each_kib, BAR_KIB),
    ]);
    Ok(format!("## Idle connections\n\n{table}\n"))
}

/// So many connections more, converged; those before are `first`.
async fn connect(relay: &Relay, first: usize, n: usize) -> Result<Vec<Peer>> {
    let mut all = Vec::with_capacity(n);
    for begin in (first..first + n).step_by(AT_A_TIME) {
        let numbers = begin..(begin + AT_A_TIME).min(first + n);
        let peers = numbers.map(|number| async move {
            let store = format!("idle-{}", number / ON_ONE_STORE);
            Peer::connect(relay, &store, Writer::new(number as u64).site).await
        });
        all.extend(futures_util::future::try_join_all(peers).await?);
    }
    Ok(all)
}
