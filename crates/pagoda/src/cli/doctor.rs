//! `pagoda doctor`: what this machine is, what it can do, what limits it and what is wrong.

use super::args::DoctorArgs;
use super::bench::files::{check_writable, write_json};
use super::exit::CliError;
use super::options::builder;
use super::size::show_bytes;
use pagoda::bench::diagnosis::Diagnosis;
use pagoda::bench::{Machine, MachineLimits, Table};
use pagoda_kernels::WorkerPool;
use std::fmt::Write;

/// Looks, measures, prints and writes the file.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), CliError> {
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    let prepared = match (&args.model, args.engine.random) {
        (None, None) => None,
        (model, _) => Some(builder(model.as_deref(), &args.engine)?.checkpoint()?),
    };
    let threads = args.engine.threads.unwrap_or_else(WorkerPool::default_threads).max(1);
    eprintln!("measuring for a few seconds");
    let found = Diagnosis::make(threads, prepared.as_ref().map(|checkpoint| checkpoint.spec()));
    print!("{}", describe(&found, threads));
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &found))
}

fn describe(found: &Diagnosis, threads: usize) -> String {
    let mut text = machine(&found.machine, threads);
    for isa in &found.isas {
        let state = match (&isa.reason, isa.chosen) {
            (Some(reason), _) => reason.as_str(),
            (None, true) => "usable, the default",
            (None, false) => "usable",
        };
        writeln!(text, "isa      {:<11} {state}", isa.isa).expect("writing to a string cannot fail");
    }
    if let Some(idle) = found.idle {
        writeln!(
            text,
            "others   {:.1} cores busy, {:.2} taken by the host",
            idle.other_cores, idle.steal_cores
        )
        .expect("writing to a string cannot fail");
    }
    text.push('\n');
    if let (Some(one), Some(all)) = (&found.one, &found.all) {
        text += &limits(one, all).render();
        text.push('\n');
    }
    if !found.balance.is_empty() {
        text += &balance(found).render();
        text.push('\n');
    }
    if !found.expectations.is_empty() {
        text += &expectations(found).render();
        text.push('\n');
    }
    for warning in &found.warnings {
        writeln!(text, "warning  {warning}").expect("writing to a string cannot fail");
    }
    if found.warnings.is_empty() {
        text += "nothing is wrong\n";
    }
    text
}

fn machine(machine: &Machine, threads: usize) -> String {
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    let number = |value: Option<usize>| or_unknown(value.map(|value| value.to_string()));
    let bytes = |value: Option<u64>| or_unknown(value.map(show_bytes));
    let quota = machine
        .quota
        .map_or_else(|| "no quota".to_owned(), |quota| format!("quota {:.2} cores", quota.cores));
    let host = if machine.virtualized { "virtual machine" } else { "no hypervisor" };
    [
        format!("cpu      {} · {host}", or_unknown(machine.cpu.clone())),
        format!(
            "cores    {} processors, {} physical cores · this process may use {} · {quota} · {threads} workers",
            number(machine.cpus),
            number(machine.cores),
            or_unknown(machine.allowed_cpus.clone()),
        ),
        format!(
            "memory   {} · {} free · huge pages {} · {} NUMA nodes · Linux {}",
            bytes(machine.memory_bytes),
            bytes(machine.available_bytes),
            or_unknown(machine.huge_pages.clone()),
            number(machine.numa_nodes),
            or_unknown(machine.kernel.clone()),
        ),
    ]
    .map(|line| line + "\n")
    .concat()
}

fn limits(one: &MachineLimits, all: &MachineLimits) -> Table {
    let mut table = Table::new(["limit", "one worker", &format!("all {}", all.threads)]);
    table.row(["reads, GB/s".to_owned(), format!("{:.1}", one.read_gbs), format!("{:.1}", all.read_gbs)]);
    for (unit, peak) in &all.peak_gops {
        let single = one.peak_gops.get(unit).map_or_else(String::new, |peak| format!("{peak:.0}"));
        table.row([format!("{unit}, Gop/s"), single, format!("{peak:.0}")]);
    }
    table
}

fn balance(found: &Diagnosis) -> Table {
    let mut table = Table::new(["weights", "bits", "arithmetic limits from N ="]);
    for balance in &found.balance {
        table.row([
            balance.format.clone(),
            format!("{:.2}", balance.bits),
            format!("{:.0}", balance.sequences),
        ]);
    }
    table
}

fn expectations(found: &Diagnosis) -> Table {
    let titles =
        ["at most", "weights", "decode tok/s, N = 1", "N = 64", "limited by", "prefill tok/s, 1,024 tokens"];
    let mut table = Table::new(titles);
    for expected in &found.expectations {
        table.row([
            expected.format.clone(),
            show_bytes(expected.weight_bytes),
            format!("{:.0}", expected.decode_one_tok_s),
            format!("{:.0}", expected.decode_many_tok_s),
            expected.many_limited_by.to_owned(),
            format!("{:.0}", expected.prefill_tok_s),
        ]);
    }
    table
}
