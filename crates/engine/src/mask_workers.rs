//! Threads that compute masks beside the forward pass.

use crate::constraint::SampleMask;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::thread;

/// Jobs that wait; beyond it the sampler computes a mask itself.
const MAX_JOBS: usize = 1024;

/// Most threads. Each serves some 10,000 masks a second, and what they do not get to is computed by those who need it.
const MAX_THREADS: usize = 4;

/// The way to the threads; they end when the last one is gone.
#[derive(Clone, Debug)]
pub(crate) struct MaskWorkers {
    jobs: Sender<Job>,
}

#[derive(Debug)]
enum Job {
    /// Compute the next mask of a sample.
    Advance(Arc<SampleMask>),
    /// Free what a request has left behind.
    Release(Box<[Arc<SampleMask>]>),
}

impl MaskWorkers {
    /// Starts the threads, one for each eight processors. Without any, masks are computed by those who need them.
    pub(crate) fn start() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, receiver) = bounded(MAX_JOBS);
        for index in 0..(processors / 8).clamp(1, MAX_THREADS) {
            let receiver = receiver.clone();
            let worker = thread::Builder::new().name(format!("pagoda-mask-{index}"));
            if let Err(error) = worker.spawn(move || work(&receiver)) {
                tracing::warn!(%error, "cannot start a thread for the masks of constrained outputs");
            }
        }
        Self { jobs }
    }

    /// Has the next mask of a sample computed. Never waits.
    pub(crate) fn advance(&self, mask: &Arc<SampleMask>) {
        // Where no worker takes it, the sampler will find it missing.
        let _ = self.jobs.try_send(Job::Advance(Arc::clone(mask)));
    }

    /// Has what a request has left behind freed. Never waits.
    pub(crate) fn release(&self, masks: Box<[Arc<SampleMask>]>) {
        // What is not taken is freed here.
        let _ = self.jobs.try_send(Job::Release(masks));
    }
}

fn work(jobs: &Receiver<Job>) {
    for job in jobs {
        match job {
            Job::Advance(mask) => mask.catch_up(),
            Job::Release(masks) => drop(masks),
        }
    }
}
