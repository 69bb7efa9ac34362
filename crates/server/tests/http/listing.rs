//! What a tenant has waiting and running, and how it ends a part of it.

use crate::client::{Exchange, events};
use crate::server::{Server, Setup};
use pagoda_sched::SchedulerConfig;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/v1/completions";
const A: &str = "x-tenant: a\r\n";
const B: &str = "x-tenant: b\r\n";

async fn start() -> Server {
    let scheduler = SchedulerConfig { max_num_seqs: 4, ..SchedulerConfig::default() };
    let server = Setup { scheduler, max_model_len: 8192, admin: true, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_millis(1));
    server
}

/// Begins a call that would run for a very long time.
async fn endless(server: &Server, lines: &str, more: Value) -> Exchange {
    let mut body = json!({"prompt": "xy", "max_tokens": 1_000_000, "ignore_eos": true, "stream": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut exchange = server.open_as(lines, PATH, &body).await;
    assert_eq!(exchange.head().await.status, 200);
    exchange
}

async fn list(server: &Server, lines: &str) -> Vec<Value> {
    let list = server.get_as(lines, "/v1/requests").await.json();
    assert_eq!((&list["object"], &list["has_more"]), (&json!("list"), &json!(false)));
    list["data"].as_array().unwrap().clone()
}

/// The last event of a stream that was cancelled.
async fn cancelled(mut exchange: Exchange) {
    let mut body = Vec::new();
    while let Some(chunk) = exchange.chunk().await {
        body.extend(chunk);
    }
    let events = events(&body);
    assert_eq!(events.last().unwrap()["error"]["code"], "request_cancelled");
}

#[tokio::test]
async fn a_tenant_sees_what_is_its_own() {
    let server = start().await;
    assert!(list(&server, A).await.is_empty());
    let first = endless(&server, "x-tenant: a\r\nx-request-id: mine\r\n", json!({"n": 2})).await;
    let second = endless(&server, A, json!({})).await;
    let other = endless(&server, B, json!({})).await;
    server.load(|load| load.generated_tokens > 8).await;
    let own = list(&server, A).await;
    assert_eq!(own.len(), 2);
    assert_eq!((&own[0]["name"], &own[1]["name"]), (&json!("mine"), &Value::Null));
    assert_eq!((&own[0]["samples"], &own[0]["prompt_tokens"]), (&json!(2), &json!(2)));
    assert!(own[0]["generated_tokens"].as_u64().unwrap() > 0, "{own:?}");
    assert!(own[0]["id"].as_str() < own[1]["id"].as_str(), "the oldest comes first");
    assert_eq!(list(&server, B).await.len(), 1);
    assert!(list(&server, "").await.is_empty());
    let all = server.order("GET", "/v1/requests").await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 3);
    drop((first, second, other));
    server.idle().await;
    assert!(list(&server, A).await.is_empty());
}

#[tokio::test]
async fn a_request_is_cancelled_by_its_id_or_its_name() {
    let server = start().await;
    for name in ["mine", "id"] {
        let running = endless(&server, "x-tenant: a\r\nx-request-id: mine\r\n", json!({"n": 2})).await;
        server.load(|load| load.running == 2).await;
        let name = match name {
            "id" => format!("cmpl-{}", list(&server, A).await[0]["id"].as_str().unwrap()),
            name => name.to_owned(),
        };
        let path = format!("/v1/requests/{name}");
        for lines in [B, ""] {
            assert_eq!(server.send("DELETE", &path, lines, "").await.head.status, 404, "{lines:?}");
        }
        let reply = server.send("DELETE", &path, A, "").await;
        assert_eq!((reply.head.status, &reply.json()["cancelled"]), (200, &json!(true)), "{}", reply.text());
        cancelled(running).await;
        server.idle().await;
        let again = server.send("DELETE", &path, A, "").await;
        assert_eq!((again.head.status, &again.json()["error"]["code"]), (404, &json!("request_not_found")));
    }
}

#[tokio::test]
async fn a_cancelled_call_takes_all_its_prompts_along() {
    let server = start().await;
    let running = endless(&server, A, json!({"prompt": ["x", "y", "z"]})).await;
    server.load(|load| load.running == 3).await;
    let id = list(&server, A).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.send("DELETE", &format!("/v1/requests/{id}"), A, "").await.head.status, 200);
    cancelled(running).await;
    server.idle().await;
}

#[tokio::test]
async fn a_waiting_request_is_cancelled_without_a_step() {
    let server = start().await;
    server.handle().pause();
    let waiting = server.open_as(A, PATH, &json!({"prompt": "x"})).await;
    server.load(|load| load.waiting == 1).await;
    let id = list(&server, A).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.send("DELETE", &format!("/v1/requests/{id}"), A, "").await.head.status, 200);
    let reply = waiting.reply().await;
    assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (499, &json!("request_cancelled")));
    server.idle().await;
    assert_eq!(server.control.steps(), 0);
}

