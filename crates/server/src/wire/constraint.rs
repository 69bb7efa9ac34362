//! What the output has to be: `response_format` of OpenAI, and the fields of vLLM and llama.cpp that mean the same.

use crate::error::ApiError;
use crate::json::{Fields, excerpt, mistyped};
use pagoda_engine::{Constraint, ConstraintParam};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Longest text of a field that is read at all, bytes; what it holds has limits of its own.
const MAX_RAW: usize = 256 << 10;

/// Takes every field that constrains the output.
///
/// # Errors
/// Names the field and what is wrong with its form; more than one of them at a time.
pub(crate) fn take_constraint(fields: &mut Fields<'_>) -> Result<Option<ConstraintParam>, ApiError> {
    let asked = [
        take_response_format(fields)?,
        take_structured_outputs(fields)?,
        take_schema(fields, "guided_json")?,
        take_text(fields, "guided_regex")?.map(|text| ("guided_regex", Constraint::Regex(text))),
        take_choice(fields)?,
        take_text(fields, "guided_grammar")?.map(|text| ("guided_grammar", Constraint::Grammar(text))),
        take_schema(fields, "json_schema")?,
        take_text(fields, "grammar")?
            .filter(|text| !text.is_empty())
            .map(|text| ("grammar", Constraint::Grammar(text))),
    ];
    let mut asked = asked.into_iter().flatten();
    let Some((place, constraint)) = asked.next() else { return Ok(None) };
    match asked.next() {
        None => Ok(Some(ConstraintParam { place, constraint })),
        Some((other, _)) => {
            let (place, other) = (field_of(place), field_of(other));
            let message =
                format!("{other} and {place} both say what the output has to be; leave one of them out");
            Err(ApiError::invalid(other, message))
        }
    }
}

type Asked = Option<(&'static str, Constraint)>;

#[derive(Deserialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    json_schema: Option<&'a RawValue>,
    /// llama.cpp has it beside `json_object`.
    schema: Option<Value>,
}

#[derive(Deserialize)]
struct JsonSchema {
    name: Option<Value>,
    schema: Option<Value>,
    strict: Option<Value>,
}

fn take_response_format(fields: &mut Fields<'_>) -> Result<Asked, ApiError> {
    const FORMS: &str = "an object with a type, which is one of text, json_object, json_schema";
    let Some(raw) = take_raw(fields, "response_format")? else { return Ok(None) };
    let Ok(format) = serde_json::from_str::<ResponseFormat<'_>>(raw) else {
        return Err(mistyped("response_format", FORMS, raw));
    };
    let Some(kind) = format.kind else {
        let message = format!("response_format.type is required: response_format must be {FORMS}");
        return Err(ApiError::invalid("response_format.type", message));
    };
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(match format.schema {
            Some(schema) => ("response_format.schema", Constraint::JsonSchema(schema)),
            None => ("response_format", Constraint::JsonObject),
        })),
        "json_schema" => {
            let schema = json_schema(format.json_schema)?;
            Ok(Some(("response_format.json_schema", Constraint::JsonSchema(schema))))
        }
        other => {
            let message = format!(
                "response_format.type is {:?}; allowed: text, json_object, json_schema",
                excerpt(other)
            );
            Err(ApiError::invalid("response_format.type", message))
        }
    }
}

/// The schema of `response_format.json_schema`. It is enforced whether `strict` asks for it or not.
fn json_schema(raw: Option<&RawValue>) -> Result<Value, ApiError> {
    const PLACE: &str = "response_format.json_schema";
    let raw = raw.map(RawValue::get).ok_or_else(|| ApiError::missing(PLACE))?;
    let expected = "an object with a name and a schema";
    if !raw.starts_with('{') {
        return Err(mistyped(PLACE, expected, raw));
    }
    let JsonSchema { name, schema, strict } =
        serde_json::from_str(raw).map_err(|_| mistyped(PLACE, expected, raw))?;
    if let Some(name) = name.filter(|name| !name.is_string()) {
        let place = format!("{PLACE}.name");
        return Err(mistyped(&place, "a string", &name.to_string()));
    }
    if let Some(strict) = strict.filter(|strict| !strict.is_boolean()) {
        let place = format!("{PLACE}.strict");
        return Err(mistyped(&place, "true or false", &strict.to_string()));
    }
    schema.ok_or_else(|| ApiError::missing("response_format.json_schema.schema"))
}

