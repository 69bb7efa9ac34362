//! Messages as `transformers` gives them to a chat template.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Fields under which clients send what a model said to itself, the usual one first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// Stands at the end of the last message while it is rendered; letters that no printing changes. The space tells whether the
/// template keeps those at the end of a message.
const MARK: &str = "\u{29fc}ends here\u{29fd} ";

/// The messages without what is null, with reasoning under each of the names that templates look for.
pub(crate) fn plain(messages: &Value) -> Cow<'_, Value> {
    let is_plain = |message: &Value| match message {
        Value::Object(fields) => {
            !fields.values().any(Value::is_null) && !REASONING.iter().any(|name| fields.contains_key(*name))
        }
        _ => true,
    };
    match messages {
        Value::Array(list) if !list.iter().all(is_plain) => {
            Cow::Owned(list.iter().map(plain_message).collect())
        }
        _ => Cow::Borrowed(messages),
    }
}

fn plain_message(message: &Value) -> Value {
    let Value::Object(fields) = message else { return message.clone() };
    let present = fields.iter().filter(|(_, value)| !value.is_null());
    let mut fields: Map<String, Value> = present.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() {
        let thinking = fields.get("thinking").unwrap_or(&reasoning).clone();
        fields.shift_insert(0, "thinking".to_owned(), thinking);
        fields.insert("reasoning_content".to_owned(), reasoning);
    }
    Value::Object(fields)
}

/// Marks where the last message ends; `None` when it has no text.
pub(crate) fn mark_end(messages: &mut Value) -> Option<()> {
    let content = messages.as_array_mut()?.last_mut()?.get_mut("content")?;
    let text = match content {
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| part.get_mut("text"))?,
        text => text,
    };
    match text {
        Value::String(text) => text.push_str(MARK),
        _ => return None,
    }
    Some(())
}

/// The text before the mark; `None` when it is not there.
pub(crate) fn up_to_mark(mut text: String) -> Option<String> {
    let at = text.rfind(MARK.trim_end())?;
    let keeps_spaces = text[at..].starts_with(MARK);
    text.truncate(if keeps_spaces { at } else { text[..at].trim_end().len() });
    Some(text)
}
