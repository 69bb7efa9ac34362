//! Help from the definitions of the commands: a screen of what is used most, all of it, or what is about a word.

use super::definitions::{is_switch, key};
use super::foreign;
use clap::{Arg, Command};
use std::ffi::OsString;
use std::fmt::Write as _;

/// Columns of a line.
const WIDTH: usize = 110;

/// Columns before the explanation of a flag.
const MARGIN: usize = 34;

/// What was asked for.
#[derive(Debug, PartialEq)]
enum Wanted {
    /// One screen.
    Screen,
    All,
    /// What is about this.
    Word(String),
}

/// The help that `args` ask for, if they do. Other arguments need not make sense then.
pub(crate) fn asked(root: &Command, args: &[OsString]) -> Option<String> {
    let (path, wanted) = wanted(root, args)?;
    let command = path.iter().fold(root, |command, name| command.find_subcommand(name).unwrap_or(command));
    let title = [&["pagoda".to_owned()][..], &path].concat().join(" ");
    Some(match wanted {
        Wanted::Screen => screen(command, &title),
        Wanted::All => whole(command, &title),
        Wanted::Word(word) => about(command, &title, &word),
    })
}

/// The screen of `command`, which is the root where nothing was typed.
pub(crate) fn screen(command: &Command, title: &str) -> String {
    let mut text = head(command, title);
    for (heading, arguments) in groups(command, |arg| !arg.is_hide_short_help_set()) {
        let _ = writeln!(text, "\n{}:", first_clause(heading));
        for arg in arguments {
            text += &line(arg);
        }
    }
    text += "\nEach flag is also a variable PAGODA_<FLAG> and a key of the file that --config names. --help-all shows all\n\
             flags with defaults and units, --help WORD those about a word.\n";
    text
}

fn whole(command: &Command, title: &str) -> String {
    let mut text = head(command, title);
    for (heading, arguments) in groups(command, |_| true) {
        text += &format!("\n{}", wrap("", 0, &format!("{heading}:")));
        for arg in arguments {
            text += &paragraph(arg);
        }
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = writeln!(text, "\n{after}");
    }
    text
}

fn about(command: &Command, title: &str, word: &str) -> String {
    let wanted = word.trim_start_matches('-').to_lowercase();
    let mut text = String::new();
    let paths = paths(command, title);
    for (path, command) in &paths {
        let found = command
            .get_arguments()
            .filter(|arg| is_shown(arg) && paragraph(arg).to_lowercase().contains(&wanted));
        let found: String = found.map(paragraph).collect();
        if !found.is_empty() {
            let _ = writeln!(text, "{path}:\n{found}");
        }
    }
    let foreign =
        foreign::all().iter().filter(|foreign| foreign.names.iter().any(|name| name.contains(&wanted)));
    for foreign in foreign {
        let _ = writeln!(text, "{} {}", foreign.names.join(", "), foreign.explain());
    }
    match text.is_empty() {
        true => format!("nothing here is about {word:?}; {title} --help-all shows all flags\n"),
        false => text,
    }
}

/// `command` and all below it with what is typed for each.
fn paths<'a>(command: &'a Command, title: &str) -> Vec<(String, &'a Command)> {
    let below =
        command.get_subcommands().flat_map(|inner| paths(inner, &format!("{title} {}", inner.get_name())));
    std::iter::once((title.to_owned(), command)).chain(below).collect()
}

/// What the command is, how it is typed, its commands and an example.
fn head(command: &Command, title: &str) -> String {
    let mut text = String::new();
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    for line in about.trim_end().lines() {
        text += &wrap("", 0, line);
    }
    text.push('\n');
    let positionals = command.get_positionals().map(|arg| match arg.is_required_set() {
        true => format!(" {arg}"),
        false => format!(" [{}]", arg.to_string().trim_matches(['[', ']', '<', '>'])),
    });
    let inner = if command.has_subcommands() { " COMMAND" } else { "" };
    let _ = writeln!(text, "Usage: {title}{inner} [FLAGS]{}", positionals.collect::<String>());
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
        text += &wrap(&format!("  {}", inner.get_name()), 14, &about);
    }
    text
}

/// The order of headings; others stand between those of [`LAST`] and these.
const FIRST: [&str; 6] = ["Arguments", "Model", "Memory", "Scheduling", "Server", "Access"];

/// Headings at the end.
const LAST: [&str; 2] = ["Logging", "Settings"];