fn take_structured_outputs(fields: &mut Fields<'_>) -> Result<Asked, ApiError> {
    const NAME: &str = "structured_outputs";
    let mut options: Map<String, Value> = match take_raw(fields, NAME)? {
        None => return Ok(None),
        Some(raw) => read(NAME, "an object with one of json, regex, choice, grammar, json_object", raw)?,
    };
    options.retain(|_, value| !value.is_null());
    for refused in
        ["structural_tag", "whitespace_pattern", "disable_any_whitespace", "disable_additional_properties"]
    {
        if options.get(refused).is_some_and(|value| value != &Value::Bool(false)) {
            return Err(ApiError::unsupported(format!("{NAME}.{refused}"), "leave it out"));
        }
    }
    let wrong =
        |place: &str, expected: &str, value: &Value| Err(mistyped(place, expected, &value.to_string()));
    let mut asked = Vec::new();
    for (name, value) in options {
        asked.push(match (name.as_str(), value) {
            ("json", Value::String(text)) => {
                let schema = read("structured_outputs.json", "a JSON schema", &text)?;
                ("structured_outputs.json", Constraint::JsonSchema(schema))
            }
            ("json", schema) => ("structured_outputs.json", Constraint::JsonSchema(schema)),
            ("regex", Value::String(text)) => ("structured_outputs.regex", Constraint::Regex(text)),
            ("grammar", Value::String(text)) => ("structured_outputs.grammar", Constraint::Grammar(text)),
            ("json_object", Value::Bool(true)) => ("structured_outputs.json_object", Constraint::JsonObject),
            ("json_object", Value::Bool(false)) => continue,
            ("choice", value) => match texts(&value) {
                Some(choices) => ("structured_outputs.choice", Constraint::Choice(choices)),
                None => return wrong("structured_outputs.choice", "a list of strings", &value),
            },
            ("regex" | "grammar", value) => return wrong(&format!("{NAME}.{name}"), "a string", &value),
            ("json_object", value) => {
                return wrong("structured_outputs.json_object", "true or false", &value);
            }
            _ => continue,
        });
    }
    if asked.len() > 1 {
        let message =
            "structured_outputs has more than one of json, regex, choice, grammar and json_object; give one";
        return Err(ApiError::invalid(NAME, message));
    }
    match asked.pop() {
        Some(asked) => Ok(Some(asked)),
        None => {
            let message =
                "structured_outputs has none of json, regex, choice, grammar and json_object; give one";
            Err(ApiError::invalid(NAME, message))
        }
    }
}

/// A schema, or one written as a string.
fn take_schema(fields: &mut Fields<'_>, name: &'static str) -> Result<Asked, ApiError> {
    let Some(raw) = take_raw(fields, name)? else { return Ok(None) };
    let schema = match read(name, "a JSON schema", raw)? {
        Value::String(text) => read(name, "a JSON schema", &text)?,
        schema => schema,
    };
    Ok(Some((name, Constraint::JsonSchema(schema))))
}

fn take_choice(fields: &mut Fields<'_>) -> Result<Asked, ApiError> {
    const NAME: &str = "guided_choice";
    let Some(raw) = take_raw(fields, NAME)? else { return Ok(None) };
    Ok(Some((NAME, Constraint::Choice(read(NAME, "a list of strings", raw)?))))
}

fn take_text(fields: &mut Fields<'_>, name: &str) -> Result<Option<String>, ApiError> {
    take_raw(fields, name)?.map(|raw| read(name, "a string", raw)).transpose()
}

fn take_raw<'a>(fields: &mut Fields<'a>, name: &str) -> Result<Option<&'a str>, ApiError> {
    let raw = fields.take_raw(name);
    match raw.filter(|raw| raw.len() > MAX_RAW) {
        None => Ok(raw),
        Some(raw) => {
            let message = format!("{name} has {} bytes; allowed: at most {MAX_RAW}", raw.len());
            Err(ApiError::invalid(name, message))
        }
    }
}

