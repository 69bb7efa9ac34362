//! Functions that the model may call: `tools`, `tool_choice` and `parallel_tool_calls` as they are read.

use crate::error::ApiError;
use crate::json::{Fields, excerpt, mistyped};
use pagoda_engine::{Constraint, ConstraintParam};
use serde_json::{Value, json};

const CHOICE: &str = "tool_choice";
/// Where the function is named that has to be called.
const CHOSEN: &str = "tool_choice.function.name";

/// Most functions of one request.
const MAX_TOOLS: usize = 128;

/// Longest name of a function, bytes.
const MAX_NAME: usize = 64;

/// Most calls of one answer that has to call.
const MAX_CALLS: usize = 16;

/// The functions of a request and how they are to be used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tools {
    /// As sent, for the template.
    pub(crate) list: Value,
    pub(crate) functions: Vec<Function>,
    pub(crate) choice: ToolChoice,
    /// Whether one answer may have several calls.
    pub(crate) parallel: bool,
}

/// One function.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Schema of the arguments.
    parameters: Value,
}

impl Function {
    /// Whether the schema says that an argument is a text and nothing else.
    pub(crate) fn takes_text(&self, argument: &str) -> bool {
        self.parameters["properties"][argument]["type"] == "string"
    }
}

/// Whether the model is to call, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskedChoice {
    None,
    Auto,
    Required,
    Named(String),
}

/// Whether the model is to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// As it likes.
    Auto,
    /// At least one function.
    Required,
    /// The function of this index.
    Named(usize),
}

impl Tools {
    /// Takes the three fields; `None` if there is nothing to call or nothing may be called.
    ///
    /// # Errors
    /// Names the field and what is wrong with its form.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Option<Self>, ApiError> {
        let list: Value = fields.value("tools")?.unwrap_or_else(|| json!([]));
        let asked = take_choice(fields)?;
        let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        Self::new(list, &asked, parallel)
    }

    /// Functions in the form of chat, and how they are to be used; `None` if there is nothing to call or nothing may be called.
    ///
    /// # Errors
    /// Names the field, as chat does, and what is wrong with its form.
    pub(crate) fn new(list: Value, asked: &AskedChoice, parallel: bool) -> Result<Option<Self>, ApiError> {
        let functions = functions(&list)?;
        let choice = match asked {
            AskedChoice::None => None,
            AskedChoice::Auto => Some(ToolChoice::Auto),
            AskedChoice::Required if functions.is_empty() => {
                let message = "tool_choice is required and there are no tools; give some or leave it out";
                return Err(ApiError::invalid(CHOICE, message));
            }
            AskedChoice::Required => Some(ToolChoice::Required),
            AskedChoice::Named(name) => Some(ToolChoice::Named(named(name, &functions)?)),
        };
        Ok(choice.filter(|_| !functions.is_empty()).map(|choice| Self { list, functions, choice, parallel }))
    }

    /// What the output has to be where a call is demanded.
    pub(crate) fn constraint(&self) -> Option<ConstraintParam> {
        let schema = match self.choice {
            ToolChoice::Auto => return None,
            ToolChoice::Named(index) => self.functions[index].parameters.clone(),
            ToolChoice::Required => self.calls_schema(),
        };
        Some(ConstraintParam { place: "tools", constraint: Constraint::JsonSchema(schema) })
    }

    /// A list of calls.
    fn calls_schema(&self) -> Value {
        let call = |(index, function): (usize, &Function)| {
            let mut parameters = function.parameters.clone();
            rebase(&mut parameters, &format!("#/items/anyOf/{index}/properties/arguments"));
            json!({
                "type": "object",
                "properties": {"name": {"const": function.name}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        };
        let calls: Vec<Value> = self.functions.iter().enumerate().map(call).collect();
        let most = if self.parallel { MAX_CALLS } else { 1 };
        json!({"type": "array", "items": {"anyOf": calls}, "minItems": 1, "maxItems": most})
    }
}

fn functions(list: &Value) -> Result<Vec<Function>, ApiError> {
    let Value::Array(entries) = list else {
        return Err(mistyped("tools", "a list of functions", &list.to_string()));
    };
    if entries.len() > MAX_TOOLS {
        let message = format!("tools has {} entries; allowed: at most {MAX_TOOLS}", entries.len());
        return Err(ApiError::invalid("tools", message));
    }
    let mut functions: Vec<Function> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let function = function(entry, &format!("tools[{index}]"))?;
        if functions.iter().any(|known| known.name == function.name) {
            let param = format!("tools[{index}].function.name");
            let message =
                format!("{param} is {:?}, as that of another; give each function its own", function.name);
            return Err(ApiError::invalid(param, message));
        }
        functions.push(function);
    }
    Ok(functions)
}

fn function(entry: &Value, path: &str) -> Result<Function, ApiError> {
    let wrong =
        |param: &str, expected: &str, value: &Value| Err(mistyped(param, expected, &value.to_string()));
    let Value::Object(entry) = entry else { return wrong(path, "an object with type and function", entry) };
    match entry.get("type") {
        Some(Value::String(kind)) if kind == "function" => {}
        None | Some(Value::Null) => return Err(ApiError::missing(&format!("{path}.type"))),
        Some(_) => return Err(ApiError::unsupported(format!("{path}.type"), "only the type function is")),
    }
    let path = format!("{path}.function");
    let function = match entry.get("function") {
        Some(Value::Object(function)) => function,
        None | Some(Value::Null) => return Err(ApiError::missing(&path)),
        Some(other) => return wrong(&path, "an object with a name", other),
    };
    let name = match function.get("name") {
        Some(Value::String(name)) if is_name(name) => name.clone(),
        None | Some(Value::Null) => return Err(ApiError::missing(&format!("{path}.name"))),
        Some(other) => {
            let expected = format!("1 to {MAX_NAME} letters, digits, dots, hyphens and underscores");
            return wrong(&format!("{path}.name"), &expected, other);
        }
    };
    let parameters = match function.get("parameters") {
        Some(parameters @ Value::Object(_)) => parameters.clone(),
        None | Some(Value::Null) => {
            json!({"type": "object", "properties": {}, "additionalProperties": false})
        }
        Some(other) => return wrong(&format!("{path}.parameters"), "a JSON schema of an object", other),
    };
    Ok(Function { name, parameters })
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_part)
}

