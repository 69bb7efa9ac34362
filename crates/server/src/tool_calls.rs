//! From the text of a model to its calls of functions.
//!
//! Where a call was demanded the whole text is one, by its constraint. Else it is looked for in the forms that models use, after
//! one of the marks that the chat template has ([`crate::call_forms`] reads them), or as nothing but JSON that names one of the
//! functions, alone or in a list.

use crate::call_forms::{self, Call, CallMarks};
use crate::reasoning::begun;
use crate::wire::tools::{ToolChoice, Tools};
use pagoda_engine::RequestId;
use serde_json::Value;
use std::sync::Arc;

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
    marks: CallMarks,
    held: String,
    /// Whether all that is to come is held back.
    holds: bool,
    /// Whether something was handed out.
    begun: bool,
}

impl ToolReader {
    pub(crate) fn new(tools: &Arc<Tools>, marks: CallMarks) -> Self {
        let holds = tools.choice != ToolChoice::Auto;
        Self { tools: Arc::clone(tools), marks, held: String::new(), holds, begun: false }
    }

    /// Takes in more text and returns what is no part of a call.
    pub(crate) fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let start = self.held.trim_start();
        // Nothing but a call begins like JSON, and before anything else white space may belong to one.
        self.holds |= !self.begun && start.starts_with(['{', '[']);
        if self.holds || (!self.begun && start.is_empty()) {
            return String::new();
        }
        let free = match self.marks.texts().filter_map(|mark| self.held.find(mark)).min() {
            Some(at) => {
                self.holds = true;
                at
            }
            None => {
                let longest = self.marks.texts().map(|mark| begun(&self.held, mark)).max();
                self.held.len() - longest.unwrap_or(0)
            }
        };
        if !self.begun && self.held[..free].trim().is_empty() {
            return String::new();
        }
        self.begun |= free > 0;
        let rest = self.held.split_off(free);
        std::mem::replace(&mut self.held, rest)
    }

    /// No text follows: what was held back is calls, or content after all.
    pub(crate) fn finish(&mut self) -> Reading {
        let held = std::mem::take(&mut self.held);
        let calls = match self.tools.choice {
            ToolChoice::Named(index) if serde_json::from_str::<Value>(&held).is_ok() => {
                Some(vec![Call { name: self.tools.functions[index].name.clone(), arguments: held.clone() }])
            }
            ToolChoice::Named(_) => None,
            ToolChoice::Required => call_forms::json(&self.tools, &held),
            ToolChoice::Auto => call_forms::read(&self.tools, self.marks, &held),
        };
        match calls.filter(|calls| !calls.is_empty()) {
            Some(mut calls) => {
                calls.truncate(if self.tools.parallel { usize::MAX } else { 1 });
                Reading { content: String::new(), calls: calls.into_iter().map(named).collect() }
            }
            None => Reading { content: held, calls: Vec::new() },
        }
    }
}

/// The call with an id of its own.
pub(crate) fn named(Call { name, arguments }: Call) -> ToolCall {
    ToolCall { id: format!("call_{}", RequestId::new().to_string().replace('-', "")), name, arguments }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Fields;
    use serde_json::json;

    fn tools(choice: &Value) -> Arc<Tools> {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"at": {"type": "string"}, "n": {"type": "integer"}}}}});
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
        let mut reader = ToolReader::new(&tools, CallMarks::default());
        let content = reader.push(text);
        let rest = reader.finish();
        let whole = plain(Reading { content: content + &rest.content, calls: rest.calls });
        for size in 1..8 {
            let mut reader = ToolReader::new(&tools, CallMarks::default());
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
    fn forms_of_several_families_are_read() {
        let auto = json!("auto");
        let look = calls(&[("look", r#"{"at":"x","n":3}"#)]);
        for text in [
            "[TOOL_CALLS]look[ARGS]{\"at\": \"x\", \"n\": 3}",
            "[TOOL_CALLS]look[CALL_ID]abc[ARGS]{\"at\": \"x\", \"n\": 3}",
            "<tool_call>\n<function=look>\n<parameter=at>\nx\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
            "<function=look>{\"at\": \"x\", \"n\": 3}</function>",
            "<tool_call>look\n<arg_key>at</arg_key>\n<arg_value>x</arg_value>\n<arg_key>n</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
            "\n\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x\", \"n\": 3}}\n</tool_call>",
        ] {
            assert_eq!(read(&auto, text), (String::new(), look.clone()), "{text}");
        }
        let two = "[TOOL_CALLS]look[ARGS]{}[TOOL_CALLS]find[ARGS]{}";
        assert_eq!(read(&auto, two), (String::new(), calls(&[("look", "{}"), ("find", "{}")])));
        let two =
            "Wait.<|python_tag|>{\"name\":\"look\",\"parameters\":{}}; {\"name\":\"find\",\"parameters\":{}}";
        assert_eq!(read(&auto, two), ("Wait.".to_owned(), calls(&[("look", "{}"), ("find", "{}")])));
        for text in [
            "[TOOL_CALLS]other[ARGS]{}",
            "[TOOL_CALLS]look[ARGS]3",
            "<function=look",
            "<tool_call>look</tool_call",
            "<function=look><parameter=at>",
        ] {
            assert_eq!(read(&auto, text), (text.to_owned(), Vec::new()), "{text}");
        }
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
