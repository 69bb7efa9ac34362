//! Bodies of requests as JSON schemas. They tell what is offered; what is refused is refused by name.

use serde_json::{Map, Value, json};

/// Fields of all generating endpoints.
pub(crate) fn generation() -> Map<String, Value> {
    let fields = [
        ("model", text("A name that /v1/models lists, or default; the served model if absent.")),
        ("stream", flag("Answer with server-sent events.")),
        (
            "stream_options",
            json!({"type": ["object", "null"], "description": "include_usage: a last event with the usage; \
                continuous_usage_stats: the usage so far on every event; queue_position: a first comment with the place in the \
                queue.", "properties": {
                "include_usage": {"type": ["boolean", "null"]},
                "continuous_usage_stats": {"type": ["boolean", "null"]},
                "queue_position": {"type": ["boolean", "null"]}}}),
        ),
        (
            "sse_ping_interval",
            json!({"type": ["integer", "null"], "description": "Seconds of silence after which a stream is kept alive; 0: never."}),
        ),
        ("max_tokens", count("Most tokens to generate; reduced to the room in the context.")),
        ("max_completion_tokens", count("The same; of both the smaller one holds.")),
        ("min_tokens", count("Tokens before which nothing ends the text.")),
        ("n", integer(1, 8, "Samples.")),
        ("best_of", integer(1, 8, "Samples of which the best n are returned.")),
        ("use_beam_search", flag("Search for the likeliest outputs with best_of beams.")),
        ("length_penalty", number(-10.0, 10.0, "Exponent of the length in a beam search.")),
        (
            "early_stopping",
            json!({"enum": [true, false, "never", null], "description": "When a beam search has found enough."}),
        ),
        ("temperature", number(0.0, 100.0, "0 is greedy; the model's default if absent.")),
        (
            "top_k",
            json!({"type": ["integer", "null"], "minimum": -1, "description": "Most likely tokens kept; 0 and -1: all."}),
        ),
        ("top_p", number(0.0, 1.0, "Probability mass kept; above 0.")),
        ("min_p", number(0.0, 1.0, "Smallest probability kept, relative to the highest.")),
        ("repetition_penalty", number(0.0, 100.0, "Above 0; 1 is off.")),
        ("presence_penalty", number(-2.0, 2.0, "0 is off.")),
        ("frequency_penalty", number(-2.0, 2.0, "0 is off.")),
        (
            "logit_bias",
            json!({"type": ["object", "null"], "maxProperties": 1024, "description": "Token id to a number from -100 to \
                100.", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}}),
        ),
        ("seed", json!({"type": ["integer", "null"], "description": "The same seed gives the same text."})),
    ];
    let mut fields: Map<_, _> = fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    add(&mut fields, ends());
    add(&mut fields, admission());
    add(&mut fields, constraints());
    fields
}

