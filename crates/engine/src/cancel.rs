//! How a client's change of mind reaches the engine thread.

use pagoda_sched::{RequestId, SampleIndex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Set once when a sample is cancelled; the first setter tells the engine, so a sample is listed at most once.
#[derive(Debug, Default)]
pub(crate) struct CancelFlag(AtomicBool);

impl CancelFlag {
    /// Returns whether this call set it.
    pub(crate) fn set(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Samples cancelled since the engine last looked.
///
/// Bounded by the number of live sessions, because each sample is listed once; so a cancellation never finds it
/// full, whatever the state of the inbox, and the engine never scans its requests for set flags.
#[derive(Debug, Default)]
pub(crate) struct CancelList {
    samples: Mutex<Vec<(RequestId, SampleIndex)>>,
}

impl CancelList {
    pub(crate) fn push(&self, id: RequestId, sample: SampleIndex) {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push((id, sample));
    }

    /// Moves all entries to `into`, which arrives empty. Returns `false` if a client held the list: the engine
    /// thread does not wait for clients and looks again before it sleeps.
    pub(crate) fn take(&self, into: &mut Vec<(RequestId, SampleIndex)>) -> bool {
        match self.samples.try_lock() {
            Ok(mut samples) => std::mem::swap(&mut *samples, into),
            Err(std::sync::TryLockError::Poisoned(samples)) => {
                std::mem::swap(&mut *samples.into_inner(), into)
            }
            Err(std::sync::TryLockError::WouldBlock) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_set_once() {
        let flag = CancelFlag::default();
        assert_eq!([flag.set(), flag.set(), flag.set()], [true, false, false]);
    }

    #[test]
    fn the_engine_does_not_wait_for_a_client_that_holds_the_list() {
        let list = CancelList::default();
        list.push(RequestId::EMPTY, SampleIndex(1));
        let mut taken = Vec::new();
        let held = list.samples.lock().unwrap();
        assert!(!list.take(&mut taken));
        drop(held);
        assert!(list.take(&mut taken));
        assert_eq!(taken, [(RequestId::EMPTY, SampleIndex(1))]);
    }
}