fn take_choice(fields: &mut Fields<'_>) -> Result<AskedChoice, ApiError> {
    const FORMS: &str = "none, auto, required, or an object that names a function";
    let Some(raw) = fields.take_raw(CHOICE) else { return Ok(AskedChoice::Auto) };
    let given: Value = serde_json::from_str(raw).map_err(|_| mistyped(CHOICE, FORMS, raw))?;
    match &given {
        Value::String(word) => match word.as_str() {
            "none" => Ok(AskedChoice::None),
            "auto" => Ok(AskedChoice::Auto),
            "required" => Ok(AskedChoice::Required),
            _ => Err(mistyped(CHOICE, FORMS, raw)),
        },
        Value::Object(given) => {
            let name =
                given.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
            let name = name.ok_or_else(|| mistyped(CHOSEN, "the name of a function", raw))?;
            Ok(AskedChoice::Named(name.to_owned()))
        }
        _ => Err(mistyped(CHOICE, FORMS, raw)),
    }
}

fn named(name: &str, functions: &[Function]) -> Result<usize, ApiError> {
    functions.iter().position(|function| function.name == name).ok_or_else(|| {
        let known: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
        let message =
            format!("{CHOSEN} is {:?}; the functions of tools are: {}", excerpt(name), known.join(", "));
        ApiError::invalid(CHOSEN, message)
    })
}

/// Lets references into a schema lead to where it is inside another.
fn rebase(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(entries) => {
            for (name, value) in entries {
                match value {
                    Value::String(reference) if name == "$ref" && reference.starts_with('#') => {
                        reference.replace_range(..1, place);
                    }
                    value => rebase(value, place),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, place)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &Value) -> Result<Option<Tools>, String> {
        let text = body.to_string();
        Tools::take(&mut Fields::parse(text.as_bytes()).unwrap()).map_err(|error| error.to_string())
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}}})
    }

    #[test]
    fn choices_have_four_forms() {
        let choice = |choice: Value| {
            let body = json!({"tools": [tool("a"), tool("b")], "tool_choice": choice});
            take(&body).map(|tools| tools.map(|tools| tools.choice))
        };
        assert_eq!(choice(json!("auto")), Ok(Some(ToolChoice::Auto)));
        assert_eq!(choice(Value::Null), Ok(Some(ToolChoice::Auto)));
        assert_eq!(choice(json!("none")), Ok(None));
        assert_eq!(choice(json!("required")), Ok(Some(ToolChoice::Required)));
        assert_eq!(
            choice(json!({"type": "function", "function": {"name": "b"}})),
            Ok(Some(ToolChoice::Named(1)))
        );
        assert_eq!(take(&json!({"tools": [], "tool_choice": "auto"})), Ok(None));
        assert_eq!(take(&json!({})), Ok(None));
    }

    #[test]
    fn references_of_a_function_stay_within_it() {
        let tools =
            take(&json!({"tools": [tool("a"), tool("b")], "tool_choice": "required"})).unwrap().unwrap();
        let Some(Constraint::JsonSchema(schema)) = tools.constraint().map(|asked| asked.constraint) else {
            panic!("no schema")
        };
        let reference = schema["items"]["anyOf"][1]["properties"]["arguments"]["$ref"].as_str().unwrap();
        assert_eq!(schema.pointer(&reference[1..]).unwrap(), &json!({"type": "object"}));
    }

    #[test]
    fn wrong_forms_name_the_field() {
        for (body, message) in [
            (json!({"tools": {}}), "tools must be a list of functions"),
            (json!({"tools": [3]}), "tools[0] must be an object"),
            (json!({"tools": [{}]}), "tools[0].type is required"),
            (json!({"tools": [{"type": "retrieval"}]}), "tools[0].type is not offered"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function is required"),
            (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name is required"),
            (
                json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
                "tools[0].function.name must be 1 to 64 letters",
            ),
            (
                json!({"tools": [{"type": "function", "function": {"name": "a", "parameters": 3}}]}),
                "tools[0].function.parameters must be a JSON schema",
            ),
            (json!({"tools": [tool("a"), tool("a")]}), "tools[1].function.name is \"a\", as that of another"),
            (json!({"tool_choice": "required"}), "tool_choice is required and there are no tools"),
            (json!({"tools": [tool("a")], "tool_choice": "maybe"}), "tool_choice must be none, auto"),
            (
                json!({"tools": [tool("a")], "tool_choice": {"function": {"name": "b"}}}),
                "tool_choice.function.name is \"b\"; the functions of tools are: a",
            ),
            (
                json!({"tools": [tool("a")], "parallel_tool_calls": 1}),
                "parallel_tool_calls must be true or false",
            ),
        ] {
            let error = take(&body).unwrap_err();
            assert!(error.starts_with(message), "{error:?} is not {message:?}");
        }
    }
}
