//! Every field of both generating endpoints with every hostile value: it is served, or refused with the name of the field,
//! and nothing of the server's inside is told.

use crate::client::Reply;
use crate::server::{Server, Setup};
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// Values for any field, as JSON.
const HOSTILE: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1",
    "-1",
    "2",
    "0.5",
    "-0.5",
    "1.0000001",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1e309",
    "-1e309",
    "1e39",
    "1e-400",
    "\"\"",
    "\"x\"",
    "\"NaN\"",
    "\"Infinity\"",
    "\"-1\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[]",
    "[null]",
    "[0]",
    "[-1]",
    "[\"\"]",
    "[\"x\"]",
    "[[]]",
    "[{}]",
    "{}",
    "{\"0\": 1}",
    "{\"x\": null}",
    "{\"type\": \"text\"}",
    "{\"type\": \"json_schema\"}",
    "{\"\": [1e309]}",
];

/// Fields of both endpoints that say how tokens are chosen, where generation ends, and how it is served.
const COMMON: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "sse_ping_interval",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "best_of",
    "use_beam_search",
    "length_penalty",
    "early_stopping",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "include_stop_str_in_output",
    "stop_token_ids",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
    "priority",
    "cache_retention",
    "cache_salt",
    "logprobs",
    "allowed_token_ids",
    "bad_words",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "structured_outputs",
    "grammar",
    "json_schema",
    "response_format",
    "prompt_logprobs",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "truncate_prompt_tokens",
    "typical_p",
    "mirostat",
    "user",
    "metadata",
];

/// Those that end a call early: what they admit may answer 504.
const LIMITS: &[&str] = &["queue_timeout", "first_token_timeout", "timeout"];

const OF_COMPLETIONS: &[&str] = &["prompt", "echo", "suffix", "add_special_tokens", "prompt_embeds"];

const OF_CHAT: &[&str] = &[
    "messages",
    "top_logprobs",
    "add_generation_prompt",
    "chat_template_kwargs",
    "reasoning_effort",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "audio",
    "modalities",
    "continue_final_message",
    "include_reasoning",
    "chat_template",
    "documents",
    "echo",
    "web_search_options",
];

const OF_RESPONSES: &[&str] = &[
    "input",
    "instructions",
    "max_output_tokens",
    "text",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "include",
    "chat_template_kwargs",
    "store",
    "service_tier",
    "background",
    "conversation",
    "previous_response_id",
    "prompt",
    "truncation",
    "top_logprobs",
];

const OF_MESSAGES: &[&str] = &[
    "messages",
    "system",
    "stop_sequences",
    "tools",
    "tool_choice",
    "thinking",
    "output_format",
    "output_config",
    "chat_template_kwargs",
    "container",
    "mcp_servers",
];

/// Fields that a complaint about one may name instead, because the two contradict each other.
const PARTNERS: &[(&str, &[&str])] = &[
    ("use_beam_search", &["n", "best_of", "temperature", "stop", "logprobs"]),
    ("min_tokens", &["max_tokens"]),
    ("max_tokens", &["min_tokens"]),
    ("logprobs", &["top_logprobs", "echo"]),
    ("top_logprobs", &["logprobs"]),
    ("best_of", &["n"]),
    ("n", &["best_of"]),
    ("max_output_tokens", &["min_tokens"]),
    ("min_tokens", &["max_output_tokens", "max_tokens"]),
    ("continue_final_message", &["messages"]),
    ("stop", &["stop_sequences"]),
    ("n_predict", &["min_tokens"]),
    ("text", &["tools"]),
    ("output_format", &["tools"]),
];

/// What no answer may hold: paths, code, and what a panic says.
const LEAKS: &[&str] =
    &[".rs:", "src/", "/root", "/home", "/work", "panicked", "thread '", "unwrap", "RUST_", "0x7f"];

fn body(base: &str, field: &str, value: &str) -> String {
    body_of(base, &[(field, value)])
}

/// The parts of `base` other than `fields`, then these.
fn body_of(base: &str, fields: &[(&str, &str)]) -> String {
    let is_own = |part: &&str| fields.iter().any(|(field, _)| part.starts_with(&format!("\"{field}\"")));
    let own = fields.iter().map(|(field, value)| format!("\"{field}\": {value}"));
    let parts: Vec<_> = base.split("; ").filter(|part| !is_own(part)).map(str::to_owned).chain(own).collect();
    format!("{{{}}}", parts.join(", "))
}

/// What is wrong with an answer to a body whose only doubtful field is `field`.
fn fault(reply: &Reply, field: &str) -> Option<String> {
    fault_of_any(reply, &[field])
}

