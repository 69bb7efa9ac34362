//! The engine that a request meets, which may be another one for the next request.

use crate::throughput::Throughput;
use pagoda_engine::EngineHandle;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls that one generation can count.
const MOST_CALLS: u32 = 1 << 24;

/// One engine, and the calls that began with it. A call keeps to the generation that its head met.
pub(crate) struct Generation {
    handle: EngineHandle,
    calls: Arc<Semaphore>,
    throughput: Throughput,
}

/// Keeps a generation from being idle.
pub(crate) type Entered = Option<OwnedSemaphorePermit>;

impl Generation {
    fn new(handle: EngineHandle) -> Arc<Self> {
        let calls = Arc::new(Semaphore::new(MOST_CALLS as usize));
        Arc::new(Self { handle, calls, throughput: Throughput::default() })
    }

    pub(crate) fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// Tokens generated per second of late.
    pub(crate) fn throughput(&self) -> f64 {
        self.throughput.look(self.handle.snapshot().generated_tokens, Instant::now())
    }
}

/// The generation that calls meet, and those before it that still have some.
pub(crate) struct Generations(RwLock<Known>);

struct Known {
    current: Arc<Generation>,
    retired: Vec<Weak<Generation>>,
}

impl Generations {
    pub(crate) fn new(handle: EngineHandle) -> Self {
        Self(RwLock::new(Known { current: Generation::new(handle), retired: Vec::new() }))
    }

    pub(crate) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.known().current)
    }

    /// The current generation, which is not idle until the second value is dropped. A call that is counted here has either
    /// met the engine before [`replace`](Self::replace) returned, or meets its successor.
    pub(crate) fn enter(&self) -> (Arc<Generation>, Entered) {
        let known = self.known();
        let entered = Arc::clone(&known.current.calls).try_acquire_owned().ok();
        (Arc::clone(&known.current), entered)
    }

    /// Lets the calls that come from here on meet another engine.
    pub(crate) fn replace(&self, handle: EngineHandle) -> Retired {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let generation = std::mem::replace(&mut known.current, Generation::new(handle));
        known.retired.retain(|retired| retired.strong_count() > 0);
        known.retired.push(Arc::downgrade(&generation));
        Retired { generation }
    }

    /// All engines that may have requests, the current one first.
    pub(crate) fn handles(&self) -> Vec<EngineHandle> {
        let known = self.known();
        let retired = known.retired.iter().rev().filter_map(Weak::upgrade);
        std::iter::once(Arc::clone(&known.current)).chain(retired).map(|one| one.handle.clone()).collect()
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An engine that has been replaced: no further call meets it, those that began with it run on.
#[must_use = "a replaced engine keeps its memory until it is drained"]
pub struct Retired {
    generation: Arc<Generation>,
}

impl Retired {
    /// The engine.
    pub fn handle(&self) -> &EngineHandle {
        &self.generation.handle
    }

    /// Waits until every call that began with the engine has been answered to its last byte, or its client has gone.
    pub async fn idle(&self) {
        // The semaphore is never closed; were it, nothing could be in flight either.
        let _ = self.generation.calls.acquire_many(MOST_CALLS).await;
    }
}
