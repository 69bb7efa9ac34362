//! Names that users of other servers know: taken for ours, taken without effect, or explained.

mod table;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use table::TABLE;

/// A flag of another server, under all its names.
pub(crate) struct Foreign {
    /// As they are typed.
    pub(crate) names: &'static [&'static str],
    takes: Takes,
    pub(crate) meaning: Meaning,
}

enum Takes {
    Nothing,
    Value,
}

/// What it means here.
pub(crate) enum Meaning {
    /// The flag of ours with this long name.
    Same(&'static str),
    /// Nothing, for this reason.
    Note(&'static str),
    /// It is not offered; what to do instead.
    Refused(&'static str),
}

/// Commands that take the flags that have no effect: those that stand for other programs.
const STANDS_IN: [&str; 2] = ["serve", "run"];

/// Commands whose model is an argument without a flag.
const MODEL_IS_POSITIONAL: [&str; 4] = ["serve", "inspect", "plan", "doctor"];

/// All of them.
pub(crate) fn all() -> &'static [Foreign] {
    TABLE
}

impl Foreign {
    /// One line about it.
    pub(crate) fn explain(&self) -> String {
        match self.meaning {
            Meaning::Same(ours) => format!("accepted as --{ours}"),
            Meaning::Note(why) => format!("has no effect: {why}"),
            Meaning::Refused(instead) => format!("is not offered: {instead}"),
        }
    }
}

/// The commands with the foreign names that they take.
pub(crate) fn accept(root: Command) -> Command {
    let root = aliased(root);
    root.mut_subcommands(|command| match STANDS_IN.contains(&command.get_name()) {
        true => without_effect(command),
        false => command,
    })
}

fn aliased(command: Command) -> Command {
    let taken = taken(&command);
    let command = command.mut_args(|arg| {
        let Some(ours) = arg.get_long() else { return arg };
        let names =
            TABLE.iter().filter(|foreign| matches!(foreign.meaning, Meaning::Same(same) if same == ours));
        let names: Vec<&str> = names.flat_map(|foreign| foreign.names).copied().collect();
        names.into_iter().filter(|name| !taken.contains(&(*name).to_owned())).fold(arg, alias)
    });
    command.mut_subcommands(aliased)
}

/// `-c` becomes a short name and all others long ones: [`spell`] turns `-np` into `--np`.
fn alias(arg: Arg, name: &'static str) -> Arg {
    match short(name) {
        Some(short) => arg.short_alias(short),
        None => arg.alias(name.trim_start_matches('-')),
    }
}

fn short(name: &str) -> Option<char> {
    let mut rest = name.strip_prefix('-')?.chars();
    rest.next().filter(|first| *first != '-' && rest.next().is_none())
}

/// The names that a command has already.
fn taken(command: &Command) -> Vec<String> {
    let of = |arg: &Arg| -> Vec<String> {
        let long = arg.get_long_and_visible_aliases().unwrap_or_default();
        let long =
            long.into_iter().chain(arg.get_all_aliases().unwrap_or_default()).map(|name| format!("--{name}"));
        let short = arg.get_short().into_iter().chain(arg.get_all_short_aliases().unwrap_or_default());
        long.chain(short.map(|name| format!("-{name}"))).collect()
    };
    command.get_arguments().flat_map(of).collect()
}

/// `command` with hidden flags for what it takes without effect.
fn without_effect(command: Command) -> Command {
    let taken = taken(&command);
    let notes = TABLE.iter().filter(|foreign| matches!(foreign.meaning, Meaning::Note(_)));
    notes.fold(command, |command, foreign| {
        let names = foreign.names.iter().copied().filter(|name| !taken.contains(&(*name).to_owned()));
        let (short, long): (Vec<&str>, Vec<&str>) = names.partition(|name| short(name).is_some());
        let Some((first, aliases)) = long.split_first() else { return command };
        let arg = Arg::new(*first).long(first.trim_start_matches('-')).hide(true);
        let arg = short.into_iter().chain(aliases.iter().copied()).fold(arg, alias);
        command.arg(match foreign.takes {
            Takes::Nothing => arg.action(ArgAction::Count),
            Takes::Value => arg.action(ArgAction::Append).num_args(1).allow_hyphen_values(true),
        })
    })
}

/// What to tell about the flags of `matches` that have no effect.
pub(crate) fn notes(matches: &ArgMatches) -> Vec<String> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let notes = TABLE.iter().filter_map(|foreign| match foreign.meaning {
        Meaning::Note(why) => Some((foreign.names, why)),
        _ => None,
    });
    let typed = |name: &&&str| {
        let known = matches.try_contains_id(name).unwrap_or(false);
        known && matches.value_source(name) == Some(ValueSource::CommandLine)
    };
    let told =
        notes.filter_map(|(names, why)| Some(format!("{} has no effect: {why}", names.iter().find(typed)?)));
    told.collect()
}

/// What to tell about a flag that no command has.
pub(crate) fn refusal(flag: &str) -> Option<String> {
    let name = flag.split(['=', ' ']).next().unwrap_or(flag);
    let spelled = name.trim_start_matches('-');
    let found = TABLE.iter().find(|foreign| {
        foreign.names.iter().any(|known| *known == name || known.trim_start_matches('-') == spelled)
    })?;
    Some(match found.meaning {
        Meaning::Same(ours) => format!("{flag} is --{ours} here, which this command does not take"),
        _ => format!("{flag} {}", found.explain()),
    })
}

/// The arguments with names of several letters behind one dash spelled with two, and the model of commands that take it
/// without a flag.
pub(crate) fn spell(root: &Command, args: Vec<OsString>) -> Vec<OsString> {
    let mut words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let command = words.find(|word| root.find_subcommand(word).is_some());
    let positional = command.is_some_and(|command| MODEL_IS_POSITIONAL.contains(&command));
    let mut after_all = false;
    let spelled = args.into_iter().filter_map(|arg| {
        after_all |= arg == "--";
        let Some(text) = arg.to_str().filter(|_| !after_all) else { return Some(arg) };
        if positional && matches!(text, "-m" | "--model") {
            return None;
        }
        if let Some(model) = text.strip_prefix("--model=").filter(|_| positional) {
            return Some(model.into());
        }
        let name = text.split('=').next().unwrap_or(text);
        let long = name.len() > 2
            && TABLE.iter().any(|foreign| foreign.names.contains(&name))
            && !name.starts_with("--");
        Some(if long { format!("-{text}").into() } else { arg })
    });
    spelled.collect()
}

/// Foreign names of a flag of ours, for help.
pub(crate) fn names_of(ours: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    let same =
        TABLE.iter().filter(move |foreign| matches!(foreign.meaning, Meaning::Same(same) if same == ours));
    same.flat_map(|foreign| foreign.names).copied()
}

#[cfg(test)]
mod tests {
    use super::super::definitions::{all, command, is_switch, own};
    use super::*;