/// Where an answer ends, and what is shown beside it.
fn ends() -> [(&'static str, Value); 8] {
    [
        (
            "stop",
            json!({"type": ["string", "array", "null"], "items": {"type": "string", "minLength": 1, "maxLength": 256},
                "maxItems": 16, "description": "Texts that end the answer."}),
        ),
        ("include_stop_str_in_output", flag("Leave that text in the answer.")),
        (
            "stop_token_ids",
            json!({"type": ["array", "null"], "items": {"type": "integer", "minimum": 0}, "maxItems": 64,
                "description": "Tokens that end the answer."}),
        ),
        ("ignore_eos", flag("Go on after the model's own end tokens.")),
        ("skip_special_tokens", flag("Leave special tokens out of the text; on if absent.")),
        ("prompt_logprobs", integer(0, 20, "Most likely tokens reported for each token of the prompt.")),
        ("return_tokens_as_token_ids", flag("Name tokens token_id:7 beside their numbers.")),
        (
            "cache_retention",
            json!({"type": ["object", "null"], "description": "{\"ttl\": seconds} or {\"pin\": true}: how long the prompt \
                stays cached."}),
        ),
    ]
}

/// Fields that say when a request runs and what it shares.
fn admission() -> [(&'static str, Value); 5] {
    [
        (
            "priority",
            json!({"type": ["string", "integer", "null"], "description": "low, normal, high, urgent, or an integer of \
                which lower goes first."}),
        ),
        ("queue_timeout", seconds("Seconds until the first step.")),
        ("first_token_timeout", seconds("Seconds until the first token.")),
        ("timeout", seconds("Seconds until the end.")),
        (
            "cache_salt",
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": 256, "description": "A prefix cache of its \
                own."}),
        ),
    ]
}

/// What the output has to be: at most one of these.
fn constraints() -> [(&'static str, Value); 7] {
    let any = |description: &str| json!({"type": ["object", "null"], "description": description});
    [
        ("response_format", any("{\"type\": \"text\"}, \"json_object\" or \"json_schema\" with the schema.")),
        ("structured_outputs", any("One of json, regex, choice, grammar and json_object.")),
        ("guided_json", json!({"description": "A JSON schema."})),
        ("guided_regex", text("A regular expression.")),
        (
            "guided_choice",
            json!({"type": ["array", "null"], "items": {"type": "string"}, "description": "Texts to choose from."}),
        ),
        ("guided_grammar", text("A grammar.")),
        ("grammar", text("A grammar, in llama.cpp's words.")),
    ]
}

/// `/v1/completions`.
pub(crate) fn completion() -> Value {
    let mut fields = generation();
    let own = [
        (
            "prompt",
            json!({"description": "A text, several, token ids, or several lists of them.", "oneOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "maxItems": 32, "items": {"type": "string", "minLength": 1}},
                {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
                {"type": "array", "minItems": 1, "maxItems": 32, "items":
                    {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}}]}),
        ),
        ("logprobs", integer(0, 20, "Most likely tokens reported for each token.")),
        ("suffix", text("What stands after the gap that the answer fills, for models that can.")),
        ("echo", flag("Repeat the prompt before the answer.")),
        ("add_special_tokens", flag("Let the tokenizer add its special tokens to texts; on if absent.")),
    ];
    add(&mut fields, own);
    object(fields, &["prompt"])
}

/// `/v1/embeddings`.
pub(crate) fn embedding() -> Value {
    let mut fields = Map::new();
    let own = [
        ("model", text("As in completions.")),
        (
            "input",
            json!({"description": "A text, several, token ids, or several lists of them.", "oneOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "maxItems": 2048, "items": {"type": "string", "minLength": 1}},
                {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
                {"type": "array", "minItems": 1, "maxItems": 2048, "items":
                    {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}}]}),
        ),
        (
            "encoding_format",
            json!({"enum": ["float", "base64", null], "description": "How vectors are written."}),
        ),
        (
            "dimensions",
            json!({"type": ["integer", "null"], "minimum": 1, "description": "Elements kept; scaled anew."}),
        ),
        (
            "pooling",
            json!({"enum": ["mean", "last", null], "description": "Whose hidden states stand for an input: those of all \
                tokens, or of the last one."}),
        ),
        ("add_special_tokens", flag("Let the tokenizer add its special tokens to texts; on if absent.")),
    ];
    add(&mut fields, own);
    add(&mut fields, admission());
    object(fields, &["input"])
}

/// `/v1/chat/completions`.
pub(crate) fn chat() -> Value {
    let mut fields = generation();
    let part = json!({"type": "object", "required": ["type", "text"], "properties": {
        "type": {"const": "text"}, "text": {"type": "string"}}});
    let message = json!({"type": "object", "required": ["role", "content"], "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
        "content": {"oneOf": [{"type": "string"}, {"type": "array", "items": part}]}}});
    let own = [
        (
            "messages",
            json!({"type": "array", "minItems": 1, "maxItems": 2048, "items": message, "description": "The \
                conversation."}),
        ),
        ("logprobs", flag("Report the log-probability of each token.")),
        ("top_logprobs", integer(0, 20, "Most likely tokens reported with it.")),
        ("add_generation_prompt", flag("End the prompt with the beginning of an answer; on if absent.")),
        (
            "chat_template_kwargs",
            json!({"type": ["object", "null"], "description": "Further variables of the template."}),
        ),
        ("reasoning_effort", text("A variable of the template.")),
        ("continue_final_message", flag("Go on with the last message instead of beginning an answer.")),
        ("include_reasoning", flag("Tell what the model says to itself; on if absent.")),
        (
            "tools",
            json!({"type": ["array", "null"], "items": {"type": "object"}, "description": "Functions that may be called."}),
        ),
        ("tool_choice", json!({"description": "none, auto, required, or the name of a function."})),
        ("parallel_tool_calls", flag("Whether one answer may have several calls.")),
    ];
    add(&mut fields, own);
    object(fields, &["messages"])
}

/// `/tokenize`.
pub(crate) fn tokenize() -> Value {
    let mut fields = Map::new();
    let own = [
        ("model", text("As in completions.")),
        ("prompt", text("The text, in vLLM's words.")),
        (
            "messages",
            json!({"type": ["array", "null"], "description": "The conversation, instead of prompt."}),
        ),
        ("add_special_tokens", flag("With prompt or messages: add the tokenizer's special tokens.")),
        ("return_token_strs", flag("With prompt or messages: tell the entries of the vocabulary.")),
        ("content", text("The text, in llama.cpp's words.")),
        ("add_special", flag("With content: add the tokenizer's special tokens.")),
        ("parse_special", flag("With content: text of special tokens becomes those; on if absent.")),
        ("with_pieces", flag("With content: tell the text of each token.")),
    ];
    add(&mut fields, own);
    object(fields, &[])
}

/// `/detokenize`.
pub(crate) fn detokenize() -> Value {
    let mut fields = Map::new();
    let tokens =
        json!({"type": "array", "items": {"type": "integer", "minimum": 0}, "description": "Token ids."});
    add(&mut fields, [("model", text("As in completions.")), ("tokens", tokens)]);
    object(fields, &["tokens"])
}

/// `/abort_request`.
pub(crate) fn abort() -> Value {
    let mut fields = Map::new();
    let own = [
        ("rid", text("Id of the response, or the x-request-id of its call.")),
        ("abort_all", flag("All of the caller's requests.")),
    ];
    add(&mut fields, own);
    object(fields, &[])
}

/// Every error.
pub(crate) fn error() -> Value {
    json!({"type": "object", "required": ["error"], "properties": {"error": {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {
            "message": {"type": "string"},
            "type": {"type": "string"},
            "param": {"type": ["string", "null"]},
            "code": {"type": "string"},
        },
    }}})
}

pub(crate) fn add<const N: usize>(fields: &mut Map<String, Value>, own: [(&str, Value); N]) {
    fields.extend(own.map(|(name, schema)| (name.to_owned(), schema)));
}

pub(crate) fn object(properties: Map<String, Value>, required: &[&str]) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

pub(crate) fn flag(description: &str) -> Value {
    json!({"type": ["boolean", "null"], "description": description})
}

pub(crate) fn text(description: &str) -> Value {
    json!({"type": ["string", "null"], "description": description})
}

fn integer(low: i64, high: i64, description: &str) -> Value {
    json!({"type": ["integer", "null"], "minimum": low, "maximum": high, "description": description})
}

pub(crate) fn count(description: &str) -> Value {
    json!({"type": ["integer", "null"], "minimum": 0, "description": description})
}

pub(crate) fn number(low: f64, high: f64, description: &str) -> Value {
    json!({"type": ["number", "null"], "minimum": low, "maximum": high, "description": description})
}

fn seconds(description: &str) -> Value {
    json!({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 86_400, "description": description})
}
