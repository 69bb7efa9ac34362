//! What the engine measures, under the names that vLLM's dashboards and routers read.

use crate::accounts::Accounts;
use crate::adapters::AdaptersInUse;
use crate::histogram::Histogram;
use pagoda_sched::{CompletionReason, Counters, KvCapacity, SchedulerStats};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const FIRST_TOKEN_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const TOKEN_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const REQUEST_SECONDS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const STEP_TOKENS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
const LENGTHS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];

/// Values of the label `finished_reason`. A sample that ended with an error counts under `error`.
const REASONS: [&str; 6] = ["stop", "length", "abort", "timeout", "repetition", "error"];

type FloatGauge = Gauge<f64, AtomicU64>;
type FloatCounter = Counter<f64, AtomicU64>;
type Labels = Vec<(&'static str, &'static str)>;

/// All series of one engine. They exist, at zero, from the start.
///
/// Everything is written by the engine thread, except the ends of samples, which each session counts once, as its
/// client is told.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) kv_usage: FloatGauge,
    pub(crate) blocks: BlockGauges,
    pub(crate) prompt_tokens: Counter,
    pub(crate) generation_tokens: Counter,
    pub(crate) preemptions: Counter,
    pub(crate) prefix_queries: Counter,
    pub(crate) prefix_hits: Counter,
    pub(crate) refused: Counter,
    pub(crate) too_slow: Counter,
    pub(crate) failed_steps: Counter,
    pub(crate) steps: StepTimes,
    pub(crate) time_to_first_token: Histogram,
    pub(crate) inter_token: Histogram,
    pub(crate) time_per_output_token: Histogram,
    pub(crate) latency: Histogram,
    pub(crate) queue_time: Histogram,
    pub(crate) request_prompt_tokens: Histogram,
    pub(crate) request_generation_tokens: Histogram,
    pub(crate) step_tokens: Histogram,
    finished: [Counter; REASONS.len()],
    pub(crate) accounts: Accounts,
    adapters: AdapterSeries,
}

impl Metrics {
    pub(crate) fn new(model_name: &str) -> Self {
        let labels = [("model_name", model_name.to_owned()), ("engine", "0".to_owned())];
        let labels = labels.map(|(key, value)| (key.into(), value.into()));
        let mut registry = Registry::with_labels(labels.into_iter());
        let r = &mut registry;
        let finished = finished_counters(r);
        Self {
            running: gauge(r, "vllm:num_requests_running", "Samples in the running batch"),
            waiting: gauge(r, "vllm:num_requests_waiting", "Requests waiting for their next step"),
            kv_usage: float_gauge(r, "vllm:kv_cache_usage_perc", "Part of the KV blocks in use, 0 to 1"),
            blocks: BlockGauges::new(r),
            prompt_tokens: counter(
                r,
                "vllm:prompt_tokens",
                "Prompt tokens of requests that reached their output",
            ),
            generation_tokens: counter(r, "vllm:generation_tokens", "Tokens generated"),
            preemptions: counter(
                r,
                "vllm:num_preemptions",
                "Samples put back to waiting to free their blocks",
            ),
            prefix_queries: counter(
                r,
                "vllm:prefix_cache_queries",
                "Prompt tokens looked up in the prefix cache",
            ),
            prefix_hits: counter(r, "vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache"),
            refused: counter(r, "pagoda_requests_refused", "Requests refused because the queue was full"),
            too_slow: counter(r, "pagoda_requests_too_slow", "Samples ended because nobody read them"),
            failed_steps: counter(r, "pagoda_steps_failed", "Steps that the backend could not run"),
            steps: StepTimes::new(r),
            time_to_first_token: histogram(
                r,
                "vllm:time_to_first_token_seconds",
                "Arrival to first token",
                FIRST_TOKEN_SECONDS,
            ),
            inter_token: histogram(
                r,
                "vllm:inter_token_latency_seconds",
                "Between two tokens of a sample",
                TOKEN_SECONDS,
            ),
            time_per_output_token: histogram(
                r,
                "vllm:request_time_per_output_token_seconds",
                "Mean time per token after the first, per sample",
                TOKEN_SECONDS,
            ),
            latency: histogram(r, "vllm:e2e_request_latency_seconds", "Arrival to end", REQUEST_SECONDS),
            queue_time: histogram(
                r,
                "vllm:request_queue_time_seconds",
                "Arrival to first step",
                REQUEST_SECONDS,
            ),
            request_prompt_tokens: histogram(r, "vllm:request_prompt_tokens", "Tokens per prompt", LENGTHS),
            request_generation_tokens: histogram(
                r,
                "vllm:request_generation_tokens",
                "Tokens generated per sample",
                LENGTHS,
            ),
            step_tokens: histogram(r, "vllm:iteration_tokens_total", "Tokens per step", STEP_TOKENS),
            finished,
            accounts: Accounts::new(r),
            adapters: AdapterSeries::default(),
            registry: Mutex::new(registry),
        }
    }

