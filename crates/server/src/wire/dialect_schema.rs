//! Bodies of requests in other words than OpenAI's chat, as JSON schemas.

use crate::wire::schema::{self, add, count, flag, generation, number, object, text};
use serde_json::{Map, Value, json};

/// Fields of chat that endpoints with one answer do not have.
const OF_SEVERAL: [&str; 6] =
    ["n", "best_of", "use_beam_search", "length_penalty", "early_stopping", "prompt_logprobs"];

fn single() -> Map<String, Value> {
    let mut fields = generation();
    OF_SEVERAL.iter().for_each(|name| {
        fields.shift_remove(*name);
    });
    fields
}

fn any(description: &str) -> Value {
    json!({"type": ["object", "null"], "description": description})
}

fn list(description: &str) -> Value {
    json!({"type": ["array", "null"], "items": {"type": "object"}, "description": description})
}

/// `/v1/responses`.
pub(crate) fn responses() -> Value {
    let mut fields = single();
    let own = [
        (
            "input",
            json!({"description": "A text, or messages, calls of functions, what they brought, and reasoning.", "oneOf": [
                {"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "object"}}]}),
        ),
        ("instructions", text("Said before the input, as the system.")),
        ("max_output_tokens", count("Most tokens to generate; reduced to the room in the context.")),
        ("text", any("format: text, json_object, or json_schema with the schema.")),
        ("tools", list("Functions that may be called.")),
        ("tool_choice", json!({"description": "none, auto, required, or the name of a function."})),
        ("parallel_tool_calls", flag("Whether one answer may have several calls.")),
        ("reasoning", any("effort: a variable of the template.")),
        (
            "include",
            json!({"type": ["array", "null"], "items": {"type": "string"}, "description": "Ignored."}),
        ),
        ("metadata", any("Repeated in the answer.")),
        ("store", flag("Answers are never kept.")),
    ];
    add(&mut fields, own);
    object(fields, &["input"])
}

/// Errors of `/v1/messages`.
pub(crate) fn message_error() -> Value {
    let mut error = schema::error();
    error["required"] = json!(["type", "error", "request_id"]);
    error["properties"]["type"] = json!({"const": "error"});
    error["properties"]["request_id"] = json!({"type": "string"});
    error
}

/// Errors of the paths below `/api`.
pub(crate) fn ollama_error() -> Value {
    json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}})
}

/// `/v1/messages`.
pub(crate) fn messages() -> Value {
    let message = json!({"type": "object", "required": ["role", "content"], "properties": {
        "role": {"enum": ["user", "assistant", "system"]},
        "content": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}}});
    let mut fields = single();
    let own = [
        (
            "messages",
            json!({"type": "array", "minItems": 1, "items": message, "description": "The conversation; an answer at its \
                end is gone on with."}),
        ),
        (
            "system",
            json!({"type": ["string", "array", "null"], "items": {"type": "object"}, "description": "Said first."}),
        ),
        (
            "stop_sequences",
            json!({"type": ["array", "null"], "items": {"type": "string"}, "description": "Texts that end the answer."}),
        ),
        ("tools", list("Functions that may be called.")),
        ("tool_choice", any("auto, any, tool with its name, or none.")),
        ("thinking", any("enabled or disabled, for templates that ask.")),
        ("output_format", any("json_schema with the schema.")),
        ("output_config", any("format, as output_format, and effort.")),
        ("temperature", number(0.0, 100.0, "0 is greedy; the model's default if absent.")),
    ];
    add(&mut fields, own);
    object(fields, &["messages", "max_tokens"])
}

/// `/completion`.
pub(crate) fn native() -> Value {
    let mut fields = generation();
    let own = [
        (
            "prompt",
            json!({"description": "A text or token ids, or several.", "oneOf": [
                {"type": "string", "minLength": 1}, {"type": "array", "minItems": 1}]}),
        ),
        (
            "n_predict",
            json!({"type": ["integer", "null"], "description": "Most tokens to generate; below 0 as many as there is room for."}),
        ),
        ("n_probs", count("Most likely tokens reported for each token, up to 20.")),
    ];
    add(&mut fields, own);
    object(fields, &["prompt"])
}

/// `/infill`.
pub(crate) fn infill() -> Value {
    let mut fields = single();
    let own = [
        ("input_prefix", json!({"type": "string", "description": "The text before the gap."})),
        ("input_suffix", json!({"type": "string", "description": "The text after it."})),
        ("input_extra", list("filename and text of other files.")),
        ("prompt", text("What the filling begins with.")),
        (
            "n_predict",
            json!({"type": ["integer", "null"], "description": "Most tokens to generate; below 0 as many as there is room for."}),
        ),
        ("n_probs", count("Most likely tokens reported for each token, up to 20.")),
    ];
    add(&mut fields, own);
    object(fields, &["input_prefix", "input_suffix"])
}

/// `/api/chat`, `/api/generate` and `/api/show`.
pub(crate) fn ollama() -> Value {
    let mut fields = Map::new();
    let own = [
        ("model", text("As in completions; with or without :latest.")),
        ("messages", list("The conversation, of /api/chat.")),
        ("tools", list("Functions that may be called, of /api/chat.")),
        ("prompt", text("What the user says, of /api/generate.")),
        ("system", text("What is said before it.")),
        ("format", json!({"type": ["string", "object", "null"], "description": "json, or a schema."})),
        ("options", any("num_predict, and temperature, seed, stop and others as in completions.")),
        (
            "think",
            json!({"type": ["boolean", "string", "null"], "description": "Whether to think, or how much."}),
        ),
        ("stream", flag("A line of JSON for every event; on if absent.")),
    ];
    add(&mut fields, own);
    object(fields, &[])
}
