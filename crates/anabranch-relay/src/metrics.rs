//! What a relay counts, in the text format of Prometheus (version 0.0.4).
//!
//! Names of stores are nowhere in it; subjects only for an admin, for they are people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::MAX_COUNTED_SUBJECTS;
use crate::relay::Relay;
use crate::storage::{Appended, DeltaSize, StorageError};

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Open TCP connections, those that became WebSockets too.
    pub(crate) connections: Gauge,
    /// Open WebSockets.
    pub(crate) sockets: Gauge,
    /// HTTP requests.
    pub(crate) requests: AtomicU64,
    /// Tokens that were refused.
    pub(crate) tokens_refused: AtomicU64,
    parts_sent: AtomicU64,
    part_bytes_sent: AtomicU64,
    deltas_stored: AtomicU64,
    delta_bytes_stored: AtomicU64,
    deltas_covered: AtomicU64,
    deltas_refused: AtomicU64,
    changes: AtomicU64,
    /// Changes by who delivered them.
    by_subject: Mutex<BTreeMap<Arc<str>, u64>>,
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Counts one more until what this gives is dropped.
    pub(crate) fn enter(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    /// How many there are.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(0) as u64
    }
}

/// One that is counted.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// Counts a part of a delta that goes to a reader.
    pub(crate) fn sent(&self, n_bytes: usize) {
        count(&self.parts_sent);
        self.part_bytes_sent.fetch_add(n_bytes as u64, Ordering::Relaxed);
    }

    /// Counts what became of a delta.
    pub(crate) fn appended(
        &self,
        outcome: &Result<Appended, StorageError>,
        subject: &Arc<str>,
        DeltaSize { n_changes, n_bytes }: DeltaSize,
    ) {
        match outcome {
            Ok(Appended::Covered(_)) => count(&self.deltas_covered),
            Err(_) => count(&self.deltas_refused),
            Ok(Appended::Stored(_)) => {
                count(&self.deltas_stored);
                self.delta_bytes_stored.fetch_add(n_bytes, Ordering::Relaxed);
                self.changes.fetch_add(n_changes, Ordering::Relaxed);
                let mut subjects = self.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(n) = subjects.get_mut(subject) {
                    *n += n_changes;
                } else if subjects.len() < MAX_COUNTED_SUBJECTS {
                    subjects.insert(Arc::clone(subject), n_changes);
                }
            }
        }
    }
}

/// Everything, as text; subjects if `for_admin`.
pub(crate) fn text(relay: &Relay, for_admin: bool) -> String {
    let metrics = relay.metrics();
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut out = String::new();
    for (name, kind, help, value) in [
        ("connections", "gauge", "Open connections.", metrics.connections.value()),
        ("sockets", "gauge", "Open WebSockets.", metrics.sockets.value()),
        ("stores_open", "gauge", "Stores with a connection.", relay.hub().n_open() as u64),
        ("requests_total", "counter", "HTTP requests.", number(&metrics.requests)),
        ("tokens_refused_total", "counter", "Refused tokens.", number(&metrics.tokens_refused)),
        ("commits_total", "counter", "Transactions on disk.", relay.n_commits()),
        ("changes_total", "counter", "Changes stored.", number(&metrics.changes)),
        ("deltas_stored_total", "counter", "Deltas stored.", number(&metrics.deltas_stored)),
        (
            "delta_bytes_stored_total",
            "counter",
            "Their bytes.",
            number(&metrics.delta_bytes_stored),
        ),
        (
            "deltas_covered_total",
            "counter",
            "Deltas with nothing new.",
            number(&metrics.deltas_covered),
        ),
        ("deltas_refused_total", "counter", "Deltas refused.", number(&metrics.deltas_refused)),
        (
            "parts_read_total",
            "counter",
            "Parts of deltas read for those behind.",
            number(&metrics.parts_sent),
        ),
        ("part_bytes_read_total", "counter", "Their bytes.", number(&metrics.part_bytes_sent)),
    ] {
        let name = format!("anabranch_relay_{name}");
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    if for_admin {
        let name = "anabranch_relay_subject_changes_total";
        let _ = writeln!(
            out,
            "# HELP {name} Changes by who delivered them first.\n# TYPE {name} counter"
        );
        let subjects = metrics.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, n) in subjects.iter() {
            let _ = writeln!(out, "{name}{{subject=\"{}\"}} {n}", escaped(subject));
        }
    }
    out
}

/// A label's value: backslash, quote and line feed escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