    /// Publishes the geometry of the KV pool, which is known once the backend is loaded.
    pub(crate) fn set_capacity(&self, capacity: &KvCapacity) {
        let layout = &capacity.layout;
        self.blocks.total.set(i64::from(layout.blocks.saturating_sub(1)));
        let labels = vec![
            ("block_size", layout.block_size.to_string()),
            ("num_gpu_blocks", layout.blocks.to_string()),
            ("max_context", capacity.max_context.to_string()),
        ];
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("vllm:cache_config", "Geometry of the KV pool", Info::new(labels));
    }

    /// Publishes the adapters that have requests. The series are there from the first call on.
    pub(crate) fn set_adapters(&self, limit: u32, in_use: &AdaptersInUse) {
        let names = |names: &[Arc<str>]| names.join(",");
        let labels = vec![
            ("max_lora", limit.to_string()),
            ("running_lora_adapters", names(&in_use.running)),
            ("waiting_lora_adapters", names(&in_use.waiting)),
        ];
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let AdapterSeries { registered, loaded, requests } = &self.adapters;
        if !registered.swap(true, Ordering::Relaxed) {
            let help = "Adapters that have requests; the value is the time of the look";
            registry.register("vllm:lora_requests_info", help, requests.clone());
            registry.register("pagoda_adapters_loaded", "Adapters in memory", loaded.clone());
        }
        loaded.set(in_use.loaded as i64);
        requests.clear();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        requests.get_or_create(&labels).set(now);
    }

    /// Publishes what the scheduler holds and has counted.
    pub(crate) fn publish(&self, stats: &SchedulerStats) {
        self.running.set(i64::from(stats.running));
        self.waiting.set(i64::from(stats.waiting));
        self.kv_usage.set(stats.kv_usage_percent() / 100.0);
        self.blocks.used.set(i64::from(stats.kv_blocks_used));
        self.blocks.cached.set(i64::from(stats.kv_blocks_cached));
        self.blocks.kept.set(i64::from(stats.kv_blocks_kept));
        self.blocks.pinned.set(i64::from(stats.kv_blocks_pinned));
        raise(&self.preemptions, stats.counters.preemptions);
        raise(&self.prefix_queries, stats.counters.prefix_queries);
        raise(&self.prefix_hits, stats.counters.prefix_hits);
        self.steps.publish(&stats.counters);
    }

    /// Counts the end of a sample as its client saw it; `None` for a failure.
    pub(crate) fn count_end(&self, reason: Option<&CompletionReason>) {
        let index = match reason {
            Some(CompletionReason::Eos | CompletionReason::StopString(_)) => 0,
            Some(CompletionReason::MaxTokens | CompletionReason::LengthLimit(_)) => 1,
            Some(CompletionReason::Cancelled) => 2,
            Some(CompletionReason::Timeout(_)) => 3,
            Some(CompletionReason::Repetition) => 4,
            None => 5,
        };
        self.finished[index].inc();
    }

