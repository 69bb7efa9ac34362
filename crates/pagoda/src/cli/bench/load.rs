//! `pagoda bench load`: how long a model takes to load, and the memory meanwhile.

use super::super::exit::CliError;
use super::super::options::builder;
use super::super::progress::LoadBar;
use super::super::size::show_bytes;
use super::args::LoadArgs;
use super::files::{check_writable, write_json};
use super::session::figure;
use pagoda::bench::load::{LoadReport, measure};
use pagoda::bench::{Machine, Table, iso_utc};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Written<'a> {
    kind: &'static str,
    version: &'static str,
    date: String,
    machine: Machine,
    model: &'a str,
    #[serde(flatten)]
    report: &'a LoadReport,
    limit_seconds: f64,
    limit_bytes: u64,
}

/// Measures, prints a table and writes the file.
pub(crate) fn load(args: &LoadArgs) -> Result<(), CliError> {
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    let prepared = builder(args.model.model.as_deref(), &args.engine)?.prepare()?;
    let mut bar = LoadBar::new();
    let report = measure(&prepared, args.repetitions as usize, &mut |at| {
        if at.done == 0 {
            bar = LoadBar::new();
        }
        bar.show(at.fraction());
    })?;
    println!(
        "pagoda {} · {} · weights {} as {} · {} threads\n",
        env!("CARGO_PKG_VERSION"),
        prepared.model.name(),
        show_bytes(report.stored_bytes),
        prepared.memory.weight_formats.layers,
        report.threads
    );
    print!("{}", show(&report).render());
    let Some(path) = &args.json else { return Ok(()) };
    let written = Written {
        kind: "pagoda-load",
        version: env!("CARGO_PKG_VERSION"),
        date: iso_utc(std::time::SystemTime::now()),
        machine: Machine::look(),
        model: prepared.model.name(),
        limit_seconds: report.limit_seconds(),
        limit_bytes: report.limit_bytes(),
        report: &report,
    };
    write_json(path, &written)
}

fn show(report: &LoadReport) -> Table {
    let mut table = Table::new(["", "seconds", "GB/s", "limit", "memory", "limit"]);
    let mut row = |name: &str, bytes: u64, seconds: f64, limits: [String; 3]| {
        let rate = figure(bytes as f64 / 1e9 / seconds.max(1e-9));
        let [limit, memory, most] = limits;
        table.row([name.to_owned(), format!("{seconds:.2}"), rate, limit, memory, most]);
    };
    let none = || ["-", "-", "-"].map(str::to_owned);
    for (name, seconds) in ["read", "read again"].into_iter().zip(report.read_seconds.into_iter().flatten()) {
        row(name, report.file_bytes, seconds, none());
    }
    if let Some(run) = report.middle() {
        let limits = [
            format!("{:.2} s", report.limit_seconds()),
            show_bytes(run.own_bytes),
            show_bytes(report.limit_bytes()),
        ];
        row("load", report.stored_bytes, run.seconds, limits);
    }
    table
}
