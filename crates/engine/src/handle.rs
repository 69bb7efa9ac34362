//! The way to a running engine, for any number of clients.

use crate::adapters::AdapterUse;
use crate::admission::Waiting;
use crate::health::{EngineState, Health};
use crate::inbox::{Arrival, Command, StopOrder, Submission};
use crate::placement::Placement;
use crate::responder::Responder;
use crate::shared::Shared;
use crate::ticket::Ticket;
use crate::{AdapterError, AdapterInfo, EngineConfig, ServedModel, Session, ValidatedRequest};
use pagoda_sched::{Explanation, RequestId, Retention, Rule, SampleIndex, Standing, TenantId};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A cheap, cloneable reference to the engine. No call waits for the engine thread unless it says so.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    pub(crate) shared: Arc<Shared>,
}

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The waiting queue is full.
    #[error(
        "the queue is full: {requests} requests with {tokens} prompt tokens wait; try again in {} s",
        retry_after.as_secs_f64().ceil()
    )]
    QueueFull {
        /// Requests that wait.
        requests: u64,
        /// Prompt tokens that wait.
        tokens: u64,
        /// When to try again, from the measured rate of completion.
        retry_after: Duration,
    },
    /// The KV pool could not hold the request even if it were alone.
    #[error(
        "the prompt needs {needed_blocks} KV blocks and the pool has {pool_blocks}; shorten the prompt \
         or give the engine more KV memory"
    )]
    NeverFits {
        /// Blocks of the prompt.
        needed_blocks: u32,
        /// Blocks of the pool.
        pool_blocks: u32,
    },
    /// The prompt would have to be pinned.
    #[error(
        "this server pins nothing in its prefix cache; ask for a time to live, or start it with --max-pinned-blocks"
    )]
    CannotPin,
    /// More samples or beams than a step has rows.
    #[error("the request has {samples} samples or beams and a batch has {rows} rows; ask for at most {rows}")]
    TooManySamples {
        /// Samples or beams asked for.
        samples: u16,
        /// Rows of a batch.
        rows: u32,
    },
    /// The backend's context is shorter than the prompt.
    #[error(
        "This model's maximum context length is {context} tokens. The prompt has {tokens} tokens, which exceeds \
         the available context size. Shorten the prompt."
    )]
    TooLong {
        /// Tokens of the prompt.
        tokens: u32,
        /// Longest sequence that the backend computes.
        context: u32,
    },
    /// The adapter that the request names is not loaded, or is being unloaded.
    #[error("no adapter of the name {0:?} is loaded")]
    UnknownAdapter(String),
    /// Another request of this id is running.
    #[error("a request with the id {0} is still running; use a fresh id")]
    DuplicateId(RequestId),
    /// The model is being loaded.
    #[error("the model is being loaded; try again later")]
    Loading,
    /// The engine finishes what it has and accepts nothing more.
    #[error("the engine is shutting down and accepts no more requests")]
    Draining,
    /// The engine was stopped.
    #[error("the engine has been stopped")]
    Stopped,
    /// The engine ended on an error.
    #[error("the engine has failed; the process has to be restarted")]
    Failed,
}

/// A look at the engine's load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineSnapshot {
    /// Samples in the running batch.
    pub running: u64,
    /// Requests that wait, those on their way to the engine thread included.
    pub waiting: u64,
    /// Prompt tokens that wait.
    pub waiting_tokens: u64,
    /// KV blocks in use.
    pub used_blocks: u64,
    /// Free KV blocks that still hold a prefix.
    pub cached_blocks: u64,
    /// KV blocks in the pool.
    pub total_blocks: u64,
    /// Prompt tokens of requests that reached their output, since the start.
    pub prompt_tokens: u64,
    /// Tokens generated since the start.
    pub generated_tokens: u64,
    /// Prompt tokens that were looked up in the prefix cache since the start.
    pub prefix_queries: u64,
    /// Of those, tokens that were found there.
    pub prefix_hits: u64,
    /// Steps since the start.
    pub steps: u64,
    /// Time of all steps, microseconds.
    pub step_micros: u64,
    /// Tokens per KV block; 0 until the model is loaded.
    pub block_size: u32,
}

/// A request that has not ended, in brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestBrief {
    /// Name of the request.
    pub id: RequestId,
    /// Who asked.
    pub tenant: TenantId,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Samples that have not ended.
    pub samples: u16,
    /// Tokens generated so far, by all samples.
    pub generated: u64,
    /// Time since it was accepted.
    pub age: Duration,
}

