//! The figures of a load, with the labels and keys of `vllm bench serve`.

use super::load::LoadOutcome;
use super::stream::Outcome;
use crate::bench::stats::{mean_and_std, percentile, sorted};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::str::FromStr;

/// A quantity whose distribution is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Time to first token.
    Ttft,
    /// Time per output token after the first.
    Tpot,
    /// Time between pieces.
    Itl,
    /// Time from sending to the end.
    E2el,
}

impl Metric {
    /// Every metric, in the order of printing.
    pub const ALL: [Metric; 4] = [Metric::Ttft, Metric::Tpot, Metric::Itl, Metric::E2el];

    fn key(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::Tpot => "tpot",
            Self::Itl => "itl",
            Self::E2el => "e2el",
        }
    }

    fn header(self) -> &'static str {
        match self {
            Self::Ttft => "Time to First Token",
            Self::Tpot => "Time per Output Token (excl. 1st token)",
            Self::Itl => "Inter-token Latency",
            Self::E2el => "End-to-end Latency",
        }
    }

    /// Seconds of all measurements.
    fn seconds(self, outcomes: &[&Outcome]) -> Vec<f64> {
        match self {
            Self::Ttft => outcomes.iter().map(|o| o.ttft).collect(),
            Self::Tpot => outcomes.iter().filter(|o| o.output_tokens > 1).map(|o| tpot(o)).collect(),
            Self::Itl => outcomes.iter().flat_map(|o| o.itl.iter().copied()).collect(),
            Self::E2el => outcomes.iter().map(|o| o.latency).collect(),
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Metric::key).join(", ");
        Self::ALL
            .into_iter()
            .find(|metric| metric.key() == name)
            .ok_or_else(|| format!("unknown metric {name:?}; known are: {}", known()))
    }
}

/// Seconds per token after the first; 0 for a single token.
fn tpot(outcome: &Outcome) -> f64 {
    match outcome.output_tokens {
        0 | 1 => 0.0,
        tokens => (outcome.latency - outcome.ttft) / f64::from(tokens - 1),
    }
}

/// What is reported and how.
#[derive(Clone, Debug)]
pub struct SummarySettings {
    /// Metrics whose distribution is reported.
    pub metrics: Vec<Metric>,
    /// Percentiles of each.
    pub percentiles: Vec<f64>,
    /// Limits in milliseconds that a good request keeps.
    pub goodput: Vec<(Metric, f64)>,
    /// As given, for the report.
    pub max_concurrency: Option<usize>,
    /// As given, for the report; infinite if there is none.
    pub request_rate: f64,
}

/// The figures of a load.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Requests that came to their end.
    pub completed: usize,
    /// Requests that did not.
    pub failed: usize,
    /// The printed report.
    pub text: String,
    /// The JSON report.
    pub json: Map<String, Value>,
}

impl SummarySettings {
    /// Describes a load. Failed requests are counted and otherwise left out.
    pub fn summarize(&self, load: &LoadOutcome) -> Summary {
        let good: Vec<&Outcome> = load.outcomes.iter().filter(|outcome| outcome.succeeded()).collect();
        let mut report = Report::default();
        report.title(" Serving Benchmark Result ", '=');
        self.totals(load, &good, &mut report);
        for metric in self.metrics.iter().copied() {
            self.distribution(metric, &good, &mut report);
        }
        report.title("", '=');
        let failed = load.outcomes.len() - good.len();
        Summary { completed: good.len(), failed, text: report.text, json: report.json }
    }

