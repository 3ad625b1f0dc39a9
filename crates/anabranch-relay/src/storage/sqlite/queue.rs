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
use crate::storage::{Answer, Appended, Incoming, Pending, StorageError};

/// What is said once it is known whether the transaction is on disk.
enum Done {
    Append(Answer, Result<Appended, StorageError>),
    Other(Box<dyn FnOnce(Result<(), StorageError>) + Send>),
}

/// Runs inside the transaction.
enum Job {
    Append(Box<Incoming>, Answer),
    Other(Box<dyn FnOnce(&mut Ledger) -> Done + Send>),
}

impl Job {
    fn run(self, ledger: &mut Ledger) -> Done {
        match self {
            Job::Append(incoming, answer) => {
                let appended = ledger.append(*incoming);
                note_failure(ledger, &appended);
                Done::Append(answer, appended)
            }
            Job::Other(work) => work(ledger),
        }
    }

    /// Who must hear that there was no transaction. Who waits for another job sees that it is
    /// gone.
    fn unrun(self) -> Option<Done> {
        match self {
            Job::Append(_, answer) => Some(Done::Append(answer, Err(StorageError::Stopping))),
            Job::Other(_) => None,
        }
    }
}

/// Dooms the transaction where the database failed.
fn note_failure<T>(ledger: &mut Ledger, result: &Result<T, StorageError>) {
    if let Err(error @ (StorageError::Backend(_) | StorageError::Damaged { .. })) = result {
        ledger.fail(error);
    }
}

/// The way to the thread that writes. Dropping it waits until all that was handed over is
/// done and the database is closed.
#[derive(Debug)]
pub(super) struct Queue {
    /// `None` while it is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// In place of the thread: who steps writes.
    #[cfg(feature = "testing")]
    stepped: Option<std::sync::Mutex<Stepped>>,
    n_commits: Arc<AtomicU64>,
}

/// What the thread has in its hands where there is none.
#[cfg(feature = "testing")]
struct Stepped {
    ledger: Ledger,
    waiting: mpsc::Receiver<Job>,
}

#[cfg(feature = "testing")]
impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").finish_non_exhaustive()
    }
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
        Ok(Queue {
            jobs: Some(jobs),
            thread: Some(thread),
            #[cfg(feature = "testing")]
            stepped: None,
            n_commits,
        })
    }

    /// A queue without a thread: [`Queue::step`] writes.
    #[cfg(feature = "testing")]
    pub(super) fn stepped(ledger: Ledger) -> Queue {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING_JOBS);
        let stepped = Some(std::sync::Mutex::new(Stepped { ledger, waiting }));
        Queue { jobs: Some(jobs), thread: None, stepped, n_commits: Arc::default() }
    }

    /// One transaction of what waits; whether anything did.
    #[cfg(feature = "testing")]
    pub(super) fn step(&self) -> bool {
        let Some(stepped) = &self.stepped else { return false };
        let mut stepped = stepped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Stepped { ledger, waiting } = &mut *stepped;
        let Ok(first) = waiting.try_recv() else { return false };
        turn(ledger, first, waiting, &self.n_commits);
        true
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
        let job = Job::Other(Box::new(move |ledger| {
            let result = work(ledger);
            note_failure(ledger, &result);
            // Who asked may be gone.
            Done::Other(Box::new(move |outcome| drop(answer.send(outcome.and(result)))))
        }));
        let waiting = self.hand_over(job);
        Box::pin(async move {
            if let Some(waiting) = waiting {
                waiting.await?;
            }
            answered.await.map_err(|_| StorageError::Stopping)?
        })
    }

    /// Stores a delta in the next transaction; else as [`Queue::submit`].
    pub(super) fn append(
        &self,
        incoming: Incoming,
        answer: Answer,
    ) -> Option<Pending<'static, ()>> {
        self.hand_over(Job::Append(Box::new(incoming), answer))
    }

    /// Where the queue is full: what waits for room.
    fn hand_over(&self, job: Job) -> Option<Pending<'static, ()>> {
        let jobs = self.jobs.as_ref().expect("there until it is dropped");
        let job = match jobs.try_send(job) {
            Ok(()) => return None,
            Err(TrySendError::Full(job) | TrySendError::Closed(job)) => job,
        };
        let jobs = jobs.clone();
        Some(Box::pin(async move { jobs.send(job).await.map_err(|_| StorageError::Stopping) }))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // A panic there was reported where it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread.
fn write(mut ledger: Ledger, mut waiting: mpsc::Receiver<Job>, n_commits: &AtomicU64) {
    while let Some(first) = waiting.blocking_recv() {
        turn(&mut ledger, first, &mut waiting, n_commits);
    }
}

/// One turn is one transaction.
fn turn(ledger: &mut Ledger, first: Job, waiting: &mut mpsc::Receiver<Job>, n_commits: &AtomicU64) {
    let began = ledger.begin();
    let mut done = Vec::new();
    if began.is_err() {
        done.extend(first.unrun());
    } else {
        done.push(first.run(ledger));
        while done.len() < MAX_GROUP_JOBS
            && !ledger.has_failed()
            && let Ok(job) = waiting.try_recv()
        {
            done.push(job.run(ledger));
        }
    }
    let outcome = began.and_then(|()| ledger.commit());
    if let Err(error) = &outcome {
        tracing::error!(error = %chain_of(error), "a transaction was undone");
    } else {
        n_commits.fetch_add(1, Ordering::Relaxed);
    }
    answer(done, &outcome);
    ledger.announce();
}

/// Answers all, and then wakes those who wait: each looks once, and finds all that is for it.
fn answer(done: Vec<Done>, outcome: &Result<(), StorageError>) {
    let mut woken = Vec::new();
    for done in done {
        let outcome = outcome.as_ref().copied().map_err(again);
        match done {
            Done::Append(answer, appended) => woken.extend(answer(outcome.and(appended))),
            Done::Other(done) => done(outcome),
        }
    }
    woken.iter().for_each(|who| who.notify_one());
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
