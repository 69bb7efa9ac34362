//! What has been said.

use serde_json::{Value, json};

/// The messages of a chat, of which the last is the one to be answered or an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Conversation {
    pub(super) system: Option<String>,
    turns: Vec<Turn>,
}

#[derive(Clone, Debug, PartialEq)]
struct Turn {
    said: String,
    answer: Option<String>,
}

impl Conversation {
    pub(crate) fn new(system: Option<String>) -> Self {
        Self { system, turns: Vec::new() }
    }

    pub(crate) fn say(&mut self, text: String) {
        self.turns.push(Turn { said: text, answer: None });
    }

    /// Keeps the answer to what was said last.
    pub(super) fn answered(&mut self, text: String) {
        if let Some(last) = self.turns.last_mut() {
            last.answer = Some(text);
        }
    }

    /// Forgets the last answer, so that it can be asked for again; whether there is something to be answered.
    pub(super) fn reopen(&mut self) -> bool {
        self.turns.last_mut().map(|last| last.answer = None).is_some()
    }

    /// Forgets what was said last and its answer; whether there was something.
    pub(super) fn undo(&mut self) -> bool {
        self.turns.pop().is_some()
    }

    pub(super) fn clear(&mut self) {
        self.turns.clear();
    }

    /// As `messages` of a request.
    pub(crate) fn messages(&self) -> Value {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let mut messages: Vec<Value> = self.system.iter().map(|text| message("system", text)).collect();
        for turn in &self.turns {
            messages.push(message("user", &turn.said));
            messages.extend(turn.answer.iter().map(|answer| message("assistant", answer)));
        }
        messages.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(conversation: &Conversation) -> Vec<String> {
        let messages = conversation.messages();
        let messages = messages.as_array().expect("a list");
        messages.iter().map(|message| message["role"].as_str().expect("a role").to_owned()).collect()
    }

    #[test]
    fn messages_follow_what_is_said_answered_and_taken_back() {
        let mut conversation = Conversation::new(Some("Be brief.".into()));
        assert!(!conversation.reopen() && !conversation.undo());
        conversation.say("Hi".into());
        assert_eq!(roles(&conversation), ["system", "user"]);
        conversation.answered("Hello".into());
        conversation.say("And?".into());
        conversation.answered("Nothing".into());
        assert_eq!(roles(&conversation), ["system", "user", "assistant", "user", "assistant"]);
        assert!(conversation.reopen());
        assert_eq!(roles(&conversation), ["system", "user", "assistant", "user"]);
        assert!(conversation.undo());
        assert_eq!(roles(&conversation), ["system", "user", "assistant"]);
        conversation.clear();
        assert_eq!(roles(&conversation), ["system"]);
    }
}