    fn totals(&self, load: &LoadOutcome, good: &[&Outcome], report: &mut Report) {
        let seconds = load.seconds.max(1e-9);
        let input: u64 = good.iter().map(|o| u64::from(o.prompt_tokens)).sum();
        let output: u64 = good.iter().map(|o| u64::from(o.output_tokens)).sum();
        report.count("Successful requests:", "completed", good.len() as u64);
        report.count("Failed requests:", "failed", (load.outcomes.len() - good.len()) as u64);
        if let Some(most) = self.max_concurrency {
            report.line("Maximum request concurrency:", &most.to_string());
        }
        if self.request_rate.is_finite() {
            report.line("Request rate configured (RPS):", &format!("{:.2}", self.request_rate));
        }
        report.number("Benchmark duration (s):", "duration", load.seconds);
        report.count("Total input tokens:", "total_input_tokens", input);
        report.count("Total generated tokens:", "total_output_tokens", output);
        report.number("Request throughput (req/s):", "request_throughput", good.len() as f64 / seconds);
        if self.goodput.is_empty() {
            report.json.insert("request_goodput".into(), Value::Null);
        } else {
            let kept = good.iter().filter(|outcome| self.is_good(outcome)).count();
            report.number("Request goodput (req/s):", "request_goodput", kept as f64 / seconds);
        }
        report.number("Output token throughput (tok/s):", "output_throughput", output as f64 / seconds);
        let peak = peak_tokens_per_second(good);
        report.number("Peak output token throughput (tok/s):", "max_output_tokens_per_s", peak);
        report.count("Peak concurrent requests:", "max_concurrent_requests", peak_concurrency(good));
        let total = (input + output) as f64 / seconds;
        report.number("Total token throughput (tok/s):", "total_token_throughput", total);
    }

    fn is_good(&self, outcome: &Outcome) -> bool {
        self.goodput.iter().all(|(metric, limit_ms)| {
            let seconds = match metric {
                Metric::Ttft => outcome.ttft,
                Metric::Tpot => tpot(outcome),
                Metric::Itl => outcome.itl.iter().copied().fold(0.0, f64::max),
                Metric::E2el => outcome.latency,
            };
            1e3 * seconds <= *limit_ms
        })
    }

    fn distribution(&self, metric: Metric, good: &[&Outcome], report: &mut Report) {
        let milliseconds = sorted(metric.seconds(good).into_iter().map(|seconds| 1e3 * seconds));
        let (mean, std) = mean_and_std(&milliseconds);
        let (key, name) = (metric.key(), metric.key().to_uppercase());
        report.title(metric.header(), '-');
        report.number(&format!("Mean {name} (ms):"), &format!("mean_{key}_ms"), mean);
        let median = percentile(&milliseconds, 50.0);
        report.number(&format!("Median {name} (ms):"), &format!("median_{key}_ms"), median);
        report.json.insert(format!("std_{key}_ms"), json!(std));
        for p in &self.percentiles {
            let value = percentile(&milliseconds, *p);
            report.number(&format!("P{p} {name} (ms):"), &format!("p{p}_{key}_ms"), value);
        }
    }
}

