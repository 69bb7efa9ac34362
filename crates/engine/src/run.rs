//! The engine loop: drain the inbox, reap, plan, execute, commit, apply.

use crate::admission::{ExitRate, Waiting};
use crate::inbox::{Arrival, Command, StopOrder, Submission};
use crate::live::{LiveRequest, LiveRequests};
use crate::placement::Placement;
use crate::shared::Shared;
use crate::{RequestError, SubmitError};
use pagoda_sched::{
    AdapterId, AdapterWeights, Effects, EnqueueError, ExecError, Executor, RequestId, SampleIndex, Scheduler,
    StepOutput,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Longest sleep of an idle engine, so that its heart beats.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// An adapter that is to go, and whom to give its weights.
type Leaving = (AdapterId, oneshot::Sender<Option<AdapterWeights>>);

/// The engine thread's own state. Only this thread touches the scheduler and the backend; no lock, no waiting
/// for clients.
#[derive(Debug)]
pub(crate) struct EngineLoop<E> {
    shared: Arc<Shared>,
    executor: E,
    scheduler: Scheduler,
    live: LiveRequests,
    output: StepOutput,
    effects: Effects,
    cancels: Vec<(RequestId, SampleIndex)>,
    /// Adapters that go once their requests have ended.
    leaving: Vec<Leaving>,
    /// What of [`Admission`](crate::admission::Admission) stands for requests that have left the inbox.
    admitted: Waiting,
    /// Requests that left the waiting queue for a step since `exits` was told.
    started: u64,
    /// How fast requests leave the waiting queue.
    exits: ExitRate,
    /// Failed steps without a good one between.
    failed_steps: u32,
    /// The cancel list was held by a client; look again before sleeping.
    cancels_missed: bool,
    idle: bool,
}

impl<E: Executor> EngineLoop<E> {
    pub(crate) fn new(shared: Arc<Shared>, executor: E, scheduler: Scheduler) -> Self {
        Self {
            shared,
            executor,
            scheduler,
            live: LiveRequests::default(),
            output: StepOutput::default(),
            effects: Effects::default(),
            cancels: Vec::new(),
            leaving: Vec::new(),
            admitted: Waiting::default(),
            started: 0,
            exits: ExitRate::default(),
            failed_steps: 0,
            cancels_missed: false,
            idle: false,
        }
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// A message when the backend keeps failing.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        loop {
            if self.shared.pulse.is_given_up() {
                return Ok(());
            }
            self.intake();
            let order = self.shared.inbox.stop_order();
            if order == StopOrder::Shutdown {
                return Ok(());
            }
            self.reap();
            self.let_adapters_go();
            if self.scheduler.is_idle() && self.shared.inbox.len() == 0 {
                self.check_when_idle();
                if order == StopOrder::Drain {
                    return Ok(());
                }
            }
            let paused = self.shared.inbox.is_paused() && order == StopOrder::None;
            let worked = !paused && self.step()?;
            self.shared.pulse.beat(Instant::now());
            if !worked && !self.cancels_missed {
                self.sleep();
            }
        }
    }

    /// Tells every client that is still waiting.
    pub(crate) fn end_all(&mut self, error: &RequestError) {
        self.live.end_all(error);
    }

    /// Takes in what clients asked for since the last look.
    ///
    /// The cancel list is taken first and applied last: a cancellation follows its own submission into the
    /// inbox, so whatever the list names has been received by then.
    fn intake(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.inbox.rearm();
        self.cancels_missed = !shared.cancels.take(&mut self.cancels);
        for _ in 0..shared.inbox.len() {
            if let Some(command) = shared.inbox.try_receive() {
                self.receive(command);
            }
        }
        for (id, sample) in self.cancels.drain(..) {
            // Unknown is no error: the sample may have ended by itself.
            self.scheduler.cancel_sample(id, sample);
        }
    }

    fn receive(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => self.enqueue(*submission),
            Command::Explain(id, answer) => {
                // Nobody needs the answer of a call that was given up.
                let _ = answer.send(self.scheduler.explain(id, Instant::now()));
            }
            Command::ClearCache(answer) => {
                let _ = answer.send(self.scheduler.clear_prefix_cache());
            }
            Command::Attach(arrival) => self.attach(arrival),
            Command::Detach(id, answer) => self.leaving.push((id, answer)),
            Command::Wake => {}
        }
    }

    fn attach(&mut self, Arrival { id, weights, answer }: Arrival) {
        let outcome = self.executor.attach(id, weights).map_err(|error| error.message);
        match &outcome {
            Ok(()) => self.shared.adapters.announce(id),
            Err(_) => self.shared.adapters.remove(id),
        }
        // Who loaded the adapter may have gone away.
        let _ = answer.send(outcome);
    }

    /// Frees the adapters whose last request has ended. Those that it was refused to were counted as well, so that none is on
    /// its way.
    fn let_adapters_go(&mut self) {
        let shared = Arc::clone(&self.shared);
        for (id, answer) in self.leaving.extract_if(.., |(id, _)| shared.adapters.is_idle(*id)) {
            let weights = self.executor.detach(id);
            self.scheduler.forget_adapter(id);
            shared.adapters.remove(id);
            // Without anybody to hand them to, the weights are freed here.
            let _ = answer.send(weights);
        }
    }

    fn enqueue(&mut self, submission: Submission) {
        let Submission { request, responders, account, placed, adapter } = submission;
        let own = Waiting { requests: 1, tokens: request.prompt.len() as u64 };
        let live = LiveRequest::new(&request, account, adapter);
        let id = request.id;
        match self.scheduler.enqueue(request, Instant::now()) {
            Ok(()) => {
                self.admitted.requests += own.requests;
                self.admitted.tokens += own.tokens;
                self.live.insert(id, live, responders);
                self.idle = false;
                if let Some(placed) = placed {
                    self.place(id, placed);
                }
            }
            Err(refusal) => {
                self.shared.admission.release(own);
                let error = RequestError::Refused(refused(refusal));
                for responder in responders {
                    responder.finish(Err(error.clone()));
                }
            }
        }
    }

    /// Tells a client where in the queue its request is.
    fn place(&self, id: RequestId, placed: oneshot::Sender<Placement>) {
        let now = Instant::now();
        let estimate = self.scheduler.estimate(id, now);
        let position =
            estimate.map(|estimate| estimate.position).or_else(|| self.scheduler.position(id, now));
        let position = position.expect("a request that was just accepted waits");
        // A client that has gone away needs no answer.
        let _ = placed.send(Placement { position, estimate });
    }

    fn reap(&mut self) {
        let now = Instant::now();
        self.scheduler.reap(now, &mut self.effects);
        self.apply(now);
    }

    /// Runs one step. Returns whether there was one to run.
    fn step(&mut self) -> Result<bool, String> {
        let Some(input) = self.scheduler.plan(Instant::now()) else {
            return Ok(false);
        };
        // A step may take long: who is in it waits no longer.
        let started = self.live.start(input);
        self.admitted.requests -= started.requests;
        self.admitted.tokens -= started.tokens;
        self.started += started.requests;
        self.shared.admission.release(started);
        self.shared.metrics.running.set(input.rows.len() as i64);
        self.shared.metrics.step_tokens.observe(input.tokens.len() as f64);
        self.output.clear();
        let outcome = self.executor.execute(input, &mut self.output);
        let now = Instant::now();
        self.scheduler.commit(outcome.as_ref().map(|()| &self.output), now, &mut self.effects);
        self.apply(now);
        self.count_failures(outcome)?;
        Ok(true)
    }

    fn count_failures(&mut self, outcome: Result<(), ExecError>) -> Result<(), String> {
        let Err(error) = outcome else {
            self.failed_steps = 0;
            return Ok(());
        };
        self.failed_steps += 1;
        self.shared.metrics.failed_steps.inc();
        tracing::error!(%error, in_a_row = self.failed_steps, "a model step failed; its requests were ended");
        if self.failed_steps < self.shared.config.step_error_limit {
            return Ok(());
        }
        Err(format!("{} model steps failed in a row; the last one: {error}", self.failed_steps))
    }

    /// Publishes the load, then tells the clients, so that a client that hears its end sees it counted.
    fn apply(&mut self, now: Instant) {
        self.publish(now);
        self.live.apply(&self.effects, now, &self.shared.metrics);
        self.effects.clear();
        for (id, sample) in self.live.take_too_slow() {
            self.shared.metrics.too_slow.inc();
            self.scheduler.cancel_sample(id, sample);
        }
    }

    fn publish(&mut self, now: Instant) {
        let stats = self.scheduler.stats(now);
        self.shared.metrics.publish(&stats);
        let waiting = Waiting { requests: u64::from(stats.waiting), tokens: stats.waiting_tokens };
        let before = std::mem::replace(&mut self.admitted, waiting);
        self.shared.admission.settle(before, waiting);
        let left = self.started + before.requests.saturating_sub(waiting.requests);
        self.started = 0;
        self.exits.add(left, now);
        self.shared.admission.set_retry_after(self.exits.time_for_one(now));
    }

    fn check_when_idle(&mut self) {
        if !std::mem::replace(&mut self.idle, true) && cfg!(debug_assertions) {
            self.scheduler.check_invariants();
        }
    }

    /// Sleeps until a command, the next deadline or the next heartbeat.
    fn sleep(&mut self) {
        let until_deadline =
            self.scheduler.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = until_deadline.map_or(HEARTBEAT, |wait| wait.min(HEARTBEAT));
        if let Some(command) = self.shared.inbox.receive(timeout) {
            self.receive(command);
        }
    }
}

/// The refusals that the handle cannot foresee, or missed by a moment.
fn refused(refusal: EnqueueError) -> SubmitError {
    match refusal {
        EnqueueError::DuplicateId(id) => SubmitError::DuplicateId(id),
        EnqueueError::NeverFits { needed_blocks, pool_blocks } => {
            SubmitError::NeverFits { needed_blocks, pool_blocks }
        }
        EnqueueError::TooManySamples { samples, max_num_seqs } => {
            SubmitError::TooManySamples { samples, rows: max_num_seqs }
        }
        EnqueueError::TooLong { tokens, max_model_len } => {
            SubmitError::TooLong { tokens, context: max_model_len }
        }
        EnqueueError::Empty { field } => unreachable!("a validated request has {field}"),
        EnqueueError::NarrowBeam { samples, width } => {
            unreachable!("a validated request has no {samples} outputs of {width} beams")
        }
        EnqueueError::QueueFull { requests, tokens, retry_after } => {
            SubmitError::QueueFull { requests: u64::from(requests), tokens, retry_after }
        }
    }
}
