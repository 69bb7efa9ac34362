//! `pagoda bench throughput`: many sequences at once.

use super::super::exit::{CliError, Failure};
use super::super::size::show_bytes;
use super::args::ThroughputArgs;
use super::files::{Picture, check_writable, write_json};
use super::session::{
    Bench, Extent, figure, middle_run, print_profile, show_limits, show_share, show_spread,
};
use anyhow::anyhow;
use pagoda::bench::plot::{self, Quantity};
use pagoda::bench::stats::Distribution;
use pagoda::bench::{Machine, MachineLimits, Point, Repetition, Report, Table, Workload};

/// Measures, prints the table and writes the files.
pub(crate) fn throughput(args: &ThroughputArgs) -> Result<(), CliError> {
    let picture = args.plot.as_deref().map(|path| Picture::of(path).map(|form| (path, form))).transpose()?;
    for path in args.runs.json.iter().chain(&args.plot) {
        check_writable(path)?;
    }
    let loads = workloads(args)?;
    let mut bench = Bench::load(&args.model, &args.engine, extent(&loads), &args.runs)?;
    let settings = &mut bench.settings;
    (settings.prefix_len, settings.input_len, settings.output_len) =
        (args.prefix_len, args.input_len, args.output_len);
    let mut report = Report::new(settings.clone(), Machine::look());
    println!("{}", bench.headline());
    report.limits_before = bench.limits(!args.runs.no_limits);
    let runs = measure_all(&mut bench, &loads, args.runs.repetitions, report.limits_before.as_ref())?;
    report.limits_after = bench.limits(!args.runs.no_limits);
    let limits = report.limits();
    for (load, runs) in loads.iter().zip(runs) {
        let bound = limits.as_ref().and_then(|limits| bench.cost.bound(limits, load));
        report.push(Point::new(load, bound, runs));
    }
    print_report(&report);
    if let Some(path) = &args.runs.json {
        write_json(path, &report)?;
    }
    if let Some((path, picture)) = picture {
        let quantity =
            if loads.iter().all(Workload::is_one_burst) { Quantity::Decode } else { Quantity::Output };
        picture.write(path, &plot::chart(std::slice::from_ref(&report), quantity))?;
    }
    check_outputs(&report)
}

/// One workload for each concurrency, ascending, each once.
fn workloads(args: &ThroughputArgs) -> Result<Vec<Workload>, CliError> {
    let lengths =
        args.prefix_len.checked_add(args.input_len).and_then(|sum| sum.checked_add(args.output_len));
    if lengths.is_none() {
        let error = anyhow!("--prefix-len, --input-len and --output-len together are too long");
        return Err(CliError::new(Failure::Usage, error));
    }
    let mut concurrencies = args.concurrency.clone();
    concurrencies.sort_unstable();
    concurrencies.dedup();
    let load = |concurrency| Workload {
        concurrency,
        prompts: args.num_prompts.unwrap_or(concurrency),
        prefix_len: args.prefix_len,
        input_len: args.input_len,
        output_len: args.output_len,
        seed: args.runs.seed,
    };
    Ok(concurrencies.into_iter().map(load).collect())
}

fn extent(loads: &[Workload]) -> Extent {
    let most = |value: fn(&Workload) -> u32| loads.iter().map(value).max().unwrap_or(1);
    Extent {
        concurrency: most(|load| load.concurrency),
        tokens: most(|load| load.prompt_len() + load.output_len),
        prompts: most(|load| load.prompts),
    }
}

/// Every workload, all of them once before any of them again, so that a slow minute does not hit one alone.
fn measure_all(
    bench: &mut Bench,
    loads: &[Workload],
    repetitions: u32,
    limits: Option<&MachineLimits>,
) -> Result<Vec<Vec<Repetition>>, CliError> {
    let mut runs = vec![Vec::new(); loads.len()];
    if let Some(load) = loads.first() {
        bench.warm_up(load)?;
    }
    for repetition in 1..=repetitions {
        for (load, runs) in loads.iter().zip(&mut runs) {
            let run = bench.run(load, limits)?;
            let other = run.cores.map_or(0.0, |cores| cores.other_cores + cores.steal_cores);
            let note =
                if other > 0.3 { format!(" · {other:.1} cores were busy elsewhere") } else { String::new() };
            eprintln!(
                "run {repetition}/{repetitions} · concurrency {} · {} output tok/s in {:.1} s{note}",
                load.concurrency,
                figure(run.output_tok_s),
                run.seconds
            );
            runs.push(run);
        }
    }
    Ok(runs)
}

fn print_report(report: &Report) {
    for (when, limits) in [("before", &report.limits_before), ("after", &report.limits_after)] {
        if let Some(limits) = limits {
            println!("limits {when}: {}", show_limits(limits));
        }
    }
    println!("\n{}", table(report).render());
    for point in &report.points {
        print_profile(&format!("N = {}", point.concurrency), middle_run(&point.repetitions));
    }
    println!(
        "outputs {} · hash {}",
        if report.outputs_agree { "agree" } else { "differ" },
        report.output_hash
    );
}

fn table(report: &Report) -> Table {
    let mut table = Table::new([
        "N",
        "prompts",
        "prefill tok/s",
        "%",
        "decode tok/s",
        "%",
        "output tok/s",
        "%",
        "TTFT p50/90/99 ms",
        "ITL p50/90/99 ms",
        "peak RSS",
    ]);
    for point in &report.points {
        let limit = point.limit.as_ref();
        let middle = middle_run(&point.repetitions);
        table.row([
            point.concurrency.to_string(),
            point.num_prompts.to_string(),
            show_spread(point.prefill_tok_s),
            show_share(point.prefill_tok_s, limit.map(|limit| limit.prefill_tok_s)),
            show_spread(point.steady_decode_tok_s),
            show_share(point.steady_decode_tok_s, limit.map(|limit| limit.decode_tok_s)),
            show_spread(point.output_tok_s),
            show_share(point.output_tok_s, limit.map(|limit| limit.output_tok_s)),
            middle.map_or_else(String::new, |run| percentiles(&run.ttft_ms)),
            middle.map_or_else(String::new, |run| percentiles(&run.itl_ms)),
            point.peak_rss_bytes.map_or_else(|| "-".to_owned(), show_bytes),
        ]);
    }
    table
}

fn percentiles(values: &Distribution) -> String {
    [values.p50, values.p90, values.p99].map(figure).join(" / ")
}

/// An answer that depends on its company is a defect.
fn check_outputs(report: &Report) -> Result<(), CliError> {
    if report.outputs_agree {
        return Ok(());
    }
    let error =
        anyhow!("the answer to a prompt differs between runs or concurrencies; it must not depend on either");
    Err(CliError::new(Failure::Internal, error))
}
