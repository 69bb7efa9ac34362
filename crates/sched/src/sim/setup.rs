//! A random configuration and random requests for it.

use super::rng::Rng;
use crate::fake::FakeExecutor;
use crate::{
    AdapterId, Batching, BeamSearch, CacheSalt, Deadlines, EarlyStopping, KvCapacity, Pooling, Priority,
    PromptReport, Request, RequestId, Reservation, Retention, SamplingParams, SchedulerConfig, Tenant,
    TenantId, TokenId, Weight,
};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Everything that is fixed for one seed. Rates are per mille.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) config: SchedulerConfig,
    pub(super) capacity: KvCapacity,
    pub(super) arrivals: u32,
    pub(super) cancels: u32,
    pub(super) deadlines: u32,
    pub(super) failures: u32,
    pub(super) nan_per_million: u32,
    samples: u32,
    /// Requests that are searched instead of sampled.
    searches: u32,
    salts: u32,
    tenants: u32,
    longest_prompt: u32,
    longest_output: u32,
    prefixes: Vec<Vec<TokenId>>,
    /// Whether some requests keep or pin their prompts.
    retains: bool,
    /// Whether some requests want to know of their prompts.
    reports: bool,
    /// Adapters that requests may name.
    pub(super) adapters: Vec<AdapterId>,
}

impl Setup {
    pub(super) fn draw(rng: &mut Rng, hash_bits: u32) -> Self {
        let block_size = rng.log_within(1, 32);
        let blocks = rng.log_within(4, 512);
        let max_num_seqs = rng.log_within(1, 64);
        let chunk = rng.log_within(1, 256);
        let pool_tokens = blocks * block_size;
        let max_model_len = rng.log_within(4, (2 * pool_tokens).clamp(4, 384));
        let vocab_size = rng.log_within(3, 200);
        let tight = rng.chance(500);
        let config = SchedulerConfig {
            max_num_seqs,
            max_num_batched_tokens: if tight { chunk.max(max_num_seqs) } else { chunk + max_num_seqs },
            max_prefill_chunk: if rng.chance(500) { chunk } else { u32::MAX },
            itl_target: None,
            max_model_len,
            max_waiting_requests: rng.log_within(1, 64),
            max_waiting_tokens: u64::from(rng.log_within(8, 8192)),
            ageing: Duration::from_millis(u64::from(rng.log_within(1, 2000))),
            watermark_percent: rng.within(0, 5),
            batching: Batching::Continuous,
            reservation: Reservation::Expected,
            prefix_cache: rng.chance(800),
            max_pinned_blocks: 0,
            max_kept_percent: 25,
            hash_seed: rng.word(),
            hash_bits,
        };
        let longest_prompt = rng.log_within(1, 256).min(max_model_len - 1);
        let prefixes = (0..rng.within(1, 6)).map(|_| draw_tokens(rng, longest_prompt, vocab_size)).collect();
        let mut setup = Self {
            config,
            capacity: FakeExecutor::capacity_of(blocks + 1, block_size, max_model_len, vocab_size),
            arrivals: *rng.pick(&[20, 100, 300, 600]),
            cancels: *rng.pick(&[0, 5, 30, 150]),
            deadlines: *rng.pick(&[0, 0, 200, 800]),
            failures: *rng.pick(&[0, 0, 10, 100]),
            nan_per_million: *rng.pick(&[0, 0, 2_000, 50_000]),
            samples: *rng.pick(&[1, 1, 2, 5]),
            searches: 0,
            salts: *rng.pick(&[1, 1, 2]),
            tenants: 1,
            longest_prompt,
            longest_output: rng.log_within(1, 128),
            prefixes,
            retains: false,
            reports: false,
            adapters: Vec::new(),
        };
        // Drawn last, so that the rest of a seed is what it is without.
        let target = rng.chance(300).then(|| Duration::from_micros(u64::from(rng.log_within(1, 100_000))));
        setup.config.itl_target = target;
        setup.tenants = *rng.pick(&[1, 1, 2, 8]);
        if rng.chance(100) {
            setup.config.batching = Batching::Static;
        }
        if rng.chance(100) {
            setup.config.reservation = Reservation::WorstCase;
        }
        setup.retains = rng.chance(400);
        setup.config.max_pinned_blocks = rng.within(0, blocks / 2) * u32::from(setup.retains);
        setup.searches = *rng.pick(&[0, 0, 100, 500]);
        setup.reports = rng.chance(300);
        setup.capacity.window = rng.chance(300).then(|| rng.log_within(1, max_model_len));
        setup.adapters = (1..=*rng.pick(&[0, 0, 1, 3])).map(AdapterId).collect();
        setup
    }

