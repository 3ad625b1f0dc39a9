//! Group commit: one thread writes, and all that waits goes into one transaction.
//!
//! A job runs inside the transaction and leaves what to say afterwards; that is said when
//! the transaction is on disk, or failed. A job that is refused has written nothing; if the
//! database fails in a job, the whole transaction is undone and all of it answered so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::ledger::Ledger;
use crate::limits::{MAX_GROUP_JOBS, MAX_WAITING_JOBS};
use crate::storage::{Pending, StorageError};

/// What is said once it is known whether the transaction is on disk.
type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;
/// Runs inside the transaction.
type Job = Box<dyn FnOnce(&mut Ledger) -> Done + Send>;

/// The way to the thread that writes. Dropping it waits until all that was handed over is
/// done and the database is closed.
#[derive(Debug)]
pub(super) struct Queue {
    /// `None` while it is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    n_commits: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread.
    ///
    /// # Errors
    /// Of the operating system.
    pub(super) fn start(ledger: Ledger) -> std::io::Result<Queue> {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING_JOBS);
        let n_commits = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&n_commits);
        let thread = std::thread::Builder::new()
            .name("relay-writer".into())
            .spawn(move || write(ledger, waiting, &counter))?;
        Ok(Queue { jobs: Some(jobs), thread: Some(thread), n_commits })
    }

    /// Transactions committed since the start.
    pub(super) fn n_commits(&self) -> u64 {
        self.n_commits.load(Ordering::Relaxed)
    }

    /// Runs `work` in the next transaction; answered when it is on disk.
    ///
    /// It is handed over at once, or where the queue is full as soon as there is room. What
    /// was handed over is done even if nobody waits for the answer any more.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, StorageError> + Send + 'static,
    ) -> Pending<'static, T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |ledger| {
            let result = work(ledger);
            if let Err(error @ (StorageError::Backend(_) | StorageError::Damaged { .. })) = &result
            {
                ledger.fail(error);
            }
            // Who asked may be gone.
            Box::new(move |outcome| drop(answer.send(outcome.and(result))))
        });
        let jobs = self.jobs.as_ref().expect("there until it is dropped");
        let waiting = match jobs.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job)) => Some((jobs.clone(), job)),
            // The thread is gone: `answered` says so.
            Err(TrySendError::Closed(_)) => None,
        };
        Box::pin(async move {
            if let Some((jobs, job)) = waiting {
                jobs.send(job).await.map_err(|_| StorageError::Stopping)?;
            }
            answered.await.map_err(|_| StorageError::Stopping)?
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // A panic there was reported where it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread: one turn is one transaction.
fn write(mut ledger: Ledger, mut waiting: mpsc::Receiver<Job>, n_commits: &AtomicU64) {
    while let Some(first) = waiting.blocking_recv() {
        let began = ledger.begin();
        let mut done = Vec::new();
        if began.is_ok() {
            done.push(first(&mut ledger));
            while done.len() < MAX_GROUP_JOBS
                && !ledger.has_failed()
                && let Ok(job) = waiting.try_recv()
            {
                done.push(job(&mut ledger));
            }
        }
        let outcome = began.and_then(|()| ledger.commit());
        if let Err(error) = &outcome {
            tracing::error!(error = %chain_of(error), "a transaction was undone");
        } else {
            n_commits.fetch_add(1, Ordering::Relaxed);
        }
        for done in done {
            done(outcome.as_ref().copied().map_err(again));
        }
    }
}

/// The same failure for the next one who waits.
fn again(error: &StorageError) -> StorageError {
    match error {
        StorageError::Backend(source) => StorageError::Backend(Arc::clone(source)),
        StorageError::Damaged { what } => StorageError::Damaged { what },
        _ => StorageError::Stopping,
    }
}

/// An error and what caused it, in one line for the log.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
