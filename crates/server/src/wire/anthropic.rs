//! The request of `/v1/messages`, in the words of chat.

use crate::error::ApiError;
use crate::json::{Fields, mistyped};
use crate::wire::chat::{ChatRequest, check_free};
use crate::wire::common::{Delivery, LeastTokens, Shown, check_single, take_cache_salt, take_generation};
use crate::wire::conversation::Conversation;
use crate::wire::messages::text;
use crate::wire::nested::{Nested, list};
use crate::wire::refused::{self, Endpoint};
use crate::wire::responses::flat;
use crate::wire::tools::{AskedChoice, Tools};
use pagoda_engine::{Constraint, ConstraintParam, GenerateParams};
use serde_json::{Map, Value, json};

/// Whether `max_tokens` has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Required,
    /// Where nothing is generated.
    Optional,
}

/// Takes the fields of a request; what is left in `fields` is unknown.
///
/// # Errors
/// Names the first field at fault.
pub(crate) fn take(fields: &mut Fields<'_>, limit: Limit) -> Result<ChatRequest, ApiError> {
    refused::check(fields, Endpoint::Messages)?;
    let model = fields.string("model")?;
    let conversation = take_conversation(fields)?;
    let mut params = take_generation(fields, LeastTokens::One)?;
    check_single(&params)?;
    if params.max_tokens.is_none() && limit == Limit::Required {
        return Err(ApiError::missing("max_tokens"));
    }
    let stops: Option<Vec<String>> = fields.take("stop_sequences", "a list of strings")?;
    params.stop.extend(stops.into_iter().flatten());
    let mut template_extra: Map<String, Value> =
        fields.take("chat_template_kwargs", "an object")?.unwrap_or_default();
    take_thinking(fields, &mut template_extra)?;
    take_output(fields, &mut params, &mut template_extra)?;
    let tools = take_tools(fields)?;
    if let Some(tools) = &tools {
        check_free(&params)?;
        params.constraint = tools.constraint();
    }
    let continue_final = conversation.ends_with_assistant();
    Ok(ChatRequest {
        model,
        messages: conversation.into_messages(),
        delivery: Delivery { stream: fields.flag("stream")?.unwrap_or(false), ..Delivery::default() },
        shown: Shown { skip_special: true, ..Shown::default() },
        params,
        add_generation_prompt: !continue_final,
        continue_final,
        template_extra,
        cache_salt: take_cache_salt(fields)?,
        tools,
        hides_reasoning: false,
        repeated: Value::Null,
    })
}

fn take_conversation(fields: &mut Fields<'_>) -> Result<Conversation, ApiError> {
    let mut conversation = Conversation::default();
    if let Some(system) = fields.value("system")? {
        conversation.say("system", text(&system, "system")?);
    }
    let messages = fields.value("messages")?.ok_or_else(|| ApiError::missing("messages"))?;
    let messages = list(&messages, "messages")?;
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty; send at least one message"));
    }
    for (path, message) in messages {
        let message = Nested::of(message, path)?;
        let role = message.need_text("role")?;
        if !["user", "assistant", "system"].contains(&role) {
            return Err(message.unexpected("role", "user, assistant, system"));
        }
        let content = message.need("content")?;
        if let Value::String(said) = content {
            conversation.say(role, said.clone());
            continue;
        }
        for run in runs(content, &message.at("content"))? {
            add_run(&mut conversation, role, run)?;
        }
    }
    Ok(conversation)
}

/// Blocks of a message; texts in a row are one.
enum Run<'v> {
    Text(String),
    Other(&'v str, Nested<'v>),
}

fn runs<'v>(content: &'v Value, path: &str) -> Result<Vec<Run<'v>>, ApiError> {
    let Value::Array(_) = content else {
        return Err(mistyped(path, "a string or a list of blocks", &content.to_string()));
    };
    let mut runs = Vec::new();
    for (path, block) in list(content, path)? {
        let block = Nested::of(block, path)?;
        match (block.need_text("type")?, runs.last_mut()) {
            ("text", Some(Run::Text(said))) => {
                said.push('\n');
                said.push_str(block.need_text("text")?);
            }
            ("text", _) => runs.push(Run::Text(block.need_text("text")?.to_owned())),
            (kind, _) => runs.push(Run::Other(kind, block)),
        }
    }
    Ok(runs)
}

