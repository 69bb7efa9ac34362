//! Knobs that can be turned while a fake executor runs on another thread.

use super::model::mix;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Changes how a [`FakeExecutor`](super::FakeExecutor) behaves from its next step on. Clones turn the same knobs.
#[derive(Clone, Debug, Default)]
pub struct FakeControl {
    knobs: Arc<Mutex<Knobs>>,
}

#[derive(Debug, Default)]
struct Knobs {
    steps: u64,
    delay: Duration,
    fail_at: Option<u64>,
    panic_at: Option<u64>,
    nan_per_million: u32,
    nan_state: u64,
}

/// What becomes of a step.
pub(super) enum Fate {
    Run,
    Fail(u64),
    Panic(u64),
}

impl FakeControl {
    /// Makes every step last at least `delay`.
    pub fn set_delay(&self, delay: Duration) {
        self.knobs().delay = delay;
    }

    /// Makes step `step`, counted from 0, fail.
    pub fn fail_at(&self, step: u64) {
        self.knobs().fail_at = Some(step);
    }

    /// Makes the next step fail.
    pub fn fail_next(&self) {
        let mut knobs = self.knobs();
        knobs.fail_at = Some(knobs.steps);
    }

    /// Makes step `step`, counted from 0, panic.
    pub fn panic_at(&self, step: u64) {
        self.knobs().panic_at = Some(step);
    }

    /// Makes the next step panic.
    pub fn panic_next(&self) {
        let mut knobs = self.knobs();
        knobs.panic_at = Some(knobs.steps);
    }

    /// Makes each sampled row have non-finite logits with this probability, chosen by `seed`.
    pub fn set_nan_rows(&self, parts_per_million: u32, seed: u64) {
        let mut knobs = self.knobs();
        knobs.nan_per_million = parts_per_million;
        knobs.nan_state = seed;
    }

    /// Steps begun so far.
    pub fn steps(&self) -> u64 {
        self.knobs().steps
    }

    /// Counts a step, lasts its delay and says what becomes of it.
    pub(super) fn begin_step(&self) -> Fate {
        let (delay, fate) = {
            let mut knobs = self.knobs();
            let step = knobs.steps;
            knobs.steps += 1;
            let fate = if knobs.panic_at == Some(step) {
                Fate::Panic(step)
            } else if knobs.fail_at == Some(step) {
                Fate::Fail(step)
            } else {
                Fate::Run
            };
            (knobs.delay, fate)
        };
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        fate
    }

    /// Whether the next sampled row has non-finite logits.
    pub(super) fn draw_nan(&self) -> bool {
        let mut knobs = self.knobs();
        if knobs.nan_per_million == 0 {
            return false;
        }
        knobs.nan_state = knobs.nan_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(knobs.nan_state) % 1_000_000 < u64::from(knobs.nan_per_million)
    }

    /// A panic asked for leaves the knobs as they were, so a poisoned lock is no reason to stop.
    fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.knobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
