//! `pagoda chat` and `pagoda complete`: clients of a server that runs elsewhere.

mod answer;
mod args;
mod conversation;
mod line;

pub(crate) use args::{ChatArgs, CompleteArgs};

use super::args::ServerArgs;
use super::bench::files::write_json;
use super::exit::{CliError, Failure};
use super::server::{refusal, runtime};
use answer::Answer;
use anyhow::{Context, anyhow};
use args::SettingArgs;
use conversation::Conversation;
use line::{HELP, Line};
use pagoda::client::Client;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, Read};
use tokio::runtime::Runtime;

/// Most tokens of a continuation where nothing else is asked: servers would stop after 16.
const CONTINUATION: u32 = 256;

/// Answers one message, or holds a conversation.
pub(crate) fn chat(args: &ChatArgs) -> Result<(), CliError> {
    let mut talk = Talk::open(&args.server, &args.settings, "/v1/chat/completions")?;
    let mut conversation = Conversation::new(args.system.clone());
    if args.quick.is_none() && std::io::stdin().is_terminal() {
        return talk.converse(&mut conversation);
    }
    conversation.say(text(args.quick.as_deref())?);
    talk.ask("messages", conversation.messages()).map(drop)
}

/// Continues one text.
pub(crate) fn complete(args: &CompleteArgs) -> Result<(), CliError> {
    let mut talk = Talk::open(&args.server, &args.settings, "/v1/completions")?;
    talk.fields.entry("max_tokens").or_insert(CONTINUATION.into());
    talk.ask("prompt", text(args.quick.as_deref())?.into()).map(drop)
}

/// What was given, or what stdin holds.
fn text(given: Option<&str>) -> Result<String, CliError> {
    if let Some(text) = given {
        return Ok(text.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text).context("cannot read the text from stdin");
    read.map_err(|error| CliError::new(Failure::Runtime, error))?;
    Ok(text)
}

/// A server and what every request to it says.
struct Talk {
    client: Client,
    runtime: Runtime,
    endpoint: &'static str,
    fields: Map<String, Value>,
}

impl Talk {
    fn open(server: &ServerArgs, settings: &SettingArgs, endpoint: &'static str) -> Result<Self, CliError> {
        let (client, runtime) = (server.client()?, runtime()?);
        let model = match &settings.model {
            Some(name) => name.clone(),
            None => runtime
                .block_on(client.first_model())
                .map_err(|error| CliError::new(Failure::Runtime, refusal(error)))?,
        };
        let mut fields = settings.fields();
        fields.insert("model".into(), model.into());
        fields.insert("stream".into(), true.into());
        fields.insert("stream_options".into(), json!({ "include_usage": true }));
        Ok(Self { client, runtime, endpoint, fields })
    }

    /// Sends the fields of every request and this one, and writes the answer.
    fn ask(&self, name: &str, value: Value) -> Result<Answer, CliError> {
        let mut body = self.fields.clone();
        body.insert(name.to_owned(), value);
        self.runtime.block_on(answer::stream(&self.client, self.endpoint, &body.into()))
    }

    /// Reads lines and answers them until the end of the input.
    fn converse(&mut self, conversation: &mut Conversation) -> Result<(), CliError> {
        let failed = |error: ReadlineError| CliError::new(Failure::Runtime, error);
        let mut editor = DefaultEditor::new().map_err(failed)?;
        eprintln!(
            "{} · /help lists commands, Ctrl-D ends",
            self.fields["model"].as_str().unwrap_or_default()
        );
        loop {
            let line = match read(&mut editor) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(failed(error)),
            };
            match Line::parse(&line) {
                Ok(Line::Exit) => return Ok(()),
                Ok(line) => self.obey(line, conversation).unwrap_or_else(|error| eprintln!("{error:#}")),
                Err(message) => eprintln!("{message}"),
            }
        }
    }

    fn obey(&mut self, line: Line, conversation: &mut Conversation) -> anyhow::Result<()> {
        match line {
            Line::Nothing | Line::Exit => {}
            Line::Message(text) => {
                conversation.say(text);
                if let Err(error) = self.turn(conversation) {
                    conversation.undo();
                    return Err(error);
                }
            }
            Line::Retry if conversation.reopen() => self.turn(conversation)?,
            Line::Retry => return Err(anyhow!("nothing has been said")),
            Line::Undo if conversation.undo() => {}
            Line::Undo => return Err(anyhow!("nothing has been said")),
            Line::Clear => conversation.clear(),
            Line::System(text) => conversation.system = text,
            Line::Set(name, Some(value)) => drop(self.fields.insert(name, value)),
            Line::Set(name, None) => drop(self.fields.remove(&name)),
            Line::Save(path) => write_json(&path, &conversation.messages()).map_err(|error| error.error)?,
            Line::Help => eprintln!("{HELP}"),
        }
        Ok(())
    }

    /// Has what was said last answered.
    fn turn(&self, conversation: &mut Conversation) -> anyhow::Result<()> {
        let answer = self.ask("messages", conversation.messages()).map_err(|error| error.error)?;
        conversation.answered(answer.text);
        Ok(())
    }
}

/// A line, with those that it goes on in.
fn read(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let mut text = editor.readline("> ")?;
    while text.ends_with('\\') {
        text.truncate(text.len() - 1);
        text = text + "\n" + &editor.readline("… ")?;
    }
    editor.add_history_entry(text.as_str())?;
    Ok(text)
}
