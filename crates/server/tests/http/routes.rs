//! The routes that generate nothing, and what all routes have in common.

use crate::client::Exchange;
use crate::server::Setup;
use pagoda_server::ServerConfig;
use serde_json::json;

#[tokio::test]
async fn models_are_listed_with_their_context() {
    let config = ServerConfig {
        aliases: vec!["org/story".into()],
        unlisted_names: vec!["./models/toy-1".into(), "toy-1".into()],
        ..ServerConfig::default()
    };
    let server = Setup { config, ..Setup::default() }.start().await;
    let list = server.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let card = json!({"id": "toy", "object": "model", "created": 1_700_000_000_u64, "owned_by": "pagoda", "root": "toy",
        "parent": null, "max_model_len": 64, "meta": {"n_params": 6_000_000, "size": 12_000_000, "n_vocab": 257,
        "n_ctx_train": 128, "n_embd": 8, "dtype": "bf16", "quantization": null}});
    assert_eq!(list["data"][0], card);
    assert_eq!(list["data"][1]["id"], "org/story");
    assert_eq!(list["data"][1]["root"], "toy");
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    for name in ["toy", "org/story", "default", "toy-1", "./models/toy-1"] {
        let reply = server.post("/tokenize", &json!({"prompt": "x", "model": name})).await;
        assert_eq!(reply.head.status, 200, "{name}");
    }
    assert_eq!(server.get("/v1/models/toy").await.json(), card);
    assert_eq!(server.get("/models/org/story").await.json()["id"], "org/story");
    let missing = server.get("/v1/models/gpt-9").await;
    assert_eq!(missing.head.status, 404);
    assert_eq!(missing.json()["error"]["code"], "model_not_found");
    assert!(missing.json()["error"]["message"].as_str().unwrap().contains("toy, org/story"));
}

#[tokio::test]
async fn any_name_can_mean_the_one_model() {
    let config = ServerConfig { any_model_name: true, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::saying("A") }.start().await;
    let reply = server.post("/v1/completions", &json!({"prompt": "x", "model": "gpt-9"})).await;
    assert_eq!(reply.json()["model"], "toy");
}

#[tokio::test]
async fn probes_answer_under_all_their_names() {
    let server = Setup::default().start().await;
    for path in ["/health", "/v1/health", "/ping", "/healthz", "/ready", "/live"] {
        let reply = server.get(path).await;
        assert_eq!(reply.head.status, 200, "{path}");
        assert_eq!(reply.json(), json!({"status": "ok"}));
    }
}

#[tokio::test]
async fn version_and_metrics() {
    let server = Setup::saying("AB").start().await;
    let version = server.get("/version").await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["device"], "cpu");
    server.post("/v1/completions", &json!({"prompt": "xyz"})).await;
    server.idle().await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.head.field("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text();
    let generated = text.lines().find(|line| line.starts_with("vllm:generation_tokens_total{")).unwrap();
    assert!(generated.contains("model_name=\"toy\"") && generated.ends_with(" 3"), "{generated}");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_interface_describes_itself() {
    let server = Setup::default().start().await;
    let document = server.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/chat/completions"]["post"]["requestBody"].is_object());
    let page = server.get("/docs").await;
    assert!(page.head.field("content-type").unwrap().starts_with("text/html"));
    assert!(page.text().contains("/v1/chat/completions") && !page.text().contains("http"), "{}", page.text());
}

#[tokio::test]
async fn paths_work_without_their_version() {
    let server = Setup::saying("A").start().await;
    assert_eq!(server.post("/completions", &json!({"prompt": "x"})).await.head.status, 200);
    let chat = json!({"messages": [{"role": "user", "content": "x"}]});
    assert_eq!(server.post("/chat/completions", &chat).await.head.status, 200);
    assert_eq!(server.get("/models").await.head.status, 200);
}

#[tokio::test]
async fn requests_keep_their_id_or_get_one() {
    let server = Setup::default().start().await;
    let send = async |field: &str| {
        let bytes = format!("GET /health HTTP/1.1\r\nhost: test\r\n{field}\r\n");
        let head = Exchange::send(server.address, bytes.as_bytes()).await.head().await;
        head.field("x-request-id").unwrap().to_owned()
    };
    assert_eq!(send("x-request-id: abc-123\r\n").await, "abc-123");
    let fresh = send("").await;
    assert!(fresh.starts_with("req_") && fresh != send("").await, "{fresh}");
    for unusable in ["x y".to_owned(), "z".repeat(129)] {
        assert!(send(&format!("x-request-id: {unusable}\r\n")).await.starts_with("req_"));
    }
}

#[tokio::test]
async fn a_content_type_may_be_anything() {
    let server = Setup::saying("A").start().await;
    let body = r#"{"prompt": "x"}"#;
    for field in
        ["", "content-type: application/json\r\n", "content-type: application/x-www-form-urlencoded\r\n"]
    {
        let bytes = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: test\r\n{field}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let reply = Exchange::send(server.address, bytes.as_bytes()).await.reply().await;
        assert_eq!(reply.head.status, 200, "{field:?}");
    }
}
