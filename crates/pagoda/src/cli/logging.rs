//! Logs on stderr: which, in which form, and never with what a terminal would obey.

use super::args::{Cli, LogFormat};
use super::exit::{CliError, Failure};
use super::log_lines::LogLines;
use anyhow::anyhow;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Warnings, a line for each finished request and one that says now and then what runs.
const USUAL: &str = "warn,access=info,status=info";

/// Starts logging as the settings say: `--log`, else `RUST_LOG`, else as often as `-v` was given.
///
/// # Errors
/// [`Failure::Usage`] for a filter that is none.
pub(crate) fn start(cli: &Cli) -> Result<(), CliError> {
    let (origin, text) = filter(cli, std::env::var("RUST_LOG").ok());
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        CliError::new(Failure::Usage, anyhow!("{origin} {text:?} cannot be used: {error}"))
    })?;
    let lines = LogLines::start()
        .map_err(|error| CliError::new(Failure::Runtime, anyhow!("cannot start the log: {error}")))?;
    // What the log cannot say it cannot say about itself either.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let logs = logs.with_writer(move || lines.clone());
    match cli.log_format {
        LogFormat::Text => logs.with_ansi(colours()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(cli: &Cli, rust_log: Option<String>) -> (&'static str, String) {
    match (&cli.log, rust_log.filter(|text| !text.is_empty()), cli.verbose) {
        (Some(text), ..) => ("--log", text.clone()),
        (None, Some(text), 0) => ("RUST_LOG", text),
        (None, _, 0) => ("--log", USUAL.to_owned()),
        (None, _, 1) => ("--log", "info".to_owned()),
        (None, ..) => ("--log", "debug".to_owned()),
    }
}

/// Colours are for terminals whose user does not refuse them.
pub(crate) fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn what_is_most_explicit_chooses() {
        let chosen = |args: &[&str], variable: Option<&str>| {
            let cli = Cli::parse_from([&["pagoda"], args, &["verify"]].concat());
            filter(&cli, variable.map(str::to_owned)).1
        };
        assert_eq!(chosen(&[], None), USUAL);
        assert_eq!(chosen(&[], Some("trace")), "trace");
        assert_eq!(chosen(&[], Some("")), USUAL);
        assert_eq!(chosen(&["-v"], Some("trace")), "info");
        assert_eq!(chosen(&["-vv"], None), "debug");
        assert_eq!(chosen(&["-v", "--log", "error"], Some("trace")), "error");
    }
}
