//! The commands with all that a flag is besides a flag: an environment variable and a key of the configuration file. Both
//! are derived from its long name, so there is no second list.

use super::args::Cli;
use super::foreign;
use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command, CommandFactory};

/// What the names of variables begin with.
pub(crate) const PREFIX: &str = "PAGODA_";

/// Flags that say what to do with settings and are none.
const NO_SETTINGS: [&str; 3] = ["config", "print_config", "help_all"];

/// Every command, ready to parse.
pub(crate) fn command() -> Command {
    foreign::accept(named(Cli::command()))
}

/// The same without the names of other servers: what help, completions and manual pages show.
pub(crate) fn own() -> Command {
    named(Cli::command())
}

fn named(command: Command) -> Command {
    command.mut_args(name).mut_subcommands(named)
}

fn name(arg: Arg) -> Arg {
    let variable = match (arg.get_env(), arg.get_long()) {
        (None, Some(long)) if is_setting(&arg) => Some(PREFIX.to_owned() + &upper(long)),
        _ => None,
    };
    let arg = match variable {
        Some(variable) => arg.env(variable),
        None => arg,
    };
    // From a variable or a file a switch has a value.
    if is_switch(&arg) { arg.value_parser(BoolishValueParser::new()) } else { arg }
}

fn upper(long: &str) -> String {
    long.replace('-', "_").to_uppercase()
}

/// Whether a flag takes no value.
pub(crate) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
}

/// Whether an argument can be set by a variable or a file.
pub(crate) fn is_setting(arg: &Arg) -> bool {
    !NO_SETTINGS.contains(&arg.get_id().as_str()) && !arg.is_hide_set()
}

/// The key of an argument in a configuration file: its variable in lower case, such as `max-num-seqs`.
pub(crate) fn key(arg: &Arg) -> Option<String> {
    let variable = arg.get_env().filter(|_| is_setting(arg))?.to_str()?;
    Some(variable.strip_prefix(PREFIX)?.to_lowercase().replace('_', "-"))
}

/// `command` and all below it.
pub(crate) fn all(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().flat_map(all);
    std::iter::once(command).chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        command().debug_assert();
        own().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_and_a_key() {
        let root = own();
        let flags = || all(&root).into_iter().flat_map(Command::get_arguments).filter(|arg| is_setting(arg));
        for arg in flags().filter(|arg| arg.get_long().is_some()) {
            assert!(key(arg).is_some_and(|key| !key.is_empty()), "{arg} has no key");
        }
        let keys: Vec<String> = flags().filter_map(key).collect();
        for expected in ["max-num-seqs", "log-format", "model", "request-rate"] {
            assert!(keys.iter().any(|key| key == expected), "{expected}");
        }
        assert!(!keys.iter().any(|key| key == "config" || key == "print-config"));
    }
}
