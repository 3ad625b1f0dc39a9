//! Delivery: one writer, many readers of one store; how late, and what it costs the relay.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::options::Options;
use super::peer::{Peer, join_all, on_one_thread};
use super::relay::Relay;
use super::writer::{Change, Writer};
use super::{hocuspocus, usage};
use crate::measure::median;
use crate::report::{Table, verdict, verdict_rate};

/// Readers of the one store.
const READERS: usize = 50;
/// Deliveries a second of the paced load: each change reaches all readers.
const PACE: f64 = 1000.0;
/// Milliseconds that 99 of 100 deliveries may be late at most.
const BAR_MS: f64 = 10.0;
/// Times Hocuspocus's deliveries for a second of the server's processor time.
const BAR_RATIO: f64 = 5.0;

/// One run.
struct Run {
    /// How late each delivery was, ascending, in milliseconds.
    late_ms: Vec<f64>,
    per_second: f64,
    per_cpu_second: f64,
}

impl Run {
    fn late(&self, share: f64) -> f64 {
        self.late_ms[((self.late_ms.len() - 1) as f64 * share) as usize]
    }
}

/// How fast changes reach readers.
///
/// # Errors
/// The relay's.
pub fn delivery(options: &Options) -> Result<String> {
    let n_readers = options.size(READERS, 3);
    let mut paced = Vec::new();
    let mut full = Vec::new();
    for _ in 0..options.runs {
        let relay = Relay::start(&options.ana)?;
        let wait = Duration::from_secs_f64(n_readers as f64 / PACE);
        let n = options.size(150, 5);
        paced.push(on_one_thread(deliver(&relay, "paced", n_readers, n, Some(wait)))?);
        let n = options.size(4000, 20);
        full.push(on_one_thread(deliver(&relay, "full", n_readers, n, None))?);
    }
    let theirs = hocuspocus::measure(options, n_readers)?;
    let mut table = Table::new(&["", "measured", "bar", ""]);
    let p99 = median(&paced, |run| run.late(0.99));
    table.row(vec![
        format!("{PACE:.0} deliveries/s to {READERS} readers, late by"),
        format!(
            "half {:.2} ms, 99 % {p99:.2} ms, all {:.2} ms",
            median(&paced, |run| run.late(0.5)),
            median(&paced, |run| run.late(1.0))
        ),
        format!("99 % {BAR_MS:.0} ms"),
        verdict(p99, BAR_MS),
    ]);
    let ours = median(&full, |run| run.per_cpu_second);
    table.row(vec![
        "as fast as it goes: deliveries/s; for a CPU second of the relay".into(),
        format!("{:.0}; {ours:.0}", median(&full, |run| run.per_second)),
        String::new(),
        String::new(),
    ]);
    table.row(match &theirs {
        Some(theirs) => vec![
            format!("the same of {}", theirs.versions),
            format!("{:.0}; {:.0}", theirs.per_second, theirs.per_cpu_second),
            format!("{BAR_RATIO:.0} x less"),
            format!(
                "{:.1} x: {}",
                ours / theirs.per_cpu_second,
                verdict_rate(ours / theirs.per_cpu_second, BAR_RATIO)
            ),
        ],
        None => vec![
            "the same of Hocuspocus".into(),
            "NOT MEASURED: npm packages missing".into(),
            format!("{BAR_RATIO:.0} x less"),
            "not known".into(),
        ],
    });
    Ok(format!("## Delivery\n\n{table}\n"))
}

async fn deliver(
    relay: &Relay,
    store: &str,
    n_readers: usize,
    n: usize,
    pace: Option<Duration>,
) -> Result<Run> {
    let mut writer = Writer::new(0);
    let changes = writer.write(n)?;
    let site = writer.site;
    let mut sender = Peer::connect(relay, store, site).await?;
    let sent = Rc::new(RefCell::new(Vec::with_capacity(n)));
    let mut readers = Vec::new();
    for number in 1..=n_readers {
        readers.push(Peer::connect(relay, store, Writer::new(number as u64).site).await?);
    }
    let (cpu, start) = (relay.process().cpu()?, Instant::now());
    let tasks = readers.into_iter().map(|mut reader| {
        let sent: Rc<RefCell<Vec<Instant>>> = Rc::clone(&sent);
        tokio::task::spawn_local(async move {
            let mut late_ms = Vec::with_capacity(n);
            while late_ms.len() < n {
                reader.receive().await?;
                for (_, to) in reader.take_came() {
                    // A delta may hold several changes: all of them came.
                    while late_ms.len() < to as usize {
                        late_ms.push(1e3 * sent.borrow()[late_ms.len()].elapsed().as_secs_f64());
                    }
                }
            }
            Ok((late_ms, reader))
        })
    });
    let tasks = tasks.collect();
    send_all(&mut sender, changes, &sent, pace).await?;
    let came = join_all(tasks).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = relay.process().cpu()?.saturating_sub(cpu).as_secs_f64();
    let mut late_ms: Vec<f64> = came.into_iter().flat_map(|(late_ms, _)| late_ms).collect();
    late_ms.sort_by(f64::total_cmp);
    let n = late_ms.len() as f64;
    // A run of a few deliveries costs less than a tick of the clock that counts.
    Ok(Run { late_ms, per_second: n / seconds, per_cpu_second: n / cpu.max(usage::TICK_S) })
}

/// Changes on their way at full speed: what a relay commits at once, and no more than keeps
/// all readers in its memory.
const WINDOW: u64 = 64;

async fn send_all(
    sender: &mut Peer,
    changes: Vec<Change>,
    sent: &RefCell<Vec<Instant>>,
    pace: Option<Duration>,
) -> Result<()> {
    let start = tokio::time::Instant::now();
    for (n, change) in (1..).zip(changes) {
        sent.borrow_mut().push(Instant::now());
        sender.commit(change);
        sender.send().await?;
        match pace {
            None => {
                while sender.n_open() >= WINDOW {
                    sender.receive().await?;
                }
            }
            Some(pace) => {
                let next = tokio::time::sleep_until(start + pace * n);
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        () = &mut next => break,
                        came = sender.wait() => came?,
                    }
                    sender.send().await?;
                }
            }
        }
    }
    while sender.n_open() > 0 {
        sender.receive().await?;
    }
    Ok(())
}