/// What is wrong with an answer to a body whose doubtful fields are `fields`.
fn fault_of_any(reply: &Reply, fields: &[&str]) -> Option<String> {
    let text = reply.text();
    if let Some(leak) = LEAKS.iter().find(|leak| text.contains(**leak)) {
        return Some(format!("tells {leak:?}: {text}"));
    }
    if reply.head.status == 200 {
        return None;
    }
    if !(400..500).contains(&reply.head.status) {
        return Some(format!("is answered with {}: {text}", reply.head.status));
    }
    let error = reply.json()["error"].take();
    if let Some(message) = error.as_str() {
        // Ollama's errors are a message and nothing else.
        return message.is_empty().then(|| format!("is refused with {text}"));
    }
    let message = error["message"].as_str().unwrap_or_default();
    let Some(param) = error["param"].as_str() else {
        // A text with half of a surrogate pair is no JSON at all.
        return (error["code"] != "invalid_json").then(|| format!("is blamed on nothing: {text}"));
    };
    let root = param.split(['.', '[']).next().unwrap();
    let partners = |field: &str| {
        PARTNERS.iter().find(|(name, _)| *name == field).map_or(&[][..], |(_, partners)| partners)
    };
    if !fields.iter().any(|field| root == *field || partners(field).contains(&root)) {
        return Some(format!("is blamed on {param}: {message}"));
    }
    (message.is_empty() || message.len() >= 600).then(|| format!("is refused with {message:?}"))
}

fn check(reply: &Reply, field: &str, case: &str) {
    let fault = fault(reply, field);
    assert_eq!(fault, None, "{case}");
}

/// Number of cases.
async fn sweep(
    server: &Server,
    path: &str,
    base: &str,
    fields: impl Iterator<Item = &'static &'static str>,
) -> usize {
    let (mut cases, mut faults) = (0, Vec::new());
    for field in fields {
        let mut absent = false;
        for value in HOSTILE {
            let body = body(base, field, value);
            let reply = server.post_text(path, &body).await;
            faults.extend(fault(&reply, field).map(|fault| format!("{body} {fault}")));
            if *value == "null" {
                absent = reply.head.status == 200;
            }
            cases += 1;
        }
        let required = match path {
            COMPLETIONS => *field == "prompt",
            RESPONSES => *field == "input",
            CHAT => *field == "messages",
            MESSAGES => ["messages", "max_tokens"].contains(field),
            "/completion" => *field == "prompt",
            "/infill" => ["input_prefix", "input_suffix"].contains(field),
            // There a client that says nothing wants the model to be loaded.
            _ => false,
        };
        assert_eq!(absent, !required, "{path}: null is the same as absent for {field}");
        // Of two equal names one counts, and the other does no harm.
        let twice =
            body(base, field, &format!("null, \"{field}\": {}", if required { "[1]" } else { "null" }));
        check(&server.post_text(path, &twice).await, field, &format!("{path} {twice}"));
    }
    assert!(faults.is_empty(), "{path}:\n{}", faults.join("\n"));
    cases
}

#[tokio::test]
async fn every_field_of_completions_withstands_every_value() {
    let server = Setup::repeating("A").start().await;
    let base = r#""prompt": "x"; "max_tokens": 2"#;
    let cases = sweep(&server, COMPLETIONS, base, COMMON.iter().chain(OF_COMPLETIONS)).await;
    assert!(cases > 600, "{cases}");
    after(&server).await;
}

#[tokio::test]
async fn every_field_of_chat_withstands_every_value() {
    let server = Setup::repeating("A").start().await;
    let base = r#""messages": [{"role": "user", "content": "x"}]; "max_tokens": 2"#;
    let cases = sweep(&server, CHAT, base, COMMON.iter().chain(OF_CHAT)).await;
    assert!(cases > 600, "{cases}");
    after(&server).await;
}

#[tokio::test]
async fn every_field_of_responses_withstands_every_value() {
    let server = Setup::repeating("A").start().await;
    let base = r#""input": "x"; "max_output_tokens": 2"#;
    let cases = sweep(&server, RESPONSES, base, COMMON.iter().chain(OF_RESPONSES)).await;
    assert!(cases > 600, "{cases}");
    after(&server).await;
}

#[tokio::test]
async fn every_field_of_messages_withstands_every_value() {
    let server = Setup::repeating("A").start().await;
    let base = r#""messages": [{"role": "user", "content": "x"}]; "max_tokens": 2"#;
    let cases = sweep(&server, MESSAGES, base, COMMON.iter().chain(OF_MESSAGES)).await;
    assert!(cases > 600, "{cases}");
    after(&server).await;
}