impl EngineHandle {
    /// The model that the engine serves.
    pub fn model(&self) -> &Arc<ServedModel> {
        &self.shared.model
    }

    /// Settings of the engine.
    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    /// Hands a request over and returns one session per sample. Dropping a session cancels its sample.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was accepted and nothing will be sent.
    pub fn submit(&self, request: ValidatedRequest) -> Result<Vec<Session>, SubmitError> {
        self.hand_over(request, None)
    }

    /// As [`submit`](Self::submit), and tells where the request came into the queue, which the engine does once it has
    /// taken the request in, at the latest after the running step; `None` if it never does.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was accepted and nothing will be sent.
    pub fn submit_placed(
        &self,
        request: ValidatedRequest,
    ) -> Result<(Vec<Session>, impl Future<Output = Option<Placement>> + Send + use<>), SubmitError> {
        let (placed, placement) = oneshot::channel();
        let sessions = self.hand_over(request, Some(placed))?;
        Ok((sessions, async move { placement.await.ok() }))
    }

    /// Where a request of `tenant` stands and why; `None` if the tenant has no such request in the engine. Requests of
    /// other tenants are named [`RequestId::EMPTY`]. Waits for the running step.
    pub async fn explain(&self, id: RequestId, tenant: TenantId) -> Option<Explanation> {
        let is_own =
            |id: RequestId| self.shared.tickets.find(id).is_some_and(|ticket| ticket.tenant == tenant);
        if !is_own(id) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.shared.inbox.send(Command::Explain(id, answer)).then_some(())?;
        self.shared.sweep_if_ended();
        let mut explanation = answered.await.ok()??;
        if let Standing::Waiting { rule, before, .. } = &mut explanation.standing {
            let other = match rule {
                Rule::Order { first: other } | Rule::Prefix { with: other } => Some(&mut other.request),
                Rule::Next | Rule::Rows | Rule::Blocks | Rule::Prefill => None,
            };
            for id in before.iter_mut().chain(other) {
                if !is_own(*id) {
                    *id = RequestId::EMPTY;
                }
            }
        }
        Some(explanation)
    }

    fn hand_over(
        &self,
        request: ValidatedRequest,
        placed: Option<oneshot::Sender<Placement>>,
    ) -> Result<Vec<Session>, SubmitError> {
        self.check_accepting()?;
        self.check_fits(&request)?;
        let adapter = match request.adapter() {
            None => None,
            Some(name) => {
                let entered = self.shared.adapters.enter(name);
                Some(entered.ok_or_else(|| SubmitError::UnknownAdapter(name.to_owned()))?)
            }
        };
        let own = Waiting { requests: 1, tokens: u64::from(request.prompt_tokens()) };
        self.shared.admission.reserve(own.tokens).map_err(|waiting| self.queue_full(waiting))?;
        let (text, max_unread) = (request.text().clone(), request.max_unread());
        let asked = request.deadlines();
        let id = adapter.as_ref().map(AdapterUse::id).unwrap_or_default();
        let request = request.into_request(Instant::now(), &self.shared.config.deadlines, id);
        let Some(ticket) = Ticket::open(&self.shared, &request, asked) else {
            self.shared.admission.release(own);
            return Err(SubmitError::DuplicateId(request.id));
        };
        let (samples, sampling) = (request.samples, Arc::clone(&request.sampling));
        // The prompt, every token, the end, and that of an engine that was given up, so that a send can only fail when the
        // client has gone away.
        let room = request.max_tokens as usize + 3;
        let (responders, receivers): (Vec<_>, Vec<_>) = (0..samples)
            .map(|sample| {
                let (sender, receiver) = mpsc::channel(room);
                let sample = SampleIndex(sample);
                ticket.listen(sample, &sender);
                (Responder::new(sender, Arc::clone(ticket.progress(sample)), max_unread), receiver)
            })
            .unzip();
        let account = self.shared.metrics.accounts.of(request.tenant.id);
        let submission = Box::new(Submission { request, responders, account, placed, adapter });
        if self.shared.inbox.submit(submission).is_err() {
            self.shared.admission.release(own);
            return Err(self.queue_full(self.shared.admission.waiting()));
        }
        self.shared.sweep_if_ended();
        let session = |(sample, events)| {
            Session::new(Arc::clone(&ticket), SampleIndex(sample), events, &sampling, &text)
        };
        Ok((0..samples).zip(receivers).map(session).collect())
    }

    /// Cancels all samples of a request. Returns whether any of them was still running; an unknown or finished
    /// request is no error.
    pub fn cancel(&self, id: RequestId) -> bool {
        self.shared.tickets.find(id).is_some_and(|ticket| ticket.cancel_all())
    }

