//! The configuration file: values that take the place of built-in defaults. It knows no field by itself; what may stand in
//! it follows from the definitions of the commands.
//!
//! ```toml
//! log = "info"             # for every command that has the flag
//! kv-cache-memory = "4GiB"
//!
//! [serve]                  # for one command
//! port = 8001
//! ```

mod environment;
mod print;
mod value;

pub(crate) use environment::unknown_variables;
pub(crate) use print::{Resolved, print};

use super::definitions::{all, key};
use super::exit::{CliError, Failure};
use super::nearest::did_you_mean;
use anyhow::anyhow;
use clap::{ArgAction, Command};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Names the file where no flag does.
const VARIABLE: &str = "PAGODA_CONFIG";

/// Largest file that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The settings of a file.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    shown: String,
    settings: Vec<Setting>,
}

/// One key.
#[derive(Debug, PartialEq)]
struct Setting {
    /// The table that it stands in: the command that it is for.
    scope: Vec<String>,
    key: String,
    /// Of the file, from 1.
    line: usize,
    /// As they would be typed.
    values: Vec<String>,
}

impl ConfigFile {
    /// The file that the arguments or the environment name.
    ///
    /// # Errors
    /// [`Failure::Usage`] naming the file, the line and the key that cannot be used.
    pub(crate) fn find(args: &[OsString], command: &Command) -> Result<Option<Self>, CliError> {
        let path = flag(args).or_else(|| std::env::var_os(VARIABLE)).filter(|path| !path.is_empty());
        let Some(path) = path.map(PathBuf::from) else { return Ok(None) };
        let usage = |message: String| CliError::new(Failure::Usage, anyhow!(message));
        let text =
            read(&path).map_err(|error| usage(format!("cannot read the configuration {path:?}: {error}")))?;
        Self::parse(&path.to_string_lossy(), &text, command).map(Some).map_err(usage)
    }

    fn parse(shown: &str, text: &str, command: &Command) -> Result<Self, String> {
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            format!("{shown}, line {}: {}", line(at), error.message().replace('\n', ", "))
        })?;
        let mut reader = Reader { shown, line: &line, settings: Vec::new() };
        reader.table(&[], table.get_ref(), command)?;
        // What stands deeper is more special, and the last one holds.
        reader.settings.sort_by_key(|setting| setting.scope.len());
        Ok(Self { shown: shown.to_owned(), settings: reader.settings })
    }

    /// The commands with the file's values as defaults.
    pub(crate) fn apply(&self, command: Command) -> Command {
        self.apply_below(&[], command)
    }

    fn apply_below(&self, path: &[String], command: Command) -> Command {
        let command = command.mut_args(|arg| match key(&arg).and_then(|key| self.setting(path, &key)) {
            Some(setting) => arg.required(false).default_values(setting.values.iter().cloned()),
            None => arg,
        });
        command.mut_subcommands(|inner| {
            let path = [path, &[inner.get_name().to_owned()]].concat();
            self.apply_below(&path, inner)
        })
    }

    fn setting(&self, path: &[String], key: &str) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| setting.key == key && path.starts_with(&setting.scope))
    }

    /// Where the value of `key` for the command at `path` stands.
    fn place(&self, path: &[String], key: &str) -> Option<String> {
        self.setting(path, key).map(|setting| format!("{}, line {}", self.shown, setting.line))
    }

    /// Where `value` stands for a key whose name is part of `flag`, such as `--port <PORT>`.
    pub(crate) fn place_of(&self, flag: &str, value: &str) -> Option<String> {
        let found = self.settings.iter().rev().find(|setting| {
            flag.to_lowercase().contains(&setting.key) && setting.values.iter().any(|given| given == value)
        });
        found.map(|setting| format!("{}, line {}", self.shown, setting.line))
    }
}

struct Reader<'a> {
    shown: &'a str,
    line: &'a dyn Fn(usize) -> usize,
    settings: Vec<Setting>,
}

impl Reader<'_> {
    fn table(&mut self, scope: &[String], table: &DeTable<'_>, command: &Command) -> Result<(), String> {
        let known: BTreeSet<String> =
            all(command).into_iter().flat_map(Command::get_arguments).filter_map(key).collect();
        for (name, value) in table {
            let (line, name) = ((self.line)(name.span().start), name.get_ref().as_ref());
            let place = format!("{}, line {line}", self.shown);
            if let DeValue::Table(inner) = value.get_ref() {
                let found = command.get_subcommands().find(|inner| inner.get_name() == name);
                let Some(found) = found else {
                    let hint = did_you_mean(name, command.get_subcommands().map(Command::get_name));
                    return Err(format!("{place}: there is no command {name:?} to configure{hint}"));
                };
                self.table(&[scope, &[name.to_owned()]].concat(), inner, found)?;
                continue;
            }
            let key = name.replace('_', "-");
            if !known.contains(&key) {
                let hint = did_you_mean(&key, known.iter().map(String::as_str));
                return Err(format!("{place}: unknown key {name:?}{hint}"));
            }
            let values =
                value::as_typed(value.get_ref()).map_err(|problem| format!("{place}: {key}: {problem}"))?;
            if values.len() != 1 && !takes_several(command, &key) {
                return Err(format!("{place}: {key} takes one value, not a list of {}", values.len()));
            }
            self.settings.push(Setting { scope: scope.to_vec(), key, line, values });
        }
        Ok(())
    }
}

