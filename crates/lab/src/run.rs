//! The loop of an engine in virtual time.

use crate::meter::{Ending, Look, Meter, Owner};
use crate::prompt::{STOP, prompt, token};
use crate::rules::limits;
use crate::timeline::Sample;
use crate::trace::TraceError;
use crate::{Arrival, Feed, Report, Rule, Setup, SetupError, Source, StepWork};
use pagoda_sched::{
    AdapterId, CacheSalt, CompletionReason, Deadlines, Effect, Effects, Priority, Request, RequestId,
    RequestStats, Reservation, Sampled, SamplingParams, Scheduler, StepOutput, Tenant, TenantId,
};
use slab::Slab;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The setup makes no sense.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The trace cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Runs all requests of `source` to their ends.
///
/// # Errors
/// [`LabError`] if the setup makes no sense or the trace cannot be used.
pub fn run(source: &Source, setup: &Setup) -> Result<Report, LabError> {
    let mut run = Run::new(source.open()?, setup)?;
    while run.pass()? {}
    Ok(run.report(source))
}

/// Between two looks at how full blocks are, which cost more than a step.
const STEPS_PER_LOOK: u64 = 8;

/// A request in the scheduler.
#[derive(Clone, Copy, Debug)]
struct Live {
    owner: Owner,
    serial: u64,
    /// Tokens after which its answer ends.
    output_tokens: u32,
    /// When it last got a token, or came.
    last: Duration,
    has_token: bool,
    has_run: bool,
}

/// One run.
#[derive(Debug)]
struct Run<'a> {
    setup: &'a Setup,
    feed: Feed,
    /// The next request that comes by the clock.
    next: Option<Arrival>,
    /// Clients without a request.
    free_clients: u32,
    /// Clients that were refused; they try again when a request has ended.
    refused_clients: u32,
    /// Whether requests come when clients are free.
    closed: bool,
    serial: u64,
    sampling: Arc<SamplingParams>,
    scheduler: Scheduler,
    live: Slab<Live>,
    start: Instant,
    /// Virtual time since `start`.
    now: Duration,
    first_arrival: Option<Duration>,
    steps: u64,
    effects: Effects,
    output: StepOutput,
    meter: Meter,
}

impl<'a> Run<'a> {
    fn new(feed: Feed, setup: &'a Setup) -> Result<Self, LabError> {
        let scheduler = Scheduler::new(limits(setup), setup.capacity()?).map_err(SetupError::Config)?;
        let clients = feed.clients();
        let mut run = Self {
            setup,
            feed,
            next: None,
            free_clients: clients.unwrap_or(0),
            refused_clients: 0,
            closed: clients.is_some(),
            serial: 0,
            sampling: Arc::new(SamplingParams { stop_ids: Box::new([STOP]), ..SamplingParams::greedy() }),
            scheduler,
            live: Slab::new(),
            start: Instant::now(),
            now: Duration::ZERO,
            first_arrival: None,
            steps: 0,
            effects: Effects::default(),
            output: StepOutput::default(),
            meter: Meter::new(setup.slo, setup.config.max_num_seqs),
        };
        run.fetch()?;
        Ok(run)
    }

    fn clock(&self) -> Instant {
        self.start + self.now
    }

    fn fetch(&mut self) -> Result<(), TraceError> {
        self.next = self.feed.next().transpose()?;
        Ok(())
    }

    /// One pass of the engine's loop. `false` when everything has come to its end.
    fn pass(&mut self) -> Result<bool, TraceError> {
        self.intake()?;
        self.scheduler.reap(self.clock(), &mut self.effects);
        self.book();
        if self.step() {
            return Ok(true);
        }
        // Planning may have found ends, which may have freed clients.
        self.scheduler.reap(self.clock(), &mut self.effects);
        self.book();
        Ok(self.wait())
    }

