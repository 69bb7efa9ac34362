//! Adapters as models: named by clients, loaded and unloaded by the operator while streams run.

use crate::client::events;
use crate::server::{Server, Setup, eventually};
use pagoda_engine::{AdapterSource, InitialAdapter, LoadedAdapter};
use pagoda_server::{ApiKeys, ServerConfig};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A server with room for `limit` adapters, of which `a` is there from the start, and the number that are in memory. Every
/// folder but `/bad` is one.
fn setup(limit: u32) -> (Setup, Arc<AtomicU32>) {
    struct Counted(Arc<AtomicU32>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let alive = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&alive);
    let load = move |path: &Path| {
        if path == Path::new("/bad") {
            return Err("/bad: adapter_config.json: r: is missing".to_owned());
        }
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(LoadedAdapter { weights: Box::new(Counted(Arc::clone(&counter))), rank: 8, bytes: 10 })
    };
    let initial = InitialAdapter { name: "a".to_owned(), path: PathBuf::from("/adapters/a"), required: true };
    let adapters = AdapterSource { limit, load: Arc::new(load), initial: vec![initial] };
    (Setup { admin: true, adapters: Some(adapters), max_model_len: 256, ..Setup::default() }, alive)
}

async fn load(server: &Server, name: &str, path: &str) -> (u16, Value) {
    let reply =
        server.order_with("/v1/load_lora_adapter", &json!({"lora_name": name, "lora_path": path})).await;
    (reply.head.status, reply.json())
}

async fn unload(server: &Server, name: &str) -> (u16, Value) {
    let reply = server.order_with("/v1/unload_lora_adapter", &json!({"lora_name": name})).await;
    (reply.head.status, reply.json())
}

async fn complete(server: &Server, model: &str) -> Value {
    let body =
        json!({"model": model, "prompt": "a prompt of many blocks", "max_tokens": 12, "ignore_eos": true});
    let reply = server.post("/v1/completions", &body).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn an_adapter_is_a_model_with_a_prefix_cache_of_its_own() {
    let (setup, _) = setup(4);
    let server = setup.start().await;
    let (status, card) = load(&server, "b", "/adapters/b").await;
    assert_eq!(status, 200, "{card}");
    assert_eq!(card, server.get("/v1/models/b").await.json());
    let list = server.get("/v1/models").await.json();
    let models: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|m| (&m["id"], &m["root"], &m["parent"])).collect();
    let expected = [
        (json!("toy"), json!("toy"), Value::Null),
        (json!("a"), json!("/adapters/a"), json!("toy")),
        (json!("b"), json!("/adapters/b"), json!("toy")),
    ];
    assert_eq!(models, expected.iter().map(|(id, root, parent)| (id, root, parent)).collect::<Vec<_>>());
    let mut answers = Vec::new();
    for model in ["toy", "a", "b"] {
        let answer = complete(&server, model).await;
        assert_eq!((&answer["model"], cached(&answer)), (&json!(model), 0), "the first of its kind");
        answers.push(text(&answer).to_owned());
    }
    assert!(answers[0] != answers[1] && answers[1] != answers[2] && answers[0] != answers[2], "{answers:?}");
    for (model, expected) in ["toy", "a", "b"].into_iter().zip(&answers) {
        let answer = complete(&server, model).await;
        assert_eq!((text(&answer), cached(&answer)), (expected.as_str(), 20), "it finds its own");
    }
}

#[tokio::test]
async fn every_interface_takes_the_name_of_an_adapter_and_repeats_it() {
    let (setup, _) = setup(1);
    let server = setup.start().await;
    let messages = json!([{"role": "user", "content": "hello"}]);
    for (path, body) in [
        ("/v1/completions", json!({"prompt": "x"})),
        ("/v1/chat/completions", json!({"messages": messages})),
        ("/v1/responses", json!({"input": "hello"})),
        ("/v1/messages", json!({"messages": messages})),
        ("/v1/embeddings", json!({"input": "x"})),
        ("/completion", json!({"prompt": "x", "n_predict": 2})),
        ("/api/chat", json!({"messages": messages, "stream": false})),
        ("/api/generate", json!({"prompt": "x", "stream": false})),
        ("/api/generate", json!({"prompt": ""})),
    ] {
        let mut answers = Vec::new();
        for model in ["toy", "a", "nobody"] {
            let mut body = body.clone();
            body["model"] = model.into();
            for limit in ["max_tokens", "max_output_tokens"] {
                body[limit] = 3.into();
            }
            body["options"] = json!({"num_predict": 3});
            let reply = server.post(path, &body).await;
            let expected = if model == "nobody" { 404 } else { 200 };
            assert_eq!(reply.head.status, expected, "{path} {model}: {}", reply.text());
            answers.push(reply.json());
        }
        assert_eq!((&answers[0]["model"], &answers[1]["model"]), (&json!("toy"), &json!("a")), "{path}");
        assert!(answers[2].to_string().contains("toy, a"), "{path}: {}", answers[2]);
    }
    for (path, body) in [("/v1/tokenize", json!({"prompt": "x"})), ("/api/show", json!({}))] {
        let mut body = body;
        body["model"] = "a".into();
        assert_eq!(server.post(path, &body).await.head.status, 200, "{path}");
    }
    let tags = server.get("/api/tags").await.json();
    assert!(tags["models"].as_array().unwrap().iter().any(|model| model["name"] == "a"), "{tags}");
}

