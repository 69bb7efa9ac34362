//! A simulated engine: the real scheduler over the fake executor, with random traffic and faults.
//!
//! After every step the scheduler's invariants are asserted; every read of the KV storage is checked by the executor;
//! every token is compared with its closed form; every sample has to end exactly once for a reason that holds; and at
//! the end all blocks have to be back. One seed is one run, always the same.

mod ledger;
mod prompts;
mod report;
mod rng;
mod setup;

pub use report::SimReport;

use crate::fake::FakeExecutor;
use crate::{
    AdapterId, CompletionReason, Effect, Effects, Executor, RequestId, SampleIndex, Scheduler, StepOutput,
};
use ledger::{Context, Ledger};
use rng::Rng;
use setup::Setup;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What is the same for all seeds of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimOptions {
    /// Significant bits of the prefix hash, at most 32; few make collisions frequent.
    pub hash_bits: u32,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self { hash_bits: 32 }
    }
}

/// A run that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} failed in step {step}: {message}")]
pub struct SimFailure {
    /// Seed to run again.
    pub seed: u64,
    /// Loop pass in which it failed, from 0.
    pub step: u64,
    /// What was broken.
    pub message: String,
}

/// One simulated engine.
#[derive(Debug)]
pub struct Simulation {
    rng: Rng,
    setup: Setup,
    scheduler: Scheduler,
    executor: FakeExecutor,
    ledger: Ledger,
    now: Instant,
    effects: Effects,
    output: StepOutput,
    report: SimReport,
    /// The latest id of an adapter.
    last_adapter: u32,
    /// Whether traffic has stopped.
    draining: bool,
}