    /// All series in the OpenMetrics text format, which ends with `# EOF`.
    pub(crate) fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("writing to a String cannot fail");
        page
    }
}

/// What is known of adapters; not registered where there are none.
#[derive(Debug, Default)]
struct AdapterSeries {
    registered: AtomicBool,
    loaded: Gauge,
    requests: Family<Vec<(&'static str, String)>, FloatGauge>,
}

/// What the blocks of the KV pool are used for.
#[derive(Debug)]
pub(crate) struct BlockGauges {
    pub(crate) used: Gauge,
    pub(crate) cached: Gauge,
    kept: Gauge,
    pinned: Gauge,
    pub(crate) total: Gauge,
}

impl BlockGauges {
    fn new(r: &mut Registry) -> Self {
        Self {
            used: gauge(r, "pagoda_kv_blocks_used", "KV blocks held by running samples"),
            cached: gauge(r, "pagoda_kv_blocks_cached", "Free KV blocks that still hold a prefix"),
            kept: gauge(r, "pagoda_kv_blocks_kept", "KV blocks whose prefix is kept for a time"),
            pinned: gauge(r, "pagoda_kv_blocks_pinned", "KV blocks whose prefix is pinned"),
            total: gauge(r, "pagoda_kv_blocks_total", "KV blocks in the pool"),
        }
    }
}

/// How long steps took beside what the scheduler expected of them.
#[derive(Debug)]
pub(crate) struct StepTimes {
    count: Counter,
    paced: Counter,
    late: Counter,
    seconds: FloatCounter,
    misjudged: FloatCounter,
}

impl StepTimes {
    /// Steps since the start, and the microseconds that they took.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.count.get(), (self.seconds.get() * 1e6) as u64)
    }

    fn new(r: &mut Registry) -> Self {
        let late = "Of the paced steps, those that took longer than the ITL target";
        let misjudged = "By how much steps took longer or shorter than predicted, summed";
        Self {
            count: counter(r, "pagoda_steps", "Steps"),
            paced: counter(r, "pagoda_steps_paced", "Steps with both decode rows and prefill"),
            late: counter(r, "pagoda_steps_late", late),
            seconds: float_counter(r, "pagoda_step_seconds", "Time of all steps"),
            misjudged: float_counter(r, "pagoda_step_misjudged_seconds", misjudged),
        }
    }

    fn publish(&self, counters: &Counters) {
        raise(&self.count, counters.steps);
        raise(&self.paced, counters.paced_steps);
        raise(&self.late, counters.late_steps);
        raise_seconds(&self.seconds, counters.step_micros);
        raise_seconds(&self.misjudged, counters.misjudged_micros);
    }
}

/// Raises a counter to `total`, which never falls. One writer only.
fn raise(counter: &Counter, total: u64) {
    counter.inner().store(total, Ordering::Relaxed);
}

/// As [`raise`], from microseconds.
fn raise_seconds(counter: &FloatCounter, micros: u64) {
    counter.inner().store((1e-6 * micros as f64).to_bits(), Ordering::Relaxed);
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn float_gauge(registry: &mut Registry, name: &str, help: &str) -> FloatGauge {
    let gauge = FloatGauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn float_counter(registry: &mut Registry, name: &str, help: &str) -> FloatCounter {
    let counter = FloatCounter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn histogram(registry: &mut Registry, name: &str, help: &str, bounds: &'static [f64]) -> Histogram {
    let histogram = Histogram::new(bounds);
    registry.register(name, help, histogram.clone());
    histogram
}

fn finished_counters(registry: &mut Registry) -> [Counter; REASONS.len()] {
    let family = Family::<Labels, Counter>::default();
    registry.register("vllm:request_success", "Samples ended, by reason", family.clone());
    REASONS.map(|reason| family.get_or_create_owned(&vec![("finished_reason", reason)]))
}
