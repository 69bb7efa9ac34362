//! `pagoda completions` and `pagoda man`: made from the same definitions as `--help`.

use super::args::{CompletionsArgs, ManArgs};
use super::bench::files::{check_writable, write};
use super::definitions::own;
use super::exit::{CliError, Failure};
use clap::Command;
use std::path::Path;

/// Writes the completions of a shell to stdout.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut own(), "pagoda", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(())
}

/// Writes the manual page of the program to stdout, or a page for each command into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<(), CliError> {
    let mut command = own().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.out else {
        print!("{}", String::from_utf8_lossy(&page(command)?));
        return Ok(());
    };
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