    fn parse(args: &[&str]) -> Result<ArgMatches, clap::Error> {
        let typed = [&["pagoda"], args].concat();
        let typed = typed.into_iter().map(OsString::from).collect();
        command().try_get_matches_from(spell(&command(), typed))
    }

    fn served(args: &[&str]) -> ArgMatches {
        let matches = parse(&[&["serve"], args].concat()).unwrap_or_else(|error| panic!("{args:?}: {error}"));
        matches.subcommand().expect("a command").1.clone()
    }

    #[test]
    fn names_of_vllm_and_llama_cpp_mean_ours() {
        for args in
            [["--ctx-size", "4k"], ["-c", "4096"], ["--max-seq-len", "4096"], ["--max-model-len", "4k"]]
        {
            assert_eq!(
                format!("{:?}", served(&args).get_raw("max_model_len").map(Iterator::count)),
                "Some(1)"
            );
        }
        for args in [["-np", "3"], ["--parallel", "3"], ["--max-seqs", "3"]] {
            assert_eq!(served(&args).get_one::<u32>("max_num_seqs"), Some(&3), "{args:?}");
        }
        assert_eq!(served(&["-b", "64"]).get_one::<u32>("max_num_batched_tokens"), Some(&64));
        assert_eq!(
            served(&["-a", "x"]).get_many::<String>("served_model_name").map(Iterator::count),
            Some(1)
        );
        for args in [&["-m", "dir"][..], &["--model", "dir"], &["--model=dir"], &["dir"]] {
            assert_eq!(served(args).get_one::<String>("model").map(String::as_str), Some("dir"), "{args:?}");
        }
    }

    #[test]
    fn flags_without_effect_are_taken_and_told() {
        let matches =
            parse(&["serve", "--jinja", "-ngl", "99", "-fa", "on", "dir", "--enable-auto-tool-choice"]);
        let told = notes(&matches.unwrap());
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|note| note.contains("-ngl") || note.contains("--n-gpu-layers")), "{told:?}");
        assert!(notes(&parse(&["serve", "dir"]).unwrap()).is_empty());
    }

    #[test]
    fn every_foreign_name_is_accepted_or_explained() {
        for foreign in TABLE {
            for name in foreign.names {
                assert!(refusal(name).is_some_and(|text| text.contains(name)), "{name}");
                if let Meaning::Same(ours) = foreign.meaning {
                    let root = own();
                    let known = all(&root)
                        .iter()
                        .flat_map(|command| command.get_arguments())
                        .any(|arg| arg.get_long() == Some(ours) && !is_switch(arg));
                    assert!(known, "{name} is to mean --{ours}, which no command has");
                }
            }
        }
        assert_eq!(refusal("--no-such-thing"), None);
        assert!(refusal("--tensor-parallel-size").is_some_and(|text| text.contains("one process")));
    }

    #[test]
    fn no_name_is_in_the_table_twice() {
        let mut names: Vec<&str> = TABLE.iter().flat_map(|foreign| foreign.names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
