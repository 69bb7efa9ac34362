//! The request of `/v1/responses`, in the words of chat.

use crate::error::ApiError;
use crate::json::{Fields, mistyped};
use crate::wire::chat::{ChatRequest, check_free};
use crate::wire::common::{
    LeastTokens, Shown, check_single, smaller, take_cache_salt, take_delivery, take_generation, take_limit,
};
use crate::wire::conversation::Conversation;
use crate::wire::messages::text;
use crate::wire::nested::{Nested, list};
use crate::wire::refused::{self, Endpoint};
use crate::wire::tools::{AskedChoice, Tools};
use pagoda_engine::{Constraint, ConstraintParam, GenerateParams};
use serde_json::{Map, Value, json};

/// Takes the fields of a request; what is left in `fields` is unknown.
///
/// # Errors
/// Names the first field at fault.
pub(crate) fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
    refused::check(fields, Endpoint::Responses)?;
    let model = fields.string("model")?;
    let instructions = fields.string("instructions")?;
    let input = fields.value("input")?.ok_or_else(|| ApiError::missing("input"))?;
    let messages = conversation(instructions.as_deref(), &input)?;
    let delivery = take_delivery(fields)?;
    let mut params = take_generation(fields, LeastTokens::One)?;
    check_single(&params)?;
    let limit = take_limit(fields, "max_output_tokens", LeastTokens::One)?;
    params.max_tokens = smaller(params.max_tokens, limit);
    let mut repeated = repeated(&params, limit);
    repeated.insert("instructions".into(), instructions.map_or(Value::Null, Value::from));
    take_format(fields, &mut params, &mut repeated)?;
    let tools = take_tools(fields, &mut repeated)?;
    if let Some(tools) = &tools {
        check_free(&params)?;
        params.constraint = tools.constraint();
    }
    let template_extra = take_reasoning(fields, &mut repeated)?;
    take_include(fields)?;
    take_repeated(fields, &mut repeated)?;
    Ok(ChatRequest {
        model,
        messages,
        delivery,
        shown: Shown { skip_special: true, ..Shown::default() },
        params,
        add_generation_prompt: true,
        continue_final: false,
        template_extra,
        cache_salt: take_cache_salt(fields)?,
        tools,
        hides_reasoning: false,
        repeated: repeated.into(),
    })
}

fn conversation(instructions: Option<&str>, input: &Value) -> Result<Value, ApiError> {
    const FORMS: &str = "a string or a list of items";
    let mut conversation = Conversation::default();
    if let Some(instructions) = instructions {
        conversation.say("system", instructions.to_owned());
    }
    match input {
        Value::String(said) => conversation.say("user", said.clone()),
        Value::Array(items) if items.is_empty() => {
            return Err(ApiError::invalid("input", "input is empty; send at least one item"));
        }
        Value::Array(_) => {
            for (path, item) in list(input, "input")? {
                add_item(&mut conversation, &Nested::of(item, path)?)?;
            }
        }
        other => return Err(mistyped("input", FORMS, &other.to_string())),
    }
    Ok(conversation.into_messages())
}

fn add_item(conversation: &mut Conversation, item: &Nested<'_>) -> Result<(), ApiError> {
    match item.text("type")?.unwrap_or("message") {
        "message" => {
            let role = item.need_text("role")?;
            if !["user", "assistant", "system", "developer"].contains(&role) {
                return Err(item.unexpected("role", "user, assistant, system, developer"));
            }
            conversation.say(role, text(item.need("content")?, &item.at("content"))?);
        }
        "function_call" => {
            let arguments = item.need_text("arguments")?;
            conversation.call(item.need_text("call_id")?, item.need_text("name")?, &arguments.into());
        }
        "function_call_output" => {
            let output = text(item.need("output")?, &item.at("output"))?;
            conversation.result(item.need_text("call_id")?, output);
        }
        "reasoning" => {
            for part in ["content", "summary"] {
                for (path, part) in
                    item.get(part).map_or(Ok(Vec::new()), |parts| list(parts, &item.at(part)))?
                {
                    conversation.think(Nested::of(part, path)?.text("text")?.unwrap_or_default());
                }
            }
        }
        "item_reference" => {
            let advice = "responses are not kept, so send the item itself";
            return Err(ApiError::unsupported(item.at("type"), advice));
        }
        _ => {
            let advice = "only message, function_call, function_call_output and reasoning are";
            return Err(ApiError::unsupported(item.at("type"), advice));
        }
    }
    Ok(())
}

