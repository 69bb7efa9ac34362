//! `pagoda bench kernels`: the kernels one by one.

use super::super::exit::{CliError, Failure};
use super::super::options::builder;
use super::args::{KernelsArgs, Operations};
use super::files::{check_writable, write_json};
use super::session::{figure, show_limits};
use anyhow::anyhow;
use pagoda::bench::kernels::{KernelBench, KernelBenchError, KernelRow};
use pagoda::bench::{Machine, MachineLimits, Table, iso_utc};
use pagoda_kernels::{Isa, Kernels, WeightFormat, WorkerPool};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct KernelsReport {
    kind: &'static str,
    version: &'static str,
    date: String,
    machine: Machine,
    model: String,
    isa: String,
    threads: usize,
    limits_before: Option<MachineLimits>,
    limits_after: Option<MachineLimits>,
    rows: Vec<KernelRow>,
}

/// Measures, prints a table as the cases end and writes the file.
pub(crate) fn kernels(args: &KernelsArgs) -> Result<(), CliError> {
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    let formats = formats(&args.formats)?;
    let prepared = builder(args.model.model.as_deref(), &args.engine)?.prepare()?;
    let isa: Isa = prepared.isa();
    let table = Kernels::for_isa(isa).ok_or_else(|| {
        CliError::new(Failure::Usage, anyhow!("this machine does not run the instruction set {isa}"))
    })?;
    let failed = |error: std::io::Error| CliError::new(Failure::Runtime, error);
    let pool = WorkerPool::new(prepared.memory.threads).map_err(failed)?;
    // Threads that are pinned need the caller on the processor that is left to it.
    let _ = pool.pin_caller();
    let limits = || (!args.no_limits).then(|| MachineLimits::measure(&pool)).flatten();
    let before = limits();
    println!(
        "pagoda {} · {} · {isa} · {} threads",
        env!("CARGO_PKG_VERSION"),
        prepared.model.name(),
        pool.threads()
    );
    if let Some(limits) = &before {
        println!("limits: {}\n", show_limits(limits));
    }
    let bench = KernelBench {
        kernels: table,
        pool: &pool,
        spec: prepared.checkpoint.spec(),
        limits: before.as_ref(),
        repetitions: args.repetitions as usize,
    };
    let rows = measure(&bench, args, &formats).map_err(|error| CliError::new(Failure::Memory, error))?;
    print!("{}", show(&rows).render());
    let Some(path) = &args.json else { return Ok(()) };
    let report = KernelsReport {
        kind: "pagoda-kernels",
        version: env!("CARGO_PKG_VERSION"),
        date: iso_utc(std::time::SystemTime::now()),
        machine: Machine::look(),
        model: prepared.model.name().to_owned(),
        isa: isa.to_string(),
        threads: pool.threads(),
        limits_after: limits(),
        limits_before: before,
        rows,
    };
    write_json(path, &report)
}

fn formats(names: &[String]) -> Result<Vec<WeightFormat>, CliError> {
    let usage = |error| CliError::new(Failure::Usage, anyhow!("--formats: {error}"));
    names.iter().map(|name| name.parse().map_err(usage)).collect()
}

fn measure(
    bench: &KernelBench<'_>,
    args: &KernelsArgs,
    formats: &[WeightFormat],
) -> Result<Vec<KernelRow>, KernelBenchError> {
    let sizes: Vec<usize> = args.rows.iter().map(|rows| *rows as usize).collect();
    let wanted = |operations| args.operations.contains(&operations);
    let mut rows = Vec::new();
    if wanted(Operations::Linear) {
        for &format in formats {
            for shape in bench.linear_shapes() {
                eprintln!("measuring {} in {format}", shape.0);
                rows.extend(bench.linear(shape, format, &sizes)?);
            }
        }
    }
    if wanted(Operations::Attention) {
        eprintln!("measuring attention");
        let contexts: Vec<usize> = args.contexts.iter().map(|context| *context as usize).collect();
        rows.extend(bench.attention(&sizes, &contexts)?);
    }
    if wanted(Operations::Small) {
        eprintln!("measuring norm, rope and kv_write");
        rows.extend(bench.small(&sizes)?);
    }
    Ok(rows)
}

fn show(rows: &[KernelRow]) -> Table {
    let titles = ["operation", "format", "shape", "rows", "µs", "GB/s", "GFLOP/s", "% of limit"];
    let mut table = Table::new(titles);
    for row in rows {
        let or_dash = |value: f64| if value > 0.0 { figure(value) } else { "-".to_owned() };
        table.row([
            row.operation.clone(),
            row.format.clone(),
            row.shape.clone(),
            row.rows.to_string(),
            figure(1e6 * row.seconds.median),
            or_dash(row.gbs),
            or_dash(row.gflops),
            row.limit_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0}", 100.0 * share)),
        ]);
    }
    table
}
