//! The bytes of a stream.

use crate::client::{Exchange, events};
use crate::server::{Server, Setup};
use pagoda_server::ServerConfig;
use serde_json::{Value, json};
use std::time::Duration;

/// The chunks of a stream, each with its id, time and build replaced, because those differ from run to run.
async fn frames(server: &Server, path: &str, body: &Value) -> Vec<String> {
    let mut exchange = server.open(path, body).await;
    let head = exchange.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.field("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(head.field("cache-control"), Some("no-cache"));
    assert_eq!(head.field("x-accel-buffering"), Some("no"));
    assert_eq!(head.field("connection"), Some("keep-alive"));
    assert!(head.field("x-request-id").is_some());
    rest(&mut exchange).await
}

async fn rest(exchange: &mut Exchange) -> Vec<String> {
    let mut frames = Vec::new();
    while let Some(chunk) = exchange.chunk().await {
        frames.push(neutral(&String::from_utf8(chunk).unwrap()));
    }
    frames
}

fn neutral(frame: &str) -> String {
    let Some(json) = frame.strip_prefix("data: {\"id\":\"") else { return frame.to_owned() };
    let (id, rest) = json.split_once('"').unwrap();
    let (prefix, unique) = id.split_once('-').unwrap();
    assert!(unique.len() == 32 && unique.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let (before, rest) = rest.split_once("\"created\":").unwrap();
    let (created, rest) = rest.split_once(',').unwrap();
    assert!(created.parse::<u64>().unwrap() > 1_700_000_000);
    let build = concat!("\"system_fingerprint\":\"pagoda-", env!("CARGO_PKG_VERSION"), "\",");
    let rest = rest.replacen(build, "", 1);
    format!("data: {{\"id\":\"{prefix}-\"{before}{rest}")
}

#[tokio::test]
async fn a_chat_stream_is_exactly_these_bytes() {
    let server = Setup::saying("é").start().await;
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "stream": true,
        "stream_options": {"include_usage": true}});
    let start = r#"data: {"id":"chatcmpl-","object":"chat.completion.chunk","model":"toy","choices":["#;
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}"#;
    let expected = [
        format!(
            r#"{start}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]}}"#
        ),
        format!(r#"{start}{{"index":0,"delta":{{"content":"é"}},"logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{start}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"length"}}]}}"#),
        format!("{start}],{usage}}}"),
        "data: [DONE]".to_owned(),
    ];
    let expected: Vec<_> = expected.iter().map(|frame| format!("{frame}\n\n")).collect();
    assert_eq!(frames(&server, "/v1/chat/completions", &body).await, expected);
}

#[tokio::test]
async fn a_completion_stream_is_exactly_these_bytes() {
    let server = Setup::saying("A").start().await;
    let body = json!({"prompt": "ab", "max_tokens": 1, "stream": true, "echo": true});
    let start = r#"data: {"id":"cmpl-","object":"text_completion","model":"toy","choices":["#;
    let expected = [
        format!(r#"{start}{{"index":0,"text":"ab","logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{start}{{"index":0,"text":"A","logprobs":null,"finish_reason":null}}]}}"#),
        format!(r#"{start}{{"index":0,"text":"","logprobs":null,"finish_reason":"length"}}]}}"#),
        "data: [DONE]".to_owned(),
    ];
    let expected: Vec<_> = expected.iter().map(|frame| format!("{frame}\n\n")).collect();
    assert_eq!(frames(&server, "/v1/completions", &body).await, expected);
}

#[tokio::test]
async fn every_write_is_one_event() {
    let server = Setup::saying("one two three").start().await;
    let body = json!({"prompt": "x", "max_tokens": 40, "stream": true, "n": 3});
    let frames = frames(&server, "/v1/completions", &body).await;
    assert!(frames.len() > 3 * 2);
    for frame in &frames {
        assert!(frame.starts_with("data: ") && frame.ends_with("\n\n"), "{frame:?}");
        assert_eq!(frame.matches('\n').count(), 2, "{frame:?}");
    }
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_empty_lines() {
    let config = ServerConfig { keep_alive: Some(Duration::from_millis(10)), ..ServerConfig::default() };
    let server = Setup { config, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let body = json!({"prompt": "x", "max_tokens": 1, "stream": true});
    let mut exchange = server.open("/v1/completions", &body).await;
    assert_eq!(exchange.head().await.status, 200);
    for _ in 0..3 {
        assert_eq!(exchange.chunk().await.unwrap(), b"\n");
    }
    server.handle().resume();
    let frames = rest(&mut exchange).await;
    let frames: Vec<_> = frames.iter().filter(|frame| *frame != "\n").collect();
    assert_eq!(frames.len(), 3, "{frames:?}");
    assert_eq!(frames[2], "data: [DONE]\n\n");
}

#[tokio::test]
async fn a_stream_may_ask_for_silence() {
    let config = ServerConfig { keep_alive: Some(Duration::from_millis(1)), ..ServerConfig::default() };
    let server = Setup { config, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let body = json!({"prompt": "x", "max_tokens": 1, "stream": true, "sse_ping_interval": 0});
    let mut exchange = server.open("/v1/completions", &body).await;
    assert_eq!(exchange.head().await.status, 200);
    let early = tokio::time::timeout(Duration::from_millis(50), exchange.chunk()).await;
    assert!(early.is_err(), "{early:?}");
    server.handle().resume();
    assert_eq!(rest(&mut exchange).await.len(), 3);
}

#[tokio::test]
async fn the_role_is_told_with_the_first_token_and_not_before() {
    let server = Setup::saying("A").start().await;
    server.handle().pause();
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true});
    let mut exchange = server.open("/v1/chat/completions", &body).await;
    assert_eq!(exchange.head().await.status, 200);
    server.load(|load| load.waiting == 1).await;
    let early = tokio::time::timeout(Duration::from_millis(50), exchange.chunk()).await;
    assert!(early.is_err(), "{early:?}");
    server.handle().resume();
    let first = String::from_utf8(exchange.chunk().await.unwrap()).unwrap();
    assert!(first.contains(r#""delta":{"role":"assistant","content":""}"#), "{first}");
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_event_and_then_the_end() {
    let server = Setup { fail_at: Some(1), ..Setup::repeating("A") }.start().await;
    let body = json!({"prompt": "x", "max_tokens": 40, "stream": true});
    let frames = frames(&server, "/v1/completions", &body).await;
    let [.., failure, done] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!(done, "data: [DONE]\n\n");
    let failure: Value = serde_json::from_str(failure.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(failure["error"]["type"], "server_error");
    assert_eq!(failure["error"]["code"], "model_error");
    assert!(failure["error"]["message"].as_str().unwrap().contains("step failed"), "{failure}");
    // Nothing else suffers.
    let reply = server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 3})).await;
    assert_eq!(reply.json()["choices"][0]["text"], "AAA");
    server.idle().await;
}

#[tokio::test]
async fn usage_can_be_on_every_event() {
    let server = Setup::saying("abc").start().await;
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true,
        "stream_options": {"include_usage": true, "continuous_usage_stats": true}});
    let reply = server.post("/v1/chat/completions", &body).await;
    let events = events(&reply.body);
    let counts: Vec<_> =
        events.iter().map(|event| event["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted() && counts[0] >= 1, "{counts:?}");
    assert_eq!(counts.last(), Some(&4));
    let last = &events[events.len() - 1];
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 9 + 4);
}