fn add_run(conversation: &mut Conversation, role: &str, run: Run<'_>) -> Result<(), ApiError> {
    let (kind, block) = match run {
        Run::Text(said) => {
            conversation.say(role, said);
            return Ok(());
        }
        Run::Other(kind, block) => (kind, block),
    };
    match (kind, role) {
        ("tool_use", "assistant") => {
            let input = block.need("input")?;
            Nested::of(input, block.at("input"))?;
            conversation.call(block.need_text("id")?, block.need_text("name")?, input);
        }
        ("tool_result", "user") => {
            let said = block
                .get("content")
                .map_or(Ok(String::new()), |content| text(content, &block.at("content")))?;
            block.flag("is_error")?;
            conversation.result(block.need_text("tool_use_id")?, said);
        }
        ("thinking", "assistant") => conversation.think(block.need_text("thinking")?),
        // What only its maker can read.
        ("redacted_thinking", "assistant") => {}
        ("tool_use" | "thinking" | "redacted_thinking", _) => {
            return Err(ApiError::invalid(block.at("type"), format!("{kind} blocks are the assistant's")));
        }
        ("tool_result", _) => {
            return Err(ApiError::invalid(block.at("type"), "tool_result blocks are the user's".to_owned()));
        }
        _ => {
            let advice = "only text, thinking, tool_use and tool_result are; remove the block";
            return Err(ApiError::unsupported(block.at("type"), advice));
        }
    }
    Ok(())
}

/// Takes `thinking`. Templates can be told whether, but not how much, so the budget has a meaning only as a part of `max_tokens`.
fn take_thinking(fields: &mut Fields<'_>, extra: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Some(given) = fields.value("thinking")? else { return Ok(()) };
    let thinking = Nested::of(&given, "thinking")?;
    let enabled = match thinking.need_text("type")? {
        "enabled" | "adaptive" => true,
        "disabled" => false,
        _ => return Err(thinking.unexpected("type", "enabled, adaptive, disabled")),
    };
    if let Some(budget) = thinking.get("budget_tokens").filter(|budget| !budget.is_u64()) {
        return Err(mistyped("thinking.budget_tokens", "a count of tokens", &budget.to_string()));
    }
    extra.insert("enable_thinking".into(), enabled.into());
    Ok(())
}

/// Takes `output_format` and `output_config`, which can hold the same and an effort.
fn take_output(
    fields: &mut Fields<'_>,
    params: &mut GenerateParams,
    extra: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let format = fields.value("output_format")?;
    take_format(format.as_ref(), "output_format", params)?;
    if let Some(given) = fields.value("output_config")? {
        let config = Nested::of(&given, "output_config")?;
        take_format(config.get("format"), "output_config.format", params)?;
        let effort = config.text("effort")?;
        extra.extend(effort.map(|effort| ("reasoning_effort".to_owned(), effort.into())));
    }
    Ok(())
}

fn take_format(
    format: Option<&Value>,
    place: &'static str,
    params: &mut GenerateParams,
) -> Result<(), ApiError> {
    let Some(format) = format else { return Ok(()) };
    let format = Nested::of(format, place)?;
    if format.need_text("type")? != "json_schema" {
        return Err(format.unexpected("type", "json_schema"));
    }
    check_free(params)?;
    let constraint = Constraint::JsonSchema(format.need("schema")?.clone());
    params.constraint = Some(ConstraintParam { place, constraint });
    Ok(())
}

fn take_tools(fields: &mut Fields<'_>) -> Result<Option<Tools>, ApiError> {
    let given = fields.value("tools")?.unwrap_or_else(|| json!([]));
    let mut functions = Vec::new();
    for (path, entry) in list(&given, "tools")? {
        let tool = Nested::of(entry, path)?;
        if !matches!(tool.text("type")?, None | Some("custom")) {
            return Err(ApiError::unsupported(tool.at("type"), "only tools of the client are"));
        }
        let schema = tool.need("input_schema")?;
        Nested::of(schema, tool.at("input_schema"))?;
        let mut function = Map::new();
        for name in ["name", "description"] {
            function.extend(tool.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        function.insert("parameters".into(), schema.clone());
        functions.push(json!({"type": "function", "function": function}));
    }
    let (choice, parallel) = take_choice(fields)?;
    Tools::new(functions.into(), &choice, parallel).map_err(flat)
}

fn take_choice(fields: &mut Fields<'_>) -> Result<(AskedChoice, bool), ApiError> {
    let Some(given) = fields.value("tool_choice")? else { return Ok((AskedChoice::Auto, true)) };
    let asked = Nested::of(&given, "tool_choice")?;
    let choice = match asked.need_text("type")? {
        "auto" => AskedChoice::Auto,
        "any" => AskedChoice::Required,
        "none" => AskedChoice::None,
        "tool" => AskedChoice::Named(asked.need_text("name")?.to_owned()),
        _ => return Err(asked.unexpected("type", "auto, any, tool, none")),
    };
    Ok((choice, !asked.flag("disable_parallel_tool_use")?.unwrap_or(false)))
}
