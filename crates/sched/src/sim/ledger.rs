//! What became of every request: each sample ends once, for a reason that holds, after the tokens it must have.

use super::SimReport;
use super::prompts::PromptLedger;
use crate::fake::{BeamAnswer, FakeModel};
use crate::{
    AdapterId, CompletionReason, DeadlineKind, Effect, Effects, Failure, LengthKind, Request, RequestId,
    RequestStats, SampleIndex, Scheduler, SequenceId, TokenId,
};
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// All requests that have not ended.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: FxHashMap<RequestId, Entry>,
    /// The same requests in an order that depends on nothing but history.
    open: Vec<RequestId>,
}

#[derive(Debug)]
struct Entry {
    request: Request,
    samples: Vec<Account>,
    live: u16,
    place: usize,
    /// What a beam search has to answer; filled at its first token.
    answers: Vec<BeamAnswer>,
    prompt: PromptLedger,
}

#[derive(Clone, Debug, Default)]
struct Account {
    prefix: u64,
    generated: u32,
    last: Option<TokenId>,
    /// All tokens, of a beam search only.
    tokens: Vec<TokenId>,
    cancelled: bool,
    ended: bool,
}

/// What the scheduler may say at this point.
pub(super) struct Context<'a> {
    /// All effects of the call.
    pub(super) effects: &'a Effects,
    pub(super) model: &'a FakeModel,
    pub(super) scheduler: &'a Scheduler,
    pub(super) now: Instant,
    /// Whether the step failed as a whole.
    pub(super) step_failed: bool,
    /// Whether rows may have non-finite logits.
    pub(super) nan: bool,
}

impl Ledger {
    pub(super) fn open(&mut self, request: Request, model: &FakeModel) {
        let prefix = model.with_adapter(request.adapter).prefix_of(&request.prompt);
        let account = Account { prefix, ..Account::default() };
        let (id, samples, place) = (request.id, request.samples, self.open.len());
        self.open.push(id);
        let samples_of = vec![account; usize::from(samples)];
        let (answers, prompt) = (Vec::new(), PromptLedger::default());
        let entry = Entry { samples: samples_of, live: samples, place, answers, prompt, request };
        assert!(self.entries.insert(id, entry).is_none(), "a known id was accepted");
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a request with this adapter has not ended.
    pub(super) fn uses(&self, adapter: AdapterId) -> bool {
        self.entries.values().any(|entry| entry.request.adapter == adapter)
    }

    pub(super) fn ids(&self) -> &[RequestId] {
        &self.open
    }

    /// Tokens that may still be generated.
    pub(super) fn outstanding(&self) -> u64 {
        let of = |entry: &Entry| {
            let open = entry.samples.iter().filter(|account| !account.ended);
            open.map(|account| u64::from(entry.request.max_tokens - account.generated)).sum::<u64>()
                + entry.request.prompt.len() as u64
        };
        self.entries.values().map(of).sum()
    }

    /// Notes a cancellation. Returns whether the sample, or with `None` any, was live and not cancelled as a whole.
    pub(super) fn cancel(&mut self, id: RequestId, sample: Option<SampleIndex>) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        match sample {
            None => entry.samples.iter_mut().for_each(|account| account.cancelled = true),
            Some(sample) => match entry.samples.get_mut(usize::from(sample.0)) {
                Some(account) if !account.ended => account.cancelled = true,
                _ => return false,
            },
        }
        true
    }