/// What is repeated of fields that say how tokens are chosen.
fn repeated(params: &GenerateParams, limit: Option<u32>) -> Map<String, Value> {
    let entries = [
        ("instructions", Value::Null),
        ("max_output_tokens", json!(limit)),
        ("temperature", json!(params.temperature)),
        ("top_p", json!(params.top_p)),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// Takes what is repeated and means nothing here.
fn take_repeated(fields: &mut Fields<'_>, repeated: &mut Map<String, Value>) -> Result<(), ApiError> {
    let metadata: Option<Map<String, Value>> = fields.take("metadata", "an object")?;
    repeated.insert("metadata".into(), metadata.unwrap_or_default().into());
    // It is never kept, whatever was asked for, and says so.
    fields.flag("store")?;
    repeated.insert("store".into(), false.into());
    for name in ["user", "service_tier"] {
        repeated.insert(name.into(), fields.string(name)?.map_or(Value::Null, Value::from));
    }
    repeated.insert("truncation".into(), "disabled".into());
    repeated.insert("previous_response_id".into(), Value::Null);
    Ok(())
}

/// Takes `text`, of which the format is a constraint.
fn take_format(
    fields: &mut Fields<'_>,
    params: &mut GenerateParams,
    repeated: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    const PLACE: &str = "text.format";
    let given = fields.value("text")?;
    let format = match &given {
        None => None,
        Some(given) => {
            Nested::of(given, "text")?.get("format").map(|format| Nested::of(format, PLACE)).transpose()?
        }
    };
    let constraint = match &format {
        None => None,
        Some(format) => match format.need_text("type")? {
            "text" => None,
            "json_object" => Some(Constraint::JsonObject),
            "json_schema" => {
                format.text("name")?;
                format.flag("strict")?;
                Some(Constraint::JsonSchema(format.need("schema")?.clone()))
            }
            _ => return Err(format.unexpected("type", "text, json_object, json_schema")),
        },
    };
    if let Some(constraint) = constraint {
        check_free(params)?;
        params.constraint = Some(ConstraintParam { place: PLACE, constraint });
    }
    repeated.insert("text".into(), given.unwrap_or_else(|| json!({"format": {"type": "text"}})));
    Ok(())
}

fn take_tools(fields: &mut Fields<'_>, repeated: &mut Map<String, Value>) -> Result<Option<Tools>, ApiError> {
    let given = fields.value("tools")?.unwrap_or_else(|| json!([]));
    let asked = fields.value("tool_choice")?.unwrap_or_else(|| "auto".into());
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    let tools = Tools::new(functions(&given)?, &choice(&asked)?, parallel).map_err(flat)?;
    repeated.insert("tools".into(), given);
    repeated.insert("tool_choice".into(), asked);
    repeated.insert("parallel_tool_calls".into(), parallel.into());
    Ok(tools)
}

/// The functions in the form of chat, which has one more level.
fn functions(given: &Value) -> Result<Value, ApiError> {
    let mut functions = Vec::new();
    for (path, entry) in list(given, "tools")? {
        let tool = Nested::of(entry, path)?;
        let kind = tool.need_text("type")?;
        let mut function = Map::new();
        for name in ["name", "description", "parameters", "strict"] {
            function.extend(tool.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        functions.push(json!({"type": kind, "function": function}));
    }
    Ok(functions.into())
}

fn choice(asked: &Value) -> Result<AskedChoice, ApiError> {
    const FORMS: &str = "none, auto, required, or an object that names a function";
    match asked {
        Value::String(word) if word == "none" => Ok(AskedChoice::None),
        Value::String(word) if word == "auto" => Ok(AskedChoice::Auto),
        Value::String(word) if word == "required" => Ok(AskedChoice::Required),
        Value::Object(_) => {
            let asked = Nested::of(asked, "tool_choice")?;
            match asked.need_text("type")? {
                "function" => Ok(AskedChoice::Named(asked.need_text("name")?.to_owned())),
                _ => Err(asked.unexpected("type", "function")),
            }
        }
        other => Err(mistyped("tool_choice", FORMS, &other.to_string())),
    }
}

/// The error without the level that this interface does not have.
pub(crate) fn flat(error: ApiError) -> ApiError {
    match error {
        ApiError::Field { param, fault, message } => {
            let own = param.replacen(".function", "", 1);
            ApiError::Field { message: message.replace(&param, &own), param: own, fault }
        }
        other => other,
    }
}

/// Takes `reasoning`, of which the effort is a variable of templates, and further variables in vLLM's words.
fn take_reasoning(
    fields: &mut Fields<'_>,
    repeated: &mut Map<String, Value>,
) -> Result<Map<String, Value>, ApiError> {
    let mut extra: Map<String, Value> = fields.take("chat_template_kwargs", "an object")?.unwrap_or_default();
    let given = fields.value("reasoning")?;
    if let Some(given) = &given {
        let effort = Nested::of(given, "reasoning")?.text("effort")?;
        extra.extend(effort.map(|effort| ("reasoning_effort".to_owned(), effort.into())));
    }
    repeated.insert("reasoning".into(), given.unwrap_or_else(|| json!({"effort": null, "summary": null})));
    Ok(extra)
}

/// Takes `include`. What it can ask for is of tools that are not offered, or there is none, but for log-probabilities.
fn take_include(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    let include: Vec<String> = fields.take("include", "a list of strings")?.unwrap_or_default();
    if include.iter().any(|what| what == "message.output_text.logprobs") {
        return Err(ApiError::unsupported("include", "log-probabilities are in /v1/chat/completions"));
    }
    Ok(())
}
