//! `/v1/messages`: Anthropic's interface, whole and in streams.

use crate::client::Reply;
use crate::server::{Server, Setup};
use crate::toy;
use pagoda_server::{ApiKeys, ServerConfig};
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/v1/messages";

fn saying(text: &str) -> Setup {
    Setup { template: Some(toy::THINKING), max_model_len: 2_000, ..Setup::saying(text) }
}

fn ask(extra: &Value) -> Value {
    let mut body =
        json!({"model": "default", "max_tokens": 200, "messages": [{"role": "user", "content": "x"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// Names and bodies of the events of a stream, of which each has its name and one line of data.
fn named(body: &[u8]) -> Vec<(String, Value)> {
    let text = std::str::from_utf8(body).unwrap();
    let read = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let body: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!(body["type"], name);
        (name.to_owned(), body)
    };
    text.split_terminator("\n\n").map(read).collect()
}

/// What Anthropic's clients make of a stream. Blocks come one after the other and every event is expected where it comes.
fn accumulate(events: &[(String, Value)]) -> Value {
    let mut message = Value::Null;
    let (mut open, mut json) = (false, String::new());
    for (at, (name, event)) in events.iter().enumerate() {
        let index = event["index"].as_u64().unwrap_or_default() as usize;
        match name.as_str() {
            "ping" => {}
            "message_start" => {
                assert!(message.is_null());
                message = event["message"].clone();
                assert_eq!(message["content"], json!([]));
                assert!(message["usage"]["input_tokens"].is_u64());
            }
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert!(!open && index == content.len());
                content.push(event["content_block"].clone());
                (open, json) = (true, String::new());
            }
            "content_block_delta" => {
                assert!(open && index + 1 == message["content"].as_array().unwrap().len());
                let (block, delta) = (&mut message["content"][index], &event["delta"]);
                let (field, more) = match delta["type"].as_str().unwrap() {
                    "text_delta" => ("text", &delta["text"]),
                    "thinking_delta" => ("thinking", &delta["thinking"]),
                    "signature_delta" => ("signature", &delta["signature"]),
                    "input_json_delta" => {
                        json += delta["partial_json"].as_str().unwrap();
                        block["input"] = serde_json::from_str(&json).unwrap_or(json!({}));
                        continue;
                    }
                    other => panic!("{other}"),
                };
                block[field] = [block[field].as_str().unwrap(), more.as_str().unwrap()].concat().into();
            }
            "content_block_stop" => {
                assert!(
                    std::mem::take(&mut open) && index + 1 == message["content"].as_array().unwrap().len()
                );
            }
            "message_delta" => {
                assert!(!open);
                for field in ["stop_reason", "stop_sequence"] {
                    message[field] = event["delta"][field].clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => assert_eq!(at + 1, events.len()),
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.last().unwrap().0, "message_stop");
    message
}

/// The message, which is the same in one body and in a stream but for its ids.
async fn answer(server: &Server, extra: &Value) -> Value {
    let reply = server.post(PATH, &ask(extra)).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let neutral = |mut message: Value| {
        assert!(message["id"].take().as_str().unwrap().starts_with("msg_"));
        for block in message["content"].as_array_mut().unwrap() {
            if block["type"] == "tool_use" {
                assert!(block["id"].take().as_str().unwrap().starts_with("call_"));
            }
        }
        // What is cached depends on what came before.
        let usage = &mut message["usage"];
        let cached = usage["cache_read_input_tokens"].take().as_u64().unwrap();
        usage["input_tokens"] = (usage["input_tokens"].as_u64().unwrap() + cached).into();
        message
    };
    let whole = neutral(reply.json());
    let mut streaming = ask(extra);
    streaming["stream"] = true.into();
    let reply = server.post(PATH, &streaming).await;
    assert!(!reply.text().contains("[DONE]"));
    assert_eq!(neutral(accumulate(&named(&reply.body))), whole);
    whole
}

#[tokio::test]
async fn an_answer_is_a_message() {
    let server = saying("Good day").start().await;
    let whole = answer(&server, &json!({})).await;
    let usage = json!({"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": null, "output_tokens": 9});
    assert_eq!(
        whole,
        json!({"id": null, "type": "message", "role": "assistant", "model": "toy",
            "content": [{"type": "text", "text": "Good day"}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": usage})
    );
    let cut = answer(&server, &json!({"max_tokens": 4})).await;
    assert_eq!((&cut["content"][0]["text"], &cut["stop_reason"]), (&json!("Good"), &json!("max_tokens")));
    let stopped = answer(&server, &json!({"stop_sequences": ["zz", " d"]})).await;
    assert_eq!(
        (&stopped["content"][0]["text"], &stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("Good"), &json!("stop_sequence"), &json!(" d"))
    );
    server.idle().await;
}

#[tokio::test]
async fn a_stream_is_exactly_these_events() {
    let server = Setup::saying("é").start().await;
    let reply = server.post(PATH, &ask(&json!({"stream": true}))).await;
    assert_eq!(reply.head.field("content-type"), Some("text/event-stream; charset=utf-8"));
    let text = reply.text();
    let id = text.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let expected = [
        r#"message_start {"type":"message_start","message":{"id":"msg_","type":"message","role":"assistant","model":"toy","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":8,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}"#,
        r#"content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"content_block_delta {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"é"}}"#,
        r#"content_block_stop {"type":"content_block_stop","index":0}"#,
        r#"message_delta {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":8,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3}}"#,
        r#"message_stop {"type":"message_stop"}"#,
    ];
    let expected: String = expected
        .iter()
        .map(|event| event.split_once(' ').unwrap())
        .map(|(name, data)| format!("event: {name}\ndata: {data}\n\n"))
        .collect();
    assert_eq!(text.replace(id, "msg_"), expected);
}

#[tokio::test]
async fn thinking_and_calls_are_blocks() {
    let call = r#"<tool_call>{"name": "look", "arguments": {"at": "é"}}</tool_call>"#;
    let server = saying(&format!("<think>Hm.</think>I look.{call}")).start().await;
    let schema = json!({"type": "object", "properties": {"at": {"type": "string"}}});
    let tools = json!({"tools": [{"name": "look", "description": "d", "input_schema": schema}], "tool_choice": {"type": "auto"}});
    let whole = answer(&server, &tools).await;
    let content = json!([
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": null, "name": "look", "input": {"at": "é"}},
    ]);
    assert_eq!((&whole["content"], &whole["stop_reason"]), (&content, &json!("tool_use")));
    let none = answer(&server, &json!({"tools": tools["tools"], "tool_choice": {"type": "none"}})).await;
    assert_eq!(none["content"].as_array().unwrap().len(), 2);
    // A budget that ends in the thoughts leaves an empty text.
    let cut = answer(&server, &json!({"max_tokens": 9})).await;
    assert_eq!(cut["content"][1], json!({"type": "text", "text": ""}));
    let server = saying(r#"[{"name":"look","arguments":{"at":"x"}}]"#).start().await;
    let any = answer(&server, &json!({"tools": tools["tools"], "tool_choice": {"type": "any"}})).await;
    assert_eq!((&any["content"][0]["name"], &any["stop_reason"]), (&json!("look"), &json!("tool_use")));
}

#[tokio::test]
async fn blocks_become_the_messages_of_the_template() {
    let server = saying("x").start().await;
    let body = json!({
        "system": [{"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "kind."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "seen"}]},
                {"type": "text", "text": "And?"}]},
        ],
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"},
    });
    let chat = json!({"messages": [
        {"role": "system", "content": "Be\nkind."},
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": 1}"}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "seen"},
        {"role": "user", "content": "And?"},
    ]});
    let expected =
        server.post("/v1/chat/completions/input_tokens", &chat).await.json()["input_tokens"].clone();
    let count = server.post("/v1/messages/count_tokens?beta=true", &body).await;
    assert_eq!(count.json(), json!({"input_tokens": expected}), "{}", count.text());
    let whole = answer(&server, &body).await;
    assert_eq!(whole["usage"]["input_tokens"], expected);
    // An answer at the end is gone on with.
    let prefill =
        json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "So "}]});
    let count = server.post("/v1/messages/count_tokens", &prefill).await.json();
    assert_eq!(count["input_tokens"], "user:x\nassistant:So ".len());
}

fn check_error(reply: &Reply, status: u16, kind: &str, part: &str) {
    assert_eq!(reply.head.status, status, "{}", reply.text());
    let body = reply.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)));
    assert_eq!(body["request_id"].as_str(), reply.head.field("x-request-id"));
    assert_eq!(reply.head.field("request-id"), reply.head.field("x-request-id"));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

#[tokio::test]
async fn errors_have_the_shape_of_anthropic() {
    let server = saying("x").start().await;
    let user = json!([{"role": "user", "content": "x"}]);
    for (body, part) in [
        (json!({"messages": user}), "max_tokens is required"),
        (json!({"max_tokens": 5}), "messages is required"),
        (json!({"max_tokens": 5, "messages": []}), "messages is empty"),
        (json!({"max_tokens": 0, "messages": user}), "max_tokens is 0"),
        (json!({"max_tokens": 5, "messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
        (
            json!({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            "messages[0].content[0].type is not offered",
        ),
        (
            json!({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}),
            "the assistant's",
        ),
        (
            json!({"max_tokens": 5, "messages": user, "tools": [{"name": "a b", "input_schema": {}}]}),
            "tools[0].name must be",
        ),
        (
            json!({"max_tokens": 5, "messages": user, "tools": [{"type": "web_search_20250305", "name": "w"}]}),
            "tools[0].type is not offered",
        ),
        (
            json!({"max_tokens": 5, "messages": user, "tool_choice": {"type": "tool", "name": "z"}}),
            "tool_choice.name is \"z\"",
        ),
        (json!({"max_tokens": 5, "messages": user, "stop_sequences": [""]}), "stop"),
        (json!({"max_tokens": 5, "messages": user, "n": 2}), "n is 2"),
        (
            json!({"max_tokens": 5, "messages": [{"role": "user", "content": "x".repeat(3_000)}]}),
            "maximum context length",
        ),
    ] {
        check_error(&server.post(PATH, &body).await, 400, "invalid_request_error", part);
    }
    let unknown = json!({"max_tokens": 5, "messages": user, "model": "claude-9"});
    check_error(&server.post(PATH, &unknown).await, 404, "not_found_error", "toy");
    check_error(&server.get(PATH).await, 405, "invalid_request_error", "use POST");
    check_error(&server.post_text(PATH, "{").await, 400, "invalid_request_error", "not a valid JSON object");
    server.state.drain();
    check_error(&server.post(PATH, &ask(&json!({}))).await, 503, "overloaded_error", "draining");
}

#[tokio::test]
async fn a_key_comes_in_the_header_of_anthropic() {
    let mut api_keys = ApiKeys::default();
    assert_eq!(api_keys.add(b"sk-1"), Ok(true));
    let config = ServerConfig { api_keys, keep_alive: None, ..ServerConfig::default() };
    let server = Setup { config, ..saying("x") }.start().await;
    check_error(&server.post(PATH, &ask(&json!({}))).await, 401, "authentication_error", "x-api-key");
    let lines = "x-api-key: sk-1\r\nanthropic-version: 2099-01-01\r\nanthropic-beta: a,b\r\n";
    assert_eq!(server.post_as(lines, "/v1/messages?beta=true", &ask(&json!({}))).await.head.status, 200);
}

#[tokio::test]
async fn a_silent_stream_is_pinged_and_a_failure_is_an_event() {
    let config = ServerConfig { keep_alive: Some(Duration::from_millis(10)), ..ServerConfig::default() };
    let server = Setup { config, fail_at: Some(0), ..Setup::repeating("A") }.start().await;
    server.handle().pause();
    let mut exchange = server.open(PATH, &ask(&json!({"stream": true}))).await;
    let head = exchange.head().await;
    assert!(exchange.chunk().await.unwrap().starts_with(b"event: message_start\n"));
    for _ in 0..2 {
        assert_eq!(exchange.chunk().await.unwrap(), b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }
    server.handle().resume();
    let rest = exchange.body(&head).await;
    let events = named(&rest);
    let (name, error) = events.last().unwrap();
    assert_eq!((name.as_str(), &error["error"]["type"]), ("error", &json!("api_error")));
    assert_eq!(error["request_id"].as_str(), head.field("x-request-id"));
    assert_eq!(events.iter().filter(|(name, _)| name == "error" || name == "message_stop").count(), 1);
    server.idle().await;
}
