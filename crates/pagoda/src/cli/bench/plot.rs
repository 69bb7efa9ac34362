//! `pagoda bench plot`: results as a picture.

use super::super::exit::{CliError, Failure};
use super::args::PlotArgs;
use super::files::{Picture, check_writable};
use pagoda::bench::{Report, plot};

/// Reads the results and draws them over each other.
pub(crate) fn plot(args: &PlotArgs) -> Result<(), CliError> {
    let picture = Picture::of(&args.output)?;
    check_writable(&args.output)?;
    let reports: Result<Vec<Report>, _> = args.results.iter().map(|path| Report::read(path)).collect();
    let reports = reports.map_err(|error| CliError::new(Failure::Usage, error))?;
    let mut chart = plot::chart(&reports, args.quantity.into());
    if let Some(title) = &args.title {
        chart.title.clone_from(title);
    }
    picture.write(&args.output, &chart)
}
