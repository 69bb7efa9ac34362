//! `pagoda completions` and `pagoda man`: made from the same definitions as `--help`.

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::bench::files::{check_writable, write};
use super::exit::{CliError, Failure};
use clap::{Command, CommandFactory};
use std::io::Write;
use std::path::Path;

/// Writes the completions of a shell to stdout.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pagoda", &mut script);
    show(&script)
}

/// Writes the manual page of the program to stdout, or a page for each command into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<(), CliError> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.out else { return show(&page(command)?) };
    write_pages(&command, "pagoda", folder)
}

/// Writes the page of `command` and those of its commands, named after the path that leads to them.
fn write_pages(command: &Command, name: &str, folder: &Path) -> Result<(), CliError> {
    let file = folder.join(format!("{name}.1"));
    check_writable(&file)?;
    write(&file, page(command.clone().display_name(name.to_owned()))?)?;
    command
        .get_subcommands()
        .try_for_each(|inner| write_pages(inner, &format!("{name}-{}", inner.get_name()), folder))
}

fn page(command: Command) -> Result<Vec<u8>, CliError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| CliError::new(Failure::Internal, error))?;
    Ok(page)
}

/// A reader that has gone away, as in `pagoda man | head`, is no failure.
fn show(text: &[u8]) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text).and_then(|()| out.flush());
    written.or_else(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(CliError::new(Failure::Runtime, error)),
    })
}
