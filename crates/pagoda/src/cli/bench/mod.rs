//! `pagoda bench`: measurements of the engine, its kernels and servers.

mod args;
pub(crate) mod files;
mod kernels;
mod latency;
mod load;
mod plot;
mod serve;
mod session;
mod throughput;

pub(crate) use args::BenchCommand;

use super::exit::CliError;

/// Runs one of the measurements.
pub(crate) fn bench(command: &BenchCommand) -> Result<(), CliError> {
    match command {
        BenchCommand::Throughput(args) => throughput::throughput(args),
        BenchCommand::Latency(args) => latency::latency(args),
        BenchCommand::Load(args) => load::load(args),
        BenchCommand::Kernels(args) => kernels::kernels(args),
        BenchCommand::Serve(args) => serve::serve(args),
        BenchCommand::Plot(args) => plot::plot(args),
    }
}
