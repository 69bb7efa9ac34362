//! `/api/…`: what clients of Ollama read, a line of JSON for every event.

use crate::server::{Server, Setup};
use crate::toy;
use pagoda_server::ServerConfig;
use serde_json::{Value, json};
use std::time::Duration;

fn saying(text: &str) -> Setup {
    Setup { template: Some(toy::THINKING), max_model_len: 1_000, ..Setup::saying(text) }
}

fn lines(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Adds up the lines of a stream, which is what clients ask for by saying nothing, and compares it with one body.
async fn answer(server: &Server, path: &str, mut body: Value) -> Value {
    let reply = server.post(path, &body).await;
    assert_eq!((reply.head.status, reply.head.field("content-type")), (200, Some("application/x-ndjson")));
    let lines = lines(&reply.body);
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for line in &lines {
        let said = if path == "/api/chat" { &line["message"] } else { line };
        content += said["content"].as_str().or(said["response"].as_str()).unwrap();
        thinking += said["thinking"].as_str().unwrap_or_default();
        calls
            .extend(said["tool_calls"].as_array().into_iter().flatten().map(|call| call["function"].clone()));
        assert!(line["created_at"].as_str().unwrap().ends_with('Z'));
    }
    let dones: Vec<bool> = lines.iter().map(|line| line["done"].as_bool().unwrap()).collect();
    assert_eq!(dones.iter().position(|&done| done), Some(lines.len() - 1));
    body["stream"] = false.into();
    let whole = server.post(path, &body).await.json();
    let said = if path == "/api/chat" { &whole["message"] } else { &whole };
    assert_eq!(said["content"].as_str().or(said["response"].as_str()).unwrap(), content);
    assert_eq!(said["thinking"].as_str().unwrap_or_default(), thinking);
    let whole_calls =
        said["tool_calls"].as_array().into_iter().flatten().map(|call| call["function"].clone());
    assert_eq!(whole_calls.collect::<Vec<_>>(), calls);
    for field in ["done_reason", "prompt_eval_count", "eval_count"] {
        assert_eq!(lines[lines.len() - 1][field], whole[field]);
    }
    whole
}

#[tokio::test]
async fn chats_and_generations_are_lines() {
    let call = r#"<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>"#;
    let server = saying(&format!("<think>Hm.</think>I look.{call}")).start().await;
    let chat = json!({"model": "toy:latest", "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "look"}}]});
    let whole = answer(&server, "/api/chat", chat).await;
    let function = json!({"name": "look", "arguments": {"at": 1}});
    assert_eq!(
        (&whole["message"]["content"], &whole["message"]["thinking"]),
        (&json!("I look."), &json!("Hm."))
    );
    assert_eq!(
        (&whole["message"]["tool_calls"][0]["function"], &whole["done_reason"]),
        (&function, &json!("stop"))
    );
    let generate = json!({"prompt": "x", "system": "s", "options": {"num_predict": 8, "temperature": 0.5}});
    let whole = answer(&server, "/api/generate", generate).await;
    assert_eq!((&whole["done_reason"], &whole["eval_count"]), (&json!("length"), &json!(8)));
    assert_eq!(whole["prompt_eval_count"], "system:s\nuser:x\n>".len());
    let formed = json!({"prompt": "x", "format": {"type": "integer", "minimum": 0, "maximum": 9}});
    let whole = answer(&server, "/api/generate", formed).await;
    assert!(whole["response"].as_str().unwrap().parse::<u8>().is_ok());
    server.idle().await;
}

#[tokio::test]
async fn what_is_served_is_told() {
    let server = saying("x").start().await;
    assert_eq!(server.get("/api/version").await.json(), json!({"version": env!("CARGO_PKG_VERSION")}));
    let tags = server.get("/api/tags").await.json();
    assert_eq!((&tags["models"][0]["name"], &tags["models"][0]["size"]), (&json!("toy"), &json!(12_000_000)));
    assert_eq!(tags["models"][0]["modified_at"], "2023-11-14T22:13:20.000000Z");
    let show = server.post("/api/show", &json!({"model": "toy"})).await.json();
    assert_eq!(
        (&show["template"], &show["capabilities"]),
        (&json!(toy::THINKING), &json!(["completion", "thinking"]))
    );
    let load = server.post("/api/generate", &json!({"model": "toy"})).await.json();
    assert_eq!(
        (&load["done"], &load["done_reason"], &load["response"]),
        (&json!(true), &json!("load"), &json!(""))
    );
    let load = server.post("/api/chat", &json!({"model": "toy", "messages": []})).await.json();
    assert_eq!(load["done_reason"], "load");
}

#[tokio::test]
async fn errors_are_a_message() {
    let server = saying("x").start().await;
    for (path, body, status, part) in [
        (
            "/api/chat",
            json!({"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}),
            404,
            "not loaded",
        ),
        ("/api/chat", json!({"messages": 3}), 400, "messages must be a list"),
        (
            "/api/chat",
            json!({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
            400,
            "messages[0].images",
        ),
        (
            "/api/generate",
            json!({"prompt": "x", "options": {"temperature": "hot"}}),
            400,
            "temperature must be",
        ),
        ("/api/generate", json!({"prompt": "x", "raw": true}), 400, "raw is not offered"),
        ("/api/show", json!({"model": "gpt-9"}), 404, "not loaded"),
        ("/api/push", json!({}), 404, "no route POST /api/push"),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.head.status, status, "{}", reply.text());
        let message = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let server = Setup { fail_at: Some(1), ..Setup::repeating("A") }.start().await;
    let reply = server.post("/api/generate", &json!({"prompt": "x"})).await;
    let lines = lines(&reply.body);
    assert!(lines.last().unwrap()["error"].as_str().unwrap().contains("step failed"), "{}", reply.text());
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_white_space() {
    let config = ServerConfig { keep_alive: Some(Duration::from_millis(10)), ..ServerConfig::default() };
    let server = Setup { config, ..saying("A") }.start().await;
    server.handle().pause();
    let mut exchange = server.open("/api/generate", &json!({"prompt": "x"})).await;
    let head = exchange.head().await;
    assert_eq!(exchange.chunk().await.unwrap(), b" ");
    server.handle().resume();
    let rest = exchange.body(&head).await;
    assert_eq!(lines(&rest).last().unwrap()["done"], true);
}