    /// [`cancel`](Self::cancel) for a request of `tenant`; those of others are unknown to it.
    pub fn cancel_own(&self, id: RequestId, tenant: TenantId) -> bool {
        self.shared.tickets.find(id).is_some_and(|ticket| ticket.tenant == tenant && ticket.cancel_all())
    }

    /// The requests that have not ended, of `tenant` or of all, oldest first. Waits for no step.
    pub fn requests(&self, tenant: Option<TenantId>) -> Vec<RequestBrief> {
        let now = Instant::now();
        let tickets = self.shared.tickets.all();
        let own = tickets.iter().filter(|ticket| tenant.is_none_or(|tenant| ticket.tenant == tenant));
        let mut briefs: Vec<_> =
            own.map(|ticket| ticket.brief(now)).filter(|brief| brief.samples > 0).collect();
        briefs.sort_unstable_by_key(|brief| brief.id);
        briefs
    }

    /// Empties the prefix cache of all that no request is using, pinned prompts included. Returns how many blocks were
    /// forgotten; `None` if the engine has ended or its inbox is full.
    pub async fn clear_prefix_cache(&self) -> Option<u32> {
        let (answer, answered) = oneshot::channel();
        self.shared.inbox.send(Command::ClearCache(answer)).then_some(())?;
        self.shared.sweep_if_ended();
        answered.await.ok()
    }

    /// Reads the adapter in the folder `path` and lets requests name it. Takes as long as that takes, on the calling thread, which
    /// must not be one that runs an async runtime; no step waits for more than the last moment of it.
    ///
    /// # Errors
    /// [`AdapterError`]: everything is as it was.
    pub fn load_adapter(&self, name: &str, path: &Path) -> Result<AdapterInfo, AdapterError> {
        let shared = &self.shared;
        let source = shared.config.adapters.as_ref().filter(|source| source.limit > 0);
        let source = source.ok_or(AdapterError::NoRoom)?;
        let (reservation, weights) = shared.read_adapter(source, name, path)?;
        let id = reservation.id;
        let (answer, answered) = oneshot::channel();
        if !shared.inbox.send(Command::Attach(Arrival { id, weights, answer })) {
            return Err(AdapterError::Busy);
        }
        shared.sweep_if_ended();
        let outcome = answered.blocking_recv().map_err(|_| AdapterError::Busy)?;
        outcome.map_err(AdapterError::Invalid)?;
        reservation.keep();
        self.adapter(name).ok_or_else(|| AdapterError::Unknown(name.to_owned()))
    }

    /// Refuses further requests that name the adapter, waits for those that run, and frees it.
    ///
    /// # Errors
    /// [`AdapterError`]: no such adapter, or the engine takes no orders.
    pub async fn unload_adapter(&self, name: &str) -> Result<(), AdapterError> {
        let shared = &self.shared;
        let id = shared.adapters.retire(name)?;
        let (answer, answered) = oneshot::channel();
        if !shared.inbox.send(Command::Detach(id, answer)) {
            shared.adapters.announce(id);
            return Err(AdapterError::Busy);
        }
        shared.sweep_if_ended();
        answered.await.map(drop).map_err(|_| AdapterError::Busy)
    }

    /// An adapter that requests may name.
    pub fn adapter(&self, name: &str) -> Option<AdapterInfo> {
        self.shared.adapters.ready().into_iter().find(|info| *info.name == *name)
    }

    /// The adapters that requests may name, in the order in which they were loaded.
    pub fn adapters(&self) -> Vec<AdapterInfo> {
        self.shared.adapters.ready()
    }

