//! The command line: parse, set up logs, run the command, say what went wrong in one last line.

#[macro_use]
mod print;

mod args;
mod bench;
mod doctor;
mod eval;
mod exit;
mod explain;
mod generated;
mod inspect;
mod options;
mod plan;
mod progress;
mod quantize;
mod reload;
mod run;
mod security;
mod serve;
mod server;
mod sim;
mod size;
mod talk;
mod tenants;
mod verify;

use args::{Cli, Command, LogFormat};
use clap::Parser;
use exit::{CliError, Failure};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Runs the command that was typed and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = start_logging(&cli).and_then(|()| match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Serve(args) => serve::serve(args),
        Command::Explain(args) => explain::explain(args),
        Command::Chat(args) => talk::chat(args),
        Command::Complete(args) => talk::complete(args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Plan(args) => plan::plan(args),
        Command::Quantize(args) => quantize::quantize(args),
        Command::Sim(args) => sim::sim(args),
        Command::Verify(args) => verify::verify(args),
        Command::Eval(command) => eval::eval(command),
        Command::Doctor(args) => doctor::doctor(args),
        Command::Bench(command) => bench::bench(command),
        Command::Completions(args) => generated::completions(args),
        Command::Man(args) => generated::man(args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError { failure, error }) => {
            eprintln!("error: {error:#}");
            failure.into()
        }
    }
}

fn start_logging(cli: &Cli) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&cli.log).map_err(|error| {
        CliError::new(Failure::Usage, anyhow::anyhow!("--log {:?} cannot be used: {error}", cli.log))
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