    /// Books one effect and checks that it may happen. Returns the request if that was its last end.
    pub(super) fn book(
        &mut self,
        effect: &Effect,
        context: &Context<'_>,
        report: &mut SimReport,
    ) -> Option<RequestId> {
        match effect {
            Effect::Prompt { id, positions, logprobs, top, hidden } => {
                let entry = self.entries.get_mut(id).expect("a report belongs to a live request");
                assert!(entry.samples.iter().all(|account| account.generated == 0), "{id}: a late report");
                entry.prompt.book(positions, context.effects, (logprobs, top, hidden));
                report.reports += 1;
                None
            }
            Effect::Token { id, sample, token, .. } => {
                self.book_token(SequenceId { request: *id, sample: *sample }, *token, context);
                report.tokens += 1;
                None
            }
            Effect::Finished { id, sample, reason, stats } => {
                report.searched += u64::from(self.check_search(*id, *sample, reason, context));
                let (entry, account) = self.account(*id, *sample);
                check_reason(reason, entry, account, context);
                if !matches!(reason, CompletionReason::Cancelled | CompletionReason::Timeout(_)) {
                    entry.prompt.check(&entry.request, context.model);
                }
                check_stats(stats, entry, account);
                report.finish(reason, stats);
                self.close(*id, *sample)
            }
            Effect::Failed { id, sample, failure, stats } => {
                let (entry, account) = self.account(*id, *sample);
                let allowed = match failure {
                    Failure::NonFiniteLogits { .. } => context.nan,
                    Failure::Constraint { .. } => false,
                    Failure::Step(_) => context.step_failed,
                };
                assert!(allowed, "{id} failed without a fault: {failure}");
                check_stats(stats, entry, account);
                report.fail(stats);
                self.close(*id, *sample)
            }
        }
    }

    fn account(&self, id: RequestId, sample: SampleIndex) -> (&Entry, &Account) {
        let entry = self.entries.get(&id);
        let entry =
            entry.unwrap_or_else(|| panic!("{id} is unknown or has ended, and something happened to it"));
        let account = &entry.samples[usize::from(sample.0)];
        assert!(!account.ended, "something happened to {id}#{} after its end", sample.0);
        (entry, account)
    }

    fn book_token(&mut self, id: SequenceId, token: TokenId, context: &Context<'_>) {
        let (entry, account) = self.account(id.request, id.sample);
        let params = &entry.request.sampling;
        if account.generated == 0 {
            entry.prompt.check(&entry.request, context.model);
        }
        if let Some(last) = account.last {
            let stopped = account.generated > params.min_tokens && params.stop_ids.contains(&last);
            assert!(!stopped, "{id} went on after a stop id");
        }
        assert!(account.generated < entry.request.max_tokens, "{id} generated more than max_tokens");
        if params.beam.is_none() {
            let expected = context.model.next(account.prefix, id.sample, params, account.generated);
            assert_eq!(token, expected, "token {} of {id}", account.generated);
        }
        let entry = self.entries.get_mut(&id.request).expect("the account was found");
        let account = &mut entry.samples[usize::from(id.sample.0)];
        account.prefix = FakeModel::extend(account.prefix, token);
        account.generated += 1;
        account.last = Some(token);
        if entry.request.sampling.beam.is_some() {
            account.tokens.push(token);
        }
    }

    /// Compares an output of a beam search with the answers of the plain way. Returns whether there was one.
    fn check_search(
        &mut self,
        id: RequestId,
        sample: SampleIndex,
        reason: &CompletionReason,
        context: &Context<'_>,
    ) -> bool {
        self.account(id, sample);
        let entry = self.entries.get_mut(&id).expect("the account was found");
        let request = &entry.request;
        let unanswered = matches!(reason, CompletionReason::Cancelled | CompletionReason::Timeout(_));
        if request.sampling.beam.is_none() || unanswered {
            return false;
        }
        let config = context.scheduler.config();
        let longest = request.max_tokens.min(config.max_model_len - request.prompt.len() as u32);
        let pool = context.scheduler.pool();
        let rank = usize::from(sample.0);
        let tokens = &entry.samples[rank].tokens;
        let agrees = |answers: &[BeamAnswer]| match answers.get(rank) {
            Some(answer) => answer.tokens == *tokens && answer.stopped == (*reason == CompletionReason::Eos),
            None => tokens.is_empty() && *reason == CompletionReason::Eos,
        };
        let model = context.model.with_adapter(request.adapter);
        let answers = |longest| model.beam_answers(&request.prompt, &request.sampling, longest);
        if entry.answers.is_empty() {
            entry.answers = answers(longest);
        }
        // A search that the pool cannot hold ends at any length.
        let most = u64::from(request.rows())
            * u64::from((request.prompt.len() as u32 + longest).div_ceil(pool.block_size()));
        let short = || most > u64::from(pool.usable()) && (1..longest).any(|length| agrees(&answers(length)));
        assert!(
            agrees(&entry.answers) || short(),
            "{id}#{rank} is {tokens:?}, which the search does not find"
        );
        true
    }

