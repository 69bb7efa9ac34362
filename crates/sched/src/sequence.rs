//! Progress of one sample of a request.

use crate::{
    BlockTable, ChainId, Holding, Priority, Request, RequestId, RequestStats, SampleIndex, TokenId, TokenView,
};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Outputs up to this many tokens never reallocate.
const RESERVED_OUTPUT: u32 = 4096;

/// Names one sample of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId {
    /// The request.
    pub request: RequestId,
    /// Which of its samples.
    pub sample: SampleIndex,
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.request, self.sample.0)
    }
}

/// A request in progress: its tokens so far and the blocks that hold their keys and values.
///
/// Owned by the waiting queue or by the running batch, by value. Until the first token one sequence stands for all
/// samples of its request; then it is forked. `computed` chases `tokens()`: chunked prefill, prefix hits, decoding
/// and resuming are all that one rule.
#[derive(Debug)]
pub struct Sequence {
    pub(crate) request: Request,
    pub(crate) sample: SampleIndex,
    /// Position in the order of arrival; kept through preemption.
    pub(crate) arrival: u64,
    /// What its tenant is charged on.
    pub(crate) account: u32,
    pub(crate) passes: Passes,
    pub(crate) output: Vec<TokenId>,
    /// Tokens whose keys and values are stored.
    pub(crate) computed: u32,
    pub(crate) table: BlockTable,
    pub(crate) cache: CacheProgress,
    /// Tokens planned for the step in flight.
    pub(crate) scheduled: u32,
    /// End of the positions of the prompt that have been reported.
    pub(crate) read: u32,
    /// As many as there were, or 65,535.
    pub(crate) preemptions: u16,
    /// Prompt tokens taken from the cache at first admission.
    pub(crate) cached_tokens: u32,
    /// Tokens that were computed when the sequence was last preempted.
    pub(crate) lost: u32,
    /// Generated tokens when the sequence was last admitted.
    pub(crate) generated_before: u32,
    /// When the sequence came into the queue; never while it runs.
    queued: Elapsed,
    /// Time spent in the queue before that.
    waited: Elapsed,
    pub(crate) first_scheduled: Elapsed,
    pub(crate) first_token: Elapsed,
    /// Rows that a sequence of a beam search stands for; 0 in any other.
    pub(crate) beams: u16,
    /// Waits for other beams of its request to be computed up to their last token.
    pub(crate) held: bool,
    /// Samples that ended before the fork; empty and unallocated nearly always.
    dropped: Option<Box<Dropped>>,
}

/// A list that takes one word while there is none.
#[derive(Debug, Default)]
struct Dropped(Vec<SampleIndex>);

/// How a sequence fares among those that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passes {
    /// How often others passed it that fitted when it did not.
    pub(crate) by_fitting: u8,
    /// How often others of its tenant passed it of which more was cached.
    pub(crate) by_cached: u8,
    /// Whether it runs because it was the turn of its class, which higher ones had passed over.
    pub(crate) had_turn: bool,
    /// Steps for which it waited for a prefix that another one computes.
    pub(crate) held: u8,
}

/// How much of a sequence is in the prefix cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheProgress {
    /// Prefix that the published blocks end.
    pub(crate) chain: ChainId,
    /// Leading blocks that are published.
    pub(crate) published: u32,
    /// Leading blocks that were taken from the cache; the others are the sequence's own work.
    pub(crate) taken: u32,
}

/// A time since the arrival of a request in nanoseconds, or never: half the size of an optional `Instant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed(u64);

impl Elapsed {
    pub(crate) const NEVER: Self = Self(u64::MAX);
    const ZERO: Self = Self(0);

    pub(crate) fn is_never(self) -> bool {
        self == Self::NEVER
    }

    /// The time, or `now` if it was never.
    fn or(self, now: Self) -> Self {
        if self.is_never() { now } else { self }
    }

    fn duration(self) -> Option<Duration> {
        (!self.is_never()).then(|| Duration::from_nanos(self.0))
    }
}

impl CacheProgress {
    fn empty(request: &Request) -> Self {
        Self { chain: ChainId::root(request.cache_space()), published: 0, taken: 0 }
    }
}

