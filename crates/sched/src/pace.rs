//! How much prefill goes beside decode rows, so that no stream stands still.

use crate::cost::{StepCost, StepShape};
use std::time::Duration;

/// Most prompts that are computed in part at a time: a long one, and one that need not wait for its end.
pub(crate) const OPEN_PREFILLS: u32 = 2;

/// How much longer than a step of decode rows alone one with prefill may take where no target was given.
const SLOWER: f64 = 1.75;

/// After every such time that a request has waited for prefill, steps may take this much longer again where no target was given:
/// where more comes than the machine can do, streams slow down so that others begin.
const PATIENCE: Duration = Duration::from_millis(250);

/// How many times longer at most.
const PRESSED: f64 = 4.0;

/// Weight of the last step in the time of steps of decode rows alone.
const LAST: f64 = 0.1;

/// What is known of a step being planned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepLoad {
    decode: StepShape,
    prefill: StepShape,
    /// Decode rows.
    pub(crate) decodes: u32,
    /// Prefill chunks.
    pub(crate) chunks: u32,
}

impl StepLoad {
    /// Adds `tokens` of the `gap` tokens that a sequence lacks after its first `computed`.
    pub(crate) fn add(&mut self, computed: u32, gap: u32, tokens: u32) {
        if tokens == 0 {
            return;
        }
        if gap > 1 {
            self.chunks += 1;
            self.prefill = self.prefill.with(computed, tokens);
        } else {
            self.decodes += 1;
            self.decode = self.decode.with(computed, tokens);
        }
    }

    /// All of it.
    fn shape(&self) -> StepShape {
        self.decode.and(self.prefill)
    }
}

/// Keeps steps with decode rows within a time.
#[derive(Debug)]
pub(crate) struct Pace {
    /// As configured.
    target: Option<Duration>,
    cost: StepCost,
    /// Seconds of a step of decode rows alone; 0 before the first.
    idle: f64,
    /// How many times as long as [`SLOWER`] says steps may take.
    pressed: f64,
}

/// How a step came out beside what was planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) predicted: Duration,
    /// Whether it had both decode rows and prefill, and whether it then took longer than the target.
    pub(crate) paced: bool,
    pub(crate) late: bool,
}

impl Pace {
    pub(crate) fn new(target: Option<Duration>) -> Self {
        Self { target, cost: StepCost::default(), idle: 0.0, pressed: 1.0 }
    }

    /// Begins a step while requests have waited for up to `waited` because of prefill.
    pub(crate) fn begin(&mut self, waited: Duration) {
        self.pressed = (1.0 + waited.as_secs_f64() / PATIENCE.as_secs_f64()).min(PRESSED);
    }

    /// Longest time that a step with the decode rows of `load` should take; `None` before any step tells what they cost.
    pub(crate) fn target(&self, load: &StepLoad) -> Option<Duration> {
        let now = self.cost.predict(&load.decode).as_secs_f64();
        if self.target.is_some() || now == 0.0 {
            return self.target;
        }
        Duration::try_from_secs_f64(SLOWER * self.pressed * self.idle.max(now)).ok()
    }

    /// Most tokens, up to `most`, of a sequence with `computed` before them that may join the step. Without a decode row
    /// nobody waits for the step.
    pub(crate) fn room(&self, load: &StepLoad, computed: u32, most: u32) -> u32 {
        match self.target(load) {
            Some(target) if load.decodes > 0 => self.cost.room(load.shape(), computed, most, target),
            _ => most,
        }
    }

    /// Seconds of a step of `rows` decode rows with `context` tokens each, and of a token of prefill; `None` before any step.
    pub(crate) fn rates(&self, rows: u32, context: u32) -> Option<(f64, f64)> {
        const CHUNK: u32 = 64;
        let decode = (0..rows).fold(StepShape::default(), |shape, _| shape.with(context, 1));
        let step = self.cost.predict(&decode).as_secs_f64();
        let chunk = self.cost.predict(&decode.with(0, CHUNK)).as_secs_f64() - step;
        (step > 0.0).then_some((step, chunk / f64::from(CHUNK)))
    }

    /// Learns from the step of `load`, which took `took`.
    pub(crate) fn observe(&mut self, load: &StepLoad, took: Duration) -> Outcome {
        let paced = load.decodes > 0 && load.chunks > 0;
        let late = paced && self.target(load).is_some_and(|target| took > target);
        let predicted = self.cost.predict(&load.shape());
        self.cost.observe(&load.shape(), took);
        if load.decodes > 0 && load.chunks == 0 {
            let took = took.as_secs_f64();
            self.idle += if self.idle == 0.0 { took } else { LAST * (took - self.idle) };
        }
        Outcome { predicted, paced, late }
    }
}
