//! A conversation in the messages of chat, made from the items and blocks of other interfaces.

use serde_json::{Value, json};

/// Messages so far.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    messages: Vec<Value>,
    /// What the assistant said to itself before what comes next.
    reasoning: Option<String>,
}

impl Conversation {
    /// A message of anybody.
    pub(crate) fn say(&mut self, role: &str, text: String) {
        let mut message = json!({"role": role, "content": text});
        if role == "assistant" {
            self.add_reasoning(&mut message);
        }
        self.messages.push(message);
    }

    /// What the assistant said to itself; templates look for it beside what it said or called then.
    pub(crate) fn think(&mut self, text: &str) {
        self.reasoning.get_or_insert_default().push_str(text);
    }

    /// A call by the assistant. Calls in a row, and what it said before them, are one message.
    pub(crate) fn call(&mut self, id: &str, name: &str, arguments: &Value) {
        let goes_on =
            self.reasoning.is_none() && self.messages.last().is_some_and(|last| last["role"] == "assistant");
        if !goes_on {
            self.say("assistant", String::new());
        }
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        let Some(last) = self.messages.last_mut() else { return };
        match last["tool_calls"].as_array_mut() {
            Some(calls) => calls.push(call),
            None => last["tool_calls"] = json!([call]),
        }
    }

    /// What a call brought.
    pub(crate) fn result(&mut self, id: &str, text: String) {
        self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
    }

    /// Whether the assistant spoke last.
    pub(crate) fn ends_with_assistant(&self) -> bool {
        self.messages.last().is_some_and(|last| last["role"] == "assistant" && last["tool_calls"].is_null())
    }

    /// The messages as chat takes them.
    pub(crate) fn into_messages(self) -> Value {
        self.messages.into()
    }

    fn add_reasoning(&mut self, message: &mut Value) {
        if let Some(reasoning) = self.reasoning.take().filter(|text| !text.is_empty()) {
            message["reasoning_content"] = reasoning.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_assistant_did_at_once_is_one_message() {
        let mut conversation = Conversation::default();
        conversation.say("user", "x".into());
        conversation.think("hm");
        conversation.say("assistant", "I look.".into());
        conversation.call("1", "look", &json!("{}"));
        conversation.call("2", "find", &json!({}));
        conversation.result("1", "seen".into());
        conversation.call("3", "look", &json!({}));
        assert!(!conversation.ends_with_assistant());
        let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        assert_eq!(
            conversation.into_messages(),
            json!([
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "I look.", "reasoning_content": "hm",
                 "tool_calls": [call("1", "look", json!("{}")), call("2", "find", json!({}))]},
                {"role": "tool", "tool_call_id": "1", "content": "seen"},
                {"role": "assistant", "content": "", "tool_calls": [call("3", "look", json!({}))]},
            ])
        );
    }
}
