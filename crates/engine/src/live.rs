//! Requests that the engine works on, and what each effect of the scheduler means for them.

use crate::accounts::Account;
use crate::adapters::AdapterUse;
use crate::admission::Waiting;
use crate::event::Ending;
use crate::metrics::Metrics;
use crate::responder::Responder;
use crate::{PromptResult, RequestError, TokenInfo};
use pagoda_sched::{
    CompletionReason, Effect, Effects, Request, RequestId, RequestStats, Row, SampleIndex, StepInput,
};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The responders of all accepted requests that have not ended.
#[derive(Debug, Default)]
pub(crate) struct LiveRequests {
    requests: FxHashMap<RequestId, LiveRequest>,
    /// Samples whose clients were found to read too slowly since they were taken from here.
    too_slow: Vec<(RequestId, SampleIndex)>,
}

/// A request that has not ended, and what was counted of it.
#[derive(Debug)]
pub(crate) struct LiveRequest {
    /// One per sample; `None` once it has ended.
    responders: Vec<Option<Responder>>,
    prompt_tokens: u32,
    arrived_at: Instant,
    /// Whether a step has included it.
    started: bool,
    /// Whether the prompt has been counted, which happens once, at the first token of any sample, or at the end of one without.
    prompt_counted: bool,
    /// What was found in the prompt, until all of it is there and is sent.
    prompt: Option<PromptResult>,
    /// Whether a sample has ended, with which the cached part of the prompt is counted.
    ended: bool,
    account: Arc<Account>,
    adapter: Option<AdapterUse>,
}

impl LiveRequest {
    /// `request` as it is enqueued, without its responders.
    pub(crate) fn new(request: &Request, account: Arc<Account>, adapter: Option<AdapterUse>) -> Self {
        Self {
            responders: Vec::new(),
            prompt_tokens: request.prompt.len() as u32,
            arrived_at: request.enqueued_at,
            started: false,
            prompt_counted: false,
            prompt: PromptResult::of(request),
            ended: false,
            account,
            adapter,
        }
    }
}

impl LiveRequest {
    /// Sends what was found in the prompt to all samples, once all of it is there.
    fn tell_prompt(&mut self) {
        if let Some(prompt) = self.prompt.take_if(|prompt| prompt.is_complete()) {
            let prompt = Arc::new(prompt);
            self.responders.iter().flatten().for_each(|responder| responder.prompt(Arc::clone(&prompt)));
        }
    }

    /// Counts the prompt, once for all samples.
    fn count_prompt(&mut self, metrics: &Metrics) {
        if !std::mem::replace(&mut self.prompt_counted, true) {
            metrics.prompt_tokens.inc_by(u64::from(self.prompt_tokens));
            self.account.prompt_tokens.inc_by(u64::from(self.prompt_tokens));
        }
    }
}

impl LiveRequests {
    /// Takes in a request that the scheduler has accepted.
    pub(crate) fn insert(&mut self, id: RequestId, mut live: LiveRequest, responders: Vec<Responder>) {
        live.account.requests.inc();
        live.responders = responders.into_iter().map(Some).collect();
        live.tell_prompt();
        let previous = self.requests.insert(id, live);
        assert!(previous.is_none(), "the scheduler accepted request {id} twice");
    }

    /// Marks the requests that `input` includes for the first time, and returns what they took from the waiting
    /// queue. Looks at the rows that have generated nothing yet, of which a step has few.
    pub(crate) fn start(&mut self, input: &StepInput) -> Waiting {
        let mut started = Waiting::default();
        let is_first = |row: &&Row| row.sampling.as_ref().is_none_or(|sampling| sampling.generated == 0);
        for row in input.rows.iter().filter(is_first) {
            let live = self.requests.get_mut(&row.id).expect("a row belongs to a live request");
            if !std::mem::replace(&mut live.started, true) {
                live.adapter.iter_mut().for_each(AdapterUse::start);
                started.requests += 1;
                started.tokens += u64::from(live.prompt_tokens);
            }
        }
        started
    }

