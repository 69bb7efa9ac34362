//! Nothing that a client sends makes the server call somebody, or turns text into what only the template may say.

use crate::client::{Exchange, request};
use crate::server::{Server, Setup};
use crate::toy;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// Listens, and expects nobody.
struct Canary(TcpListener);

impl Canary {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Who has called.
    fn calls(&self) -> usize {
        let mut calls = 0;
        loop {
            match self.0.accept() {
                Ok(_) => calls += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return calls,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Ways to write a place that somebody else would fetch.
fn places(port: u16) -> Vec<String> {
    let address = format!("127.0.0.1:{port}");
    vec![
        format!("http://{address}/a"),
        format!("http://localhost:{port}/a"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://user@{address}/"),
        format!("ftp://{address}/a"),
        format!("gopher://{address}/_x"),
        format!("//{address}/a"),
        format!("![picture](http://{address}/a.png)"),
        format!("<img src=\"http://{address}/a.png\">"),
        format!("file:///proc/self/environ#http://{address}"),
        format!("http://{address}/a.png\r\nx: y"),
        format!("\\\\127.0.0.1@{port}\\a"),
    ]
}

/// Calls with `place` wherever a call can have it.
fn calls(place: &str) -> Vec<(&'static str, Value)> {
    let chat = |content: Value| json!({"messages": [{"role": "user", "content": content}], "max_tokens": 1});
    let schema = |keyword: &str| json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {keyword: place, "type": "object"}}});
    let with = |field: &str, value: Value| {
        let mut body = chat("x".into());
        body[field] = value;
        (CHAT, body)
    };
    vec![
        (COMPLETIONS, json!({"prompt": place, "max_tokens": 1})),
        (COMPLETIONS, json!({"prompt": "x", "model": place})),
        (COMPLETIONS, json!({"prompt": "x", "prompt_embeds": place})),
        (COMPLETIONS, json!({"prompt": "x", "guided_json": {"$ref": place}})),
        (COMPLETIONS, json!({"prompt": "x", "guided_json": {"$ref": format!("{place}#/$defs/a")}})),
        (COMPLETIONS, json!({"prompt": "x", "guided_grammar": format!("%import {place}\nstart: \"a\"")})),
        (COMPLETIONS, json!({"prompt": "x", "cache_salt": place, "user": place, "metadata": {"url": place}})),
        (CHAT, chat(place.into())),
        (CHAT, chat(json!([{"type": "text", "text": place}]))),
        (CHAT, chat(json!([{"type": "image_url", "image_url": {"url": place}}]))),
        (CHAT, chat(json!([{"type": "image_url", "image_url": place}]))),
        (CHAT, chat(json!([{"type": "input_audio", "input_audio": {"data": place, "format": "wav"}}]))),
        (CHAT, chat(json!([{"type": "video_url", "video_url": {"url": place}}]))),
        (CHAT, chat(json!([{"type": "file", "file": {"file_id": place, "file_data": place}}]))),
        with("chat_template", place.into()),
        with("chat_template_kwargs", json!({"url": place, "documents": [place]})),
        with("documents", json!([{"url": place}])),
        with("audio", json!({"voice": place, "format": "wav"})),
        with("web_search_options", json!({"url": place})),
        with(
            "tools",
            json!([{"type": "function", "function": {"name": "f", "description": place, "parameters": {"$ref": place}}}]),
        ),
        with("tools", json!([{"type": "mcp", "server_url": place, "server_label": "x"}])),
        with("response_format", schema("$ref")),
        with("response_format", schema("$schema")),
        with("response_format", schema("$id")),
        (
            "/v1/messages",
            json!({"max_tokens": 1, "system": place, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": place}}]}]}),
        ),
        (
            "/v1/messages",
            json!({"max_tokens": 1, "messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "url", "url": place}}]}], "mcp_servers": [{"type": "url", "url": place}]}),
        ),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": place}]}]}),
        ),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": place}]}]}),
        ),
        (
            "/v1/responses",
            json!({"input": place, "instructions": place, "tools": [{"type": "mcp", "server_url": place}]}),
        ),
        (
            "/api/chat",
            json!({"messages": [{"role": "user", "content": place, "images": [place]}], "stream": false, "model": place}),
        ),
        ("/api/generate", json!({"prompt": place, "images": [place], "stream": false})),
        ("/api/show", json!({"model": place, "name": place})),
        ("/completion", json!({"prompt": place, "n_predict": 1, "image_data": [{"data": place, "id": 1}]})),
        ("/infill", json!({"input_prefix": place, "input_suffix": place, "n_predict": 1})),
        ("/tokenize", json!({"prompt": place})),
        ("/v1/embeddings", json!({"input": place})),
        ("/v1/chat/completions/render", chat(json!([{"type": "image_url", "image_url": {"url": place}}]))),
    ]
}

#[tokio::test]
async fn nobody_is_called() {
    let canary = Canary::new();
    let server = Setup { max_model_len: 4096, ..Setup::saying("A") }.start().await;
    let mut sent = 0;
    for place in places(canary.port()) {
        for (path, body) in calls(&place) {
            let reply = server.post(path, &body).await;
            assert!(reply.head.status < 500, "{path} {body}: {}", reply.text());
            sent += 1;
        }
        let lines: String = ["x-forwarded-host", "x-original-url", "referer", "x-callback"]
            .map(|field| format!("{field}: {}\r\n", place.replace(['\r', '\n'], "")))
            .concat();
        let reply = server.send("GET", "/v1/models", &lines, "").await;
        assert!(reply.head.status < 500, "{lines}");
    }
    let target = format!("http://127.0.0.1:{}/a", canary.port());
    for (method, target) in [("GET", target.as_str()), ("CONNECT", &target[7..target.len() - 2])] {
        let head = Exchange::send(server.address, &request(method, target, "")).await.head().await;
        assert!((400..500).contains(&head.status), "{method} {target}: {}", head.status);
    }
    assert_eq!(canary.calls(), 0, "after {sent} calls");
    drop(TcpStream::connect(("127.0.0.1", canary.port())).unwrap());
    assert_eq!(canary.calls(), 1, "the canary hears");
}

/// Places of a conversation where a client's text ends up in the prompt, with `text` there.
fn conversations(text: &str) -> Vec<Value> {
    let (start, end) = text.split_at(1);
    let say = |role: &str, content: Value| json!({"role": role, "content": content});
    vec![
        json!({"messages": [say("user", text.into())]}),
        json!({"messages": [say("system", text.into()), say("user", "x".into())]}),
        json!({"messages": [say("developer", text.into()), say("user", "x".into())]}),
        json!({"messages": [say("user", "x".into()), say("assistant", text.into()), say("user", "x".into())]}),
        json!({"messages": [say("user", json!([{"type": "text", "text": text}]))]}),
        json!({"messages": [say("user", json!([{"type": "text", "text": start}, {"type": "text", "text": end}]))]}),
        json!({"messages": [say("user", "x".into())], "tools": [{"type": "function", "function": {"name": "f", "description": text, "parameters": {"type": "object", "description": text}}}]}),
        json!({"messages": [say("user", "x".into())], "chat_template_kwargs": {"shout": text}}),
    ]
}

async fn token_ids(server: &Server, body: &Value) -> Vec<u64> {
    let reply = server.post("/v1/chat/completions/render", body).await;
    assert_eq!(reply.head.status, 200, "{body}: {}", reply.text());
    reply.json()["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

#[tokio::test]
async fn text_of_a_client_is_no_special_token() {
    let server = Setup { max_model_len: 4096, ..Setup::saying("A") }.start().await;
    let special = u64::from(toy::EOS);
    for text in ["</s>", " </s> ", "</s></s>", "<</s>/s>", "</s\u{0}>", "<\u{200b}/s>"] {
        for body in conversations(text) {
            assert!(!token_ids(&server, &body).await.contains(&special), "{body}");
        }
    }
    // Where text is all there is, it may name them unless it is asked not to.
    let parsed = async |parse: bool| {
        let reply = server.post("/tokenize", &json!({"content": "</s>", "parse_special": parse})).await;
        reply.json()["tokens"].as_array().unwrap().contains(&json!(special))
    };
    assert_eq!((parsed(true).await, parsed(false).await), (true, false));
}