    pub(super) fn request(&self, rng: &mut Rng, now: Instant) -> Request {
        let vocab = self.capacity.vocab_size;
        let prompt = self.prompt(rng);
        let id = Uuid::from_u64_pair(rng.word(), rng.word());
        let room = self.config.max_model_len.saturating_sub(prompt.len() as u32).max(1);
        // A front end cuts max_tokens to the room; the scheduler does not rely on it.
        let room = if rng.chance(100) { self.longest_output } else { room };
        let max_tokens = rng.within(1, self.longest_output).min(room);
        let stops = if rng.chance(500) { vec![rng.within(0, vocab - 1)] } else { Vec::new() };
        let sampling = SamplingParams {
            stop_ids: stops.into(),
            min_tokens: if rng.chance(200) { rng.within(0, 8) } else { 0 },
            repetition_penalty: if rng.chance(100) { 1.1 } else { 1.0 },
            logprobs: rng.chance(100).then_some(2),
            report: self.report(id),
            ..SamplingParams::greedy()
        };
        let request = Request {
            id: RequestId(id),
            prompt: prompt.into(),
            sampling: sampling.into(),
            max_tokens: if self.generates_nothing(id) { 0 } else { max_tokens },
            samples: if rng.chance(300) { rng.within(1, self.samples) as u16 } else { 1 },
            priority: *rng.pick(&Priority::ALL),
            tenant: self.tenant(rng),
            salt: CacheSalt(u64::from(rng.within(0, self.salts - 1))),
            adapter: self.adapter(id),
            retention: self.retention(id),
            enqueued_at: now,
            deadlines: self.draw_deadlines(rng),
        };
        if self.searches > 0 && rng.chance(self.searches) { searched(request, rng) } else { request }
    }

    /// One of the tenants; each has another weight.
    fn tenant(&self, rng: &mut Rng) -> Tenant {
        if self.tenants == 1 {
            return Tenant::default();
        }
        let id = rng.within(0, self.tenants - 1);
        let weight = Weight::try_from(f64::from(id + 1)).expect("a small positive number is a weight");
        Tenant { id: TenantId(u64::from(id)), weight }
    }

    /// Decided by the id, like [`retention`](Self::retention).
    fn adapter(&self, id: Uuid) -> AdapterId {
        let place = (id.as_u64_pair().1 / 16) as usize % (self.adapters.len() + 1);
        self.adapters.get(place).copied().unwrap_or_default()
    }

    /// Decided by the id, so that the rest of a seed does not depend on it.
    fn retention(&self, id: Uuid) -> Retention {
        match id.as_u64_pair().1 % 16 {
            0 if self.retains => Retention::PINNED,
            power @ 1..=4 if self.retains => Retention::ttl(Duration::from_secs(1 << power)),
            _ => Retention::ORDINARY,
        }
    }

    /// Decided by the id, like [`retention`](Self::retention).
    fn report(&self, id: Uuid) -> PromptReport {
        match id.as_u64_pair().0 % 8 {
            top @ 0..=2 if self.reports => PromptReport::Logprobs { top: top as u8 },
            3 if self.reports => PromptReport::Hidden(Pooling::Mean),
            4 if self.reports => PromptReport::Hidden(Pooling::Last),
            _ => PromptReport::Nothing,
        }
    }

    /// Whether a request is over with its prompt.
    fn generates_nothing(&self, id: Uuid) -> bool {
        self.reports && (id.as_u64_pair().0 / 8).is_multiple_of(4)
    }

    /// A piece of a shared prefix and a tail of its own. Sometimes too long to be accepted.
    fn prompt(&self, rng: &mut Rng) -> Vec<TokenId> {
        let shared = rng.pick(&self.prefixes).clone();
        let keep = if rng.chance(700) { shared.len() as u32 } else { rng.within(0, shared.len() as u32) };
        let mut prompt = shared[..keep as usize].to_vec();
        let tail = if rng.chance(300) { 0 } else { rng.within(1, self.longest_prompt) };
        let limit = if rng.chance(20) { 2 * self.config.max_model_len } else { self.longest_prompt };
        prompt.extend((0..tail).map(|_| rng.within(0, self.capacity.vocab_size - 1)));
        prompt.truncate(limit.max(1) as usize);
        if prompt.is_empty() {
            prompt.push(0);
        }
        prompt
    }

    fn draw_deadlines(&self, rng: &mut Rng) -> Deadlines {
        let mut limit = |longest: u32| {
            rng.chance(self.deadlines).then(|| Duration::from_micros(u64::from(rng.log_within(1, longest))))
        };
        Deadlines { queue: limit(1_000_000), first_token: limit(2_000_000), total: limit(5_000_000) }
    }
}

/// The request as a beam search, sometimes for more outputs than it has beams.
fn searched(mut request: Request, rng: &mut Rng) -> Request {
    let beam = BeamSearch {
        width: rng.within(1, 5) as u16,
        length_penalty: *rng.pick(&[1.0, 1.0, 0.0, 2.0, -0.5]),
        early_stopping: *rng.pick(&[EarlyStopping::No, EarlyStopping::Yes, EarlyStopping::Never]),
    };
    let too_many = u32::from(rng.chance(20));
    request.samples = rng.within(1, u32::from(beam.width) + too_many) as u16;
    let sampling = SamplingParams { beam: Some(beam), ..(*request.sampling).clone() };
    // A search without a token is refused.
    Request { sampling: sampling.into(), max_tokens: request.max_tokens.max(1), ..request }
}

fn draw_tokens(rng: &mut Rng, longest: u32, vocab_size: u32) -> Vec<TokenId> {
    (0..rng.within(1, longest)).map(|_| rng.within(0, vocab_size - 1)).collect()
}
