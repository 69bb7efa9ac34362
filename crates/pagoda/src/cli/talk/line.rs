//! What a line of a conversation means.

use serde_json::Value;
use std::path::PathBuf;

/// The commands, as `/help` shows them.
pub(super) const HELP: &str = "\
/retry            ask for the last answer again
/undo             take the last message and its answer back
/clear            begin anew
/system TEXT      what the model is told before the conversation; without TEXT nothing
/set NAME VALUE   a field of every request, such as temperature 0.2; without VALUE the server's own
/save FILE        write the conversation as JSON
/exit             end, as Ctrl-D does
Ctrl-C ends an answer. A line that ends with \\ goes on in the next; // begins a message with a slash.";

#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Nothing,
    Message(String),
    Help,
    Retry,
    Undo,
    Clear,
    System(Option<String>),
    Set(String, Option<Value>),
    Save(PathBuf),
    Exit,
}

impl Line {
    /// Reads a line; the error says what is wrong with a command.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Self::Nothing } else { Self::Message(line.to_owned()) });
        };
        if command.starts_with('/') {
            return Ok(Self::Message(command.to_owned()));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let given = || Some(rest.to_owned()).filter(|text| !text.is_empty());
        match name {
            "help" | "?" => Ok(Self::Help),
            "retry" => Ok(Self::Retry),
            "undo" => Ok(Self::Undo),
            "clear" => Ok(Self::Clear),
            "system" => Ok(Self::System(given())),
            "set" => set(rest),
            "save" => given().map(|path| Self::Save(path.into())).ok_or_else(|| "/save needs a file".into()),
            "exit" | "quit" | "bye" => Ok(Self::Exit),
            _ => Err(format!("/{name} is no command; /help lists them")),
        }
    }
}

fn set(rest: &str) -> Result<Line, String> {
    let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if name.is_empty() {
        return Err("/set needs the name of a field, such as temperature".into());
    }
    if ["messages", "stream", "stream_options"].contains(&name) {
        return Err(format!("{name} is part of every request and cannot be set"));
    }
    let value = value.trim();
    // What is no JSON is a text, so that nobody has to quote it.
    let value = Some(value).filter(|text| !text.is_empty());
    let value = value.map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    Ok(Line::Set(name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_messages_or_commands() {
        for (line, meaning) in [
            ("  ", Line::Nothing),
            (" hello / there ", Line::Message("hello / there".into())),
            ("//etc is a folder", Line::Message("/etc is a folder".into())),
            ("/clear", Line::Clear),
            ("/system Be brief.", Line::System(Some("Be brief.".into()))),
            ("/system", Line::System(None)),
            ("/set temperature 0.5", Line::Set("temperature".into(), Some(json!(0.5)))),
            ("/set stop a b", Line::Set("stop".into(), Some(json!("a b")))),
            ("/set stop [\"a\"]", Line::Set("stop".into(), Some(json!(["a"])))),
            ("/set stop", Line::Set("stop".into(), None)),
            ("/save a b.json", Line::Save("a b.json".into())),
            ("/bye", Line::Exit),
        ] {
            assert_eq!(Line::parse(line), Ok(meaning), "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_said() {
        for (line, part) in [
            ("/fly", "/fly is no command"),
            ("/set", "name of a field"),
            ("/save ", "a file"),
            ("/set stream false", "part of every request"),
        ] {
            let error = Line::parse(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        for line in HELP.lines().filter_map(|line| line.strip_prefix('/')) {
            let name = line.split_whitespace().next().expect("a name");
            assert!(Line::parse(&format!("/{name} x")).is_ok(), "{name}");
        }
    }
}
