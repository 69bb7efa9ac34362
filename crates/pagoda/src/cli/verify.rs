//! `pagoda verify`: the scheduler under random workloads, every invariant checked after every step.

use super::args::VerifyArgs;
use super::exit::{CliError, Failure};
use pagoda::sched::sim::{SimFailure, SimOptions, SimReport, Simulation};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Runs the seeds on all threads and prints the totals, or the seed of a failure.
pub(crate) fn verify(args: &VerifyArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let report = campaign(args).map_err(|failure| {
        let SimFailure { seed, .. } = failure;
        let again = format!(
            "run it again with: pagoda verify --first-seed {seed} --seeds 1 --steps {} --hash-bits {}",
            args.steps, args.hash_bits
        );
        CliError::new(Failure::Internal, anyhow::Error::new(failure).context(again))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{report}");
    println!("{} seeds, no violation, {seconds:.1} s", args.seeds);
    Ok(())
}

/// Runs every seed; the first failure ends the campaign.
fn campaign(args: &VerifyArgs) -> Result<SimReport, SimFailure> {
    let end = args.first_seed.saturating_add(args.seeds);
    let next = AtomicU64::new(args.first_seed);
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let work = || -> Result<SimReport, SimFailure> {
        let mut sum = SimReport::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(sum);
            }
            let outcome = Simulation::run(seed, args.steps, SimOptions { hash_bits: args.hash_bits });
            // A failure leaves no seed for the other threads.
            sum.add(&outcome.inspect_err(|_| next.store(end, Ordering::Relaxed))?);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut total = SimReport::default();
        for worker in workers {
            total.add(&worker.join().expect("a simulation catches its panics")?);
        }
        Ok(total)
    })
}
