//! What came out of a run.

use crate::meter::{Meter, Tally};
use crate::stats::Distribution;
use crate::{Feed, Histogram, Setup, Source, StepCost, Timeline};
use pagoda_sched::{Counters, Priority};
use serde::{Deserialize, Serialize};

/// What came out of a run. All times are virtual seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this program.
    pub version: String,
    /// Where the requests came from.
    pub source: String,
    /// Rules that were switched off.
    pub without: Vec<String>,
    /// What a step cost.
    pub cost: StepCost,
    /// Seconds from the first arrival to the last end.
    pub seconds: f64,
    /// How requests came out.
    pub outcomes: Outcomes,
    /// How fast.
    pub throughput: Throughput,
    /// How long they took.
    pub latencies: Latencies,
    /// Use of the KV blocks.
    pub kv: Kv,
    /// Use of the prefix cache.
    pub cache: Cache,
    /// Blocks taken back.
    pub preemptions: Preemptions,
    /// Jain's index over the tenants' service per weight while they competed; absent without competition.
    pub jain: Option<f64>,
    /// Of each class that had requests, lowest first.
    pub classes: Vec<Group>,
    /// Of each tenant.
    pub tenants: Vec<Group>,
    /// What went on over time.
    pub timeline: Timeline,
}

/// How requests came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Requests that came.
    pub requests: u64,
    /// Of those, requests that got their answer.
    pub finished: u64,
    /// Refused on arrival.
    pub refused: u64,
    /// Ended by a deadline.
    pub expired: u64,
    /// Ended by a fault.
    pub failed: u64,
}

/// How fast finished requests were served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Requests per second.
    pub requests_per_s: f64,
    /// Requests per second that kept the aims.
    pub goodput_per_s: f64,
    /// Prompt tokens per second, cached or not.
    pub prompt_tok_s: f64,
    /// Generated tokens per second.
    pub output_tok_s: f64,
    /// Steps.
    pub steps: u64,
    /// Tokens of a step in the mean.
    pub tokens_per_step: f64,
    /// Running sequences in the mean over time.
    pub mean_running: f64,
    /// Most sequences at once.
    pub peak_running: u32,
}

/// How long finished requests took, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// From arrival to the first step.
    pub queue_s: Distribution,
    /// From arrival to the first token.
    pub ttft_s: Distribution,
    /// From one token to the next.
    pub itl_s: Distribution,
    /// From arrival to the end.
    pub e2e_s: Distribution,
    /// Percentiles for a picture.
    pub curves: Curves,
}

/// Percentiles 1, 2, … 99 and 99.9, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// From arrival to the first token.
    pub ttft_s: Vec<f64>,
    /// From one token to the next.
    pub itl_s: Vec<f64>,
    /// From arrival to the end.
    pub e2e_s: Vec<f64>,
}

/// Use of the KV blocks while there were steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kv {
    /// Blocks that can hold tokens.
    pub blocks: u32,
    /// Tokens per block.
    pub block_size: u32,
    /// Blocks held or reserved, in percent, in the mean over time.
    pub mean_used_percent: f64,
    /// The most at once, in percent.
    pub peak_used_percent: f64,
    /// Share of the slots held or reserved that had no token, in percent.
    pub waste_percent: f64,
}

/// Use of the prefix cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Tokens that were looked up.
    pub looked_up_tokens: u64,
    /// Of those, tokens found.
    pub found_tokens: u64,
    /// The same in percent; 0 of none.
    pub hit_percent: f64,
}

/// Blocks taken back from running sequences.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preemptions {
    /// How often.
    pub count: u64,
    /// Of those, to let a higher class in.
    pub displaced: u64,
    /// Share of the ended requests that were preempted, in percent.
    pub requests_percent: f64,
    /// The most that one request was.
    pub most_per_request: u32,
    /// Ended requests by how often they were preempted, from 0.
    pub requests_by_times: Vec<u64>,
    /// Tokens that were computed again.
    pub recomputed_tokens: u64,
    /// Those in percent of all computed tokens.
    pub recomputed_percent: f64,
}

/// Requests of a class or of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The class or the tenant.
    pub name: String,
    /// How its requests came out.
    pub outcomes: Outcomes,
    /// Generated tokens per second.
    pub output_tok_s: f64,
    /// Prompt tokens that came from the cache.
    pub cached_tokens: u64,
    /// How long they took.
    pub latencies: Latencies,
    /// Of a tenant: tokens that it got over those that its weight entitles it to, while it competed; absent otherwise.
    pub service: Option<f64>,
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}

