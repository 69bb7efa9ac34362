//! From the text of a model to its calls of functions.
//!
//! Where a call was demanded the whole text is one, by its constraint. Else it is looked for in the forms that models use:
//! `<tool_call>` with JSON inside, or nothing but JSON that names one of the functions, alone or in a list.

use crate::wire::tools::{ToolChoice, Tools};
use pagoda_engine::RequestId;
use serde_json::Value;
use std::sync::Arc;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// What some models write before the JSON of a call.
const MARKS: [&str; 2] = ["<|python_tag|>", "[TOOL_CALLS]"];

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON, as a string.
    pub(crate) arguments: String,
}

/// What a text was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What is no call, as far as it has not been handed out.
    pub(crate) content: String,
    pub(crate) calls: Vec<ToolCall>,
}

/// Reads the text of one choice as it comes. What may be a call is held back until the end.
#[derive(Debug)]
pub(crate) struct ToolReader {
    tools: Arc<Tools>,
    held: String,
    /// Whether all that is to come is held back.
    holds: bool,
    /// Whether something was handed out.
    begun: bool,
}

impl ToolReader {
    pub(crate) fn new(tools: &Arc<Tools>) -> Self {
        let holds = tools.choice != ToolChoice::Auto;
        Self { tools: Arc::clone(tools), held: String::new(), holds, begun: false }
    }

    /// Reads a text that is whole.
    pub(crate) fn read(tools: &Arc<Tools>, text: &str) -> Reading {
        let mut reader = Self::new(tools);
        let content = reader.push(text);
        let rest = reader.finish();
        Reading { content: content + &rest.content, calls: rest.calls }
    }

    /// Takes in more text and returns what is no part of a call.
    pub(crate) fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        if self.holds {
            return String::new();
        }
        let start = self.held.trim_start();
        if !self.begun && (start.is_empty() || start.starts_with(['{', '[', '<'])) {
            // Nothing but a call begins so, or it is too early to tell.
            self.holds = start.starts_with(['{', '[']) || MARKS.iter().any(|mark| start.starts_with(mark));
            if self.holds || MARKS.iter().any(|mark| mark.starts_with(start)) {
                return String::new();
            }
        }
        let free = match self.held.find(OPEN) {
            Some(at) => {
                self.holds = true;
                at
            }
            None => self.held.len() - begun(&self.held, OPEN),
        };
        self.begun |= free > 0;
        let rest = self.held.split_off(free);
        std::mem::replace(&mut self.held, rest)
    }

    /// No text follows: what was held back is calls, or content after all.
    pub(crate) fn finish(&mut self) -> Reading {
        let held = std::mem::take(&mut self.held);
        let calls = match self.tools.choice {
            ToolChoice::Named(index) if serde_json::from_str::<Value>(&held).is_ok() => {
                Some(vec![call(self.tools.functions[index].name.clone(), held.clone())])
            }
            ToolChoice::Named(_) => None,
            ToolChoice::Required => self.calls(&held),
            ToolChoice::Auto if held.contains(OPEN) => self.marked(&held),
            ToolChoice::Auto => {
                self.calls(MARKS.iter().fold(held.trim(), |text, mark| text.trim_start_matches(mark)))
            }
        };
        match calls.filter(|calls| !calls.is_empty()) {
            Some(mut calls) => {
                calls.truncate(if self.tools.parallel { usize::MAX } else { 1 });
                Reading { content: String::new(), calls }
            }
            None => Reading { content: held, calls: Vec::new() },
        }
    }

    /// The calls between marks; `None` if one of them cannot be read.
    fn marked(&self, text: &str) -> Option<Vec<ToolCall>> {
        let mut calls = Vec::new();
        for part in text.split(OPEN).skip(1) {
            let inner = part.split(CLOSE).next().unwrap_or(part);
            calls.extend(self.calls(inner)?);
        }
        Some(calls)
    }

    /// The calls of a JSON text; `None` if it is something else.
    fn calls(&self, text: &str) -> Option<Vec<ToolCall>> {
        match serde_json::from_str(text.trim()).ok()? {
            Value::Array(calls) => calls.iter().map(|call| self.call(call)).collect(),
            one => Some(vec![self.call(&one)?]),
        }
    }

    fn call(&self, value: &Value) -> Option<ToolCall> {
        let name = value.get("name")?.as_str()?;
        self.tools.functions.iter().find(|function| function.name == name)?;
        let arguments = match value.get("arguments").or_else(|| value.get("parameters"))? {
            Value::String(text) => text.clone(),
            object @ Value::Object(_) => object.to_string(),
            _ => return None,
        };
        Some(call(name.to_owned(), arguments))
    }
}

