//! Threads for what may take its time: templates, tokenizers and constraints can be slow on hostile input.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

/// As many jobs at a time as there are slots and memory; further ones wait.
pub(crate) struct TextThreads {
    slots: Arc<Semaphore>,
    /// Text that may be at work at a time, in units of [`TEXT_UNIT`].
    texts: Arc<Semaphore>,
    units: u32,
    progress: Arc<Progress>,
}

/// Bytes of one unit of text; a shorter one is not counted.
const TEXT_UNIT: usize = 64 << 10;

/// When a job last began or ended.
struct Progress {
    epoch: Instant,
    last_ms: AtomicU64,
}

impl Progress {
    fn note(&self) {
        let since = Instant::now().saturating_duration_since(self.epoch);
        self.last_ms.store(since.as_millis() as u64, Ordering::Relaxed);
    }
}

/// The right to run a job. It goes with the job, which runs on when its caller is gone.
struct Slot {
    _permits: [OwnedSemaphorePermit; 2],
    progress: Arc<Progress>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.progress.note();
    }
}

/// Why a job gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// It panicked, or the runtime is ending.
    #[error(transparent)]
    Job(#[from] JoinError),
    /// There are no slots any more.
    #[error(transparent)]
    Slots(#[from] AcquireError),
}

impl TextThreads {
    /// Threads for `slots` jobs that work on up to `text` bytes together.
    pub(crate) fn new(slots: usize, text: usize) -> Self {
        let progress = Progress { epoch: Instant::now(), last_ms: AtomicU64::new(0) };
        let units = u32::try_from(text / TEXT_UNIT).unwrap_or(u32::MAX).max(1);
        let texts = Arc::new(Semaphore::new(units as usize));
        Self { slots: Arc::new(Semaphore::new(slots)), texts, units, progress: Arc::new(progress) }
    }

    /// Runs `job` once there is a slot, and room for the `bytes` of text that it works on.
    ///
    /// # Errors
    /// If it panicked.
    pub(crate) async fn run<T, F>(&self, bytes: usize, job: F) -> Result<T, JobError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let units = u32::try_from(bytes / TEXT_UNIT).unwrap_or(u32::MAX).min(self.units);
        let text = Arc::clone(&self.texts).acquire_many_owned(units).await?;
        let permit = Arc::clone(&self.slots).acquire_owned().await?;
        self.progress.note();
        let slot = Slot { _permits: [text, permit], progress: Arc::clone(&self.progress) };
        let job = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            job()
        });
        Ok(job.await?)
    }

    /// Whether every slot is taken and no job has begun or ended for `limit` before `now`.
    pub(crate) fn are_stuck(&self, limit: Duration, now: Instant) -> bool {
        let last = Duration::from_millis(self.progress.last_ms.load(Ordering::Relaxed));
        let silent = now.saturating_duration_since(self.progress.epoch).saturating_sub(last);
        self.slots.available_permits() == 0 && silent > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn threads_are_stuck_when_all_are_and_not_before() {
        let threads = Arc::new(TextThreads::new(2, 1 << 20));
        let (mut ends, mut jobs) = (Vec::new(), Vec::new());
        let later = || Instant::now() + LIMIT + Duration::from_secs(1);
        for _ in 0..2 {
            assert!(!threads.are_stuck(LIMIT, later()));
            let (end, ended) = channel::<()>();
            let own = Arc::clone(&threads);
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            jobs.push(tokio::spawn(async move {
                own.run(0, move || {
                    let _ = begun.send(());
                    ended.recv()
                })
                .await
            }));
            has_begun.await.unwrap();
            ends.push(end);
        }
        assert!(!threads.are_stuck(LIMIT, Instant::now()), "they are at work");
        assert!(threads.are_stuck(LIMIT, later()));
        drop(ends.pop());
        assert!(jobs.pop().unwrap().await.unwrap().unwrap().is_err(), "nothing was sent");
        assert!(!threads.are_stuck(LIMIT, later()), "there is a slot");
        drop(ends);
    }

    #[tokio::test]
    async fn a_job_that_panics_leaves_its_slot() {
        let threads = TextThreads::new(1, 1 << 20);
        for _ in 0..3 {
            let done = threads.run(0, || panic!("of the test")).await;
            assert!(matches!(done, Err::<(), _>(JobError::Job(_))));
        }
        assert_eq!(threads.run(5 << 20, || 7).await.unwrap(), 7);
    }
}
