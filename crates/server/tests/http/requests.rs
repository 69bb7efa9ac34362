//! Where a request stands: headers, the comment of a stream, and the route that explains it.

use crate::server::{Server, Setup};
use pagoda_sched::SchedulerConfig;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/v1/completions";

/// A server with one row, which an endless request of the tenant `a` holds.
async fn busy() -> (Server, crate::client::Exchange) {
    let scheduler = SchedulerConfig { max_num_seqs: 1, ..SchedulerConfig::default() };
    let server = Setup { scheduler, max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_millis(1));
    let endless = json!({"prompt": "x", "max_tokens": 1_000_000, "ignore_eos": true, "stream": true});
    let mut running = server.open_as("x-tenant: a\r\nx-request-id: first\r\n", PATH, &endless).await;
    assert_eq!(running.head().await.status, 200);
    server.load(|load| load.running == 1).await;
    (server, running)
}

async fn explain(server: &Server, lines: &str, id: &str) -> Value {
    let reply = server.get_as(lines, &format!("/v1/requests/{id}")).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn a_waiting_request_hears_its_place_and_can_ask_why() {
    let (server, running) = busy().await;
    let body =
        json!({"prompt": "yz", "max_tokens": 2, "stream": true, "stream_options": {"queue_position": true}});
    let mut waiting = server.open_as("x-tenant: a\r\n", PATH, &body).await;
    let head = waiting.head().await;
    let number = |name: &str| head.field(name).unwrap().parse::<u64>().unwrap();
    assert_eq!(number("x-pagoda-queue-position"), 0);
    let (start, finish) = (number("x-pagoda-expected-start-ms"), number("x-pagoda-expected-finish-ms"));
    assert!(0 < start && start < finish, "{start} {finish}");
    let comment = String::from_utf8(waiting.chunk().await.unwrap()).unwrap();
    let expected = format!("expected start in {start} ms, expected finish in {finish} ms\n\n");
    assert_eq!(comment, format!(": queue position 0, {expected}"));

    let id = head.field("x-request-id").unwrap();
    let view = explain(&server, "x-tenant: a\r\n", id).await;
    assert!(id.ends_with(view["id"].as_str().unwrap()), "{id} {view}");
    assert_eq!(
        (&view["state"], &view["class"], &view["tenant"]),
        (&json!("waiting"), &json!("normal"), &json!("a"))
    );
    assert_eq!(view["waiting"]["rule"], "rows");
    assert_eq!(view["waiting"]["reason"], "the batch is full: 1 of 1 rows run");
    assert_eq!((&view["waiting"]["position"], &view["waiting"]["before"]), (&json!(0), &json!([])));
    assert_eq!((&view["machine"]["rows"], &view["machine"]["max_rows"]), (&json!(1), &json!(1)));
    assert!(view["expected"]["start_ms"].as_u64() < view["expected"]["finish_ms"].as_u64(), "{view}");
    drop((running, waiting));
    server.idle().await;
}

#[tokio::test]
async fn a_running_request_is_found_by_the_name_that_its_caller_gave() {
    let (server, mut running) = busy().await;
    let view = explain(&server, "x-tenant: a\r\n", "first").await;
    assert_eq!(view["state"], "running");
    assert!(view["running"]["blocks"].as_u64().unwrap() > 0 && view.get("waiting").is_none(), "{view}");
    let chunk = String::from_utf8(running.chunk().await.unwrap()).unwrap();
    let event: Value = serde_json::from_str(chunk.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(explain(&server, "x-tenant: a\r\n", event["id"].as_str().unwrap()).await["id"], view["id"]);
    drop(running);
    server.idle().await;
    assert_eq!(server.get_as("x-tenant: a\r\n", "/v1/requests/first").await.head.status, 404);
}

#[tokio::test]
async fn tenants_see_their_own_requests_only() {
    let (server, running) = busy().await;
    let own = explain(&server, "x-tenant: a\r\n", "first").await;
    let id = own["id"].as_str().unwrap();
    for lines in ["", "x-tenant: b\r\n", "authorization: Bearer a\r\n"] {
        for name in ["first", id, &format!("cmpl-{id}")] {
            let reply = server.get_as(lines, &format!("/v1/requests/{name}")).await;
            assert_eq!(
                (reply.head.status, &reply.json()["error"]["code"]),
                (404, &json!("request_not_found"))
            );
        }
    }
    let urgent = json!({"prompt": "y", "priority": "urgent", "stream": true});
    let mut ahead = server.open_as("x-tenant: a\r\n", PATH, &urgent).await;
    ahead.head().await;
    let mut behind = server
        .open_as("x-tenant: b\r\nx-request-id: mine\r\n", PATH, &json!({"prompt": "z", "stream": true}))
        .await;
    let head = behind.head().await;
    assert_eq!(
        (head.field("x-pagoda-queue-position"), head.field("x-request-id")),
        (Some("1"), Some("mine"))
    );
    let view = explain(&server, "x-tenant: b\r\n", "mine").await;
    assert_eq!(view["waiting"]["before"], json!([null]), "{view}");
    assert_eq!(view["waiting"]["position"], 1);
    assert!(!view.to_string().contains(id), "{view}");
    drop((running, ahead, behind));
    server.idle().await;
}

#[tokio::test]
async fn what_is_no_request_is_not_found() {
    let server = Setup::saying("A").start().await;
    let done = server.post(PATH, &json!({"prompt": "x"})).await;
    assert_eq!(done.head.field("x-pagoda-queue-position"), Some("0"));
    let finished = done.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(done.head.field("x-request-id").unwrap().strip_prefix("req_"), finished.strip_prefix("cmpl-"));
    for name in [finished.as_str(), "nobody", "cmpl-", "cmpl-00000000000000000000000000000000", "%00"] {
        let reply = server.get(&format!("/v1/requests/{name}")).await;
        assert_eq!(
            (reply.head.status, &reply.json()["error"]["code"]),
            (404, &json!("request_not_found")),
            "{name}"
        );
    }
    assert_eq!(server.post("/v1/requests/x", &json!({})).await.head.status, 405);
}
