//! Text to tokens and back, and prompts as the model gets them.

use crate::server::{Server, Setup};
use crate::toy;
use serde_json::{Value, json};

async fn ok(server: &Server, path: &str, body: Value) -> Value {
    let reply = server.post(path, &body).await;
    assert_eq!(reply.head.status, 200, "{path} {body}: {}", reply.text());
    assert_eq!(reply.head.field("content-type"), Some("application/json"));
    reply.json()
}

async fn refused(server: &Server, path: &str, body: Value) -> (Value, String) {
    let reply = server.post(path, &body).await;
    assert_eq!(reply.head.status, 400, "{path} {body}: {}", reply.text());
    let error = reply.json()["error"].take();
    (error["param"].clone(), error["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn text_is_tokenized_in_vllms_words() {
    let server = Setup::default().start().await;
    let plain = ok(&server, "/tokenize", json!({"prompt": "aé", "add_special_tokens": false})).await;
    assert_eq!(plain, json!({"count": 3, "max_model_len": 64, "tokens": [97, 195, 169], "token_strs": null}));
    let strings = ok(&server, "/v1/tokenize", json!({"prompt": "a b", "return_token_strs": true})).await;
    assert_eq!(strings["token_strs"], json!(["a", "\u{120}", "b"]));
    let messages = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]);
    let chat = ok(&server, "/tokenize", json!({"messages": messages})).await;
    assert_eq!(chat["tokens"], json!(toy::ids("user:hi\n>")));
    let open = json!({"messages": messages, "add_generation_prompt": false,
        "chat_template_kwargs": {"shout": true}});
    assert_eq!(ok(&server, "/tokenize", open).await["tokens"], json!(toy::ids("user:hi\n!")));
    assert_eq!(ok(&server, "/tokenize", json!({"prompt": ""})).await["count"], 0);
}

#[tokio::test]
async fn text_is_tokenized_in_llama_cpps_words() {
    let server = Setup::default().start().await;
    assert_eq!(ok(&server, "/tokenize", json!({"content": "ab"})).await, json!({"tokens": [97, 98]}));
    let pieces = ok(&server, "/tokenize", json!({"content": "aé", "with_pieces": true})).await;
    let expected =
        json!([{"id": 97, "piece": "a"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]);
    assert_eq!(pieces["tokens"], expected);
    let parsed = async |more: Value| ok(&server, "/tokenize", more).await["tokens"].take();
    assert_eq!(parsed(json!({"content": "</s>"})).await, json!([256]));
    assert_eq!(parsed(json!({"content": "</s>", "parse_special": false})).await, json!(toy::ids("</s>")));
}

#[tokio::test]
async fn what_users_write_never_becomes_a_special_token() {
    let server = Setup::saying("A").start().await;
    let part = json!({"type": "text", "text": "a</s></s>b"});
    for content in [json!("a</s></s>b"), json!([part])] {
        let body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 1});
        let text = "user:a</s></s>b\n>";
        let rendered = ok(&server, "/v1/chat/completions/render", body.clone()).await;
        assert_eq!((&rendered["prompt"], &rendered["token_ids"]), (&json!(text), &json!(toy::ids(text))));
        assert_eq!(ok(&server, "/apply-template", body.clone()).await["prompt"], text);
        let run = ok(&server, "/v1/chat/completions", body).await;
        assert_eq!(run["usage"]["prompt_tokens"], text.len());
    }
    let marks = json!({"messages": [{"role": "user", "content": "\u{fdd0}\u{fdd2}</s>"}]});
    let text = "user:\u{fdd0}\u{fdd2}</s>\n>";
    assert_eq!(ok(&server, "/v1/chat/completions/render", marks).await["token_ids"], json!(toy::ids(text)));
    // A plain prompt is all the client's own.
    let plain = ok(&server, "/v1/completions/render", json!({"prompt": "a</s>"})).await;
    assert_eq!(plain[0]["token_ids"], json!([97, 256]));
}

