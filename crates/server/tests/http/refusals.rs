//! Bad input: a clear error, and nothing else suffers.

use crate::client::{Exchange, Reply, request};
use crate::server::{Server, Setup};
use pagoda_server::ServerConfig;
use serde_json::{Value, json};
use std::time::Duration;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// Status, code, parameter and a part of the message.
struct Expected(u16, &'static str, Option<&'static str>, &'static str);

fn check(reply: &Reply, expected: &Expected, what: &str) {
    let &Expected(status, code, param, part) = expected;
    assert_eq!(reply.head.status, status, "{what}: {}", reply.text());
    assert!(reply.head.field("x-request-id").is_some());
    assert_eq!(reply.head.field("content-type"), Some("application/json"));
    let body = reply.json();
    let error = &body["error"];
    assert_eq!(error["code"], code, "{what}: {error}");
    assert_eq!(error["param"], param.map_or(Value::Null, Value::from), "{what}: {error}");
    assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with("_error")), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(part), "{what}: {message:?} lacks {part:?}");
}

async fn check_all(server: &Server, path: &str, cases: &[(&str, Expected)]) {
    for (body, expected) in cases {
        check(&server.post_text(path, body).await, expected, body);
    }
    assert_eq!(server.control.steps(), 0, "a refused request must not reach the model");
    let reply = server.post(COMPLETIONS, &json!({"prompt": "x", "max_tokens": 2})).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    server.idle().await;
}

const INVALID: &str = "invalid_value";

