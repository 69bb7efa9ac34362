//! The report of a throughput measurement, as it is written to a file and read for a plot.

use super::limits::MachineLimits;
use super::machine::Machine;
use super::measure::{Repetition, output_hash};
use super::roofline::Bound;
use super::stats::Spread;
use super::workload::Workload;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Decimals of bounds in tables.
pub const BOUND_DIGITS: usize = 1;

/// Kind of report, which is in the file so that another kind is not mistaken for it.
const KIND: &str = "pagoda-throughput";

/// A throughput measurement over several concurrencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    kind: String,
    /// Version of this program.
    pub version: String,
    /// When it was written, in UTC.
    pub date: String,
    /// The machine.
    pub machine: Machine,
    /// What was run.
    pub settings: Settings,
    /// Limits measured before the first run.
    pub limits_before: Option<MachineLimits>,
    /// Limits measured after the last run.
    pub limits_after: Option<MachineLimits>,
    /// One for each concurrency.
    pub points: Vec<Point>,
    /// Hash of all answers to the longest set of prompts.
    pub output_hash: String,
    /// Whether each prompt had the same answer in every run and at every concurrency.
    pub outputs_agree: bool,
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Name of the model.
    pub model: String,
    /// Architecture of the model.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Format of the weights.
    pub weights: String,
    /// Format of keys and values.
    pub kv: String,
    /// Bytes of the weights that a decode step reads.
    pub weight_bytes: u64,
    /// Instruction set.
    pub isa: String,
    /// Workers.
    pub threads: usize,
    /// Most tokens of a step.
    pub max_num_batched_tokens: u32,
    /// Most sequences of a step.
    pub max_num_seqs: u32,
    /// Tokens that all prompts share.
    pub prefix_len: u32,
    /// Tokens of each prompt after the prefix.
    pub input_len: u32,
    /// Tokens of each answer.
    pub output_len: u32,
    /// Seed of the prompts.
    pub seed: u64,
    /// Repetitions of each run.
    pub repetitions: u32,
}

/// The runs at one concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Requests under way at once.
    pub concurrency: u32,
    /// Requests in all.
    pub num_prompts: u32,
    /// Prompt tokens per second; absent unless all were sent at once.
    pub prefill_tok_s: Option<Spread>,
    /// Generated tokens but the first of each sequence, over the time after the prefill; absent likewise.
    pub decode_tok_s: Option<Spread>,
    /// Tokens generated after the prefill, over that time; absent likewise.
    pub steady_decode_tok_s: Option<Spread>,
    /// Generated tokens per second end to end.
    pub output_tok_s: Option<Spread>,
    /// What the machine can reach at most.
    pub limit: Option<Bound>,
    /// Peak of resident memory over the repetitions.
    pub peak_rss_bytes: Option<u64>,
    /// Hash of the answers of the first repetition.
    pub output_hash: String,
    /// Every run.
    pub repetitions: Vec<Repetition>,
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no report.
    #[error("{path} is no report of `pagoda bench throughput --json`: {problem}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl Point {
    /// Joins the repetitions of `load`.
    pub fn new(load: &Workload, limit: Option<Bound>, repetitions: Vec<Repetition>) -> Self {
        let spread = |value: fn(&Repetition) -> Option<f64>| Spread::of(repetitions.iter().filter_map(value));
        Self {
            concurrency: load.concurrency,
            num_prompts: load.prompts,
            prefill_tok_s: spread(|run| run.prefill_tok_s),
            decode_tok_s: spread(|run| run.decode_tok_s),
            steady_decode_tok_s: spread(|run| run.steady_decode_tok_s),
            output_tok_s: spread(|run| Some(run.output_tok_s)),
            limit,
            peak_rss_bytes: repetitions.iter().filter_map(|run| run.peak_rss_bytes).max(),
            output_hash: repetitions.first().map(Repetition::output_hash).unwrap_or_default(),
            repetitions,
        }
    }
}

impl Report {
    /// A report without runs.
    pub fn new(settings: Settings, machine: Machine) -> Self {
        Self {
            kind: KIND.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            date: super::iso_utc(std::time::SystemTime::now()),
            machine,
            settings,
            limits_before: None,
            limits_after: None,
            points: Vec::new(),
            output_hash: String::new(),
            outputs_agree: true,
        }
    }