impl Sequence {
    /// A request that has not run; it stands for all samples.
    pub fn new(request: Request, arrival: u64) -> Self {
        Self {
            cache: CacheProgress::empty(&request),
            sample: SampleIndex(0),
            arrival,
            account: 0,
            passes: Passes::default(),
            output: Vec::new(),
            computed: 0,
            table: BlockTable::new(),
            scheduled: 0,
            read: request.read_positions().start,
            preemptions: 0,
            cached_tokens: 0,
            lost: 0,
            generated_before: 0,
            queued: Elapsed::ZERO,
            waited: Elapsed::ZERO,
            first_scheduled: Elapsed::NEVER,
            first_token: Elapsed::NEVER,
            beams: request.sampling.beam.map_or(0, |beam| beam.width),
            held: false,
            dropped: None,
            request,
        }
    }

    /// Name of the sequence.
    pub fn id(&self) -> SequenceId {
        SequenceId { request: self.request.id, sample: self.sample }
    }

    /// What was asked.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Which sample; the first one stands for all until the first token.
    pub fn sample(&self) -> SampleIndex {
        self.sample
    }

    /// Scheduling class.
    pub fn priority(&self) -> Priority {
        self.request.priority
    }

    /// Generated tokens, in order.
    pub fn output(&self) -> &[TokenId] {
        &self.output
    }

    /// Number of generated tokens.
    pub fn generated(&self) -> u32 {
        self.output.len() as u32
    }

    /// Tokens whose keys and values are stored.
    pub fn computed(&self) -> u32 {
        self.computed
    }

    /// Blocks that hold the keys and values.
    pub fn table(&self) -> &BlockTable {
        &self.table
    }