#[tokio::test]
async fn unloading_waits_for_streams_and_refuses_new_ones_at_once() {
    let (setup, alive) = setup(2);
    let server = setup.start().await;
    let alone = text(&complete(&server, "a").await).to_owned();
    server.control.set_delay(Duration::from_millis(10));
    let body = json!({"model": "a", "prompt": "a prompt of many blocks", "max_tokens": 12, "ignore_eos": true, "stream": true});
    let mut stream = server.open("/v1/completions", &body).await;
    let head = stream.head().await;
    assert_eq!(head.status, 200);
    let order = unload(&server, "a");
    let meanwhile = async {
        eventually(|| server.handle().adapters().is_empty()).await;
        let refused = server.post("/v1/completions", &json!({"model": "a", "prompt": "x"})).await;
        assert_eq!((refused.head.status, &refused.json()["error"]["code"]), (404, &json!("model_not_found")));
        assert_eq!(alive.load(Ordering::SeqCst), 1, "the stream has it still");
        let events = events(&stream.body(&head).await);
        let said: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
        assert_eq!(said, alone, "a stream ends as it would have");
    };
    let ((status, reply), ()) = tokio::join!(order, meanwhile);
    assert_eq!(status, 200, "{reply}");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    server.control.set_delay(Duration::ZERO);
    let (status, _) = load(&server, "a", "/adapters/a").await;
    assert_eq!(status, 200);
    let again = complete(&server, "a").await;
    assert_eq!(cached(&again), 0, "nothing of the adapter before is left");
}

#[tokio::test]
async fn streams_of_several_adapters_run_while_others_come_and_go() {
    let (setup, _) = setup(3);
    let server = Arc::new(setup.start().await);
    load(&server, "b", "/b").await;
    let mut expected = Vec::new();
    for model in ["toy", "a", "b"] {
        expected.push((model, text(&complete(&server, model).await).to_owned()));
    }
    let clients = expected.into_iter().map(|(model, expected)| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for _ in 0..15 {
                assert_eq!(text(&complete(&server, model).await), expected, "{model}");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..10 {
        assert_eq!(load(&server, "c", "/c").await.0, 200);
        complete(&server, "c").await;
        assert_eq!(unload(&server, "c").await.0, 200);
    }
    for client in clients {
        client.await.unwrap();
    }
    server.idle().await;
}

#[tokio::test]
async fn orders_that_cannot_be_carried_out_say_why() {
    let (setup, alive) = setup(2);
    let server = setup.start().await;
    let code =
        |(status, body): (u16, Value)| (status, body["error"]["code"].as_str().unwrap_or("").to_owned());
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code(load(&server, "x", "/bad").await), is(400, "invalid_adapter"));
    let (_, bad) = load(&server, "x", "/bad").await;
    assert!(bad["error"]["message"].as_str().unwrap().contains("adapter_config.json"), "{bad}");
    assert_eq!(bad["error"]["param"], "lora_path");
    assert_eq!(code(load(&server, "a", "/x").await), is(409, "adapter_exists"));
    assert_eq!(code(load(&server, "toy", "/x").await), is(409, "adapter_exists"));
    assert_eq!(code(load(&server, "line\nbreak", "/x").await), is(400, "invalid_value"));
    assert_eq!(load(&server, "b", "/x").await.0, 200);
    assert_eq!(code(load(&server, "c", "/x").await), is(409, "too_many_adapters"));
    assert_eq!(code(unload(&server, "nobody").await), is(404, "adapter_not_found"));
    assert_eq!(unload(&server, "b").await.0, 200);
    for (body, param) in [
        (json!({}), "lora_name"),
        (json!({"lora_name": "x"}), "lora_path"),
        (json!({"lora_name": 7, "lora_path": "x"}), "lora_name"),
        (json!({"lora_name": "x", "lora_path": "x", "load_inplace": true}), "load_inplace"),
    ] {
        let reply = server.order_with("/v1/load_lora_adapter", &body).await;
        assert_eq!(
            (reply.head.status, reply.json()["error"]["param"].as_str()),
            (400, Some(param)),
            "{body}"
        );
    }
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    let none = Setup { admin: true, ..Setup::default() }.start().await;
    let (status, body) = load(&none, "x", "/x").await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("adapters_disabled")));
    assert!(body["error"]["message"].as_str().unwrap().contains("--max-loras"), "{body}");
}

#[tokio::test]
async fn clients_cannot_give_the_orders_and_operators_need_a_key_where_there_are_keys() {
    let (setup, _) = setup(2);
    let mut api_keys = ApiKeys::default();
    assert!(api_keys.add(b"secret").unwrap());
    let config = ServerConfig { api_keys, ..setup.config.clone() };
    let server = Setup { config, ..setup }.start().await;
    let body = json!({"lora_name": "x", "lora_path": "/x"});
    for path in ["/v1/load_lora_adapter", "/load_lora_adapter", "/v1/unload_lora_adapter"] {
        let as_client = server.post_as("authorization: Bearer secret\r\n", path, &body).await;
        assert_eq!(as_client.head.status, 404, "{path} is not there for clients");
        assert_eq!(server.order_with(path, &body).await.head.status, 401, "{path} without a key");
    }
    assert_eq!(server.handle().adapters().len(), 1);
}

#[tokio::test]
async fn the_metrics_name_adapters() {
    let (setup, _) = setup(2);
    let server = setup.start().await;
    let page = server.get("/metrics").await;
    assert!(page.text().contains("vllm:lora_requests_info{"), "{}", page.text());
    assert!(page.text().contains("max_lora=\"2\",running_lora_adapters=\"\",waiting_lora_adapters=\"\""));
    assert_eq!(server.metric("pagoda_adapters_loaded{").await, 1);
    let plain = Setup::default().start().await;
    assert!(!plain.get("/metrics").await.text().contains("lora"), "nothing of it where there are none");
}