fn call(name: String, arguments: String) -> ToolCall {
    ToolCall { id: format!("call_{}", RequestId::new().to_string().replace('-', "")), name, arguments }
}

/// Length of the longest end of `text` with which `mark` begins.
fn begun(text: &str, mark: &str) -> usize {
    (1..mark.len()).rev().find(|&length| text.ends_with(&mark[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Fields;
    use serde_json::json;

    fn tools(choice: &Value) -> Arc<Tools> {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        let body = json!({"tools": [tool("look"), tool("find")], "tool_choice": choice}).to_string();
        Arc::new(Tools::take(&mut Fields::parse(body.as_bytes()).unwrap()).unwrap().unwrap())
    }

    /// Content and calls, which are the same however the text is cut.
    fn read(choice: &Value, text: &str) -> (String, Vec<(String, String)>) {
        let tools = tools(choice);
        let plain = |reading: Reading| {
            let calls = reading.calls.into_iter().map(|call| (call.name, call.arguments)).collect::<Vec<_>>();
            (reading.content, calls)
        };
        let whole = plain(ToolReader::read(&tools, text));
        for size in 1..8 {
            let mut reader = ToolReader::new(&tools);
            let letters: Vec<char> = text.chars().collect();
            let mut content: String =
                letters.chunks(size).map(|part| reader.push(&part.iter().collect::<String>())).collect();
            let rest = reader.finish();
            content += &rest.content;
            assert_eq!(plain(Reading { content, calls: rest.calls }), whole, "{text:?} in parts of {size}");
        }
        whole
    }

    fn calls(calls: &[(&str, &str)]) -> Vec<(String, String)> {
        calls.iter().map(|&(name, arguments)| (name.to_owned(), arguments.to_owned())).collect()
    }

    #[test]
    fn calls_have_several_forms() {
        let auto = json!("auto");
        let look = calls(&[("look", r#"{"at":"x"}"#)]);
        for text in [
            r#"{"name": "look", "arguments": {"at": "x"}}"#,
            r#" {"name": "look", "parameters": {"at": "x"}} "#,
            r#"[{"name": "look", "arguments": {"at": "x"}}]"#,
            r#"[TOOL_CALLS] [{"name": "look", "arguments": {"at": "x"}}]"#,
            r#"<|python_tag|>{"name": "look", "parameters": {"at": "x"}}"#,
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}\n</tool_call>",
            "<tool_call>{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}",
        ] {
            assert_eq!(read(&auto, text), (String::new(), look.clone()), "{text}");
        }
        let two = "I see. <tool_call>{\"name\":\"look\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"find\",\"arguments\":{}}</tool_call>";
        assert_eq!(read(&auto, two), ("I see. ".to_owned(), calls(&[("look", "{}"), ("find", "{}")])));
    }

    #[test]
    fn what_is_no_call_is_content() {
        for text in [
            "",
            "  ",
            "hello",
            "<b>bold</b>",
            "a < b <tool",
            "{\"name\": \"other\", \"arguments\": {}}",
            "{\"name\": \"look\"}",
            "{not json",
            "[1, 2]",
            "see <tool_call>nothing</tool_call>",
            "<|python",
        ] {
            assert_eq!(read(&json!("auto"), text), (text.to_owned(), Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn a_demanded_call_is_the_whole_text() {
        let named = json!({"type": "function", "function": {"name": "find"}});
        assert_eq!(read(&named, r#"{"a": 1}"#), (String::new(), calls(&[("find", r#"{"a": 1}"#)])));
        assert_eq!(read(&named, r#"{"a": "#), (r#"{"a": "#.to_owned(), Vec::new()), "cut short");
        let text = r#"[{"name": "look", "arguments": {}}, {"name": "find", "arguments": {"b": 2}}]"#;
        let both = calls(&[("look", "{}"), ("find", r#"{"b":2}"#)]);
        assert_eq!(read(&json!("required"), text), (String::new(), both));
    }
}
