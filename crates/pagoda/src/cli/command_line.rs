//! From what was typed to a command with its settings.

use super::args::Cli;
use super::config::{self, ConfigFile};
use super::exit::{CliError, Failure, one_line};
use super::{definitions, foreign, help};
use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, Error, FromArgMatches};
use std::ffi::OsString;

/// What to do.
pub(crate) enum Typed {
    /// Run a command.
    Run(Box<Settled>),
    /// Write this to stdout.
    Show(String),
}

/// A command whose settings are known, and where each comes from.
pub(crate) struct Settled {
    pub(crate) cli: Cli,
    command: Command,
    matches: ArgMatches,
    file: Option<ConfigFile>,
    /// What to tell before it runs.
    pub(crate) notes: Vec<String>,
}

impl Settled {
    /// The settings as a file, with the origin of each.
    pub(crate) fn print(&self, resolved: &[config::Resolved]) -> String {
        config::print(&self.command, &self.matches, self.file.as_ref(), resolved)
    }
}

/// Reads the arguments of the process, its environment and the file that they name.
///
/// # Errors
/// [`Failure::Usage`] with what cannot be used, where it stands, and what was likely meant.
pub(crate) fn read(args: Vec<OsString>) -> Result<Typed, CliError> {
    let mut own = definitions::own();
    own.build();
    if let Some(text) = help::asked(&own, &args) {
        return Ok(Typed::Show(text));
    }
    let mut command = definitions::command();
    let args = foreign::spell(&command, args);
    let file = ConfigFile::find(&args, &command)?;
    if let Some(file) = &file {
        command = file.apply(command);
    }
    let matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayVersion => return Ok(Typed::Show(error.to_string())),
        Err(error) if error.kind() == ErrorKind::MissingSubcommand || is_help(&error) => {
            eprint!("{}", help::screen(&own, "pagoda"));
            return Err(usage("give a command, such as pagoda run \"Once upon a time\""));
        }
        Err(error) => return Err(usage(&explain(&error, file.as_ref()))),
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| usage(&explain(&error, file.as_ref())))?;
    let variables = std::env::vars_os().map(|(name, _)| name);
    let notes = [foreign::notes(&matches), config::unknown_variables(&command, variables)].concat();
    Ok(Typed::Run(Box::new(Settled { cli, command, matches, file, notes })))
}

/// What clap shows where no command follows.
fn is_help(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
}

fn usage(message: &str) -> CliError {
    CliError::new(Failure::Usage, anyhow!("{message}"))
}

/// The cause in one sentence, with the place of a value that the file has and the flag that was meant.
fn explain(error: &Error, file: Option<&ConfigFile>) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = context(ContextKind::InvalidArg);
    if let Some(told) = flag.filter(|_| error.kind() == ErrorKind::UnknownArgument).and_then(foreign::refusal)
    {
        return told;
    }
    // Without the usage, which --help has.
    let text = error.render().to_string();
    let cause =
        text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or(&text);
    let cause = one_line(cause.strip_prefix("error: ").unwrap_or(cause)).replace(" tip: ", "; ");
    let place = file.and_then(|file| file.place_of(flag?, context(ContextKind::InvalidValue)?));
    match place {
        Some(place) => format!("{place}: {cause}"),
        None => cause,
    }
}
