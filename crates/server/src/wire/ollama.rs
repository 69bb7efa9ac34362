//! Requests of Ollama's clients, in the words of chat.

use crate::error::ApiError;
use crate::json::{Fields, mistyped};
use crate::wire::chat::{ChatRequest, check_free};
use crate::wire::common::{Delivery, LeastTokens, Shown, check_single, take_generation};
use crate::wire::tools::{AskedChoice, Tools};
use pagoda_engine::{Constraint, ConstraintParam, GenerateParams};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// What names end with where no version is given.
const LATEST: &str = ":latest";

/// The model that a request names, without the version that all have.
///
/// # Errors
/// If it is no string.
pub(crate) fn take_model(fields: &mut Fields<'_>) -> Result<Option<String>, ApiError> {
    let model = fields.string("model")?.or(fields.string("name")?);
    Ok(model.map(|name| name.strip_suffix(LATEST).map_or(name.clone(), str::to_owned)))
}

/// Takes the fields of `/api/chat`.
///
/// # Errors
/// Names the first field at fault.
pub(crate) fn take_chat(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
    let model = take_model(fields)?;
    let mut messages = fields.value("messages")?.ok_or_else(|| ApiError::missing("messages"))?;
    for (at, message) in messages.as_array_mut().into_iter().flatten().enumerate() {
        adapt(message, at)?;
    }
    let tools: Value = fields.value("tools")?.unwrap_or_else(|| json!([]));
    let tools = Tools::new(tools, &AskedChoice::Auto, true)?;
    request(fields, model, messages, tools)
}

/// Takes the fields of `/api/generate`: a prompt that is a message, with what the system says before it.
///
/// # Errors
/// Names the first field at fault.
pub(crate) fn take_generate(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
    let model = take_model(fields)?;
    for (name, advice) in [
        ("suffix", "use /infill"),
        ("template", "templates come from the model or the server's operator"),
        ("context", "send the conversation to /api/chat"),
        ("images", "only text is offered"),
    ] {
        let empty = |value: &Value| value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
        if fields.value(name)?.is_some_and(|value| !empty(&value)) {
            return Err(ApiError::unsupported(name, advice));
        }
    }
    if fields.flag("raw")?.unwrap_or(false) {
        return Err(ApiError::unsupported("raw", "use /v1/completions"));
    }
    let prompt = fields.string("prompt")?.ok_or_else(|| ApiError::missing("prompt"))?;
    let system = fields.string("system")?.filter(|text| !text.is_empty());
    let system = system.map(|text| json!({"role": "system", "content": text}));
    let messages = system.into_iter().chain([json!({"role": "user", "content": prompt})]).collect();
    request(fields, model, messages, None)
}

fn request(
    fields: &mut Fields<'_>,
    model: Option<String>,
    messages: Value,
    tools: Option<Tools>,
) -> Result<ChatRequest, ApiError> {
    let mut params = take_options(fields)?;
    params.constraint = take_format(fields)?;
    if let Some(tools) = &tools {
        check_free(&params)?;
        params.constraint = tools.constraint();
    }
    let stream = fields.flag("stream")?.unwrap_or(true);
    // The model stays where it is.
    fields.value("keep_alive")?;
    Ok(ChatRequest {
        model,
        messages,
        delivery: Delivery { stream, ..Delivery::default() },
        shown: Shown { skip_special: true, ..Shown::default() },
        params,
        add_generation_prompt: true,
        continue_final: false,
        template_extra: take_think(fields)?,
        cache_salt: None,
        tools,
        hides_reasoning: false,
        repeated: Value::Null,
    })
}

/// Brings a message into the words of chat.
fn adapt(message: &mut Value, at: usize) -> Result<(), ApiError> {
    let Some(entries) = message.as_object_mut() else { return Ok(()) };
    if entries
        .shift_remove("images")
        .is_some_and(|images| images.as_array().is_none_or(|list| !list.is_empty()))
    {
        return Err(ApiError::unsupported(format!("messages[{at}].images"), "only text is offered"));
    }
    if let Some(thinking) = entries.shift_remove("thinking") {
        entries.insert("reasoning_content".into(), thinking);
    }
    for call in entries.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(call) = call.as_object_mut() {
            call.entry("type").or_insert("function".into());
        }
    }
    Ok(())
}

/// Takes `options`, which are named as elsewhere but for the limit. Those of loading a model are not looked at.
fn take_options(fields: &mut Fields<'_>) -> Result<GenerateParams, ApiError> {
    const NAME: &str = "options";
    let Some(raw) = fields.take_raw(NAME) else { return Ok(GenerateParams::default()) };
    let raw: &RawValue = serde_json::from_str(raw).map_err(|_| mistyped(NAME, "an object", raw))?;
    let mut options =
        Fields::parse(raw.get().as_bytes()).map_err(|_| mistyped(NAME, "an object", raw.get()))?;
    let take = |options: &mut Fields<'_>| {
        // Below 0 means as many as there is room for.
        let limit = options.integer("num_predict")?.filter(|&limit| limit >= 0);
        let mut params = take_generation(options, LeastTokens::One)?;
        check_single(&params)?;
        if limit == Some(0) {
            return Err(ApiError::invalid("num_predict", "num_predict is 0; allowed: 1 or more, or -1"));
        }
        params.max_tokens = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)).or(params.max_tokens);
        Ok(params)
    };
    take(&mut options).map_err(|error| match error {
        ApiError::Field { param, fault, message } => {
            ApiError::Field { param: format!("{NAME}.{param}"), fault, message }
        }
        other => other,
    })
}

/// Takes `format`: `json`, or a schema.
fn take_format(fields: &mut Fields<'_>) -> Result<Option<ConstraintParam>, ApiError> {
    const NAME: &str = "format";
    let constraint = match fields.value(NAME)? {
        None => return Ok(None),
        Some(Value::String(word)) if word.is_empty() => return Ok(None),
        Some(Value::String(word)) if word == "json" => Constraint::JsonObject,
        Some(schema @ Value::Object(_)) => Constraint::JsonSchema(schema),
        Some(other) => return Err(mistyped(NAME, "json or a schema", &other.to_string())),
    };
    Ok(Some(ConstraintParam { place: NAME, constraint }))
}

/// Takes `think`: whether, or how much.
fn take_think(fields: &mut Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut extra = Map::new();
    match fields.value("think")? {
        None => {}
        Some(Value::Bool(think)) => {
            extra.insert("enable_thinking".into(), think.into());
        }
        Some(effort @ Value::String(_)) => {
            extra.insert("reasoning_effort".into(), effort);
        }
        Some(other) => return Err(mistyped("think", "true, false, low, medium or high", &other.to_string())),
    }
    Ok(extra)
}
