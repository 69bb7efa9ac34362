//! Overload, clients that leave, the orderly end, and the end of the engine.

use crate::client::{Exchange, events};
use crate::server::{Server, Setup, eventually};
use pagoda_sched::{Deadlines, SchedulerConfig};
use pagoda_server::ServerConfig;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/v1/completions";

/// A request that would run for a very long time.
fn endless(stream: bool) -> Value {
    json!({"prompt": "x", "max_tokens": 1_000_000, "ignore_eos": true, "stream": stream})
}

async fn cancelled(server: &Server) -> u64 {
    let metrics = server.get("/metrics").await;
    let line = metrics.text().lines().find(|line| {
        line.starts_with("vllm:request_success_total{") && line.contains("finished_reason=\"abort\"")
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap()
}

async fn check_overloaded(server: &Server, part: &str) {
    let reply = server.post(PATH, &json!({"prompt": "x"})).await;
    assert_eq!(reply.head.status, 429, "{}", reply.text());
    let error = &reply.json()["error"];
    assert_eq!(error["type"], "rate_limit_error");
    assert_eq!(error["code"], "queue_full");
    assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    let seconds: u64 = reply.head.field("retry-after").unwrap().parse().unwrap();
    let millis: u64 = reply.head.field("retry-after-ms").unwrap().parse().unwrap();
    assert!(seconds >= 1 && millis >= 1 && seconds * 1000 >= millis, "{seconds} s, {millis} ms");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_return() {
    let scheduler =
        SchedulerConfig { max_num_seqs: 1, max_waiting_requests: 1, ..SchedulerConfig::default() };
    let server = Setup { scheduler, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let mut waiting = server.open(PATH, &json!({"prompt": "x", "stream": true})).await;
    let head = waiting.head().await;
    assert_eq!(head.status, 200);
    check_overloaded(&server, "the queue is full").await;
    server.handle().resume();
    let events = events(&waiting.body(&head).await);
    assert_eq!(events[0]["choices"][0]["text"], "A");
    assert_eq!(server.post(PATH, &json!({"prompt": "x"})).await.head.status, 200);
}

#[tokio::test]
async fn calls_in_flight_have_a_limit() {
    let config = ServerConfig { max_in_flight: 1, keep_alive: None, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let mut running = server.open(PATH, &json!({"prompt": "x", "stream": true})).await;
    let head = running.head().await;
    check_overloaded(&server, "1 calls in flight").await;
    assert_eq!(server.get("/health").await.head.status, 200, "probes are not counted");
    server.handle().resume();
    running.body(&head).await;
    eventually(|| server.state.in_flight() == 0).await;
    assert_eq!(server.post(PATH, &json!({"prompt": "x"})).await.head.status, 200);
}

#[tokio::test]
async fn a_later_prompt_that_is_refused_takes_the_earlier_ones_along() {
    let scheduler = SchedulerConfig { max_waiting_requests: 2, ..SchedulerConfig::default() };
    let server = Setup { scheduler, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let reply = server.post(PATH, &json!({"prompt": ["a", "b", "c"]})).await;
    assert_eq!(reply.head.status, 429, "{}", reply.text());
    server.idle().await;
    assert_eq!(server.control.steps(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_forgotten() {
    let server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.handle().pause();
    for stream in [true, false] {
        let exchange = server.open(PATH, &endless(stream)).await;
        server.load(|load| load.waiting == 1).await;
        drop(exchange);
        server.idle().await;
    }
    assert_eq!(cancelled(&server).await, 2);
    assert_eq!(server.control.steps(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_served_frees_its_blocks() {
    let server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_millis(1));
    for (stream, n) in [(true, 1), (true, 3), (false, 1), (false, 3)] {
        let before = cancelled(&server).await;
        let mut body = endless(stream);
        body["n"] = n.into();
        let mut exchange = server.open(PATH, &body).await;
        if stream {
            exchange.head().await;
            exchange.chunk().await.unwrap();
        }
        server.load(|load| load.running == n && load.used_blocks > n).await;
        // From here on it can only end by being cancelled.
        server.handle().pause();
        drop(exchange);
        server.idle().await;
        server.handle().resume();
        assert_eq!(cancelled(&server).await, before + n);
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_let_go() {
    let config = ServerConfig {
        stall_timeout: Duration::from_millis(50),
        keep_alive: None,
        ..ServerConfig::default()
    };
    let server = Setup { config, max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    // Far more than the buffers of both sockets hold.
    let mut body = endless(true);
    body["n"] = 8.into();
    body["logprobs"] = 20.into();
    let mut unread = server.open(PATH, &body).await;
    assert_eq!(unread.head().await.status, 200);
    eventually(|| server.state.in_flight() == 1).await;
    server.idle().await;
}

#[tokio::test]
async fn a_request_cancelled_by_its_id_ends_with_an_error() {
    let server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_millis(1));
    let mut exchange = server.open(PATH, &endless(true)).await;
    let head = exchange.head().await;
    let first = String::from_utf8(exchange.chunk().await.unwrap()).unwrap();
    let first: Value = serde_json::from_str(first.strip_prefix("data: ").unwrap()).unwrap();
    let id = first["id"].as_str().unwrap().strip_prefix("cmpl-").unwrap();
    let id = pagoda_sched::RequestId(id.parse().unwrap());
    assert!(server.handle().cancel(id));
    let events = events(&exchange.body(&head).await);
    assert_eq!(events.last().unwrap()["error"]["code"], "request_cancelled");
    server.idle().await;
}

#[tokio::test]
async fn a_deadline_of_the_server_that_passes_is_no_fault_of_the_client() {
    let queue = Some(Duration::from_millis(10));
    let deadlines = Deadlines { queue, ..Deadlines::default() };
    let server = Setup { deadlines, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let whole = server.post(PATH, &json!({"prompt": "x"})).await;
    assert_eq!(whole.head.status, 503);
    assert_eq!(whole.head.field("retry-after"), Some("5"));
    assert_eq!(whole.json()["error"]["type"], "timeout_error");
    assert_eq!(whole.json()["error"]["code"], "queue_timeout");
    let stream = server.post(PATH, &json!({"prompt": "x", "stream": true})).await;
    let events = events(&stream.body);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["error"]["code"], "queue_timeout");
    // One that is longer than the server's is not what passed.
    let longer = server.post(PATH, &json!({"prompt": "x", "queue_timeout": 60})).await;
    assert_eq!(longer.head.status, 503);
    let shorter = server.post(PATH, &json!({"prompt": "x", "queue_timeout": 0.005})).await;
    assert_eq!((shorter.head.status, shorter.head.field("retry-after")), (504, None));
    server.idle().await;
}

#[tokio::test]
async fn a_request_can_set_deadlines_and_hears_which_one_passed() {
    let server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_millis(2));
    let cases = [
        ("queue_timeout", "queue_timeout"),
        ("first_token_timeout", "first_token_timeout"),
        ("timeout", "request_timeout"),
    ];
    for (field, code) in cases {
        for stream in [false, true] {
            let mut body = endless(stream);
            body[field] = 0.02.into();
            // Two of the limits pass before the first step, the third while tokens flow.
            if field != "timeout" {
                server.handle().pause();
            }
            let reply = server.post(PATH, &body).await;
            server.handle().resume();
            let error = if stream {
                assert_eq!(reply.head.status, 200);
                events(&reply.body).last().unwrap()["error"].clone()
            } else {
                assert_eq!(reply.head.status, 504, "{}", reply.text());
                reply.json()["error"].clone()
            };
            assert_eq!((&error["code"], &error["type"]), (&json!(code), &json!("timeout_error")), "{error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("its limit is 0.02 s") && message.contains(field), "{message}");
            server.idle().await;
        }
    }
}

#[tokio::test]
async fn the_shorter_of_both_deadlines_holds() {
    let deadlines = Deadlines { queue: Some(Duration::from_millis(20)), ..Deadlines::default() };
    let server = Setup { deadlines, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let reply = server.post(PATH, &json!({"prompt": "x", "queue_timeout": 3600})).await;
    assert!(reply.text().contains("its limit is 0.02 s"), "{}", reply.text());
    server.idle().await;
}

#[tokio::test]
async fn a_model_that_fails_on_a_request_is_a_server_error() {
    let server = Setup::saying("A").start().await;
    server.control.set_nan_rows(1_000_000, 1);
    let reply = server.post(PATH, &json!({"prompt": "x"})).await;
    assert_eq!(reply.head.status, 500);
    assert_eq!(reply.json()["error"]["code"], "model_error");
    server.control.set_nan_rows(0, 1);
    assert_eq!(server.post(PATH, &json!({"prompt": "x"})).await.head.status, 200);
}

#[tokio::test]
async fn nothing_is_promised_before_the_model_is_loaded() {
    let (sender, loading) = std::sync::mpsc::channel();
    let server = Setup { loading: Some(loading), ..Setup::saying("A") }.start().await;
    // Dropped before the server, which waits for the loader at its end.
    let loaded = sender;
    eventually(|| server.handle().health().loaded > 0.0).await;
    for path in ["/health", "/v1/models", "/v1/models/toy"] {
        let reply = server.get(path).await;
        assert_eq!(reply.head.status, 503, "{path}");
        assert_eq!(reply.json()["error"]["code"], "model_loading");
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains("63%"), "{}", reply.text());
    }
    assert_eq!(server.get("/live").await.head.status, 200);
    let refused = server.post(PATH, &json!({"prompt": "x"})).await;
    assert_eq!(refused.head.status, 503);
    assert!(refused.head.field("retry-after").is_some());
    drop(loaded);
    server.handle().ready().await;
    assert_eq!(server.get("/health").await.head.status, 200);
    assert_eq!(server.post(PATH, &json!({"prompt": "x"})).await.head.status, 200);
}

#[tokio::test]
async fn heads_must_arrive_in_time() {
    let config = ServerConfig { head_timeout: Duration::from_millis(20), ..ServerConfig::default() };
    let server = Setup { config, ..Setup::default() }.start().await;
    for bytes in ["", "GET /health HTT"] {
        let mut exchange = Exchange::send(server.address, bytes.as_bytes()).await;
        exchange.closed().await;
    }
}

#[tokio::test]
async fn connections_have_a_limit() {
    let config = ServerConfig { max_connections: 1, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::default() }.start().await;
    let mut first = Exchange::send(server.address, b"GET /live HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!(first.head().await.status, 200);
    let mut second = Exchange::send(server.address, b"GET /live HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(50), second.head()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert_eq!(second.head().await.status, 200);
}

#[tokio::test]
async fn draining_finishes_what_runs_and_refuses_the_rest() {
    let mut server = Setup::saying("A").start().await;
    server.handle().pause();
    let mut running = server.open(PATH, &json!({"prompt": "x", "stream": true})).await;
    let head = running.head().await;
    server.stop();
    while server.get("/health").await.head.status == 200 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for path in ["/health", "/ready"] {
        let reply = server.get(path).await;
        assert_eq!(reply.head.status, 503);
        assert_eq!(reply.json()["error"]["type"], "unavailable_error");
        assert_eq!(reply.json()["error"]["code"], "draining");
    }
    assert_eq!(server.get("/live").await.head.status, 200);
    let refused = server.post(PATH, &json!({"prompt": "x"})).await;
    assert_eq!(refused.head.status, 503);
    assert_eq!(refused.json()["error"]["code"], "draining");
    assert_eq!(refused.head.field("retry-after"), Some("5"));
    assert_eq!(refused.head.field("retry-after-ms"), Some("5000"));
    server.handle().resume();
    let events = events(&running.body(&head).await);
    assert_eq!(events[0]["choices"][0]["text"], "A");
    server.stopped().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let config = ServerConfig { shutdown_timeout: Duration::from_millis(20), ..ServerConfig::default() };
    let mut server = Setup { config, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    let mut running = server.open(PATH, &json!({"prompt": "x", "stream": true})).await;
    running.head().await;
    server.stop();
    eventually(|| server.state.in_flight() == 0).await;
    server.load(|load| load.waiting == 0).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_client_that_sends_nothing_does_not_delay_the_end() {
    let mut server = Setup::default().start().await;
    let _silent = Exchange::send(server.address, b"").await;
    let _half = Exchange::send(server.address, b"GET /health HTT").await;
    assert_eq!(server.get("/health").await.head.status, 200);
    server.stop();
    server.stopped().await;
}

#[tokio::test]
async fn the_end_of_the_engine_reaches_every_client() {
    let server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_millis(1));
    let mut streaming = server.open(PATH, &endless(true)).await;
    let head = streaming.head().await;
    streaming.chunk().await.unwrap();
    let whole = server.open(PATH, &endless(false)).await;
    server.load(|load| load.running == 2).await;
    server.control.panic_next();
    let events = events(&streaming.body(&head).await);
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["type"], "unavailable_error");
    let whole = whole.reply().await;
    assert_eq!(whole.head.status, 503);
    assert!(whole.json()["error"]["message"].as_str().unwrap().contains("failed"));
    let health = server.get("/health").await;
    assert_eq!(health.head.status, 503);
    assert_eq!(server.post(PATH, &json!({"prompt": "x"})).await.head.status, 503);
    assert!(server.engine.failed().is_some());
}