#[tokio::test]
async fn requests_are_aborted_in_sglangs_words() {
    let server = start().await;
    let abort = async |lines: &str, body: Value| {
        let reply = server.post_as(lines, "/abort_request", &body).await;
        assert_eq!(reply.head.status, 200, "{}", reply.text());
        reply.json()["cancelled"].clone()
    };
    let named = endless(&server, "x-tenant: a\r\nx-request-id: mine\r\n", json!({})).await;
    assert_eq!(abort(B, json!({"rid": "mine"})).await, 0);
    assert_eq!(abort(B, json!({"abort_all": true})).await, 0);
    assert_eq!(abort(A, json!({"rid": "mine", "abort_all": false})).await, 1);
    cancelled(named).await;
    assert_eq!(abort(A, json!({"rid": "mine"})).await, 0);
    let several = [endless(&server, A, json!({})).await, endless(&server, A, json!({})).await];
    let other = endless(&server, B, json!({})).await;
    assert_eq!(abort(A, json!({"rid": "", "abort_all": true})).await, 2);
    for exchange in several {
        cancelled(exchange).await;
    }
    assert_eq!(list(&server, B).await.len(), 1);
    drop(other);
    for (body, param) in
        [(json!({}), "rid"), (json!({"rid": 3}), "rid"), (json!({"abort_all": 1}), "abort_all")]
    {
        let reply = server.post("/abort_request", &body).await;
        assert_eq!((reply.head.status, &reply.json()["error"]["param"]), (400, &json!(param)));
    }
    server.idle().await;
}

#[tokio::test]
async fn the_operator_cancels_for_anybody() {
    let server = start().await;
    let running = endless(&server, A, json!({})).await;
    let id = list(&server, A).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.order("DELETE", &format!("/v1/requests/{id}")).await.head.status, 200);
    cancelled(running).await;
    assert_eq!(server.order("DELETE", "/v1/requests/nobody").await.head.status, 404);
    assert_eq!(server.order("POST", "/v1/completions").await.head.status, 404);
    server.idle().await;
}

#[tokio::test]
async fn loads_tell_what_runs_and_what_waits() {
    let server = start().await;
    let idle = server.get("/load").await.json();
    let blocks = json!(4095);
    let expected =
        json!({"server_load": 0, "running": 0, "waiting": 0, "kv_used_blocks": 0, "kv_total_blocks": blocks});
    assert_eq!(idle, expected);
    let running = endless(&server, A, json!({"n": 4})).await;
    server.load(|load| load.running == 4).await;
    let waiting = server.open_as(A, PATH, &json!({"prompt": "abc"})).await;
    server.load(|load| load.waiting == 1).await;
    let load = server.get("/load").await.json();
    assert_eq!((&load["server_load"], &load["running"], &load["waiting"]), (&json!(2), &json!(4), &json!(1)));
    assert!(load["kv_used_blocks"].as_u64().unwrap() > 0);

    let loads = server.get("/v1/loads?include=core,queues").await.json();
    assert_eq!((&loads["dp_rank_count"], &loads["loads"].as_array().unwrap().len()), (&json!(1), &1));
    let rank = &loads["loads"][0];
    for (name, value) in [
        ("dp_rank", 0),
        ("num_running_reqs", 4),
        ("num_waiting_reqs", 1),
        ("num_waiting_uncached_tokens", 3),
        ("num_total_reqs", 5),
        ("max_total_num_tokens", 4 * 4095),
        ("max_running_requests", 4),
    ] {
        assert_eq!(rank[name], value, "{name}");
    }
    assert!(rank["num_used_tokens"].as_u64().unwrap() > 0);
    for name in ["token_usage", "gen_throughput", "cache_hit_rate", "utilization"] {
        assert!(rank[name].as_f64().is_some_and(|value| value >= 0.0), "{name}: {rank}");
    }
    drop((running, waiting));
    server.idle().await;
}

#[tokio::test]
async fn clients_of_llama_cpp_find_their_slots() {
    let server = start().await;
    let props = server.get("/props").await.json();
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(4), &json!("toy")));
    assert_eq!(props["default_generation_settings"]["n_ctx"], 8192);
    assert!(props["chat_template"].as_str().unwrap().contains("messages"));
    let running = endless(&server, A, json!({"n": 3})).await;
    server.load(|load| load.running == 3).await;
    let slots = server.get("/slots").await.json();
    let busy =
        |slots: &Value| slots.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == true).count();
    assert_eq!((slots.as_array().unwrap().len(), busy(&slots)), (4, 3));
    assert_eq!(server.get("/slots?fail_on_no_slot=1").await.head.status, 200);
    let more = endless(&server, A, json!({})).await;
    server.load(|load| load.running == 4).await;
    assert_eq!(server.get("/slots?fail_on_no_slot=1").await.head.status, 503);
    drop((running, more));
    server.idle().await;
}

#[tokio::test]
async fn the_server_tells_how_it_was_started() {
    let server = start().await;
    let info = server.get("/server_info").await.json();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&info["model"]["names"], &info["model"]["max_model_len"]), (&json!(["toy"]), &json!(8192)));
    assert_eq!((&info["engine"]["max_num_seqs"], &info["engine"]["block_size"]), (&json!(4), &json!(4)));
    assert_eq!((&info["server"]["api_keys"], &info["server"]["body_limit"]), (&json!(0), &json!(4 << 20)));
    assert_eq!(info["server"]["head_limits"], json!({"bytes": 16384, "fields": 64, "uri": 8192}));
}
