//! `pagoda bench latency`: one sequence alone.

use super::super::exit::CliError;
use super::args::LatencyArgs;
use super::files::{check_writable, write_json};
use super::session::{
    Bench, Extent, figure, middle_run, print_profile, show_limits, show_share, show_spread,
};
use pagoda::bench::stats::Spread;
use pagoda::bench::{Bound, Machine, MachineLimits, Repetition, Settings, Table, Workload};
use serde::Serialize;

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Prefill,
    Decode,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    test: String,
    tok_s: Option<Spread>,
    limit_tok_s: Option<f64>,
    repetitions: Vec<Repetition>,
}

#[derive(Debug, Serialize)]
struct LatencyReport {
    kind: &'static str,
    version: &'static str,
    date: String,
    machine: Machine,
    settings: Settings,
    limits_before: Option<MachineLimits>,
    limits_after: Option<MachineLimits>,
    rows: Vec<Row>,
}

/// Measures, prints the table and writes the file.
pub(crate) fn latency(args: &LatencyArgs) -> Result<(), CliError> {
    args.runs.json.as_deref().map_or(Ok(()), check_writable)?;
    let tests = tests(args);
    let tokens = tests.iter().map(|(_, load)| load.prompt_len().saturating_add(load.output_len)).max();
    let extent = Extent { concurrency: 1, tokens: tokens.unwrap_or(1), prompts: 1 };
    let mut bench = Bench::load(&args.model, &args.engine, extent, &args.runs)?;
    println!("{}", bench.headline());
    let limits_before = bench.limits(!args.runs.no_limits);
    let runs = measure_all(&mut bench, &tests, args.runs.repetitions, limits_before.as_ref())?;
    let limits_after = bench.limits(!args.runs.no_limits);
    let limits = match (&limits_before, &limits_after) {
        (Some(before), Some(after)) => Some(before.best_of(after)),
        _ => None,
    };
    let rows: Vec<Row> =
        tests.iter().zip(runs).map(|(test, runs)| row(&bench, test, runs, limits.as_ref())).collect();
    if let Some(limits) = &limits {
        println!("limits: {}", show_limits(limits));
    }
    println!("\n{}", table(&rows).render());
    for row in &rows {
        print_profile(&row.test, middle_run(&row.repetitions));
    }
    let Some(path) = &args.runs.json else { return Ok(()) };
    let report = LatencyReport {
        kind: "pagoda-latency",
        version: env!("CARGO_PKG_VERSION"),
        date: pagoda::bench::iso_utc(std::time::SystemTime::now()),
        machine: Machine::look(),
        settings: bench.settings,
        limits_before,
        limits_after,
        rows,
    };
    write_json(path, &report)
}

fn tests(args: &LatencyArgs) -> Vec<(Phase, Workload)> {
    let one = |input_len, output_len| Workload {
        concurrency: 1,
        prompts: 1,
        prefix_len: 0,
        input_len,
        output_len,
        seed: args.runs.seed,
    };
    let prompts = args.input_len.iter().map(|len| (Phase::Prefill, one(*len, 1)));
    // One token of prompt, so that the context holds little beside what is generated.
    let answers = args.output_len.iter().map(|len| (Phase::Decode, one(1, *len)));
    prompts.chain(answers).collect()
}

fn measure_all(
    bench: &mut Bench,
    tests: &[(Phase, Workload)],
    repetitions: u32,
    limits: Option<&MachineLimits>,
) -> Result<Vec<Vec<Repetition>>, CliError> {
    if let Some((_, load)) = tests.first() {
        bench.warm_up(load)?;
    }
    let mut runs = vec![Vec::new(); tests.len()];
    for _ in 0..repetitions {
        for ((_, load), runs) in tests.iter().zip(&mut runs) {
            runs.push(bench.run(load, limits)?);
        }
    }
    Ok(runs)
}

fn row(
    bench: &Bench,
    (phase, load): &(Phase, Workload),
    repetitions: Vec<Repetition>,
    limits: Option<&MachineLimits>,
) -> Row {
    let bound = limits.and_then(|limits| bench.cost.bound(limits, load));
    Row {
        test: phase.name(load),
        tok_s: Spread::of(repetitions.iter().filter_map(|run| phase.speed(run))),
        limit_tok_s: bound.map(|bound| phase.limit(&bound)),
        repetitions,
    }
}

impl Phase {
    fn name(self, load: &Workload) -> String {
        match self {
            Self::Prefill => format!("pp{}", load.input_len),
            Self::Decode => format!("tg{}", load.output_len),
        }
    }

    fn speed(self, run: &Repetition) -> Option<f64> {
        match self {
            Self::Prefill => run.prefill_tok_s,
            Self::Decode => run.steady_decode_tok_s,
        }
    }

    fn limit(self, bound: &Bound) -> f64 {
        match self {
            Self::Prefill => bound.prefill_tok_s,
            Self::Decode => bound.decode_tok_s,
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["test", "tok/s", "limit", "% of limit"]);
    for row in rows {
        table.row([
            row.test.clone(),
            show_spread(row.tok_s),
            row.limit_tok_s.map_or_else(|| "-".to_owned(), figure),
            show_share(row.tok_s, row.limit_tok_s),
        ]);
    }
    table
}