    /// Suspends steps after the running one. Requests are still accepted, cancelled and timed out.
    pub fn pause(&self) {
        self.shared.inbox.pause(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.shared.inbox.pause(false);
    }

    /// Refuses new requests from here on, ends a pause, and stops the engine when the accepted requests have
    /// ended. Does not wait; see [`EngineHandle::ended`].
    pub fn drain(&self) {
        self.shared.pulse.advance(EngineState::Draining);
        self.shared.inbox.stop(StopOrder::Drain);
    }

    /// Stops the engine after the running step; unfinished requests end with
    /// [`RequestError::Shutdown`](crate::RequestError::Shutdown). Does not wait.
    pub fn shutdown(&self) {
        self.shared.pulse.advance(EngineState::Draining);
        self.shared.inbox.stop(StopOrder::Shutdown);
    }

    /// State of the engine.
    pub fn state(&self) -> EngineState {
        self.shared.pulse.state()
    }

    /// Waits until the model is loaded, or the engine has ended, and returns the state.
    pub async fn ready(&self) -> EngineState {
        self.wait_for(|state| *state != EngineState::Loading).await
    }

    /// Waits until the engine has stopped or failed, and returns which.
    pub async fn ended(&self) -> EngineState {
        self.wait_for(|state| state.has_ended()).await
    }

    /// State, heartbeat and failure. Never waits for the engine.
    pub fn health(&self) -> Health {
        self.health_at(Instant::now())
    }

    /// [`EngineHandle::health`] as it is, or would be, at `now`.
    pub fn health_at(&self, now: Instant) -> Health {
        let shared = &self.shared;
        shared.pulse.health(now, shared.config.stall_after, shared.inbox.is_paused())
    }

    /// Gives a tenant a name in the metrics, where it then has series of its own. A tenant keeps its first name. Those
    /// without one, and all after the first 64, are counted together as `other`.
    pub fn name_tenant(&self, tenant: TenantId, name: &str) {
        self.shared.metrics.accounts.name(tenant, name);
    }

    /// All metrics in the OpenMetrics text format.
    pub fn metrics_text(&self) -> String {
        if let Some(source) = &self.shared.config.adapters {
            self.shared.metrics.set_adapters(source.limit, &self.shared.adapters.in_use());
        }
        self.shared.metrics.encode()
    }

    /// Load and totals, as of the last step.
    pub fn snapshot(&self) -> EngineSnapshot {
        let metrics = &self.shared.metrics;
        let waiting = self.shared.admission.waiting();
        let (steps, step_micros) = metrics.steps.totals();
        EngineSnapshot {
            steps,
            step_micros,
            running: metrics.running.get() as u64,
            waiting: waiting.requests,
            waiting_tokens: waiting.tokens,
            used_blocks: metrics.blocks.used.get() as u64,
            cached_blocks: metrics.blocks.cached.get() as u64,
            total_blocks: metrics.blocks.total.get() as u64,
            prompt_tokens: metrics.prompt_tokens.get(),
            generated_tokens: metrics.generation_tokens.get(),
            prefix_queries: metrics.prefix_queries.get(),
            prefix_hits: metrics.prefix_hits.get(),
            block_size: self.shared.capacity.get().map_or(0, |capacity| capacity.layout.block_size),
        }
    }

    async fn wait_for(&self, done: impl FnMut(&EngineState) -> bool) -> EngineState {
        let mut states = self.shared.pulse.subscribe();
        // The sender lives in `shared`, which outlives this call.
        states.wait_for(done).await.map_or(EngineState::Stopped, |state| *state)
    }

    fn check_accepting(&self) -> Result<(), SubmitError> {
        match self.state() {
            EngineState::Ready => Ok(()),
            EngineState::Loading => Err(SubmitError::Loading),
            EngineState::Draining => Err(SubmitError::Draining),
            EngineState::Stopped => Err(SubmitError::Stopped),
            EngineState::Failed => Err(SubmitError::Failed),
        }
    }

    fn check_fits(&self, request: &ValidatedRequest) -> Result<(), SubmitError> {
        let rows = self.shared.config.scheduler.max_num_seqs;
        let samples = request.rows();
        if u32::from(samples) > rows {
            return Err(SubmitError::TooManySamples { samples, rows });
        }
        let capacity = self.shared.capacity.get().expect("a ready engine knows its capacity");
        let (tokens, context) = (request.prompt_tokens(), capacity.max_context);
        if tokens + request.max_tokens().min(1) > context {
            return Err(SubmitError::TooLong { tokens, context });
        }
        let needed_blocks = tokens.div_ceil(capacity.layout.block_size);
        let limits = &self.shared.config.scheduler;
        // Block 0 holds no tokens, and pinned ones may not be had.
        let pool_blocks = capacity.layout.blocks.saturating_sub(1).saturating_sub(limits.max_pinned_blocks);
        if needed_blocks > pool_blocks {
            return Err(SubmitError::NeverFits { needed_blocks, pool_blocks });
        }
        let can_pin = limits.prefix_cache && limits.max_pinned_blocks > 0;
        if request.retention() == Retention::PINNED && !can_pin {
            return Err(SubmitError::CannotPin);
        }
        Ok(())
    }

    fn queue_full(&self, waiting: Waiting) -> SubmitError {
        self.shared.metrics.refused.inc();
        SubmitError::QueueFull {
            requests: waiting.requests,
            tokens: waiting.tokens,
            retry_after: self.shared.admission.retry_after(),
        }
    }
}