fn read<T: DeserializeOwned>(name: &str, expected: &str, raw: &str) -> Result<T, ApiError> {
    serde_json::from_str(raw).map_err(|_| mistyped(name, expected, raw))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

fn field_of(place: &str) -> &str {
    place.split('.').next().unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn take(body: &Value) -> Result<Option<(&'static str, Constraint)>, String> {
        let text = body.to_string();
        let asked = take_constraint(&mut Fields::parse(text.as_bytes()).unwrap());
        asked
            .map(|asked| asked.map(|asked| (asked.place, asked.constraint)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_has_its_constraint() {
        let schema = json!({"type": "integer"});
        let json_schema = || Constraint::JsonSchema(schema.clone());
        let choice = || Constraint::Choice(vec!["a".into(), "b".into()]);
        let regex = || Constraint::Regex("a+".into());
        let cases = [
            (json!({"response_format": {"type": "json_object"}}), "response_format", Constraint::JsonObject),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                "response_format.schema",
                json_schema(),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}}}),
                "response_format.json_schema",
                json_schema(),
            ),
            (json!({"guided_json": schema}), "guided_json", json_schema()),
            (json!({"guided_json": schema.to_string()}), "guided_json", json_schema()),
            (json!({"guided_regex": "a+"}), "guided_regex", regex()),
            (json!({"guided_choice": ["a", "b"]}), "guided_choice", choice()),
            (
                json!({"guided_grammar": "start: \"a\""}),
                "guided_grammar",
                Constraint::Grammar("start: \"a\"".into()),
            ),
            (json!({"grammar": "root ::= \"a\""}), "grammar", Constraint::Grammar("root ::= \"a\"".into())),
            (json!({"json_schema": schema}), "json_schema", json_schema()),
            (json!({"structured_outputs": {"json": schema}}), "structured_outputs.json", json_schema()),
            (
                json!({"structured_outputs": {"json": schema.to_string()}}),
                "structured_outputs.json",
                json_schema(),
            ),
            (
                json!({"structured_outputs": {"regex": "a+", "choice": null}}),
                "structured_outputs.regex",
                regex(),
            ),
            (json!({"structured_outputs": {"choice": ["a", "b"]}}), "structured_outputs.choice", choice()),
            (
                json!({"structured_outputs": {"json_object": true}, "guided_json": null}),
                "structured_outputs.json_object",
                Constraint::JsonObject,
            ),
        ];
        for (body, place, constraint) in cases {
            assert_eq!(take(&body), Ok(Some((place, constraint))), "{body}");
        }
    }

    #[test]
    fn what_asks_for_nothing_is_no_constraint() {
        for body in [
            json!({}),
            json!({"response_format": {"type": "text"}}),
            json!({"response_format": null, "grammar": ""}),
        ] {
            assert_eq!(take(&body), Ok(None), "{body}");
        }
    }

    #[test]
    fn wrong_forms_name_the_field() {
        for (body, message) in [
            (json!({"response_format": "json"}), "response_format must be an object with a type"),
            (json!({"response_format": {}}), "response_format.type is required"),
            (json!({"response_format": {"type": "yaml"}}), "response_format.type is \"yaml\"; allowed: text"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema is required"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": []}}),
                "response_format.json_schema must be an object with a name and a schema, got []",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
                "response_format.json_schema.schema is required",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": 3, "schema": {}}}}),
                "response_format.json_schema.name must be a string, got 3",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": "yes"}}}),
                "response_format.json_schema.strict must be true or false",
            ),
            (json!({"guided_regex": 3}), "guided_regex must be a string, got 3"),
            (json!({"guided_choice": "a"}), "guided_choice must be a list of strings"),
            (json!({"guided_choice": [1]}), "guided_choice must be a list of strings"),
            (json!({"guided_json": "{"}), "guided_json must be a JSON schema, got {"),
            (json!({"structured_outputs": {}}), "structured_outputs has none of"),
            (
                json!({"structured_outputs": {"regex": "a", "choice": ["a"]}}),
                "structured_outputs has more than one",
            ),
            (
                json!({"structured_outputs": {"structural_tag": "x"}}),
                "structured_outputs.structural_tag is not offered",
            ),
            (
                json!({"guided_regex": "a", "response_format": {"type": "json_object"}}),
                "guided_regex and response_format both say what the output has to be",
            ),
        ] {
            let error = take(&body).unwrap_err();
            assert!(error.starts_with(message), "{error:?} is not {message:?}");
        }
    }
}
