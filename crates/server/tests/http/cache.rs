//! What stays in the prefix cache, and how it is emptied.

use crate::server::{Server, Setup, eventually};
use pagoda_sched::SchedulerConfig;
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";
/// Five full blocks and a part of one.
const PROMPT: &str = "a prompt of many blocks";

fn pinning(blocks: u32) -> Setup {
    let scheduler = SchedulerConfig { max_pinned_blocks: blocks, ..SchedulerConfig::default() };
    Setup { scheduler, admin: true, ..Setup::saying("A") }
}

/// Cached tokens that a call reports.
async fn ask(server: &Server, retention: Value) -> u64 {
    let body = json!({"prompt": PROMPT, "max_tokens": 1, "cache_retention": retention});
    let reply = server.post(PATH, &body).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn pins_are_refused_unless_the_server_was_started_with_room_for_them() {
    let server = Setup::saying("A").start().await;
    let reply = server.post(PATH, &json!({"prompt": PROMPT, "cache_retention": {"pin": true}})).await;
    assert_eq!(reply.head.status, 400);
    let error = &reply.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!("cache_retention")));
    assert!(error["message"].as_str().unwrap().contains("--max-pinned-blocks"), "{error}");
    assert_eq!(server.control.steps(), 0);
    assert_eq!(ask(&server, json!({"ttl": 60})).await, 0);
    assert_eq!(server.metric("pagoda_kv_blocks_kept{").await, 5);
}

#[tokio::test]
async fn pinned_prompts_count_against_their_bound() {
    let server = pinning(3).start().await;
    assert_eq!(ask(&server, json!({"pin": true})).await, 0);
    assert_eq!(server.metric("pagoda_kv_blocks_pinned{").await, 3);
    assert_eq!(ask(&server, Value::Null).await, 20);
    assert_eq!(server.metric("pagoda_kv_blocks_pinned{").await, 3);
}

#[tokio::test]
async fn the_operator_can_reset_what_is_pinned_and_clients_cannot() {
    let server = pinning(100).start().await;
    assert_eq!(ask(&server, json!({"pin": true})).await, 0);
    for path in ["/v1/cache/reset", "/cache/reset", "/reset_prefix_cache"] {
        assert_eq!(server.post(path, &json!({})).await.head.status, 404, "{path}");
    }
    let reset = server.order("POST", "/v1/cache/reset").await;
    assert_eq!(reset.json(), json!({"object": "cache.reset", "forgotten_blocks": 5}));
    eventually(|| server.handle().snapshot().cached_blocks == 0).await;
    assert_eq!(ask(&server, Value::Null).await, 0);
}
