//! Variables that look like ours and are not.

use super::super::definitions::{PREFIX, all};
use super::super::nearest::did_you_mean;
use super::VARIABLE;
use clap::{Arg, Command};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// A sentence for each of `given` that has our prefix and is nothing's variable. Values are not shown.
pub(crate) fn unknown_variables(command: &Command, given: impl Iterator<Item = OsString>) -> Vec<String> {
    let variables = all(command).into_iter().flat_map(Command::get_arguments).filter_map(Arg::get_env);
    let known: BTreeSet<&str> = variables.filter_map(|name| name.to_str()).chain([VARIABLE]).collect();
    let ours = given.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(PREFIX));
    let unknown: BTreeSet<String> = ours.filter(|name| !known.contains(name.as_str())).collect();
    let sentence = |name: String| {
        let hint = did_you_mean(&name, known.iter().copied());
        format!("the environment variable {name} sets nothing{hint}")
    };
    unknown.into_iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::definitions::command;
    use super::*;

    #[test]
    fn only_unknown_ones_of_ours_are_told() {
        let given = ["PAGODA_PROT", "PAGODA_PORT", "PAGODA_CONFIG", "PATH", "PAGODA_XYZZY", "PAGODA_PROT"];
        let told = unknown_variables(&command(), given.iter().map(OsString::from));
        assert_eq!(
            told,
            [
                "the environment variable PAGODA_PROT sets nothing; did you mean PAGODA_PORT?",
                "the environment variable PAGODA_XYZZY sets nothing",
            ]
        );
    }
}