    /// Sends every effect to the session that it concerns, in order.
    pub(crate) fn apply(&mut self, effects: &Effects, now: Instant, metrics: &Metrics) {
        for effect in &effects.events {
            match effect {
                Effect::Prompt { id, positions, logprobs, top, hidden } => {
                    let live = self.requests.get_mut(id).expect("a report belongs to a live request");
                    let prompt = live.prompt.as_mut().expect("a report was asked for and is not complete");
                    prompt.add(positions.end, effects, (logprobs, top, hidden));
                    live.tell_prompt();
                }
                Effect::Token { id, sample, token, logprob, top } => {
                    let top = effects.top[top.start as usize..top.end as usize].into();
                    let info = TokenInfo { token: *token, logprob: *logprob, top };
                    self.token(*id, *sample, info, now, metrics);
                }
                Effect::Finished { id, sample, reason, stats } => {
                    observe_end(stats, metrics);
                    self.count_cached(*id, stats);
                    if *reason == CompletionReason::MaxTokens {
                        let live = self.requests.get_mut(id).expect("an end belongs to a live request");
                        live.count_prompt(metrics);
                    }
                    self.end(*id, *sample, Ok(Ending { reason: reason.clone(), stats: *stats }));
                }
                Effect::Failed { id, sample, failure, stats } => {
                    observe_end(stats, metrics);
                    self.count_cached(*id, stats);
                    self.end(*id, *sample, Err(failure.clone().into()));
                }
            }
        }
    }

    /// Ends every sample with `error`.
    pub(crate) fn end_all(&mut self, error: &RequestError) {
        for (_, live) in self.requests.drain() {
            for responder in live.responders.into_iter().flatten() {
                responder.finish(Err(error.clone()));
            }
        }
    }

    fn token(
        &mut self,
        id: RequestId,
        sample: SampleIndex,
        info: TokenInfo,
        now: Instant,
        metrics: &Metrics,
    ) {
        let live = self.requests.get_mut(&id).expect("a token belongs to a live request");
        live.count_prompt(metrics);
        let responder = live.responders[usize::from(sample.0)].as_mut().expect("a token precedes its end");
        match responder.last_token.replace(now) {
            // Tokens that come together have no time between them.
            Some(last) if last == now => {}
            Some(last) => metrics.inter_token.observe(now.saturating_duration_since(last).as_secs_f64()),
            None => metrics
                .time_to_first_token
                .observe(now.saturating_duration_since(live.arrived_at).as_secs_f64()),
        }
        metrics.generation_tokens.inc();
        live.account.generated_tokens.inc();
        if responder.token(info) {
            self.too_slow.push((id, sample));
        }
    }

    /// The samples to cancel because nobody reads what they say.
    pub(crate) fn take_too_slow(&mut self) -> impl Iterator<Item = (RequestId, SampleIndex)> {
        self.too_slow.drain(..)
    }

    /// Counts what the prompt took from the prefix cache, once for all samples.
    fn count_cached(&mut self, id: RequestId, stats: &RequestStats) {
        let live = self.requests.get_mut(&id).expect("an end belongs to a live request");
        if !std::mem::replace(&mut live.ended, true) {
            live.account.cached_tokens.inc_by(u64::from(stats.cached_tokens));
        }
    }

    fn end(&mut self, id: RequestId, sample: SampleIndex, end: Result<Ending, RequestError>) {
        let live = self.requests.get_mut(&id).expect("an end belongs to a live request");
        let responder = live.responders[usize::from(sample.0)].take().expect("a sample ends once");
        responder.finish(end);
        if live.responders.iter().all(Option::is_none) {
            self.requests.remove(&id);
        }
    }
}

fn observe_end(stats: &RequestStats, metrics: &Metrics) {
    let seconds = |duration: Duration| duration.as_secs_f64();
    metrics.latency.observe(seconds(stats.processing_time));
    metrics.request_prompt_tokens.observe(f64::from(stats.prompt_tokens));
    metrics.request_generation_tokens.observe(f64::from(stats.generated_tokens));
    if let Some(queue_time) = stats.queue_time {
        metrics.queue_time.observe(seconds(queue_time));
    }
    if let (Some(first), 2..) = (stats.time_to_first_token, stats.generated_tokens) {
        let rest = stats.processing_time.saturating_sub(first);
        metrics.time_per_output_token.observe(seconds(rest) / f64::from(stats.generated_tokens - 1));
    }
}
