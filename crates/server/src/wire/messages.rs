//! Chat messages: checked and brought into the one shape that templates read.

use crate::error::ApiError;
use pagoda_text::Tokenizer;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Most messages in one conversation.
const MAX_MESSAGES: usize = 2_048;

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Checks `messages` in place: every message has a known role, and every content becomes one string.
///
/// # Errors
/// Names the message and the field, such as `messages[2].content`.
pub(crate) fn normalise(messages: &mut Value) -> Result<(), ApiError> {
    let Value::Array(list) = messages else {
        return Err(ApiError::invalid(
            "messages",
            "messages must be a list of objects with role and content",
        ));
    };
    if list.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty; send at least one message"));
    }
    if list.len() > MAX_MESSAGES {
        let message = format!("messages has {} entries; at most {MAX_MESSAGES} are read", list.len());
        return Err(ApiError::invalid("messages", message));
    }
    for (at, message) in list.iter_mut().enumerate() {
        let path = format!("messages[{at}]");
        let Value::Object(message) = message else {
            return Err(ApiError::invalid(&path, format!("{path} must be an object with role and content")));
        };
        check_role(message, &path)?;
        flatten_content(message, &path)?;
        read_arguments(message);
    }
    Ok(())
}

/// Quotes every text in `value`, so that none of it becomes a special token.
pub(crate) fn quote(value: &mut Value, tokenizer: &Tokenizer) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(quoted) = tokenizer.quote(text) {
                *text = quoted;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| quote(item, tokenizer)),
        Value::Object(entries) => {
            entries.values_mut().for_each(|entry| quote(entry, tokenizer));
            if entries.keys().any(|name| matches!(tokenizer.quote(name), Cow::Owned(_))) {
                let quoted = std::mem::take(entries).into_iter();
                *entries = quoted.map(|(name, entry)| (tokenizer.quote(&name).into_owned(), entry)).collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Renames the role `developer` for templates that know only `system`.
pub(crate) fn developer_to_system(messages: &mut Value) {
    for message in messages.as_array_mut().into_iter().flatten() {
        if message["role"] == "developer" {
            message["role"] = "system".into();
        }
    }
}

fn check_role(message: &Map<String, Value>, path: &str) -> Result<(), ApiError> {
    let param = format!("{path}.role");
    match message.get("role") {
        None | Some(Value::Null) => Err(ApiError::missing(&param)),
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) => Ok(()),
        Some(other) => {
            let text = other.to_string();
            let expected = format!("one of {}", ROLES.join(", "));
            Err(crate::json::mistyped(&param, &expected, &text))
        }
    }
}

/// Clients send the arguments of earlier calls as a string of JSON, and templates write them as JSON themselves.
fn read_arguments(message: &mut Map<String, Value>) {
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let read = arguments.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        if let Some(read) = read {
            *arguments = Value::Object(read);
        }
    }
}

fn flatten_content(message: &mut Map<String, Value>, path: &str) -> Result<(), ApiError> {
    let param = format!("{path}.content");
    let content = match message.get("content") {
        Some(Value::String(_)) => return Ok(()),
        // An assistant that only called a tool said nothing.
        None | Some(Value::Null) if message["role"] == "assistant" => String::new(),
        None | Some(Value::Null) => return Err(ApiError::missing(&param)),
        Some(content) => text(content, &param)?,
    };
    message.insert("content".into(), content.into());
    Ok(())
}

/// A content as one string.
///
/// # Errors
/// Names the part of `param` that is no text.
pub(crate) fn text(content: &Value, param: &str) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => join_parts(parts, param),
        other => Err(crate::json::mistyped(param, "a string or a list of text parts", &other.to_string())),
    }
}

fn join_parts(parts: &[Value], param: &str) -> Result<String, ApiError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        match part {
            Value::String(text) => texts.push(text.as_str()),
            Value::Object(part) => texts.push(text_of(part, &format!("{param}[{at}]"))?),
            other => {
                let param = format!("{param}[{at}]");
                return Err(crate::json::mistyped(&param, "a text part", &other.to_string()));
            }
        }
    }
    Ok(texts.join("\n"))
}

fn text_of<'a>(part: &'a Map<String, Value>, param: &str) -> Result<&'a str, ApiError> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
    if !matches!(kind, "text" | "input_text" | "output_text" | "refusal") {
        return Err(ApiError::unsupported(format!("{param}.type"), "only text parts are; remove the part"));
    }
    let field = if kind == "refusal" { "refusal" } else { "text" };
    match part.get(field) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(ApiError::missing(&format!("{param}.{field}"))),
        Some(other) => {
            Err(crate::json::mistyped(&format!("{param}.{field}"), "a string", &other.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(mut messages: Value) -> String {
        let error = normalise(&mut messages).unwrap_err();
        match &error {
            ApiError::Field { param, message, .. } => {
                assert!(message.contains(param.as_str()), "{message} does not name {param}");
                param.clone()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn content_becomes_one_string() {
        let mut messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [1]},
            {"role": "user", "content": [], "name": "Ann"},
        ]);
        normalise(&mut messages).unwrap();
        let expected = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "a\nb"},
            {"role": "assistant", "content": "", "tool_calls": [1]},
            {"role": "user", "content": "", "name": "Ann"},
        ]);
        assert_eq!(messages, expected);
    }

    #[test]
    fn faults_name_their_place() {
        let user = json!({"role": "user", "content": "x"});
        assert_eq!(refused(json!("hi")), "messages");
        assert_eq!(refused(json!([])), "messages");
        assert_eq!(refused(json!([user, 3])), "messages[1]");
        assert_eq!(refused(json!([{"content": "x"}])), "messages[0].role");
        assert_eq!(refused(json!([{"role": "wizard", "content": "x"}])), "messages[0].role");
        assert_eq!(refused(json!([user, {"role": "user"}])), "messages[1].content");
        assert_eq!(refused(json!([{"role": "user", "content": 3}])), "messages[0].content");
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
        assert_eq!(refused(image), "messages[0].content[0].type");
        let empty_part = json!([{"role": "user", "content": [{"type": "text"}]}]);
        assert_eq!(refused(empty_part), "messages[0].content[0].text");
        assert_eq!(refused(json!(vec![user; MAX_MESSAGES + 1])), "messages");
    }

    #[test]
    fn developers_become_the_system_where_needed() {
        let mut messages =
            json!([{"role": "developer", "content": "x"}, {"role": "user", "content": "developer"}]);
        developer_to_system(&mut messages);
        assert_eq!(messages[0]["role"], "system");
        assert_eq!(messages[1]["role"], "user");
    }
}
