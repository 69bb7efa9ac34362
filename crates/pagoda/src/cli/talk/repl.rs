//! A conversation at the terminal, whoever answers.

use super::super::bench::files::write_json;
use super::super::exit::{CliError, Failure};
use super::conversation::Conversation;
use super::line::{HELP, Line};
use anyhow::anyhow;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::Value;

/// Who answers.
pub(crate) trait Partner {
    /// As it is introduced.
    fn name(&self) -> String;

    /// Answers what was said last, writing the answer to stdout as it comes.
    ///
    /// # Errors
    /// Why there is none; the conversation goes on without what was said.
    fn answer(&mut self, conversation: &Conversation) -> Result<String, CliError>;

    /// Sets a field of all requests that follow, or with `None` leaves it to the model.
    ///
    /// # Errors
    /// What is wrong with the field.
    fn set(&mut self, name: &str, value: Option<Value>) -> Result<(), String>;
}

/// Reads lines and has them answered until the end of the input.
///
/// # Errors
/// If the terminal cannot be used.
pub(crate) fn converse(partner: &mut dyn Partner, conversation: &mut Conversation) -> Result<(), CliError> {
    let failed = |error: ReadlineError| CliError::new(Failure::Runtime, error);
    let mut editor = DefaultEditor::new().map_err(failed)?;
    eprintln!("{} · /help lists commands, Ctrl-D ends", partner.name());
    loop {
        let line = match read(&mut editor) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        match Line::parse(&line) {
            Ok(Line::Exit) => return Ok(()),
            Ok(line) => obey(partner, line, conversation).unwrap_or_else(|error| eprintln!("{error:#}")),
            Err(message) => eprintln!("{message}"),
        }
    }
}

fn obey(partner: &mut dyn Partner, line: Line, conversation: &mut Conversation) -> anyhow::Result<()> {
    match line {
        Line::Nothing | Line::Exit => {}
        Line::Message(text) => {
            conversation.say(text);
            if let Err(error) = turn(partner, conversation) {
                conversation.undo();
                return Err(error);
            }
        }
        Line::Retry if conversation.reopen() => turn(partner, conversation)?,
        Line::Retry => return Err(anyhow!("nothing has been said")),
        Line::Undo if conversation.undo() => {}
        Line::Undo => return Err(anyhow!("nothing has been said")),
        Line::Clear => conversation.clear(),
        Line::System(text) => conversation.system = text,
        Line::Set(name, value) => partner.set(&name, value).map_err(|message| anyhow!(message))?,
        Line::Save(path) => write_json(&path, &conversation.messages()).map_err(|error| error.error)?,
        Line::Help => eprintln!("{HELP}"),
    }
    Ok(())
}

/// Has what was said last answered.
fn turn(partner: &mut dyn Partner, conversation: &mut Conversation) -> anyhow::Result<()> {
    let answer = partner.answer(conversation).map_err(|error| error.error)?;
    conversation.answered(answer);
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Repeats what was said last in capitals, unless it is told to fail.
    #[derive(Default)]
    struct Echo {
        fails: bool,
        set: Vec<(String, Option<Value>)>,
    }

    impl Partner for Echo {
        fn name(&self) -> String {
            "echo".to_owned()
        }

        fn answer(&mut self, conversation: &Conversation) -> Result<String, CliError> {
            if self.fails {
                return Err(CliError::new(Failure::Runtime, anyhow!("no answer")));
            }
            let messages = conversation.messages();
            let last = messages.as_array().and_then(|messages| messages.last()).expect("something was said");
            Ok(last["content"].as_str().expect("text").to_uppercase())
        }

        fn set(&mut self, name: &str, value: Option<Value>) -> Result<(), String> {
            self.set.push((name.to_owned(), value));
            Ok(())
        }
    }

    #[test]
    fn lines_change_the_conversation() {
        let (mut echo, mut conversation) = (Echo::default(), Conversation::new(None));
        let mut say = |echo: &mut Echo, line: &str| {
            obey(echo, Line::parse(line).expect("a line"), &mut conversation)
                .map(|()| conversation.messages())
        };
        assert!(say(&mut echo, "/retry").is_err() && say(&mut echo, "/undo").is_err());
        let said = say(&mut echo, "hi").expect("an answer");
        assert_eq!(said[1], json!({"role": "assistant", "content": "HI"}));
        echo.fails = true;
        assert!(say(&mut echo, "more").is_err());
        echo.fails = false;
        assert_eq!(say(&mut echo, "/retry").expect("an answer"), said, "what failed was not said");
        say(&mut echo, "/set top_p 0.5").expect("a field");
        assert_eq!(echo.set, [("top_p".to_owned(), Some(json!(0.5)))]);
        assert_eq!(say(&mut echo, "/undo").expect("it was said"), json!([]));
    }
}