#[tokio::test]
async fn tokens_become_text_under_both_names() {
    let server = Setup::default().start().await;
    let text = ok(&server, "/detokenize", json!({"tokens": [97, 195, 169, 256]})).await;
    assert_eq!(text, json!({"prompt": "aé</s>", "content": "aé</s>"}));
    assert_eq!(ok(&server, "/v1/detokenize", json!({"tokens": []})).await["prompt"], "");
    for round in ["", "hello", "日本語 🦀", "a\0b\n"] {
        let tokens = ok(&server, "/tokenize", json!({"prompt": round})).await["tokens"].take();
        assert_eq!(ok(&server, "/detokenize", json!({"tokens": tokens})).await["content"], round);
    }
}

#[tokio::test]
async fn what_cannot_be_tokenized_is_named() {
    let server = Setup { template: None, ..Setup::default() }.start().await;
    for (path, body, param, part) in [
        ("/tokenize", json!({}), "prompt", "prompt is required, or messages, or content"),
        ("/tokenize", json!({"prompt": 3}), "prompt", "a string, got 3"),
        ("/tokenize", json!({"prompt": "x", "content": "x"}), "prompt", "exclude each other"),
        ("/tokenize", json!({"prompt": "x", "add_special_tokens": 1}), "add_special_tokens", "true or false"),
        (
            "/tokenize",
            json!({"content": "x", "add_special": true, "parse_special": false}),
            "parse_special",
            "parsed text only",
        ),
        (
            "/tokenize",
            json!({"messages": [{"role": "user", "content": "x"}]}),
            "messages",
            "no chat template",
        ),
        ("/tokenize", json!({"messages": []}), "messages", "messages is empty"),
        ("/detokenize", json!({}), "tokens", "tokens is required"),
        ("/detokenize", json!({"tokens": "x"}), "tokens", "a list of token ids"),
        ("/detokenize", json!({"tokens": [-1]}), "tokens", "a list of token ids"),
        (
            "/detokenize",
            json!({"tokens": [1, 257]}),
            "tokens",
            "tokens[1] is 257; token ids of this model are 0 to 256",
        ),
        (
            "/apply-template",
            json!({"messages": [{"role": "user", "content": "x"}]}),
            "messages",
            "no chat template",
        ),
    ] {
        let (named, message) = refused(&server, path, body).await;
        assert_eq!(named, param, "{message}");
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let unknown = server.post("/tokenize", &json!({"prompt": "x", "model": "gpt-9"})).await;
    assert_eq!((unknown.head.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn the_tokenizer_tells_its_special_tokens() {
    let server = Setup::default().start().await;
    let info = server.get("/tokenizer_info").await.json();
    assert_eq!(
        (&info["eos_token"], &info["bos_token"], &info["pad_token"]),
        (&json!("</s>"), &Value::Null, &Value::Null)
    );
    assert!(info["chat_template"].as_str().unwrap().contains("add_generation_prompt"));
    assert_eq!((&info["vocab_size"], &info["model_max_length"]), (&json!(257), &json!(64)));
    let base = Setup { template: None, ..Setup::default() }.start().await;
    assert_eq!(base.get("/v1/tokenizer_info").await.json()["chat_template"], Value::Null);
}

#[tokio::test]
async fn a_rendered_prompt_is_the_one_that_runs() {
    let server = Setup::saying("A").start().await;
    let body =
        json!({"messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": "hi"}]});
    let text = "system:x\nuser:hi\n>";
    let rendered = ok(&server, "/v1/chat/completions/render", body.clone()).await;
    let expected =
        json!({"token_ids": toy::ids(text), "prompt": text, "count": text.len(), "max_model_len": 64});
    assert_eq!(rendered, expected);
    assert_eq!(ok(&server, "/apply-template", body.clone()).await, json!({"prompt": text}));
    let counted = ok(&server, "/v1/chat/completions/input_tokens", body.clone()).await;
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": text.len()}));
    assert_eq!(server.control.steps(), 0);
    let run = ok(&server, "/v1/chat/completions", body).await;
    assert_eq!(run["usage"]["prompt_tokens"], text.len());

    let rendered =
        ok(&server, "/v1/completions/render", json!({"prompt": ["a", "bc"], "max_tokens": 3})).await;
    let one = |text: &str| json!({"token_ids": toy::ids(text), "prompt": text, "count": text.len(), "max_model_len": 64});
    assert_eq!(rendered, json!([one("a"), one("bc")]));
    let ids = ok(&server, "/v1/completions/render", json!({"prompt": [104, 105]})).await;
    assert_eq!(ids, json!([one("hi")]));
    for path in ["/v1/completions/render", "/v1/chat/completions/render", "/v1/chat/completions/input_tokens"]
    {
        let (param, _) = refused(&server, path, json!({})).await;
        assert!(param == "prompt" || param == "messages", "{path}: {param}");
    }
}

#[tokio::test]
async fn side_endpoints_withstand_the_end_of_the_server() {
    let mut server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(std::time::Duration::from_millis(1));
    let address = server.address;
    let mut clients = tokio::task::JoinSet::new();
    let requests = [
        ("POST", "/v1/completions", r#"{"prompt": "x", "max_tokens": 200, "stream": true}"#),
        ("POST", "/tokenize", r#"{"prompt": "x"}"#),
        ("POST", "/abort_request", r#"{"abort_all": true}"#),
        ("GET", "/v1/requests", ""),
        ("GET", "/v1/loads", ""),
        ("GET", "/metrics", ""),
        ("GET", "/server_info", ""),
    ];
    for (method, path, body) in requests {
        clients.spawn(async move {
            let mut seen = std::collections::BTreeSet::new();
            while let Ok(stream) = tokio::net::TcpStream::connect(address).await {
                let bytes = crate::client::request(method, path, body);
                match status(stream, &bytes).await {
                    Some(status) => seen.insert(status),
                    None => break,
                };
            }
            (path, seen)
        });
    }
    server.load(|load| load.generated_tokens > 400).await;
    server.stop();
    while let Some(client) = clients.join_next().await {
        let (path, seen) = client.unwrap();
        assert!(seen.iter().all(|status| [200, 503].contains(status)), "{path}: {seen:?}");
    }
    server.stopped().await;
}

/// Status of one exchange; `None` if there was none.
async fn status(mut stream: tokio::net::TcpStream, bytes: &[u8]) -> Option<u16> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(bytes).await.ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

#[tokio::test]
async fn side_endpoints_have_the_limits_of_the_main_ones() {
    let (sender, loading) = std::sync::mpsc::channel();
    let server = Setup { loading: Some(loading), ..Setup::default() }.start().await;
    let loaded = sender;
    let paths = ["/tokenize", "/detokenize", "/v1/completions/render", "/apply-template"];
    for path in paths {
        let reply = server.post(path, &json!({"prompt": "x"})).await;
        assert_eq!(
            (reply.head.status, &reply.json()["error"]["code"]),
            (503, &json!("model_loading")),
            "{path}"
        );
    }
    for path in ["/tokenizer_info", "/props", "/slots"] {
        assert_eq!(server.get(path).await.head.status, 503, "{path}");
    }
    for path in ["/load", "/v1/loads", "/server_info", "/v1/requests"] {
        assert_eq!(server.get(path).await.head.status, 200, "{path}");
    }
    drop(loaded);
    server.handle().ready().await;
    for path in paths {
        let huge = format!(r#"{{"prompt": "{}"}}"#, "x".repeat(5 << 20));
        assert_eq!(server.post_text(path, &huge).await.head.status, 413, "{path}");
        assert_eq!(server.post_text(path, "[]").await.json()["error"]["code"], "invalid_json", "{path}");
    }
}
