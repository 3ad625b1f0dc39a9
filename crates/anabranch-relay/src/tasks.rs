//! Counting what must have ended before the process does.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts tasks, so that a stop can wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(Arc<watch::Sender<usize>>);

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks(Arc::new(watch::Sender::new(0)))
    }
}

impl Tasks {
    /// Counts one until what this gives is dropped.
    pub(crate) fn enter(&self) -> Task {
        self.0.send_modify(|n| *n += 1);
        Task(self.clone())
    }

    /// Ready once none is left.
    pub(crate) async fn all_ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|n| *n == 0).await;
    }
}

/// One task that is counted.
#[derive(Debug)]
pub(crate) struct Task(Tasks);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n -= 1);
    }
}
