//! Whether the engine lives: its state and its heartbeat.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Where the engine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineState {
    /// The model is being loaded; nothing is accepted.
    Loading,
    /// Requests are accepted.
    Ready,
    /// Accepted requests are being finished; nothing is accepted.
    Draining,
    /// The engine ended as told.
    Stopped,
    /// The engine ended on an error; the process should exit non-zero.
    Failed,
}

impl EngineState {
    /// Whether the engine thread is gone, or about to be.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// A look at the engine's health.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// State of the engine.
    pub state: EngineState,
    /// Whether steps are suspended on request.
    pub paused: bool,
    /// Time since the engine thread last finished a step or, when idle, last woke.
    pub since_progress: Duration,
    /// Whether that is longer than [`EngineConfig::stall_after`](crate::EngineConfig::stall_after).
    pub stalled: bool,
    /// Part of the model that is loaded, 0 to 1; 1 after loading.
    pub loaded: f32,
    /// What went wrong, in state `Failed`.
    pub failure: Option<String>,
}

impl Health {
    /// Whether requests are accepted and the engine makes progress: the answer of a readiness probe.
    pub fn is_ready(&self) -> bool {
        self.state == EngineState::Ready && !self.stalled
    }

    /// Whether the process should be left running: the answer of a liveness probe.
    pub fn is_live(&self) -> bool {
        !self.state.has_ended() && !self.stalled
    }
}

/// Heartbeat and state, written by the engine thread.
#[derive(Debug)]
pub(crate) struct Pulse {
    epoch: Instant,
    last_beat_ns: AtomicU64,
    loaded_ppm: AtomicU64,
    state: watch::Sender<EngineState>,
    failure: OnceLock<String>,
    /// The engine thread is left to itself: nobody waits for its end.
    given_up: AtomicBool,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            last_beat_ns: AtomicU64::new(0),
            loaded_ppm: AtomicU64::new(0),
            state: watch::Sender::new(EngineState::Loading),
            failure: OnceLock::new(),
            given_up: AtomicBool::new(false),
        }
    }

    /// The latest beat, in nanoseconds since the engine was made.
    pub(crate) fn last_beat(&self) -> u64 {
        self.last_beat_ns.load(Ordering::Relaxed)
    }

    /// The engine thread hangs, and the engine fails with `message` without it.
    pub(crate) fn give_up(&self, message: String) {
        self.given_up.store(true, Ordering::Release);
        self.fail(message);
    }

    /// Whether the engine thread was left to itself.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// The engine thread is alive at `now`.
    pub(crate) fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch);
        self.last_beat_ns.store(since.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_loaded(&self, fraction: f32) {
        self.loaded_ppm.store((f64::from(fraction.clamp(0.0, 1.0)) * 1e6) as u64, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> EngineState {
        *self.state.borrow()
    }

    /// Moves on to `next`; a state never goes back, and the end is final.
    pub(crate) fn advance(&self, next: EngineState) {
        self.state.send_if_modified(|state| {
            let moves = next > *state && !state.has_ended();
            if moves {
                *state = next;
            }
            moves
        });
    }

    /// The engine ended on an error.
    pub(crate) fn fail(&self, message: String) {
        // The first failure is the cause; what follows from it is not kept.
        let _ = self.failure.set(message);
        self.advance(EngineState::Failed);
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    pub(crate) fn health(&self, now: Instant, stall_after: Duration, paused: bool) -> Health {
        let state = self.state();
        let beat = Duration::from_nanos(self.last_beat());
        let since_progress = now.saturating_duration_since(self.epoch).saturating_sub(beat);
        let watched = matches!(state, EngineState::Ready | EngineState::Draining);
        let loaded = self.loaded_ppm.load(Ordering::Relaxed) as f32 / 1e6;
        Health {
            state,
            paused,
            since_progress,
            stalled: watched && since_progress > stall_after,
            loaded: if state == EngineState::Loading { loaded } else { 1.0 },
            failure: self.failure().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_never_goes_back_and_the_end_is_final() {
        let pulse = Pulse::new(Instant::now());
        pulse.advance(EngineState::Draining);
        pulse.advance(EngineState::Ready);
        assert_eq!(pulse.state(), EngineState::Draining);
        pulse.advance(EngineState::Stopped);
        pulse.fail("too late".to_owned());
        assert_eq!(pulse.state(), EngineState::Stopped);
    }

    #[test]
    fn silence_beyond_the_limit_is_a_stall_once_the_model_is_loaded() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        let limit = Duration::from_secs(10);
        let stalled = |at: u64| pulse.health(start + Duration::from_secs(at), limit, false).stalled;
        assert!(!stalled(100), "loading may take long");
        pulse.beat(start + Duration::from_secs(100));
        pulse.advance(EngineState::Ready);
        assert_eq!([stalled(100), stalled(110), stalled(111)], [false, false, true]);
        pulse.beat(start + Duration::from_secs(111));
        assert!(!stalled(111));
        pulse.advance(EngineState::Failed);
        assert!(!stalled(1000), "an engine that has ended is worse than stalled");
    }

    #[test]
    fn the_first_failure_is_kept() {
        let pulse = Pulse::new(Instant::now());
        pulse.fail("the cause".to_owned());
        pulse.fail("a consequence".to_owned());
        assert_eq!(pulse.failure(), Some("the cause"));
    }
}
