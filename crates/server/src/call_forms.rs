//! The forms in which families of models write calls of functions.
//!
//! ```text
//! <tool_call>{"name": …, "arguments": …}</tool_call>                              Hermes, Qwen, SmolLM
//! <tool_call><function=NAME><parameter=P>V</parameter></function></tool_call>     Qwen Coder
//! <tool_call>NAME<arg_key>P</arg_key><arg_value>V</arg_value></tool_call>         GLM
//! [TOOL_CALLS][{"name": …, "arguments": …}]   [TOOL_CALLS]NAME[ARGS]{…}           Mistral
//! <|python_tag|>{"name": …, "parameters": …}   <function=NAME>{…}</function>      Llama
//! {"name": …, "arguments": …}                                                     any, from the first letter on
//! ```

use crate::wire::tools::{Function, Tools};
use pagoda_engine::ServedModel;
use serde_json::{Map, Value};

const TAG: &str = "<tool_call>";
const TAG_END: &str = "</tool_call>";
const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const MISTRAL: &str = "[TOOL_CALLS]";
const LLAMA: &str = "<|python_tag|>";
const ARGS: &str = "[ARGS]";
const CALL_ID: &str = "[CALL_ID]";

/// What begins a call.
const OPENERS: [&str; 4] = [TAG, MISTRAL, LLAMA, FUNCTION];

/// Texts of a form that a vocabulary may have as special tokens.
const TOKENS: [&str; 6] = [TAG, TAG_END, MISTRAL, LLAMA, ARGS, CALL_ID];

/// A call as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// JSON.
    pub(crate) arguments: String,
}

/// The marks that begin the calls of a model. By default all that are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallMarks([bool; OPENERS.len()]);

impl Default for CallMarks {
    fn default() -> Self {
        Self([true; OPENERS.len()])
    }
}

impl CallMarks {
    /// Those that the chat template has; all if it has none.
    pub(crate) fn of(model: &ServedModel) -> Self {
        let Some(template) = model.tokenizer.chat_template() else { return Self::default() };
        let has = OPENERS.map(|mark| template.mentions(mark));
        if has.contains(&true) { Self(has) } else { Self::default() }
    }

    /// The marks.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &'static str> {
        OPENERS.into_iter().zip(self.0).filter_map(|(mark, has)| has.then_some(mark))
    }

    /// Texts that have to be seen where calls are read, even if they are special tokens.
    pub(crate) fn tokens() -> &'static [&'static str] {
        &TOKENS
    }
}

/// The calls of a text; `None` if it is something else.
pub(crate) fn read(tools: &Tools, marks: CallMarks, text: &str) -> Option<Vec<Call>> {
    let text = text.trim();
    match marks.texts().find(|mark| text.starts_with(mark)) {
        Some(TAG) => each(text, TAG, |part| tagged(tools, before(part, TAG_END))),
        Some(MISTRAL) => each(text, MISTRAL, |part| after_mistral(tools, part)),
        Some(LLAMA) => each(text, LLAMA, |part| json(tools, part)),
        Some(FUNCTION) => each(text, FUNCTION, |part| Some(vec![function(tools, part)?])),
        _ => json(tools, text),
    }
}

/// The calls of a JSON text: one, a list, or several in a row.
pub(crate) fn json(tools: &Tools, text: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter();
        match values.next()?.ok()? {
            Value::Array(list) => {
                calls.extend(list.iter().map(|one| object(tools, one)).collect::<Option<Vec<_>>>()?)
            }
            one => calls.push(object(tools, &one)?),
        }
        rest = rest[values.byte_offset()..]
            .trim_start_matches(|letter: char| letter == ';' || letter.is_whitespace());
    }
    Some(calls)
}

fn object(tools: &Tools, value: &Value) -> Option<Call> {
    let known = known(tools, value.get("name")?.as_str()?)?;
    let arguments = match value.get("arguments").or_else(|| value.get("parameters"))? {
        Value::String(text) => text.clone(),
        object @ Value::Object(_) => object.to_string(),
        _ => return None,
    };
    Some(Call { name: known.name.clone(), arguments })
}

/// Reads what stands after each `mark`.
fn each(text: &str, mark: &str, read: impl Fn(&str) -> Option<Vec<Call>>) -> Option<Vec<Call>> {
    let parts: Option<Vec<_>> = text.split(mark).skip(1).map(read).collect();
    parts.map(|parts| parts.into_iter().flatten().collect())
}

/// What stands between the tags of Hermes, Qwen and GLM.
fn tagged(tools: &Tools, inner: &str) -> Option<Vec<Call>> {
    const KEY: &str = "<arg_key>";
    let inner = inner.trim();
    if let Some(rest) = inner.strip_prefix(FUNCTION) {
        return Some(vec![function(tools, rest)?]);
    }
    let Some((name, rest)) = inner.split_once(KEY) else { return json(tools, inner) };
    let known = known(tools, name.trim())?;
    let mut arguments = Map::new();
    for pair in rest.split(KEY) {
        let (key, value) = pair.split_once("</arg_key>")?;
        let value = value.split_once("<arg_value>")?.1.split_once("</arg_value>")?.0;
        arguments.insert(key.trim().to_owned(), argument(known, key.trim(), value));
    }
    Some(vec![Call { name: known.name.clone(), arguments: Value::from(arguments).to_string() }])
}

/// What stands after `<function=`: the name, then JSON or parameters one by one.
fn function(tools: &Tools, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('>')?;
    let (known, inner) = (known(tools, name.trim())?, rest.split_once(FUNCTION_END)?.0.trim());
    let arguments = if inner.starts_with('{') {
        serde_json::from_str::<Map<String, Value>>(inner).ok()?
    } else {
        let mut arguments = Map::new();
        for part in inner.split("<parameter=").skip(1) {
            let (key, value) = part.split_once('>')?;
            let value = before(value, "</parameter>");
            let value = value.strip_prefix('\n').unwrap_or(value);
            let value = value.strip_suffix('\n').unwrap_or(value);
            arguments.insert(key.trim().to_owned(), argument(known, key.trim(), value));
        }
        arguments
    };
    Some(Call { name: known.name.clone(), arguments: Value::from(arguments).to_string() })
}

/// What stands after Mistral's mark: JSON, or a name and JSON.
fn after_mistral(tools: &Tools, text: &str) -> Option<Vec<Call>> {
    let text = text.trim();
    if text.starts_with(['[', '{']) {
        return json(tools, text);
    }
    let (name, arguments) = text.split_at(text.find(['[', '{'])?);
    let arguments = arguments.split_once(ARGS).map_or(arguments, |(_, arguments)| arguments);
    let arguments: Map<String, Value> = serde_json::from_str(arguments).ok()?;
    let known = known(tools, name.trim())?;
    Some(vec![Call { name: known.name.clone(), arguments: Value::from(arguments).to_string() }])
}

/// A value without quotes is JSON, unless the schema says that it is a text or it is none.
fn argument(function: &Function, name: &str, text: &str) -> Value {
    if function.takes_text(name) {
        return text.into();
    }
    serde_json::from_str(text.trim()).unwrap_or_else(|_| text.into())
}

fn known<'t>(tools: &'t Tools, name: &str) -> Option<&'t Function> {
    tools.functions.iter().find(|function| function.name == name)
}

fn before<'t>(text: &'t str, end: &str) -> &'t str {
    text.split_once(end).map_or(text, |(inner, _)| inner)
}
