//! `pagoda sim`: workloads through the real scheduler in virtual time.

mod args;
mod setup;

pub(crate) use args::SimArgs;

use super::bench::files::{Picture, check_writable, write, write_json};
use super::exit::{CliError, Failure};
use pagoda_lab::{
    Compared, Comparison, LabError, Setup, Source, compare, highest_rates, pages, pictures, run,
};
use std::path::Path;
use std::time::Instant;

/// Shown under the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  pagoda sim --workload chat --rate 0.5 --requests 2000
  pagoda sim --workload chat --rate 0.5 --compare --plot chat.html
  pagoda sim --workload agents --clients 32 --without prefix-cache
  pagoda sim --trace monday.csv --kv-blocks 20000 --max-num-seqs 256 --json monday.json
  pagoda sim --workload chat --find-rate 60 --compare
  pagoda sim --workload chat --rate 20 --cost-base-ms 8 --cost-token-us 40 --cost-free-tokens 200";

/// Runs the workload and prints what came out.
pub(crate) fn sim(args: &SimArgs) -> Result<(), CliError> {
    let (source, setup) = (setup::source(args), setup::setup(args)?);
    let results = &args.results;
    let picture = results.plot.as_deref().map(Picture::of).transpose()?;
    for path in results.json.iter().chain(&results.plot) {
        check_writable(path)?;
    }
    let started = Instant::now();
    if let Some(bound) = args.rules.find_rate {
        return find_rate(args, &setup, bound);
    }
    let runs = if args.rules.compare {
        compare(&source, &setup).map_err(lab)?
    } else {
        Comparison { reports: vec![run(&source, &setup).map_err(lab)?] }
    };
    let seconds = started.elapsed().as_secs_f64();
    let text = if args.rules.compare { runs.to_string() } else { runs.reports[0].to_string() };
    print!("{text}");
    eprintln!("simulated in {seconds:.1} s");
    match &results.json {
        Some(path) if args.rules.compare => write_json(path, &runs)?,
        Some(path) => write_json(path, &runs.reports[0])?,
        None => {}
    }
    match (picture, &results.plot) {
        (Some(picture), Some(path)) => draw(picture, path, &runs, &text),
        _ => Ok(()),
    }
}

fn find_rate(args: &SimArgs, setup: &Setup, bound: f64) -> Result<(), CliError> {
    let Source::Workload(workload): Source = setup::source(args) else {
        unreachable!("a trace conflicts with --find-rate")
    };
    let compared = if args.rules.compare { Compared::Rules } else { Compared::Alone };
    let found = highest_rates(&workload, setup, bound, compared).map_err(lab)?;
    print!("{found}");
    match &args.results.json {
        Some(path) => write_json(path, &found),
        None => Ok(()),
    }
}

fn draw(picture: Picture, path: &Path, runs: &Comparison, text: &str) -> Result<(), CliError> {
    match picture {
        Picture::Svg => write(path, pictures(runs)),
        Picture::Html => write(path, pages(runs, text)),
    }
}

fn lab(error: LabError) -> CliError {
    CliError::new(Failure::Usage, error)
}