    /// Moves the clock to what happens next. `false` if nothing will.
    fn wait(&mut self) -> bool {
        if self.closed && self.next.is_some() && self.free_clients > 0 {
            return true;
        }
        let arrival = self.next.filter(|_| !self.closed).map(|next| Duration::from_secs_f64(next.at));
        let deadline = self.scheduler.next_deadline().map(|at| at.saturating_duration_since(self.start));
        let Some(next) = arrival.into_iter().chain(deadline).min() else {
            assert!(self.scheduler.is_idle(), "requests wait and nothing is planned");
            return false;
        };
        self.now = self.now.max(next);
        true
    }

    /// Gives the scheduler what has arrived.
    fn intake(&mut self) -> Result<(), TraceError> {
        while let Some(arrival) = self.next {
            let at = if self.closed { self.now } else { Duration::from_secs_f64(arrival.at) };
            if at > self.now || (self.closed && self.free_clients == 0) {
                return Ok(());
            }
            self.free_clients = self.free_clients.saturating_sub(1);
            self.enqueue(&arrival, at);
            self.fetch()?;
        }
        Ok(())
    }

    fn enqueue(&mut self, arrival: &Arrival, at: Duration) {
        let owner = Owner { class: arrival.class, tenant: arrival.tenant };
        self.first_arrival.get_or_insert(at);
        self.meter.came(owner);
        self.know(owner.tenant);
        let serial = self.serial;
        self.serial += 1;
        let live = Live {
            owner,
            serial,
            output_tokens: arrival.output_tokens,
            last: at,
            has_token: false,
            has_run: false,
        };
        let key = self.live.insert(live);
        let request = self.request(arrival, at, (serial, key));
        match self.scheduler.enqueue(request, self.clock()) {
            Ok(()) => self.meter.fairness.waits(owner.tenant),
            Err(_) => {
                self.live.remove(key);
                self.meter.refused(owner);
                self.refused_clients += u32::from(self.closed);
            }
        }
    }

    fn know(&mut self, tenant: u32) {
        let (setup, feed) = (self.setup, &self.feed);
        self.meter.fairness.know(tenant, |number| weight_of(setup, feed, number));
    }

    fn request(&self, arrival: &Arrival, at: Duration, (serial, key): (u64, usize)) -> Request {
        let one_line = self.setup.without.contains(Rule::Classes);
        let room = self.scheduler.config().max_model_len.saturating_sub(arrival.prompt_tokens).max(1);
        let tenant = Tenant {
            id: TenantId(u64::from(arrival.tenant)),
            weight: self.setup.weight(self.feed.tenant(arrival.tenant)),
        };
        Request {
            id: RequestId(Uuid::from_u64_pair(serial, key as u64)),
            prompt: prompt(arrival, serial),
            sampling: Arc::clone(&self.sampling),
            max_tokens: arrival.max_tokens.min(room),
            samples: 1,
            priority: if one_line { Priority::Normal } else { arrival.class },
            tenant: if one_line { Tenant::default() } else { tenant },
            salt: CacheSalt(0),
            adapter: AdapterId::NONE,
            retention: Default::default(),
            enqueued_at: self.start + at,
            deadlines: Deadlines { queue: self.setup.queue_timeout, ..Deadlines::default() },
        }
    }

    /// Plans, lets the time of the step pass, and commits. `false` if there was nothing to run.
    fn step(&mut self) -> bool {
        let now = self.start + self.now;
        let Some(input) = self.scheduler.plan(now) else { return false };
        self.output.clear();
        let fairness = &mut self.meter.fairness;
        fairness.served(
            input
                .rows
                .iter()
                .map(|row| (self.live[slot(row.id)].owner.tenant, row.tokens.end - row.tokens.start)),
        );
        for row in &input.rows {
            let live = &mut self.live[slot(row.id)];
            if !live.has_run {
                live.has_run = true;
                fairness.leaves(live.owner.tenant);
            }
            if let Some(sampling) = &row.sampling {
                let last = sampling.generated + 1 >= live.output_tokens;
                let token = if last { STOP } else { token(live.serial, row.context) };
                self.output.samples.push(Sampled { token: Ok(token), logprob: 0.0, top: 0..0 });
            }
        }
        let seconds = self.setup.cost.seconds(&StepWork::of(input));
        self.now += Duration::from_secs_f64(seconds);
        let done = self.start + self.now;
        self.scheduler.commit(Ok(&self.output), done, &mut self.effects);
        self.look(seconds);
        self.steps += 1;
        self.book();
        true
    }