/// Arguments by their headings.
fn groups(command: &Command, keep: impl Fn(&Arg) -> bool) -> Vec<(&str, Vec<&Arg>)> {
    let mut groups: Vec<(&str, Vec<&Arg>)> = Vec::new();
    for arg in command.get_arguments().filter(|arg| is_shown(arg) && keep(arg)) {
        let heading =
            arg.get_help_heading().unwrap_or(if arg.is_positional() { "Arguments" } else { "Options" });
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, arguments)) => arguments.push(arg),
            None => groups.push((heading, vec![arg])),
        }
    }
    let place = |heading: &str, list: &[&str]| list.iter().position(|known| *known == heading);
    groups.sort_by_key(|(heading, _)| match (place(heading, &FIRST), place(heading, &LAST)) {
        (Some(at), _) => at,
        (None, None) => FIRST.len(),
        (None, Some(at)) => FIRST.len() + 1 + at,
    });
    groups
}

fn is_shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

/// How a flag is typed: `-t, --threads <N>`.
fn typed(arg: &Arg) -> String {
    if arg.is_positional() {
        return format!("  {}", arg.to_string().trim_matches(['[', ']', '<', '>', '.']));
    }
    let short = arg.get_short().map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let value = value.unwrap_or_else(|| arg.get_id().as_str().to_uppercase());
    let value = if is_switch(arg) || takes_count(arg) { String::new() } else { format!(" {value}") };
    format!("  {short}--{}{value}", arg.get_long().unwrap_or_default())
}

fn takes_count(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Count)
}

/// The defaults as typed, without those that say nothing.
fn defaults(arg: &Arg) -> Option<String> {
    let values: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    (!values.is_empty() && !is_switch(arg) && !takes_count(arg)).then(|| values.join(","))
}

/// A flag in a line if that is possible: what it does and its default. Of what follows the first sentence, or where that
/// is long its first clause, --help-all tells.
fn line(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.split_inclusive(". ").next().unwrap_or(&help).trim_end().trim_end_matches('.');
    let default = defaults(arg).map(|default| format!(" [{default}]")).unwrap_or_default();
    let room = WIDTH - MARGIN - default.chars().count();
    let clause = if help.chars().count() <= room { help } else { first_clause(help) };
    wrap(&typed(arg), MARGIN, &format!("{}{default}", clause.trim_end()))
}

/// What stands before the first colon, semicolon or parenthesis.
fn first_clause(sentence: &str) -> &str {
    let end = ["; ", ": ", " ("].iter().filter_map(|mark| sentence.find(mark)).min();
    &sentence[..end.unwrap_or(sentence.len())]
}

/// Everything about a flag.
fn paragraph(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = wrap(&typed(arg), MARGIN, &help.split_whitespace().collect::<Vec<_>>().join(" "));
    let values: Vec<String> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let names: Vec<String> = arg
        .get_long()
        .into_iter()
        .flat_map(foreign::names_of)
        .map(str::to_owned)
        .chain(arg.get_all_aliases().unwrap_or_default().into_iter().map(|name| format!("--{name}")))
        .collect();
    let facts = [
        ("default", defaults(arg)),
        ("one of", (!values.is_empty() && !is_switch(arg)).then(|| values.join(", "))),
        ("variable", key(arg).and(arg.get_env()).map(|name| name.to_string_lossy().into_owned())),
        ("also", (!names.is_empty()).then(|| names.join(", "))),
    ];
    let facts: Vec<String> =
        facts.into_iter().filter_map(|(name, fact)| Some(format!("{name}: {}", fact?))).collect();
    if !facts.is_empty() {
        text += &wrap("", MARGIN, &format!("[{}]", facts.join(" · ")));
    }
    text
}

/// `left`, then `right` from column `margin` on, in lines of at most [`WIDTH`].
fn wrap(left: &str, margin: usize, right: &str) -> String {
    let mut lines = vec![String::new()];
    for word in right.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        match line.is_empty() || margin + line.chars().count() + 1 + word.chars().count() <= WIDTH {
            true if line.is_empty() => word.clone_into(line),
            true => *line += &format!(" {word}"),
            false => lines.push(word.to_owned()),
        }
    }
    let mut text = String::new();
    let beside = left.is_empty() || left.chars().count() < margin;
    if !beside {
        let _ = writeln!(text, "{left}");
    }
    for (at, line) in lines.iter().enumerate() {
        let left = if at == 0 && beside { left } else { "" };
        let _ = writeln!(text, "{}", format!("{left:<margin$}{line}").trim_end());
    }
    text
}

