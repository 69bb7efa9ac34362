//! `pagoda chat` and `pagoda complete`: clients of a server that runs elsewhere.

mod answer;
mod args;
mod conversation;
mod line;
mod repl;

pub(crate) use args::{ChatArgs, CompleteArgs};
pub(crate) use conversation::Conversation;
pub(crate) use repl::{Partner, converse};

use super::args::ServerArgs;
use super::exit::{CliError, Failure};
use super::server::runtime;
use answer::Answer;
use anyhow::Context;
use args::SettingArgs;
use pagoda::client::Client;
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
        return converse(&mut talk, &mut conversation);
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
            None => runtime.block_on(client.first_model())?,
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
}

impl Partner for Talk {
    fn name(&self) -> String {
        self.fields["model"].as_str().unwrap_or_default().to_owned()
    }

    fn answer(&mut self, conversation: &Conversation) -> Result<String, CliError> {
        Ok(self.ask("messages", conversation.messages())?.text)
    }

    fn set(&mut self, name: &str, value: Option<Value>) -> Result<(), String> {
        match value {
            Some(value) => drop(self.fields.insert(name.to_owned(), value)),
            None => drop(self.fields.remove(name)),
        }
        Ok(())
    }
}
