//! The command line: parse, set up logs, run the command, say what went wrong in one last line.

#[macro_use]
mod print;

mod adapters;
mod args;
mod bench;
mod command_line;
mod config;
mod definitions;
mod doctor;
mod eval;
mod exit;
mod explain;
mod find_model;
mod foreign;
mod generated;
mod help;
mod inspect;
mod listeners;
mod log_lines;
mod logging;
mod models;
mod nearest;
mod occupant;
mod options;
mod plan;
mod progress;
mod ps;
mod quantize;
mod reload;
mod report;
mod run;
mod security;
mod serve;
mod server;
mod sim;
mod size;
mod status;
mod talk;
mod tenants;
#[cfg(feature = "otlp")]
mod traces;
mod verify;

use args::Command;
use command_line::{Settled, Typed};
use exit::CliError;
use std::process::ExitCode;

/// Runs the command that was typed and returns the exit code.
pub(crate) fn main() -> ExitCode {
    report::keep_panics();
    let done = report::contain(|| match command_line::read(std::env::args_os().collect())? {
        Typed::Show(text) => {
            print!("{text}");
            Ok(())
        }
        Typed::Run(settled) => run_settled(&settled),
    });
    let code = match done.map_err(report::with_report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.line());
            error.failure.into()
        }
    };
    log_lines::flush();
    code
}

fn run_settled(settled: &Settled) -> Result<(), CliError> {
    for note in &settled.notes {
        eprintln!("note: {note}");
    }
    let _logs = logging::start(&settled.cli)?;
    if settled.cli.print_config {
        print!("{}", settled.print(&options::resolved(&settled.cli.command)));
        return Ok(());
    }
    run_command(&settled.cli.command)
}

fn run_command(command: &Command) -> Result<(), CliError> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Serve(args) => serve::serve(args),
        Command::Ps(args) => ps::ps(args),
        Command::Explain(args) => explain::explain(args),
        Command::Chat(args) => talk::chat(args),
        Command::Complete(args) => talk::complete(args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Plan(args) => plan::plan(args),
        Command::List(args) => models::list(args),
        Command::Pull(args) => models::pull(args),
        Command::Quantize(args) => quantize::quantize(args),
        Command::Sim(args) => sim::sim(args),
        Command::Verify(args) => verify::verify(args),
        Command::Eval(command) => eval::eval(command),
        Command::Doctor(args) => doctor::doctor(args),
        Command::Bench(command) => bench::bench(command),
        Command::Completions(args) => generated::completions(args),
        Command::Man(args) => generated::man(args),
    }
}