/// The command and the kind of help in `args`.
fn wanted(root: &Command, args: &[OsString]) -> Option<(Vec<String>, Wanted)> {
    let words: Vec<&str> = args
        .iter()
        .skip(1)
        .map(|arg| arg.to_str().unwrap_or_default())
        .take_while(|arg| *arg != "--")
        .collect();
    let (mut command, mut path, mut wanted) = (root, Vec::new(), None);
    for (at, word) in words.iter().enumerate() {
        if at == 0 && *word == "help" {
            wanted = Some(Wanted::Screen);
            continue;
        }
        if let Some(inner) = command.find_subcommand(word) {
            (command, wanted) = (inner, wanted.filter(|wanted| !matches!(wanted, Wanted::Word(_))));
            path.push((*word).to_owned());
            continue;
        }
        match *word {
            "--help-all" => return Some((path, Wanted::All)),
            "--help" | "-h" => {
                let next = words.get(at + 1).filter(|next| !next.starts_with('-'));
                let next = next.filter(|next| command.find_subcommand(next).is_none());
                wanted = Some(next.map_or(Wanted::Screen, |next| Wanted::Word((*next).to_owned())));
            }
            _ => match word.strip_prefix("--help=") {
                Some("all" | "max") => return Some((path, Wanted::All)),
                Some(word) => wanted = Some(Wanted::Word(word.to_owned())),
                None => {}
            },
        }
    }
    Some((path, wanted?))
}

#[cfg(test)]
mod tests {
    use super::super::definitions::{all, own};
    use super::*;

    fn help(args: &[&str]) -> String {
        let mut root = own();
        root.build();
        let args: Vec<OsString> = ["pagoda"].iter().chain(args).map(OsString::from).collect();
        asked(&root, &args).unwrap_or_else(|| panic!("{args:?} asks for help"))
    }

    #[test]
    fn the_help_of_every_command_is_a_screen() {
        let mut root = own();
        root.build();
        for (path, command) in paths(&root, "pagoda").iter().filter(|(path, _)| !path.contains(" help")) {
            let text = screen(command, path);
            let (lines, longest) =
                (text.lines().count(), text.lines().map(|line| line.chars().count()).max());
            assert!(lines <= 60, "{path} --help has {lines} lines:\n{text}");
            assert!(longest <= Some(WIDTH), "{path}: {longest:?}");
            assert!(text.contains("Usage: ") && text.contains(path.as_str()), "{text}");
        }
    }

    #[test]
    fn flags_of_serve_are_in_groups_with_their_defaults() {
        let text = help(&["serve", "--help"]);
        for expected in [
            "\nModel:\n",
            "\nMemory:\n",
            "\nScheduling:\n",
            "\nServer:\n",
            "\nLogging:\n",
            "--port PORT",
            "[8000]",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
        }
        let all = help(&["serve", "--help-all"]);
        assert!(all.lines().count() > text.lines().count());
        for expected in ["PAGODA_MAX_MODEL_LEN", "--ctx-size", "default: 8000", "variable: PAGODA_PORT"] {
            assert!(all.contains(expected), "{expected:?} is missing in\n{all}");
        }
    }

    #[test]
    fn a_word_finds_flags_of_every_command_and_those_of_other_servers() {
        let text = help(&["--help", "prefix"]);
        assert!(text.contains("pagoda serve:\n") && text.contains("--no-enable-prefix-caching"), "{text}");
        let text = help(&["serve", "--help", "tensor"]);
        assert!(text.contains("--tensor-parallel-size") && text.contains("one process"), "{text}");
        assert!(help(&["serve", "--help=xyzzy"]).contains("nothing here is about \"xyzzy\""));
    }

    #[test]
    fn help_is_found_wherever_it_is_asked_for() {
        for args in [
            &["help", "serve"][..],
            &["serve", "-h"],
            &["--help", "serve"],
            &["serve", "--port", "x", "--help"],
        ] {
            assert!(help(args).contains("Usage: pagoda serve"), "{args:?}");
        }
        assert!(help(&["bench", "serve", "--help"]).contains("Usage: pagoda bench serve"));
        let root = own();
        for args in [&["pagoda", "serve"][..], &["pagoda", "run", "--", "--help"], &["pagoda", "run", "help"]]
        {
            assert_eq!(asked(&root, &args.iter().map(OsString::from).collect::<Vec<_>>()), None, "{args:?}");
        }
    }

    #[test]
    fn long_texts_are_wrapped_beside_their_flag() {
        let text = wrap("  --a", 8, &"word ".repeat(40));
        assert!(text.lines().count() > 1 && text.starts_with("  --a   word"), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("        word")), "{text}");
        assert_eq!(wrap("  --very-long-name", 8, "x"), "  --very-long-name\n        x\n");
    }

    #[test]
    fn all_commands_are_listed() {
        let root = own();
        let text = screen(&root, "pagoda");
        for command in all(&root)
            .into_iter()
            .skip(1)
            .filter(|command| root.find_subcommand(command.get_name()).is_some())
        {
            assert!(text.contains(&format!("\n  {}", command.get_name())), "{}", command.get_name());
        }
    }
}