    /// The best of the limits before and after.
    pub fn limits(&self) -> Option<MachineLimits> {
        match (&self.limits_before, &self.limits_after) {
            (Some(before), Some(after)) => Some(before.best_of(after)),
            (before, after) => before.clone().or_else(|| after.clone()),
        }
    }

    /// Adds the runs at one concurrency and compares their answers with all others.
    pub fn push(&mut self, point: Point) {
        self.points.push(point);
        let longest =
            self.points.iter().flat_map(|point| &point.repetitions).max_by_key(|run| run.answers.len());
        let Some(longest) = longest.map(|run| run.answers.clone()) else { return };
        let agrees = |run: &Repetition| run.answers.iter().zip(&longest).all(|(a, b)| a == b);
        self.outputs_agree = self.points.iter().flat_map(|point| &point.repetitions).all(agrees);
        self.output_hash = output_hash(&longest);
    }

    /// Reads a report from `path`.
    ///
    /// # Errors
    /// [`ReportError`] with the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => return Err(ReportError::Read { path: name, source }),
        };
        let format = |problem: String| ReportError::Format { path: name.clone(), problem };
        let report: Self = serde_json::from_str(&text).map_err(|error| format(error.to_string()))?;
        if report.kind == KIND { Ok(report) } else { Err(format(format!("its kind is {:?}", report.kind))) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stats::Distribution;
    use super::*;

    fn run(answers: &[&str]) -> Repetition {
        Repetition {
            seconds: 1.0,
            prefill_tok_s: Some(10.0),
            decode_tok_s: None,
            steady_decode_tok_s: None,
            output_tok_s: 4.0,
            ttft_ms: Distribution::default(),
            itl_ms: Distribution::default(),
            peak_rss_bytes: Some(5),
            cached_tokens: 0,
            preemptions: 0,
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
            cores: None,
            profile: None,
        }
    }

    impl Settings {
        /// Those of a short run of a small model.
        pub(in super::super) fn example() -> Self {
            Self {
                model: "m".into(),
                architecture: "a".into(),
                parameters: 1,
                weights: "bf16".into(),
                kv: "bf16".into(),
                weight_bytes: 1,
                isa: "scalar".into(),
                threads: 1,
                max_num_batched_tokens: 512,
                max_num_seqs: 2,
                prefix_len: 0,
                input_len: 1,
                output_len: 1,
                seed: 0,
                repetitions: 1,
            }
        }
    }

    fn report() -> Report {
        let settings = Settings { repetitions: 2, ..Settings::example() };
        Report::new(settings, Machine::look())
    }

    fn point(concurrency: u32, runs: Vec<Repetition>) -> Point {
        let load = Workload {
            concurrency,
            prompts: concurrency,
            prefix_len: 0,
            input_len: 1,
            output_len: 1,
            seed: 0,
        };
        Point::new(&load, None, runs)
    }

    #[test]
    fn answers_are_compared_over_runs_and_concurrencies() {
        let mut report = report();
        report.push(point(1, vec![run(&["a"]), run(&["a"])]));
        report.push(point(2, vec![run(&["a", "b"])]));
        assert!(report.outputs_agree);
        assert_eq!(report.output_hash, run(&["a", "b"]).output_hash());
        report.push(point(1, vec![run(&["c"])]));
        assert!(!report.outputs_agree);
    }

    #[test]
    fn reports_read_back_and_other_files_are_refused() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("pagoda-report-{}.json", std::process::id()));
        let mut report = report();
        report.push(point(2, vec![run(&["a", "b"])]));
        std::fs::write(&path, serde_json::to_string(&report).expect("plain data"))
            .expect("a file can be written");
        assert_eq!(Report::read(&path).expect("a report"), report);
        std::fs::write(&path, "{\"kind\": 3}").expect("a file can be written");
        let message = Report::read(&path).expect_err("no report").to_string();
        assert!(
            message.contains("bench throughput --json") && message.contains("pagoda-report"),
            "{message}"
        );
        std::fs::remove_file(&path).expect("the file exists");
        assert!(Report::read(&path).expect_err("gone").to_string().starts_with("cannot read"));
    }
}
