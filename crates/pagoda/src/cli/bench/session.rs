//! An engine set up for a measurement, and the limits beside it.

use super::super::args::EngineArgs;
use super::super::exit::{CliError, Failure};
use super::super::options::builder;
use super::super::progress::LoadBar;
use super::super::size::show_bytes;
use super::args::{ModelArgs, RunArgs};
use pagoda::bench::stats::Spread;
use pagoda::bench::{
    Cost, MachineLimits, Profiler, Repetition, Settings, StepProfile, Table, Workload, measure,
};
use pagoda::{Engine, Prepared, Profile};
use pagoda_kernels::{WeightFormat, WorkerPool};

/// A loaded engine with what the report says about it.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) cost: Cost,
    pub(super) settings: Settings,
    format: WeightFormat,
    profile: Option<Profile>,
    /// Number of runs so far; it keeps the prefix caches of runs apart.
    runs: u64,
}

/// The largest workload of a measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) concurrency: u32,
    /// Prompt and answer together.
    pub(super) tokens: u32,
    pub(super) prompts: u32,
}

impl Bench {
    /// Loads the model with room for `extent`; options that were left at their defaults are raised to it.
    pub(super) fn load(
        model: &ModelArgs,
        engine: &EngineArgs,
        extent: Extent,
        runs: &RunArgs,
    ) -> Result<Self, CliError> {
        let mut args = engine.clone();
        args.max_num_seqs = args.max_num_seqs.max(extent.concurrency);
        args.max_num_batched_tokens = args.max_num_batched_tokens.max(args.max_num_seqs);
        args.max_model_len.0 = args.max_model_len.0.or(Some(extent.tokens));
        let mut builder = builder(model.model.as_deref(), &args)?;
        let config = builder.engine_config();
        config.scheduler.max_waiting_requests = extent.prompts.max(1);
        config.scheduler.max_waiting_tokens = u64::from(extent.prompts) * u64::from(extent.tokens);
        config.deadlines = pagoda::sched::Deadlines::default();
        let prepared = builder.prepare()?;
        let cost = Cost::new(prepared.checkpoint.spec(), &prepared.memory);
        let settings = settings(&prepared, &cost, runs);
        let profile = runs.profile.then(|| prepared.profile.clone());
        let format = prepared.memory.weight_formats.layers;
        let mut bar = LoadBar::new();
        let engine = prepared.load(&mut |at| bar.show(at.fraction()))?;
        Ok(Self { engine, cost, settings, format, profile, runs: 0 })
    }

    /// One run of `load`; `limits` are for the profile.
    pub(super) fn run(
        &mut self,
        load: &Workload,
        limits: Option<&MachineLimits>,
    ) -> Result<Repetition, CliError> {
        self.runs += 1;
        let format = self.format;
        let profiler = self.profile.as_ref().map(|profile| Profiler { profile, format, limits });
        let run = measure(&self.engine, load, self.runs, profiler.as_ref());
        run.map_err(|error| CliError::new(Failure::Runtime, error))
    }

    /// A short run that does not count: memory is touched and threads are awake after it.
    pub(super) fn warm_up(&mut self, load: &Workload) -> Result<(), CliError> {
        let short =
            Workload { concurrency: 1, prompts: 1, output_len: load.output_len.min(4), ..load.clone() };
        self.run(&short, None).map(|_| ())
    }

    /// Measures what the machine can do, with as many threads as the engine has, while the engine is idle.
    pub(super) fn limits(&self, wanted: bool) -> Option<MachineLimits> {
        if !wanted {
            return None;
        }
        MachineLimits::measure(&WorkerPool::new(self.settings.threads).ok()?)
    }

    /// One line about model and settings.
    pub(super) fn headline(&self) -> String {
        let settings = &self.settings;
        format!(
            "pagoda {} · {} · weights {} ({} per decode step) · KV {} · {} · {} threads",
            env!("CARGO_PKG_VERSION"),
            settings.model,
            settings.weights,
            show_bytes(settings.weight_bytes),
            settings.kv,
            settings.isa,
            settings.threads,
        )
    }
}

