//! `pagoda quantize`: a quantised folder.

use super::args::QuantizeArgs;
use super::exit::{CliError, Failure};
use super::progress::LoadBar;
use super::size::show_bytes;
use pagoda::model::{Checkpoint, ModelSource, WriteError};
use pagoda::{BuildError, Prepared, QuantFormat, QuantizeError, WeightFormats, quantize_folder};
use pagoda_kernels::WorkerPool;
use std::time::{Duration, Instant};

/// Writes the folder; its size goes to stdout.
pub(crate) fn quantize(args: &QuantizeArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let checkpoint = Checkpoint::open(&ModelSource::at(args.model.clone())).map_err(BuildError::from)?;
    let threads = args.threads.unwrap_or_else(WorkerPool::default_threads).max(1);
    let mut bar = LoadBar::new();
    quantize_folder(&checkpoint, args.format, threads, &args.out, &mut |at| bar.show(at.fraction()))
        .map_err(cli_error)?;
    report(args.format, started.elapsed());
    let written = Checkpoint::open(&ModelSource::Folder(args.out.clone())).map_err(BuildError::from)?;
    println!(
        "{}  {} · {} (stored as {} in {})",
        args.out.display(),
        WeightFormats::quantized(args.format),
        show_bytes(written.stored_bytes()),
        checkpoint.spec().dtype,
        show_bytes(checkpoint.stored_bytes()),
    );
    Ok(())
}

/// Says on stderr what quantised weights will take, before they are loaded.
pub(crate) fn announce(prepared: &Prepared) {
    if prepared.cpu.quantize.is_some() {
        eprintln!("{}", super::inspect::memory(prepared));
    }
}

/// Says on stderr how long rounding took, the reading of the weights included.
pub(crate) fn report(format: QuantFormat, took: Duration) {
    eprintln!("quantised to {format} in {:.2} s", took.as_secs_f64());
}

fn cli_error(error: QuantizeError) -> CliError {
    let failure = match &error {
        QuantizeError::Write(WriteError::Io { .. }) => Failure::Runtime,
        QuantizeError::Write(WriteError::Occupied { .. }) | QuantizeError::Executor(_) => Failure::Usage,
        _ => Failure::Model,
    };
    CliError::new(failure, error)
}