#[tokio::test]
async fn bodies_that_are_no_json_object() {
    let server = Setup::repeating("A").start().await;
    let deep = format!(r#"{{"prompt": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let invalid = |part| Expected(400, "invalid_json", None, part);
    let cases = [
        ("{\"prompt\": ", invalid("not a valid JSON object")),
        ("", invalid("not a valid JSON object")),
        ("[]", invalid("a JSON object")),
        (&deep, invalid("nested deeper than 64 levels")),
        (r#"{"prompt": "x", "temperature": NaN}"#, invalid("NaN and Infinity are not JSON")),
    ];
    check_all(&server, COMPLETIONS, &cases).await;
}

#[tokio::test]
async fn bad_prompts() {
    let server = Setup::repeating("A").start().await;
    let long = json!({"prompt": "x".repeat(64)}).to_string();
    let many = json!({"prompt": vec!["x"; 33]}).to_string();
    let prompt = |part| Expected(400, INVALID, Some("prompt"), part);
    let context = |part| Expected(400, "context_length_exceeded", Some("prompt"), part);
    let cases = [
        ("{}", Expected(400, "missing_field", Some("prompt"), "prompt is required")),
        (r#"{"prompt": ""}"#, prompt("prompt is empty")),
        (r#"{"prompt": []}"#, prompt("prompt is empty")),
        (r#"{"prompt": [[]]}"#, prompt("prompt is empty")),
        (r#"{"prompt": ["a", ""]}"#, prompt("prompt[1] is empty")),
        (r#"{"prompt": {"text": "x"}}"#, prompt("must be a string, a list of strings")),
        (&long, context("maximum context length is 64 tokens")),
        (&many, prompt("at most 32")),
        (r#"{"prompt": [257]}"#, prompt("token ids of this model are 0 to 256")),
        (r#"{"prompt": [65, 4294967295]}"#, prompt("4294967295")),
        (r#"{"prompt": [4294967296]}"#, prompt("got [4294967296]")),
        (r#"{"prompt": [-1]}"#, prompt("got [-1]")),
    ];
    check_all(&server, COMPLETIONS, &cases).await;
}

#[tokio::test]
async fn bad_values() {
    let server = Setup::repeating("A").start().await;
    let invalid = |param, part| Expected(400, INVALID, Some(param), part);
    let cases = [
        (r#"{"prompt": "x", "max_tokens": 0}"#, invalid("max_tokens", "max_tokens is 0")),
        (r#"{"prompt": "x", "max_tokens": -1}"#, invalid("max_tokens", "got -1")),
        (r#"{"prompt": "x", "max_tokens": "many"}"#, invalid("max_tokens", "got \"many\"")),
        (r#"{"prompt": "x", "temperature": 1e309}"#, invalid("temperature", "a finite number, got 1e309")),
        (r#"{"prompt": "x", "temperature": 1e39}"#, invalid("temperature", "a finite number, got 1e39")),
        (r#"{"prompt": "x", "temperature": "NaN"}"#, invalid("temperature", "got \"NaN\"")),
        (r#"{"prompt": "x", "temperature": -1}"#, invalid("temperature", "-1")),
        (r#"{"prompt": "x", "top_p": 0}"#, invalid("top_p", "top_p is 0")),
        (r#"{"prompt": "x", "top_k": -2}"#, invalid("top_k", "top_k is -2")),
        (r#"{"prompt": "x", "n": 0}"#, invalid("n", "n is 0; allowed: 1 to 8")),
        (r#"{"prompt": "x", "n": 9}"#, invalid("n", "n is 9")),
        (r#"{"prompt": "x", "n": 3, "best_of": 2}"#, invalid("best_of", "best_of is 2; allowed: 3 to 8")),
        (r#"{"prompt": "x", "best_of": 9}"#, invalid("best_of", "best_of is 9")),
        (r#"{"prompt": "x", "best_of": 2, "stream": true}"#, invalid("best_of", "cannot be streamed")),
        (r#"{"prompt": "x", "length_penalty": 2}"#, invalid("length_penalty", "set use_beam_search")),
        (r#"{"prompt": "x", "early_stopping": true}"#, invalid("early_stopping", "set use_beam_search")),
        (
            r#"{"prompt": "x", "use_beam_search": true, "length_penalty": 11}"#,
            invalid("length_penalty", "-10 to 10"),
        ),
        (r#"{"prompt": "x", "use_beam_search": true, "n": 9}"#, invalid("n", "n is 9; allowed: 1 to 8")),
        (
            r#"{"prompt": "x", "use_beam_search": true, "temperature": 0.7}"#,
            invalid("temperature", "temperature is 0.7"),
        ),
        (r#"{"prompt": "x", "use_beam_search": true, "stop": "y"}"#, invalid("stop", "ends at token ids")),
        (r#"{"prompt": "x", "use_beam_search": 1}"#, invalid("use_beam_search", "true or false")),
        (r#"{"prompt": "x", "logprobs": 21}"#, invalid("logprobs", "0 to 20")),
        (r#"{"prompt": "x", "echo": true, "logprobs": 21}"#, invalid("logprobs", "0 to 20")),
        (r#"{"prompt": "x", "echo": "yes", "logprobs": 1}"#, invalid("echo", "true or false")),
        (r#"{"prompt": "x", "prompt_logprobs": 21}"#, invalid("prompt_logprobs", "0 to 20")),
        (r#"{"prompt": "x", "prompt_logprobs": -1}"#, invalid("prompt_logprobs", "got -1")),
        (
            r#"{"prompt": "x", "return_tokens_as_token_ids": 1}"#,
            invalid("return_tokens_as_token_ids", "got 1"),
        ),
        (r#"{"prompt": "x", "stop": [""]}"#, invalid("stop", "empty")),
        (r#"{"prompt": "x", "stop": 3}"#, invalid("stop", "got 3")),
        (r#"{"prompt": "x", "stop_token_ids": [257]}"#, invalid("stop_token_ids", "257")),
        (r#"{"prompt": "x", "logit_bias": {"300": 1}}"#, invalid("logit_bias", "300")),
        (r#"{"prompt": "x", "logit_bias": {"3": 101}}"#, invalid("logit_bias", "101")),
        (r#"{"prompt": "x", "min_tokens": 9, "max_tokens": 3}"#, invalid("min_tokens", "9")),
        (r#"{"prompt": "x", "stream": "yes"}"#, invalid("stream", "true or false")),
        (r#"{"prompt": "x", "stream_options": true}"#, invalid("stream_options", "an object")),
        (r#"{"prompt": "x", "cache_salt": ""}"#, invalid("cache_salt", "1 to 256 bytes")),
        (r#"{"prompt": "x", "model": 3}"#, invalid("model", "a string, got 3")),
    ];
    check_all(&server, COMPLETIONS, &cases).await;
}

#[tokio::test]
async fn what_is_not_offered_is_named() {
    let server = Setup::repeating("A").start().await;
    let unsupported = |param, part| Expected(400, "unsupported_field", Some(param), part);
    let unknown = |part| Expected(404, "model_not_found", Some("model"), part);
    let cases = [
        (r#"{"prompt": "x", "suffix": "y"}"#, unsupported("suffix", "not offered")),
        (r#"{"prompt": "x", "model": "gpt-9"}"#, unknown("this server has: toy")),
        (r#"{"prompt": "x", "model": "../../etc/passwd"}"#, unknown("not loaded")),
    ];
    check_all(&server, COMPLETIONS, &cases).await;
}

#[tokio::test]
async fn bad_chats() {
    let server = Setup::repeating("A").start().await;
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(80)}]}).to_string();
    let cases = [
        ("{", Expected(400, "invalid_json", None, "not a valid JSON object")),
        ("{}", Expected(400, "missing_field", Some("messages"), "messages is required")),
        (r#"{"messages": "hi"}"#, Expected(400, INVALID, Some("messages"), "must be a list")),
        (r#"{"messages": []}"#, Expected(400, INVALID, Some("messages"), "messages is empty")),
        (
            r#"{"messages": [{"role": "user"}]}"#,
            Expected(400, "missing_field", Some("messages[0].content"), "required"),
        ),
        (
            r#"{"messages": [{"role": "cat", "content": "x"}]}"#,
            Expected(400, INVALID, Some("messages[0].role"), "one of system"),
        ),
        (
            &long,
            Expected(400, "context_length_exceeded", Some("messages"), "exceeds the available context size"),
        ),
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "tools": [{}]}"#,
            Expected(400, "missing_field", Some("tools[0].type"), "required"),
        ),
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "yaml"}}"#,
            Expected(400, INVALID, Some("response_format.type"), "allowed: text, json_object, json_schema"),
        ),
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "logprobs": true, "top_logprobs": 99}"#,
            Expected(400, INVALID, Some("top_logprobs"), "99"),
        ),
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}"#,
            Expected(400, INVALID, Some("top_logprobs"), "set logprobs to true"),
        ),
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"messages": []}}"#,
            Expected(400, INVALID, Some("chat_template_kwargs.messages"), "set by the server"),
        ),
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 0}"#,
            Expected(400, INVALID, Some("max_completion_tokens"), "max_completion_tokens is 0"),
        ),
    ];
    check_all(&server, CHAT, &cases).await;
}

#[tokio::test]
async fn a_prompt_that_is_too_long_states_both_numbers() {
    let server = Setup::repeating("A").start().await;
    let reply = server.post(COMPLETIONS, &json!({"prompt": "x".repeat(70)})).await;
    let error = &reply.json()["error"];
    assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(70), &json!(64)));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("This model's maximum context length is 64 tokens"), "{message}");
    assert!(
        message.contains(
            "your prompt has 70 and with one for the output exceeds the available context size by 7"
        ),
        "{message}"
    );
    assert!(message.ends_with("Shorten it, or restart with --max-model-len 128."), "{message}");
}

#[tokio::test]
async fn a_prompt_that_cannot_fit_is_not_looked_at_to_its_end() {
    let server = Setup::repeating("A").start().await;
    // Special tokens are cut out of chats, and the text between them is tokenized by itself.
    let long = ["x".repeat(3 << 20), "</s>x".repeat(1000), "é".repeat(1500)];
    for text in long {
        for (path, body) in [
            (COMPLETIONS, json!({"prompt": text})),
            (CHAT, json!({"messages": [{"role": "user", "content": text}]})),
            ("/v1/embeddings", json!({"input": text})),
        ] {
            let reply = server.post(path, &body).await;
            let error = &reply.json()["error"];
            assert_eq!(
                (reply.head.status, &error["code"]),
                (400, &json!("context_length_exceeded")),
                "{path}"
            );
            let tokens = error["n_prompt_tokens"].as_u64().unwrap();
            assert!((64..=64 * 64).contains(&tokens), "{path}: {error}");
            assert!(
                error["message"].as_str().unwrap().contains("The beginning of the prompt alone"),
                "{error}"
            );
        }
    }
    assert_eq!(server.control.steps(), 0);
}

#[tokio::test]
async fn bodies_have_a_size_limit() {
    let config = ServerConfig { body_limit: 100, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::repeating("A") }.start().await;
    let body = |size: usize| {
        let start = r#"{"prompt": "x", "user": ""#;
        format!("{start}{}\"}}", "u".repeat(size - start.len() - 2))
    };
    assert_eq!(server.post_text(COMPLETIONS, &body(100)).await.head.status, 200);
    let expected = Expected(413, "body_too_large", None, "the limit of 100 bytes");
    check(&server.post_text(COMPLETIONS, &body(101)).await, &expected, "101 bytes");
    check(&server.post_text(COMPLETIONS, &body(150_000)).await, &expected, "150,000 bytes");
    let chunked = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n",
        body(101)
    );
    check(
        &Exchange::send(server.address, chunked.as_bytes()).await.reply().await,
        &expected,
        "101 bytes, chunked",
    );
}

#[tokio::test]
async fn a_body_must_arrive_in_time() {
    let config = ServerConfig { body_timeout: Duration::from_millis(20), ..ServerConfig::default() };
    let server = Setup { config, ..Setup::repeating("A") }.start().await;
    let half = b"POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-length: 50\r\n\r\n{\"prompt\": ";
    let reply = Exchange::send(server.address, half).await.reply().await;
    check(&reply, &Expected(408, "body_timeout", None, "did not arrive"), "half a body");
    server.idle().await;
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let server = Setup::repeating("A").start().await;
    let send = async |method: &str, path: &str| {
        Exchange::send(server.address, &request(method, path, "{}")).await.reply().await
    };
    for (path, part) in [
        ("/", "no route POST /; this server has /v1/completions"),
        ("/v1", "this server has"),
        ("/v1/", "this server has"),
        ("/v1/cache/rest", "this server has"),
        ("/chat/completion", "no route POST /chat/completion; did you mean /v1/chat/completions?"),
        ("/v1/v1/chat/completions", "did you mean /v1/chat/completions?"),
        ("/v2/completions", "did you mean /v1/completions?"),
        ("/v1/completions/x", "did you mean /v1/completions?"),
        ("/v1/tokenise", "did you mean /v1/tokenize?"),
        ("/v1/audio/speech", "/v1/audio/speech is not offered by this server; it has /v1/completions"),
        ("/files", "/files is not offered by this server"),
    ] {
        check(&send("POST", path).await, &Expected(404, "not_found", None, part), path);
    }
    for (method, path, allowed) in [
        ("GET", "/v1/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
        ("POST", "/v1/requests/x", "GET, HEAD, DELETE"),
        ("OPTIONS", "/v1/completions", "POST"),
    ] {
        let reply = send(method, path).await;
        check(&reply, &Expected(405, "method_not_allowed", None, "does not accept"), path);
        assert_eq!(reply.head.field("allow"), Some(allowed), "{path}");
    }
}