#[tokio::test]
async fn every_field_of_further_endpoints_withstands_every_value() {
    const FIM: &[&str] = &["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
    let server = Setup { added: FIM, ..Setup::repeating("A") }.start().await;
    let own: &'static [&'static str] = &["n_predict", "n_probs", "cache_prompt", "id_slot", "samplers"];
    let cases =
        sweep(&server, "/completion", r#""prompt": "x"; "n_predict": 2"#, COMMON.iter().chain(own)).await;
    assert!(cases > 600, "{cases}");
    let own: &'static [&'static str] = &[
        "input_prefix",
        "input_suffix",
        "input_extra",
        "prompt",
        "n_predict",
        "n_probs",
        "temperature",
        "stream",
    ];
    let base = r#""input_prefix": "x"; "input_suffix": "y"; "n_predict": 2"#;
    sweep(&server, "/infill", base, own.iter()).await;
    let own: &'static [&'static str] =
        &["model", "messages", "tools", "format", "options", "think", "stream", "keep_alive"];
    let base = r#""messages": [{"role": "user", "content": "x"}]; "options": {"num_predict": 2}"#;
    sweep(&server, "/api/chat", base, own.iter()).await;
    let own: &'static [&'static str] =
        &["prompt", "system", "suffix", "template", "context", "images", "raw", "format", "options", "think"];
    sweep(&server, "/api/generate", r#""prompt": "x"; "options": {"num_predict": 2}"#, own.iter()).await;
    sweep(&server, "/api/show", r#""model": "toy""#, ["model", "name"].iter()).await;
    after(&server).await;
}

/// Items and blocks with every value in every place.
#[tokio::test]
async fn parts_of_items_and_blocks_withstand_every_value() {
    let server = Setup::repeating("A").start().await;
    for value in HOSTILE {
        for item in [
            format!(r#"{{"type": {value}, "role": "user", "content": "x"}}"#),
            format!(r#"{{"role": "user", "content": {value}}}"#),
            format!(
                r#"{{"type": "function_call", "call_id": {value}, "name": {value}, "arguments": "{{}}"}}"#
            ),
            format!(r#"{{"type": "function_call", "call_id": "x", "name": "x", "arguments": {value}}}"#),
            format!(r#"{{"type": "function_call_output", "call_id": "x", "output": {value}}}"#),
            format!(r#"{{"type": "reasoning", "summary": {value}, "content": [{value}]}}"#),
        ] {
            let body = format!(r#"{{"input": [{item}], "max_output_tokens": 2}}"#);
            check(&server.post_text(RESPONSES, &body).await, "input", &body);
        }
        for (role, block) in [
            ("user", format!(r#"{{"type": {value}, "text": "x"}}"#)),
            ("user", format!(r#"{{"type": "text", "text": {value}}}"#)),
            ("user", format!(r#"{{"type": "tool_result", "tool_use_id": {value}, "content": {value}}}"#)),
            ("user", format!(r#"{{"type": "tool_result", "tool_use_id": "x", "is_error": {value}}}"#)),
            (
                "assistant",
                format!(r#"{{"type": "tool_use", "id": {value}, "name": {value}, "input": {{}}}}"#),
            ),
            ("assistant", format!(r#"{{"type": "tool_use", "id": "x", "name": "x", "input": {value}}}"#)),
            ("assistant", format!(r#"{{"type": "thinking", "thinking": {value}}}"#)),
            ("user", value.to_string()),
        ] {
            let messages = format!(
                r#"[{{"role": "{role}", "content": [{block}]}}, {{"role": "user", "content": "x"}}]"#
            );
            let body = format!(r#"{{"messages": {messages}, "max_tokens": 2}}"#);
            check(&server.post_text(MESSAGES, &body).await, "messages", &body);
        }
    }
    after(&server).await;
}

#[tokio::test]
async fn time_limits_withstand_every_value() {
    let server = Setup::repeating("A").start().await;
    for field in LIMITS {
        for value in HOSTILE {
            let body = body(r#""prompt": "x"; "max_tokens": 2"#, field, value);
            let reply = server.post_text(COMPLETIONS, &body).await;
            if reply.head.status != 504 {
                check(&reply, field, &body);
            }
        }
    }
    after(&server).await;
}

#[tokio::test]
async fn parts_of_messages_withstand_every_value() {
    let server = Setup::repeating("A").start().await;
    for value in HOSTILE {
        for message in [
            format!(r#"{{"role": {value}, "content": "x"}}"#),
            format!(r#"{{"role": "user", "content": {value}}}"#),
            format!(r#"{{"role": "user", "content": [{value}]}}"#),
            format!(r#"{{"role": "user", "content": [{{"type": "text", "text": {value}}}]}}"#),
            format!(r#"{{"role": "user", "content": [{{"type": {value}, "text": "x"}}]}}"#),
            format!(r#"{{"role": "assistant", "content": null, "tool_calls": {value}}}"#),
            format!(r#"{{"role": "user", "content": "x", "name": {value}}}"#),
            value.to_string(),
        ] {
            let body = format!(r#"{{"messages": [{message}], "max_tokens": 2}}"#);
            check(&server.post_text(CHAT, &body).await, "messages", &body);
        }
    }
    after(&server).await;
}

#[tokio::test]
async fn side_endpoints_withstand_every_value() {
    let server = Setup::repeating("A").start().await;
    let fields = [
        (
            "/tokenize",
            r#""content": "x""#,
            &["content", "add_special", "parse_special", "with_pieces", "model"][..],
        ),
        ("/tokenize", r#""prompt": "x""#, &["prompt", "add_special_tokens", "return_token_strs"]),
        ("/detokenize", r#""tokens": [1]"#, &["tokens", "model"]),
        ("/abort_request", r#""rid": "x""#, &["rid", "request_id", "abort_all"]),
    ];
    for (path, base, names) in fields {
        for field in names {
            for value in HOSTILE {
                let body = body(base, field, value);
                let reply = server.post_text(path, &body).await;
                let missing = reply.head.status == 400 && reply.json()["error"]["code"] == "missing_field";
                if !missing {
                    check(&reply, field, &format!("{path} {body}"));
                }
            }
        }
    }
    after(&server).await;
}

/// The server is as it was.
async fn after(server: &Server) {
    server.idle().await;
    let reply = server.post(COMPLETIONS, &json!({"prompt": "x", "max_tokens": 3})).await;
    assert_eq!(reply.json()["choices"][0]["text"], "AAA");
    assert!(server.engine.failed().is_none());
}

/// A field with the JSON of its limit less one, its limit, and one more.
struct Limit {
    field: &'static str,
    below: Value,
    at: Value,
    above: Value,
}

fn limit(field: &'static str, [below, at, above]: [Value; 3]) -> Limit {
    Limit { field, below, at, above }
}

fn many<T: Clone + Into<Value>>(item: T, limit: usize) -> [Value; 3] {
    [limit - 1, limit, limit + 1].map(|count| vec![item.clone(); count].into())
}

fn long(limit: usize) -> [Value; 3] {
    [limit - 1, limit, limit + 1].map(|bytes| "x".repeat(bytes).into())
}

fn limits_of_both() -> Vec<Limit> {
    vec![
        limit("n", [7, 8, 9].map(Value::from)),
        limit("best_of", [7, 8, 9].map(Value::from)),
        limit("temperature", [99.9, 100.0, 100.1].map(Value::from)),
        limit("top_p", [0.99, 1.0, 1.01].map(Value::from)),
        limit("min_p", [0.99, 1.0, 1.01].map(Value::from)),
        limit("presence_penalty", [1.9, 2.0, 2.1].map(Value::from)),
        limit("frequency_penalty", [-1.9, -2.0, -2.1].map(Value::from)),
        limit("repetition_penalty", [99.0, 100.0, 100.1].map(Value::from)),
        limit("top_k", [0, -1, -2].map(Value::from)),
        limit("logit_bias", [99.0, 100.0, 100.5].map(|bias| json!({"3": bias}))),
        limit("logit_bias", [255, 256, 257].map(|id: u32| json!({id.to_string(): 1}))),
        limit("stop", many("y", 16)),
        limit("stop", long(256)),
        limit("stop_token_ids", many(7, 64)),
        limit("stop_token_ids", [255, 256, 257].map(|id| json!([id]))),
        limit("min_tokens", [1, 2, 3].map(Value::from)),
        limit("cache_salt", long(256)),
        limit("timeout", [86_399, 86_400, 86_401].map(Value::from)),
        limit("seed", [json!(u64::MAX - 1), json!(u64::MAX), json!(1e20)]),
    ]
}

async fn check_limits(server: &Server, path: &str, base: &str, limits: Vec<Limit>) {
    for Limit { field, below, at, above } in limits {
        for (value, expected) in [(&below, 200), (&at, 200), (&above, 400)] {
            let body = body(base, field, &value.to_string());
            let reply = server.post_text(path, &body).await;
            let shown: String = body.chars().take(120).collect();
            assert_eq!(reply.head.status, expected, "{path} {shown}: {}", reply.text());
            check(&reply, field, &shown);
        }
    }
    after(server).await;
}

#[tokio::test]
async fn limits_hold_exactly_for_completions() {
    let server = Setup::repeating("A").start().await;
    let mut limits = limits_of_both();
    limits.push(limit("logprobs", [19, 20, 21].map(Value::from)));
    limits.push(limit("prompt", many("x", 32)));
    limits.push(limit("prompt", [255, 256, 257].map(|id| json!([id]))));
    // The context has room for one token beside 63.
    limits.push(limit("prompt", [62, 63, 64].map(|tokens| vec![65; tokens].into())));
    check_limits(&server, COMPLETIONS, r#""prompt": "x"; "max_tokens": 2"#, limits).await;
}

#[tokio::test]
async fn limits_hold_exactly_for_chat() {
    let server = Setup { max_model_len: 64 << 10, ..Setup::repeating("A") }.start().await;
    let mut limits = limits_of_both();
    limits.push(limit("messages", many(json!({"role": "user", "content": "x"}), 2_048)));
    let base = r#""messages": [{"role": "user", "content": "x"}]; "max_tokens": 2"#;
    check_limits(&server, CHAT, base, limits).await;
    let with_logprobs = format!(r#"{base}; "logprobs": true"#);
    let top = vec![limit("top_logprobs", [19, 20, 21].map(Value::from))];
    check_limits(&server, CHAT, &with_logprobs, top).await;
}

/// Lengths, counts and ids, each with values about its limits, as JSON.
fn sizes() -> Vec<(&'static str, Vec<String>)> {
    let numbers = |limits: &[i64]| {
        let common = [-1, 0, 1, i64::from(i32::MAX), i64::from(u32::MAX) + 1, i64::MAX];
        common.iter().chain(limits).map(i64::to_string).collect::<Vec<_>>()
    };
    let ids = |counts: &[usize]| {
        let several = counts.iter().map(|count| format!("{:?}", vec![7; *count]));
        ["[]", "[0]", "[256]", "[257]", "[-1]", "[4294967296]"]
            .map(str::to_owned)
            .into_iter()
            .chain(several)
            .collect()
    };
    let texts =
        |lengths: &[usize]| lengths.iter().map(|length| format!("\"{}\"", "x".repeat(*length))).collect();
    vec![
        ("prompt", texts(&[1, 62, 63, 64])),
        ("max_tokens", numbers(&[2, 62, 63, 64])),
        ("max_completion_tokens", numbers(&[2, 63])),
        ("min_tokens", numbers(&[2, 3, 63, 64])),
        ("n", numbers(&[7, 8, 9])),
        ("best_of", numbers(&[7, 8, 9])),
        ("logprobs", numbers(&[19, 20, 21])),
        ("prompt_logprobs", numbers(&[20, 21])),
        ("stop_token_ids", ids(&[64, 65])),
        ("allowed_token_ids", ids(&[64])),
        ("logit_bias", ["{}", "{\"256\": 1}", "{\"257\": 1}", "{\"-1\": 1}"].map(str::to_owned).to_vec()),
        ("stop", texts(&[0, 1, 256, 257])),
        ("truncate_prompt_tokens", numbers(&[2])),
        ("echo", vec!["true".into()]),
        ("stream", vec!["true".into()]),
        ("use_beam_search", vec!["true".into()]),
    ]
}

#[tokio::test]
async fn pairs_of_lengths_and_ids_withstand_every_value() {
    let server = Setup::repeating("A").start().await;
    let (sizes, mut cases, mut faults) = (sizes(), 0, Vec::new());
    for (at, (one, values)) in sizes.iter().enumerate() {
        for (other, others) in &sizes[at + 1..] {
            for (value, other_value) in
                values.iter().flat_map(|value| others.iter().map(move |other| (value, other)))
            {
                let body =
                    body_of(r#""prompt": "x"; "max_tokens": 2"#, &[(one, value), (other, other_value)]);
                let reply = server.post_text(COMPLETIONS, &body).await;
                faults.extend(fault_of_any(&reply, &[one, other]).map(|fault| format!("{body} {fault}")));
                cases += 1;
            }
        }
    }
    assert!(faults.is_empty(), "{} of {cases}:\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
    assert!(cases > 3_000, "{cases}");
    after(&server).await;
}
