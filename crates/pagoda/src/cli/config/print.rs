//! `--print-config`: every setting of a command with where it comes from, as a file that `--config` takes.

use super::super::definitions::{is_setting, is_switch, key};
use super::ConfigFile;
use super::value::as_toml;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::fmt::Write as _;

/// What a value is that nobody set, where something else decides.
pub(crate) struct Resolved {
    /// Key of the setting.
    pub(crate) key: &'static str,
    pub(crate) value: String,
    /// Who decided, such as `the model`.
    pub(crate) origin: &'static str,
}

/// The file for the command that `matches` are of. `resolved` is what the model and the machine say.
pub(crate) fn print(
    command: &Command,
    matches: &ArgMatches,
    file: Option<&ConfigFile>,
    resolved: &[Resolved],
) -> String {
    let mut text = String::from("# flag > environment > file > the model's own > built in\n");
    let (mut command, mut matches, mut path) = (command, matches, Vec::new());
    let mut shown = Shown { file, resolved, text: &mut text };
    let common: Vec<&Arg> = command.get_arguments().collect();
    while let Some((name, below)) = matches.subcommand() {
        command = command.find_subcommand(name).expect("a command that was parsed is defined");
        (matches, path) = (below, [path, vec![name.to_owned()]].concat());
    }
    for arg in common {
        shown.setting(arg, matches, &[]);
    }
    let _ = writeln!(shown.text, "\n[{}]", path.join("."));
    for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
        shown.setting(arg, matches, &path);
    }
    text
}

struct Shown<'a> {
    file: Option<&'a ConfigFile>,
    resolved: &'a [Resolved],
    text: &'a mut String,
}

impl Shown<'_> {
    fn setting(&mut self, arg: &Arg, matches: &ArgMatches, path: &[String]) {
        let Some(key) = key(arg).filter(|_| is_setting(arg)) else { return };
        let id = arg.get_id().as_str();
        let values: Vec<String> = match is_switch(arg) {
            // A variable may say it in other words.
            true => vec![matches.get_flag(id).to_string()],
            false => matches
                .get_raw(id)
                .into_iter()
                .flatten()
                .map(|value| value.to_string_lossy().into())
                .collect(),
        };
        let origin = self.origin(arg, matches.value_source(id), (path, &key));
        // Writing to a String cannot fail.
        let _ = match values.as_slice() {
            [] => writeln!(self.text, "{}", self.unset(&key)),
            [open] if open == "auto" && self.resolved(&key).is_some() => {
                writeln!(
                    self.text,
                    "{key} = \"auto\"  # {origin}: {}",
                    self.unset(&key).trim_start_matches("# ")
                )
            }
            _ if arg.is_hide_env_values_set() => writeln!(self.text, "# {key} is set, not shown  # {origin}"),
            [value] if !matches!(arg.get_action(), ArgAction::Append) => {
                writeln!(self.text, "{key} = {}  # {origin}", as_toml(value))
            }
            values => {
                let values: Vec<String> = values.iter().map(|value| as_toml(value)).collect();
                writeln!(self.text, "{key} = [{}]  # {origin}", values.join(", "))
            }
        };
    }

    fn resolved(&self, key: &str) -> Option<&Resolved> {
        self.resolved.iter().find(|resolved| resolved.key == key)
    }

    /// A line that sets nothing, so that what adapts goes on to adapt.
    fn unset(&self, key: &str) -> String {
        match self.resolved(key) {
            Some(Resolved { value, origin, .. }) => format!("# {key} = {}  # {origin}", as_toml(value)),
            None => format!("# {key} is not set"),
        }
    }

    fn origin(&self, arg: &Arg, source: Option<ValueSource>, (path, key): (&[String], &str)) -> String {
        match source {
            Some(ValueSource::CommandLine) => "flag".to_owned(),
            Some(ValueSource::EnvVariable) => {
                format!("environment {}", arg.get_env().unwrap_or_default().to_string_lossy())
            }
            _ => self.file.and_then(|file| file.place(path, key)).unwrap_or_else(|| "built in".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::definitions::command;
    use super::*;

    fn printed(text: Option<&str>, args: &[&str]) -> String {
        let file = text.map(|text| ConfigFile::parse("p.toml", text, &command()).unwrap());
        let mut command = command();
        if let Some(file) = &file {
            command = file.apply(command);
        }
        let matches = command.try_get_matches_from_mut([&["pagoda", "serve"], args].concat()).unwrap();
        let resolved = [Resolved { key: "max-model-len", value: "1024".into(), origin: "the model" }];
        print(&command, &matches, file.as_ref(), &resolved)
    }

    #[test]
    fn every_value_has_its_origin() {
        let text = printed(
            Some("log = \"info\"\n[serve]\nqueue-timeout = 5\napi-key = [\"sk-very-secret\"]\n"),
            &["--port", "8001", "--any-model-name", "--served-model-name", "a"],
        );
        for line in [
            "log = \"info\"  # p.toml, line 1\n",
            "\n[serve]\n",
            "port = 8001  # flag\n",
            "any-model-name = true  # flag\n",
            "served-model-name = [\"a\"]  # flag\n",
            "queue-timeout = 5  # p.toml, line 3\n",
            "max-num-seqs = 64  # built in\n",
            "max-model-len = \"auto\"  # built in: max-model-len = 1024  # the model\n",
            "# api-key is set, not shown  # p.toml, line 4\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing in\n{text}");
        }
        assert!(!text.contains("very-secret"), "{text}");
    }

    #[test]
    fn what_is_printed_configures_the_same() {
        let first = printed(None, &["--port", "8001", "--kv-cache-memory", "1GiB", "--host", "::1"]);
        let second = printed(Some(&first), &[]);
        let settings = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(settings(&first), settings(&second));
        assert!(second.contains("port = 8001  # p.toml, line "), "{second}");
    }
}