fn settings(prepared: &Prepared, cost: &Cost, runs: &RunArgs) -> Settings {
    let Prepared { checkpoint, model, memory, engine, .. } = prepared;
    Settings {
        model: model.name().to_owned(),
        architecture: checkpoint.spec().architecture.clone(),
        parameters: checkpoint.parameters(),
        weights: memory.weight_formats.to_string(),
        kv: memory.kv_dtype.to_string(),
        weight_bytes: cost.weight_bytes as u64,
        isa: prepared.isa().to_string(),
        threads: memory.threads,
        max_num_batched_tokens: engine.scheduler.max_num_batched_tokens,
        max_num_seqs: engine.scheduler.max_num_seqs,
        prefix_len: 0,
        input_len: 0,
        output_len: 0,
        seed: runs.seed,
        repetitions: runs.repetitions,
    }
}

/// One line about limits: read bandwidth and the peak of each unit.
pub(super) fn show_limits(limits: &MachineLimits) -> String {
    let peaks: Vec<String> =
        limits.peak_gops.iter().map(|(unit, peak)| format!("{unit} {peak:.0}")).collect();
    format!("reads {:.1} GB/s · peaks in Gop/s: {}", limits.read_gbs, peaks.join(", "))
}

/// `654 (631–677)`, or the figure alone when there is one run.
pub(super) fn show_spread(spread: Option<Spread>) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread { median, min, max }) if min == max => figure(median),
        Some(Spread { median, min, max }) => format!("{} ({}–{})", figure(median), figure(min), figure(max)),
    }
}

/// Share of a limit in percent.
pub(super) fn show_share(spread: Option<Spread>, limit: Option<f64>) -> String {
    match (spread, limit) {
        (Some(spread), Some(limit)) => format!("{:.0}", 100.0 * spread.median / limit),
        _ => "-".to_owned(),
    }
}

pub(super) fn figure(value: f64) -> String {
    if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The average step as a table: operations, their part of the time and what they reach of the limits.
pub(super) fn show_profile(title: &str, profile: &StepProfile) -> String {
    let mut table = Table::new(["operation", "ms", "% of step", "GB/s", "GFLOP/s", "% of limit"]);
    let or_dash = |value: f64| if value > 0.0 { figure(value) } else { "-".to_owned() };
    for operation in &profile.operations {
        table.row([
            operation.operation.clone(),
            format!("{:.3}", operation.ms),
            format!("{:.1}", 100.0 * operation.share),
            or_dash(operation.gbs),
            or_dash(operation.gflops),
            operation.limit_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0}", 100.0 * share)),
        ]);
    }
    let sum: f64 = profile.operations.iter().map(|operation| operation.ms).sum();
    table.row(["sum".to_owned(), format!("{sum:.3}"), format!("{:.1}", 100.0 * sum / profile.ms.max(1e-9))]);
    format!(
        "{title}: {} steps of {} tokens, {:.3} ms each\n{}",
        profile.steps,
        figure(profile.tokens),
        profile.ms,
        table.render()
    )
}

/// Prints both phases of the middle one of `runs`, if they were profiled.
pub(super) fn print_profile(what: &str, run: Option<&Repetition>) {
    let Some(profile) = run.and_then(|run| run.profile.as_ref()) else { return };
    for (phase, steps) in [("prefill", &profile.prefill), ("decode", &profile.decode)] {
        if steps.steps > 0 {
            println!("{}", show_profile(&format!("{what}, {phase}"), steps));
        }
    }
}

/// The run whose end-to-end throughput is the median.
pub(super) fn middle_run(runs: &[Repetition]) -> Option<&Repetition> {
    let mut runs: Vec<&Repetition> = runs.iter().collect();
    runs.sort_by(|a, b| a.output_tok_s.total_cmp(&b.output_tok_s));
    runs.get(runs.len() / 2).copied()
}