/// Every measurement of every request, by the keys that `--save-detailed` adds.
pub fn details(load: &LoadOutcome) -> Map<String, Value> {
    let all = |value: &dyn Fn(&Outcome) -> Value| load.outcomes.iter().map(value).collect::<Value>();
    let fields = [
        ("input_lens", all(&|o| json!(o.prompt_tokens))),
        ("output_lens", all(&|o| json!(if o.succeeded() { o.output_tokens } else { 0 }))),
        ("start_times", all(&|o| json!(o.start))),
        ("queue_times", all(&|o| json!(o.queued))),
        ("ttfts", all(&|o| json!(o.ttft))),
        ("itls", all(&|o| json!(o.itl))),
        ("latencies", all(&|o| json!(o.latency))),
        ("generated_texts", all(&|o| json!(o.text))),
        ("errors", all(&|o| json!(o.error.as_deref().unwrap_or_default()))),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Most pieces that arrived within one second of the load.
fn peak_tokens_per_second(good: &[&Outcome]) -> f64 {
    let Some(first) = good.iter().map(|o| o.start).min_by(f64::total_cmp) else { return 0.0 };
    let mut seconds: Vec<u32> = Vec::new();
    for outcome in good {
        let mut time = outcome.start + outcome.ttft - first;
        for gap in std::iter::once(&0.0).chain(&outcome.itl) {
            time += gap;
            let second = time.max(0.0) as usize;
            if second >= seconds.len() {
                seconds.resize(second + 1, 0);
            }
            seconds[second] += 1;
        }
    }
    seconds.into_iter().max().map_or(0.0, f64::from)
}

/// Most requests that were under way at one time.
fn peak_concurrency(good: &[&Outcome]) -> u64 {
    let mut events: Vec<(f64, i64)> =
        good.iter().flat_map(|o| [(o.start, 1), (o.start + o.latency, -1)]).collect();
    // One that ends when another starts makes room for it.
    events.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut running = 0;
    let peak = events.into_iter().map(|(_, change)| {
        running += change;
        running
    });
    peak.max().unwrap_or(0).max(0) as u64
}

/// Width of the printed report.
const WIDTH: usize = 50;

#[derive(Default)]
struct Report {
    text: String,
    json: Map<String, Value>,
}

impl Report {
    fn title(&mut self, title: &str, fill: char) {
        let rest = WIDTH.saturating_sub(title.len());
        let side = |width: usize| fill.to_string().repeat(width);
        self.text += &format!("{}{title}{}\n", side(rest / 2), side(rest - rest / 2));
    }

    fn line(&mut self, label: &str, value: &str) {
        writeln!(self.text, "{label:<40} {value:<10}").expect("writing to a string cannot fail");
    }

    fn count(&mut self, label: &str, key: &str, value: u64) {
        self.line(label, &value.to_string());
        self.json.insert(key.to_owned(), json!(value));
    }

    fn number(&mut self, label: &str, key: &str, value: f64) {
        self.line(label, &format!("{value:.2}"));
        self.json.insert(key.to_owned(), json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(start: f64, tokens: u32) -> Outcome {
        let itl = vec![0.1; tokens as usize - 1];
        let latency = 0.5 + itl.iter().sum::<f64>();
        Outcome {
            start,
            output_tokens: tokens,
            prompt_tokens: 4,
            ttft: 0.5,
            itl,
            latency,
            ..Outcome::default()
        }
    }

    fn settings() -> SummarySettings {
        SummarySettings {
            metrics: Metric::ALL.to_vec(),
            percentiles: vec![50.0, 99.9],
            goodput: vec![(Metric::E2el, 850.0)],
            max_concurrency: Some(2),
            request_rate: 2.0,
        }
    }

    #[test]
    fn labels_and_keys_are_those_of_vllm() {
        let failed = Outcome { error: Some("gone".into()), ..Outcome::default() };
        let load = LoadOutcome { outcomes: vec![outcome(0.0, 3), outcome(0.6, 5), failed], seconds: 2.0 };
        let Summary { completed, failed, text, json } = settings().summarize(&load);
        assert_eq!((completed, failed), (2, 1));
        for label in [
            "Successful requests:                     2",
            "Maximum request concurrency:             2",
            "Request rate configured (RPS):           2.00",
            "Request throughput (req/s):              1.00",
            "Request goodput (req/s):                 0.50",
            "Output token throughput (tok/s):         4.00",
            "Total token throughput (tok/s):          8.00",
            "Peak concurrent requests:                2",
            "---------------Time to First Token----------------",
            "-----Time per Output Token (excl. 1st token)------",
            "P99.9 ITL (ms):                          100.00",
            "Mean E2EL (ms):                          800.00",
        ] {
            assert!(text.contains(label), "{label:?} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line.len() >= WIDTH), "{text}");
        for key in [
            "duration",
            "completed",
            "failed",
            "total_input_tokens",
            "total_output_tokens",
            "request_throughput",
            "request_goodput",
            "output_throughput",
            "total_token_throughput",
            "max_output_tokens_per_s",
            "max_concurrent_requests",
            "mean_ttft_ms",
            "median_tpot_ms",
            "std_itl_ms",
            "p50_e2el_ms",
            "p99.9_itl_ms",
        ] {
            assert!(json.contains_key(key), "{key} is missing in {json:?}");
        }
        let keys: Vec<String> = details(&load).keys().cloned().collect();
        for key in ["input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors", "start_times"]
        {
            assert!(keys.iter().any(|k| k == key), "{key}");
        }
    }

    #[test]
    fn a_load_of_failures_has_figures_of_zero() {
        let failed = Outcome { error: Some("gone".into()), ..Outcome::default() };
        let summary = settings().summarize(&LoadOutcome { outcomes: vec![failed], seconds: 0.0 });
        assert_eq!((summary.completed, summary.failed), (0, 1));
        assert_eq!(summary.json["mean_ttft_ms"], json!(0.0));
    }

    #[test]
    fn metrics_have_names() {
        assert_eq!("itl".parse(), Ok(Metric::Itl));
        assert!("ittl".parse::<Metric>().unwrap_err().contains("ttft, tpot, itl, e2el"));
    }
}