impl Simulation {
    /// Runs `steps` steps of traffic and then drains.
    ///
    /// # Errors
    /// [`SimFailure`] if anything broke; the panic message goes to the panic hook as well.
    pub fn run(seed: u64, steps: u64, options: SimOptions) -> Result<SimReport, SimFailure> {
        let mut simulation = Self::new(seed, options);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..steps {
                simulation.pass();
            }
            simulation.drain();
        }));
        match outcome {
            Ok(()) => Ok(simulation.report),
            Err(payload) => {
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
                let message = text.unwrap_or("a panic without a message").to_owned();
                Err(SimFailure { seed, step: simulation.report.steps, message })
            }
        }
    }

    fn new(seed: u64, options: SimOptions) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup::draw(&mut rng, options.hash_bits);
        let mut executor = FakeExecutor::new(setup.capacity).with_nan_rows(setup.nan_per_million, rng.word());
        for &adapter in &setup.adapters {
            executor.attach(adapter, Box::new(())).expect("the fake executor takes any adapter");
        }
        let scheduler = Scheduler::new(setup.config, setup.capacity).expect("a drawn configuration is valid");
        Self {
            last_adapter: setup.adapters.len() as u32,
            rng,
            setup,
            scheduler,
            executor,
            ledger: Ledger::default(),
            now: Instant::now(),
            effects: Effects::default(),
            output: StepOutput::default(),
            report: SimReport::new(),
            draining: false,
        }
    }

    /// One pass of an engine's loop.
    fn pass(&mut self) {
        let jump = if self.rng.chance(5) { 3_000_000 } else { 20_000 };
        self.now += Duration::from_micros(u64::from(self.rng.log_within(1, jump)));
        if !self.draining {
            self.arrive();
            self.cancel();
            self.exchange_adapter();
        }
        self.scheduler.reap(self.now, &mut self.effects);
        self.book(false);
        let failed = self.step();
        self.book(failed);
        self.scheduler.check_invariants();
        self.report.steps += 1;
        self.report.counters = *self.scheduler.counters();
    }

    fn arrive(&mut self) {
        let mut burst = if self.rng.chance(10) { self.rng.within(1, 40) } else { 1 };
        while burst > 0 && (burst > 1 || self.rng.chance(self.setup.arrivals)) {
            burst -= 1;
            let request = self.setup.request(&mut self.rng, self.now);
            if self.scheduler.enqueue(request.clone(), self.now).is_ok() {
                self.executor.register(&request);
                self.ledger.open(request, self.executor.model());
            }
        }
    }

    /// Unloads an adapter that no request names and loads another one in its place.
    fn exchange_adapter(&mut self) {
        if self.setup.adapters.is_empty() || !self.rng.chance(20) {
            return;
        }
        let place = self.rng.within(0, self.setup.adapters.len() as u32 - 1) as usize;
        let old = self.setup.adapters[place];
        if self.ledger.uses(old) {
            return;
        }
        self.report.forgotten += u64::from(self.scheduler.forget_adapter(old));
        assert!(self.executor.detach(old).is_some(), "{old:?} was attached");
        self.last_adapter += 1;
        let next = AdapterId(self.last_adapter);
        self.executor.attach(next, Box::new(())).expect("the fake executor takes any adapter");
        self.setup.adapters[place] = next;
    }

    /// Cancels known and unknown requests and samples, some twice.
    fn cancel(&mut self) {
        if !self.rng.chance(self.setup.cancels) || self.ledger.is_empty() {
            return;
        }
        let id = *self.rng.pick(self.ledger.ids());
        if self.rng.chance(500) {
            let sample = SampleIndex(self.rng.within(0, 3) as u16);
            let live = self.ledger.cancel(id, Some(sample));
            let found = self.scheduler.cancel_sample(id, sample);
            // An end that planning found is not booked while the step is in flight.
            let unbooked = live && self.scheduler.in_flight();
            assert!(found == live || unbooked, "{id}#{} was found: {found}, but is live: {live}", sample.0);
        } else {
            self.ledger.cancel(id, None);
            self.scheduler.cancel(id);
            assert!(!self.scheduler.cancel(id), "{id} was cancelled twice");
        }
        assert!(!self.scheduler.cancel(RequestId::EMPTY), "no request has the empty id");
    }

    /// Plans, executes and commits. Returns whether the step failed.
    fn step(&mut self) -> bool {
        let fail = !self.draining && self.rng.chance(self.setup.failures);
        if fail {
            self.executor.control().fail_next();
        }
        let Some(input) = self.scheduler.plan(self.now) else {
            self.check_stall();
            // Planning may have found ends.
            self.scheduler.reap(self.now, &mut self.effects);
            return false;
        };
        assert!(!input.tokens.is_empty(), "a step without tokens");
        assert!(input.tokens.len() as u32 <= self.setup.config.max_num_batched_tokens, "token budget");
        self.report.copies += input.copies.len() as u64;
        self.output.clear();
        let result = self.executor.execute(input, &mut self.output);
        self.scheduler.check_invariants();
        if !self.draining {
            self.cancel();
        }
        let result = result.as_ref().map(|()| &self.output);
        self.scheduler.commit(result, self.now, &mut self.effects);
        result.is_err()
    }

    /// Nothing to run means nothing there, once the ends that planning found are taken.
    fn check_stall(&mut self) {
        self.executor.control().fail_at(u64::MAX);
        let waiting = self.scheduler.queue().len();
        let running = self.scheduler.batch().len();
        assert_eq!((waiting, running), (0, 0), "nothing was planned with (waiting, running) sequences");
    }

    /// Books all effects and forgets what has ended.
    fn book(&mut self, step_failed: bool) {
        let context = Context {
            effects: &self.effects,
            model: self.executor.model(),
            scheduler: &self.scheduler,
            now: self.now,
            step_failed,
            nan: self.setup.nan_per_million > 0,
        };
        let mut ended = Vec::new();
        for effect in &self.effects.events {
            self.report.trace = trace(self.report.trace, effect);
            ended.extend(self.ledger.book(effect, &context, &mut self.report));
        }
        for id in ended {
            self.executor.forget(id);
        }
        self.effects.clear();
    }

    /// Runs without traffic or faults until nothing is left, within a bound.
    fn drain(&mut self) {
        self.draining = true;
        self.setup.nan_per_million = self.setup.nan_per_million.min(1);
        self.executor.control().set_nan_rows(0, 0);
        let bound = self.report.steps + 4 * self.ledger.outstanding() + 1000;
        while !self.scheduler.is_idle() {
            assert!(self.report.steps < bound, "{} requests do not come to an end", self.ledger.ids().len());
            self.pass();
        }
        assert!(self.ledger.is_empty(), "requests without an end: {:?}", self.ledger.ids());
        assert_eq!(self.scheduler.pool().held(), 0, "blocks that nobody holds are missing");
        assert!(self.scheduler.next_deadline().is_none(), "a timer outlived its request");
    }
}

/// Hash of all effects so far.
fn trace(before: u64, effect: &Effect) -> u64 {
    let (id, sample, what) = match effect {
        Effect::Prompt { id, logprobs, top, .. } => {
            (id, &SampleIndex(0), 3 << 40 | (logprobs.len() as u64) << 16 | top.len() as u64)
        }
        Effect::Token { id, sample, token, .. } => (id, sample, u64::from(*token)),
        Effect::Finished { id, sample, reason, stats } => {
            let class = match reason {
                CompletionReason::Timeout(kind) => 10 + *kind as u64,
                CompletionReason::LengthLimit(kind) => 20 + *kind as u64,
                other => other.name().len() as u64,
            };
            (
                id,
                sample,
                1 << 40 | class << 32 | u64::from(stats.preemptions) << 16 | u64::from(stats.cached_tokens),
            )
        }
        Effect::Failed { id, sample, stats, .. } => (id, sample, 2 << 40 | u64::from(stats.preemptions)),
    };
    let (high, low) = id.0.as_u64_pair();
    let words = [high, low, u64::from(sample.0), what];
    words.iter().fold(before, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}