    /// Looks at what a step that took so many seconds has left.
    fn look(&mut self, seconds: f64) {
        let sampled = self.meter.timeline.wants(self.steps);
        if !sampled && !self.steps.is_multiple_of(STEPS_PER_LOOK) {
            return;
        }
        let look = self.occupancy();
        self.meter.occupancy.add(&look, seconds);
        if sampled {
            let pool = self.scheduler.pool();
            let percent = |blocks: f64| 100.0 * blocks / f64::from(pool.total());
            self.meter.timeline.push(Sample {
                at_s: self.now.as_secs_f64(),
                running: self.scheduler.batch().rows(),
                waiting: self.scheduler.queue().len() as u32,
                used_percent: percent(look.blocks),
                cached_percent: percent(f64::from(pool.cached())),
            });
        }
    }

    /// How full the blocks are. Reserved slots count as live: nobody else can use them.
    fn occupancy(&self) -> Look {
        let batch = self.scheduler.batch();
        let config = self.scheduler.config();
        let size = f64::from(self.setup.block_size);
        let stats = self.scheduler.block_stats();
        let (mut blocks, mut slots) = (f64::from(stats.allocated_blocks), 0.0);
        if config.reservation == Reservation::WorstCase {
            slots = batch
                .iter()
                .map(|running| f64::from(most_tokens(running.request(), config.max_model_len)))
                .sum();
            blocks = slots / size;
        } else {
            slots += blocks * size;
        }
        Look { rows: batch.rows(), blocks, slots, filled: (stats.total_tokens as f64).min(slots) }
    }

    /// Takes in what happened to requests.
    fn book(&mut self) {
        let now = self.now;
        let mut effects = std::mem::take(&mut self.effects);
        for effect in &effects.events {
            match effect {
                Effect::Prompt { .. } => {}
                Effect::Token { id, .. } => {
                    let live = &mut self.live[slot(*id)];
                    if live.has_token {
                        self.meter.gap(live.owner, (now - live.last).as_secs_f64());
                    }
                    (live.has_token, live.last) = (true, now);
                }
                Effect::Finished { id, reason, stats, .. } => {
                    let expired = matches!(reason, CompletionReason::Timeout(_));
                    self.end(*id, if expired { Ending::Expired } else { Ending::Finished }, stats);
                }
                Effect::Failed { id, stats, .. } => self.end(*id, Ending::Failed, stats),
            }
        }
        effects.clear();
        self.effects = effects;
    }

    fn end(&mut self, id: RequestId, ending: Ending, stats: &RequestStats) {
        let live = self.live.remove(slot(id));
        if !live.has_run {
            self.meter.fairness.leaves(live.owner.tenant);
        }
        self.free_clients += u32::from(self.closed) + std::mem::take(&mut self.refused_clients);
        self.meter.ended(live.owner, ending, stats);
    }

    fn report(&self, source: &Source) -> Report {
        let seconds = self.now.saturating_sub(self.first_arrival.unwrap_or_default()).as_secs_f64();
        Report::new(source, self.setup, &self.feed, &self.meter, (seconds, self.scheduler.counters()))
    }
}

/// The weight of a tenant as a number.
fn weight_of(setup: &Setup, feed: &Feed, tenant: u32) -> f64 {
    f64::from(setup.weight(feed.tenant(tenant)).thousandths()) / 1000.0
}

/// Where a request is kept.
fn slot(id: RequestId) -> usize {
    id.0.as_u64_pair().1 as usize
}

/// Tokens that a request may come to.
fn most_tokens(request: &Request, max_model_len: u32) -> u32 {
    (request.prompt.len() as u32).saturating_add(request.max_tokens).min(max_model_len)
}