    fn close(&mut self, id: RequestId, sample: SampleIndex) -> Option<RequestId> {
        let entry = self.entries.get_mut(&id).expect("the account was found");
        entry.samples[usize::from(sample.0)].ended = true;
        entry.live -= 1;
        if entry.live > 0 {
            return None;
        }
        let place = entry.place;
        self.entries.remove(&id);
        self.open.swap_remove(place);
        if let Some(moved) = self.open.get(place) {
            self.entries.get_mut(moved).expect("an open request has an entry").place = place;
        }
        Some(id)
    }
}

/// Whether a sample may end for this reason.
fn check_reason(reason: &CompletionReason, entry: &Entry, account: &Account, context: &Context<'_>) {
    let request = &entry.request;
    let params = &request.sampling;
    let total = request.prompt.len() as u32 + account.generated;
    let size = context.scheduler.pool().block_size();
    let stopped = account.generated > params.min_tokens
        && account.last.is_some_and(|last| params.stop_ids.contains(&last));
    let holds = match reason {
        CompletionReason::Eos => stopped || (params.beam.is_some() && account.generated == 0),
        CompletionReason::MaxTokens => account.generated == request.max_tokens && !stopped,
        CompletionReason::Cancelled => account.cancelled,
        CompletionReason::LengthLimit(LengthKind::Context) => {
            total >= context.scheduler.config().max_model_len
        }
        CompletionReason::LengthLimit(LengthKind::Pool) => {
            // The beams of a search need blocks together; those of samples are their own.
            let beams = params.beam.map_or(1, |beam| u32::from(beam.width));
            let usable = context.scheduler.pool().usable();
            total.div_ceil(size) > usable || beams > 1 && (total + 1).div_ceil(size) * beams > usable
        }
        CompletionReason::Timeout(kind) => {
            let limits = request.deadlines;
            let limit = match kind {
                DeadlineKind::Queue => limits.queue.filter(|_| account.generated == 0),
                DeadlineKind::FirstToken => limits.first_token.filter(|_| account.generated == 0),
                DeadlineKind::Total => limits.total,
            };
            limit.is_some_and(|limit| request.enqueued_at + limit <= context.now)
        }
        CompletionReason::StopString(_) | CompletionReason::Repetition => false,
    };
    assert!(holds, "{} ended with {reason:?}, which does not hold: {account:?}", request.id);
}

fn check_stats(stats: &RequestStats, entry: &Entry, account: &Account) {
    assert_eq!(stats.generated_tokens, account.generated, "generated tokens of {}", entry.request.id);
    assert_eq!(
        stats.prompt_tokens,
        entry.request.prompt.len() as u32,
        "prompt tokens of {}",
        entry.request.id
    );
    assert!(stats.cached_tokens < stats.prompt_tokens, "the last prompt token is never cached");
    let first = stats.time_to_first_token.unwrap_or(Duration::ZERO);
    assert_eq!(stats.time_to_first_token.is_some(), account.generated > 0, "time to first token");
    assert!(stats.queue_time <= stats.time_to_first_token || account.generated == 0, "queue time");
    assert!(first <= stats.processing_time, "processing time");
}