fn takes_several(command: &Command, wanted: &str) -> bool {
    let mut arguments = all(command).into_iter().flat_map(Command::get_arguments);
    arguments
        .any(|arg| key(arg).is_some_and(|key| key == wanted) && matches!(arg.get_action(), ArgAction::Append))
}

fn read(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        let problem = format!("it has {length} bytes; at most {MAX_BYTES} are read");
        return Err(std::io::Error::other(problem));
    }
    std::fs::read_to_string(path)
}

/// The value of `--config` before the arguments are parsed, which needs the file.
fn flag(args: &[OsString]) -> Option<OsString> {
    let mut args = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().cloned();
        }
        if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            return Some(OsStr::new(path).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::definitions::command;
    use super::*;
    use clap::parser::ValueSource;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse("p.toml", text, &command())
    }

    fn serve(text: &str, args: &[&str]) -> clap::ArgMatches {
        let file = parse(text).unwrap();
        let typed = [&["pagoda", "serve"], args].concat();
        let matches = file.apply(command()).try_get_matches_from(typed).unwrap();
        matches.subcommand().expect("a command").1.clone()
    }

    #[test]
    fn the_file_is_below_flags_and_above_what_is_built_in() {
        let text =
            "port = 8100\nmax_num_seqs = 7\nany-model-name = true\n[serve]\nport = 8200\n[chat]\nport = 1\n";
        let matches = serve(text, &["--max-num-seqs", "9"]);
        assert_eq!(matches.get_one::<u16>("port"), Some(&8200), "the table is more special");
        assert_eq!(matches.get_one::<u32>("max_num_seqs"), Some(&9));
        assert!(matches.get_flag("any_model_name"));
        assert_eq!(matches.value_source("port"), Some(ValueSource::DefaultValue));
        assert_eq!(matches.get_one::<u32>("block_size"), Some(&16));
    }

    #[test]
    fn lists_and_units_are_as_typed() {
        let matches =
            serve("served-model-name = [\"a\", \"b\"]\nkv-cache-memory = \"4GiB\"\nmodel = \"./m\"\n", &[]);
        let names: Vec<&String> = matches.get_many("served_model_name").expect("names").collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(matches.get_one::<String>("model").map(String::as_str), Some("./m"));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_line_and_what_was_meant() {
        for (text, expected) in [
            ("\nprot = 1", "p.toml, line 2: unknown key \"prot\"; did you mean port?"),
            (
                "[sevre]\nport = 1",
                "p.toml, line 1: there is no command \"sevre\" to configure; did you mean serve?",
            ),
            ("[serve]\n\nrequest-rate = 2", "p.toml, line 3: unknown key \"request-rate\""),
            ("port = [1, 2]", "p.toml, line 1: port takes one value, not a list of 2"),
            ("port = 1979-05-27", "p.toml, line 1: port: "),
            ("served-model-name = [[1]]", "p.toml, line 1: served-model-name: "),
            ("a = 1\nport = = 2", "p.toml, line 2: "),
            ("config = \"x\"", "unknown key \"config\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected) || error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_value_of_the_file_has_a_place() {
        let file = parse("log = \"info\"\n[serve]\nport = 99999\n").unwrap();
        assert_eq!(file.place_of("--port <PORT>", "99999").as_deref(), Some("p.toml, line 3"));
        assert_eq!(file.place_of("--port <PORT>", "1"), None);
        assert_eq!(file.place(&["serve".to_owned()], "port").as_deref(), Some("p.toml, line 3"));
        assert_eq!(file.place(&["chat".to_owned()], "port"), None);
    }

    #[test]
    fn the_flag_is_found_wherever_it_stands() {
        let find = |args: &[&str]| flag(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(find(&["pagoda", "--config", "a.toml", "serve"]), Some("a.toml".into()));
        assert_eq!(find(&["pagoda", "serve", "--config=b.toml"]), Some("b.toml".into()));
        assert_eq!(find(&["pagoda", "run", "--", "--config", "c.toml"]), None);
    }
}