impl Report {
    /// Puts together what was counted over so many `seconds`.
    pub(crate) fn new(
        source: &Source,
        setup: &Setup,
        feed: &Feed,
        meter: &Meter,
        (seconds, counters): (f64, &Counters),
    ) -> Self {
        let total = meter.total();
        let class_names = Priority::ALL.iter().zip(["low", "normal", "high", "urgent"]);
        let classes = class_names
            .filter(|(class, _)| meter.classes[class.index()].requests > 0)
            .map(|(class, name)| Group::new(name, &meter.classes[class.index()], seconds, None));
        let shares = meter.fairness.shares().chain(std::iter::repeat(None));
        let tenants = meter
            .tenants
            .iter()
            .zip(shares)
            .zip(0..)
            .map(|((tally, share), number)| Group::new(feed.tenant(number), tally, seconds, share));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source: source.to_string(),
            without: setup.without.iter().map(|rule| rule.name().to_owned()).collect(),
            cost: setup.cost,
            seconds,
            outcomes: Outcomes::of(&total),
            throughput: Throughput::new(&total, meter, (seconds, counters)),
            latencies: Latencies::of(&total),
            kv: Kv::new(setup, meter),
            cache: Cache::new(counters),
            preemptions: Preemptions::new(meter, counters),
            jain: meter.fairness.jain(),
            classes: classes.collect(),
            tenants: tenants.collect(),
            timeline: meter.timeline.clone(),
        }
    }
}

impl Outcomes {
    fn of(tally: &Tally) -> Self {
        Self {
            requests: tally.requests,
            finished: tally.finished,
            refused: tally.refused,
            expired: tally.expired,
            failed: tally.failed,
        }
    }
}

impl Throughput {
    fn new(total: &Tally, meter: &Meter, (seconds, counters): (f64, &Counters)) -> Self {
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let occupancy = &meter.occupancy;
        Self {
            requests_per_s: rate(total.finished),
            goodput_per_s: rate(total.good),
            prompt_tok_s: rate(total.prompt_tokens),
            output_tok_s: rate(total.output_tokens),
            steps: counters.steps,
            tokens_per_step: counters.computed_tokens as f64 / (counters.steps.max(1)) as f64,
            mean_running: occupancy.rows / occupancy.seconds.max(f64::MIN_POSITIVE),
            peak_running: occupancy.peak_rows,
        }
    }
}

impl Latencies {
    fn of(tally: &Tally) -> Self {
        let curve = |times: &Histogram| {
            let percentiles = (1..=99).map(f64::from).chain([99.9]);
            if times.count() == 0 { Vec::new() } else { percentiles.map(|p| times.percentile(p)).collect() }
        };
        Self {
            queue_s: tally.queue.distribution(),
            ttft_s: tally.ttft.distribution(),
            itl_s: tally.itl.distribution(),
            e2e_s: tally.e2e.distribution(),
            curves: Curves { ttft_s: curve(&tally.ttft), itl_s: curve(&tally.itl), e2e_s: curve(&tally.e2e) },
        }
    }
}

impl Kv {
    fn new(setup: &Setup, meter: &Meter) -> Self {
        let (occupancy, blocks) = (&meter.occupancy, f64::from(setup.kv_blocks));
        Self {
            blocks: setup.kv_blocks,
            block_size: setup.block_size,
            mean_used_percent: percent(occupancy.used_blocks, occupancy.seconds * blocks),
            peak_used_percent: percent(occupancy.peak_blocks, blocks),
            waste_percent: percent(occupancy.slots - occupancy.filled, occupancy.slots),
        }
    }
}

impl Cache {
    fn new(counters: &Counters) -> Self {
        let (queries, hits) = (counters.prefix_queries, counters.prefix_hits);
        Self {
            looked_up_tokens: queries,
            found_tokens: hits,
            hit_percent: percent(hits as f64, queries as f64),
        }
    }
}

impl Preemptions {
    fn new(meter: &Meter, counters: &Counters) -> Self {
        let ended: u64 = meter.preempted.iter().sum();
        let never = meter.preempted.first().copied().unwrap_or(0);
        Self {
            count: counters.preemptions,
            displaced: counters.displaced,
            requests_percent: percent((ended - never) as f64, ended as f64),
            most_per_request: meter.preempted.len().saturating_sub(1) as u32,
            requests_by_times: meter.preempted.clone(),
            recomputed_tokens: counters.recomputed_tokens,
            recomputed_percent: percent(counters.recomputed_tokens as f64, counters.computed_tokens as f64),
        }
    }
}

impl Group {
    fn new(name: &str, tally: &Tally, seconds: f64, service: Option<f64>) -> Self {
        Self {
            name: name.to_owned(),
            outcomes: Outcomes::of(tally),
            output_tok_s: if seconds > 0.0 { tally.output_tokens as f64 / seconds } else { 0.0 },
            cached_tokens: tally.cached_tokens,
            latencies: Latencies::of(tally),
            service,
        }
    }
}
