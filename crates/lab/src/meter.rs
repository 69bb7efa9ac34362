//! What is counted while a run goes on.

use crate::fairness::Fairness;
use crate::timeline::Timeline;
use crate::{Histogram, Slo};
use pagoda_sched::{Priority, RequestStats};
use std::time::Duration;

/// Who a request belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) class: Priority,
    pub(crate) tenant: u32,
}

/// Requests of a class or of a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) finished: u64,
    pub(crate) refused: u64,
    pub(crate) expired: u64,
    pub(crate) failed: u64,
    pub(crate) good: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) queue: Histogram,
    pub(crate) ttft: Histogram,
    pub(crate) itl: Histogram,
    pub(crate) e2e: Histogram,
}

/// How a request that was accepted came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Finished,
    Expired,
    Failed,
}

impl Tally {
    fn end(&mut self, ending: Ending, stats: &RequestStats, good: bool) {
        match ending {
            Ending::Expired => self.expired += 1,
            Ending::Failed => self.failed += 1,
            Ending::Finished => {
                self.finished += 1;
                self.good += u64::from(good);
                self.prompt_tokens += u64::from(stats.prompt_tokens);
                self.output_tokens += u64::from(stats.generated_tokens);
                self.cached_tokens += u64::from(stats.cached_tokens);
                self.queue.add(seconds(stats.queue_time));
                self.ttft.add(seconds(stats.time_to_first_token));
                self.e2e.add(stats.processing_time.as_secs_f64());
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.finished += other.finished;
        self.refused += other.refused;
        self.expired += other.expired;
        self.failed += other.failed;
        self.good += other.good;
        self.prompt_tokens += other.prompt_tokens;
        self.output_tokens += other.output_tokens;
        self.cached_tokens += other.cached_tokens;
        self.queue.merge(&other.queue);
        self.ttft.merge(&other.ttft);
        self.itl.merge(&other.itl);
        self.e2e.merge(&other.e2e);
    }
}

fn seconds(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64()
}

/// Slots and rows, weighed by how long steps took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Occupancy {
    pub(crate) seconds: f64,
    pub(crate) rows: f64,
    pub(crate) peak_rows: u32,
    pub(crate) used_blocks: f64,
    pub(crate) peak_blocks: f64,
    /// Slots of the blocks that sequences hold, or that are reserved for them, times seconds.
    pub(crate) slots: f64,
    /// Of those, slots with a token.
    pub(crate) filled: f64,
}

/// One look at the running set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) rows: u32,
    pub(crate) blocks: f64,
    pub(crate) slots: f64,
    pub(crate) filled: f64,
}

impl Occupancy {
    pub(crate) fn add(&mut self, look: &Look, seconds: f64) {
        self.seconds += seconds;
        self.rows += seconds * f64::from(look.rows);
        self.peak_rows = self.peak_rows.max(look.rows);
        self.used_blocks += seconds * look.blocks;
        self.peak_blocks = self.peak_blocks.max(look.blocks);
        self.slots += seconds * look.slots;
        self.filled += seconds * look.filled;
    }
}

/// Everything that is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    slo: Slo,
    pub(crate) classes: [Tally; 4],
    pub(crate) tenants: Vec<Tally>,
    pub(crate) fairness: Fairness,
    pub(crate) timeline: Timeline,
    pub(crate) occupancy: Occupancy,
    /// Finished requests by how often they were preempted.
    pub(crate) preempted: Vec<u64>,
}

impl Meter {
    /// Nothing so far, for a batch of so many requests.
    pub(crate) fn new(slo: Slo, batch: u32) -> Self {
        Self { slo, fairness: Fairness::new(batch), ..Self::default() }
    }

    fn each(&mut self, owner: Owner) -> [&mut Tally; 2] {
        let tenant = owner.tenant as usize;
        if tenant >= self.tenants.len() {
            self.tenants.resize_with(tenant + 1, Tally::default);
        }
        [&mut self.classes[owner.class.index()], &mut self.tenants[tenant]]
    }

    /// A request came.
    pub(crate) fn came(&mut self, owner: Owner) {
        self.each(owner).into_iter().for_each(|tally| tally.requests += 1);
    }

    pub(crate) fn refused(&mut self, owner: Owner) {
        self.each(owner).into_iter().for_each(|tally| tally.refused += 1);
    }

    /// A token came so many seconds after the one before it.
    pub(crate) fn gap(&mut self, owner: Owner, seconds: f64) {
        self.each(owner).into_iter().for_each(|tally| tally.itl.add(seconds));
    }

    /// A request ended.
    pub(crate) fn ended(&mut self, owner: Owner, ending: Ending, stats: &RequestStats) {
        let good = self.is_good(stats);
        self.fairness.ended();
        self.each(owner).into_iter().for_each(|tally| tally.end(ending, stats, good));
        let times = stats.preemptions as usize;
        if times >= self.preempted.len() {
            self.preempted.resize(times + 1, 0);
        }
        self.preempted[times] += 1;
    }

    fn is_good(&self, stats: &RequestStats) -> bool {
        let keeps = |limit: Option<f64>, value: f64| limit.is_none_or(|limit| value <= limit);
        let (ttft, e2e) = (seconds(stats.time_to_first_token), stats.processing_time.as_secs_f64());
        let after = f64::from(stats.generated_tokens.saturating_sub(1)).max(1.0);
        keeps(self.slo.ttft, ttft) && keeps(self.slo.tpot, (e2e - ttft) / after) && keeps(self.slo.e2e, e2e)
    }

    /// All requests together.
    pub(crate) fn total(&self) -> Tally {
        self.classes.iter().fold(Tally::default(), |mut sum, tally| {
            sum.merge(tally);
            sum
        })
    }
}
