//! Logs on stderr: which, in which form, and never with what a terminal would obey.

use super::args::{Cli, LogFormat};
use super::exit::{CliError, Failure};
use super::log_lines::LogLines;
#[cfg(feature = "otlp")]
use super::traces::Traces;
use anyhow::anyhow;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Warnings, a line for each finished request and one that says now and then what runs.
const USUAL: &str = "warn,access=info,status=info";

/// What has to live until the process ends.
#[must_use]
pub(crate) struct Logs {
    #[cfg(feature = "otlp")]
    _traces: Option<Traces>,
}

/// Starts logging as the settings say: `--log`, else `RUST_LOG`, else as often as `-v` was given. With the feature `otlp` calls are
/// traced as well, where the environment names a collector.
///
/// # Errors
/// [`Failure::Usage`] for a filter that is none, and for settings of traces that cannot be used.
pub(crate) fn start(cli: &Cli) -> Result<Logs, CliError> {
    let (origin, text) = filter(cli, std::env::var("RUST_LOG").ok());
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        CliError::new(Failure::Usage, anyhow!("{origin} {text:?} cannot be used: {error}"))
    })?;
    let lines = LogLines::start()
        .map_err(|error| CliError::new(Failure::Runtime, anyhow!("cannot start the log: {error}")))?;
    // What the log cannot say it cannot say about itself either.
    let logs = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let logs = logs.with_writer(move || lines.clone());
    let logs = match cli.log_format {
        LogFormat::Text => logs.with_ansi(colours()).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).boxed(),
    };
    let logs = tracing_subscriber::registry().with(logs.with_filter(filter));
    #[cfg(feature = "otlp")]
    {
        let traces = Traces::of_environment().map_err(|error| CliError::new(Failure::Usage, error))?;
        logs.with(traces.as_ref().map(Traces::layer)).init();
        Ok(Logs { _traces: traces })
    }
    #[cfg(not(feature = "otlp"))]
    {
        logs.init();
        Ok(Logs {})
    }
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