    /// What the sequence holds of the pool.
    pub fn holding(&self) -> Holding<'_> {
        Holding { sequence: self.id(), table: &self.table, tokens: self.computed }
    }

    /// Prompt and output.
    pub fn tokens(&self) -> TokenView<'_> {
        TokenView::new(&self.request.prompt, &self.output)
    }

    /// Number of tokens, prompt and output.
    pub fn total(&self) -> u32 {
        (self.request.prompt.len() + self.output.len()) as u32
    }

    /// Positions of the prompt that are to be reported and have not been.
    pub(crate) fn unread(&self) -> Range<u32> {
        self.read..self.request.read_positions().end
    }

    /// Whether all that was asked for is there: nothing was to be generated.
    pub(crate) fn is_complete(&self) -> bool {
        self.request.max_tokens == 0 && self.gap() == 0
    }

    /// Tokens that are known but not computed; at least one while the sequence lives.
    pub fn gap(&self) -> u32 {
        self.total() - self.computed
    }

    /// Tokens that may be computed next. The last token of a beam runs in one step with those of the others.
    pub(crate) fn runnable(&self) -> u32 {
        match self.gap() {
            _ if self.held => 0,
            gap if gap > 1 && self.waits_for_beams() => gap - 1,
            gap => gap,
        }
    }

    /// Whether others of the same request may hold its blocks.
    pub(crate) fn shares_blocks(&self) -> bool {
        self.request.samples > 1 || self.beams > 0
    }

    /// Whether this is a beam of a search that has chosen tokens.
    pub(crate) fn waits_for_beams(&self) -> bool {
        self.beams > 0 && !self.output.is_empty()
    }

    /// Rows of a step that the sequence stands for: its live samples until the fork, then one. A beam may stand for further
    /// ones that have no tokens yet.
    pub fn rows(&self) -> u32 {
        if self.beams > 0 {
            return u32::from(self.beams);
        }
        if self.output.is_empty() { u32::from(self.request.samples) - self.dropped().len() as u32 } else { 1 }
    }

    /// Time since the arrival of the request.
    pub(crate) fn elapsed(&self, now: Instant) -> Elapsed {
        let nanos = now.saturating_duration_since(self.request.enqueued_at).as_nanos();
        Elapsed(u64::try_from(nanos).unwrap_or(u64::MAX).min(u64::MAX - 1))
    }

    /// Time spent in the queue so far; running does not count.
    pub fn waited(&self, now: Instant) -> Duration {
        let now = self.elapsed(now);
        Duration::from_nanos(self.waited.0 + now.0.saturating_sub(self.queued.or(now).0))
    }

    /// Notes that the sequence is part of a step.
    pub(crate) fn note_scheduled(&mut self, now: Instant) {
        if self.first_scheduled.is_never() {
            self.first_scheduled = self.elapsed(now);
        }
    }

    /// Appends a generated token.
    pub(crate) fn push(&mut self, token: TokenId, now: Instant) {
        self.output.push(token);
        if self.first_token.is_never() {
            self.first_token = self.elapsed(now);
        }
    }

    fn dropped(&self) -> &[SampleIndex] {
        self.dropped.as_ref().map_or(&[], |dropped| &dropped.0)
    }

    /// Takes a sample out of those that the sequence stands for.
    pub(crate) fn drop_sample(&mut self, sample: SampleIndex) {
        self.dropped.get_or_insert_default().0.push(sample);
    }

    /// Whether this sequence is, or still stands for, `sample`.
    pub(crate) fn covers(&self, sample: SampleIndex) -> bool {
        if self.output.is_empty() {
            sample.0 < self.request.samples && !self.dropped().contains(&sample)
        } else {
            sample == self.sample
        }
    }

    /// Order among equals: earlier arrivals, then lower samples, first.
    pub(crate) fn order(&self) -> (u64, SampleIndex) {
        (self.arrival, self.sample)
    }

    /// Tokens to compute again if the blocks were released, granted that published ones stay cached.
    pub(crate) fn uncached_work(&self, block_size: u32) -> u32 {
        self.computed - self.cache.published * block_size
    }

    /// Reserves what the sequence grows into, so that decoding allocates nothing.
    pub(crate) fn reserve(&mut self, max_model_len: u32, block_size: u32) {
        let room =
            max_model_len.saturating_sub(self.request.prompt.len() as u32).min(self.request.max_tokens);
        let room = room.min(RESERVED_OUTPUT) as usize;
        self.output.reserve(room.saturating_sub(self.output.len()));
        let blocks = (self.request.prompt.len() + room).div_ceil(block_size as usize);
        self.table.reserve(blocks.saturating_sub(self.table.len()));
    }

    /// Leaves the queue.
    pub(crate) fn admitted(&mut self, now: Instant) {
        self.waited = Elapsed(self.waited(now).as_nanos() as u64);
        self.queued = Elapsed::NEVER;
        self.generated_before = self.generated();
    }

    /// Forgets all computed tokens, after the blocks were released, and waits again.
    pub(crate) fn preempted(&mut self, now: Instant) {
        debug_assert!(self.table.is_empty());
        self.lost = self.computed;
        self.computed = 0;
        self.scheduled = 0;
        self.cache = CacheProgress::empty(&self.request);
        self.queued = self.elapsed(now);
        self.passes.had_turn = false;
        self.preemptions = self.preemptions.saturating_add(1);
    }

    /// A further sample that continues from the same tokens over `table`, which shares the blocks.
    pub(crate) fn fork(&self, sample: SampleIndex, table: BlockTable) -> Self {
        Self {
            request: self.request.clone(),
            sample,
            output: Vec::with_capacity(self.output.capacity()),
            table,
            dropped: None,
            ..*self
        }
    }

    /// Continues from the tokens of another beam over `table`, which shares its blocks, in memory that this one has.
    pub(crate) fn follow(&mut self, other: &Self, table: BlockTable) {
        self.output.clear();
        self.output.extend_from_slice(&other.output);
        self.table = table;
        self.computed = other.computed;
        self.cache = other.cache;
    }

    /// What was measured, for a sample that ends at `now`.
    pub(crate) fn stats(&self, now: Instant) -> RequestStats {
        RequestStats {
            prompt_tokens: self.request.prompt.len() as u32,
            generated_tokens: self.generated(),
            cached_tokens: self.cached_tokens,
            preemptions: self.preemptions.into(),
            queue_time: self.first_scheduled.duration(),
            time_to_first_token: self.first_token.duration(),
            processing_time: now.saturating_duration_since(self.request.enqueued_at),
        }
    }
}
