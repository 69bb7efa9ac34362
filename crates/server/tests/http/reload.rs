//! Another engine behind a server that goes on.

use crate::client::{Exchange, events, request};
use crate::server::{Server, Setup, eventually};
use crate::toy;
use pagoda_engine::{Engine, EngineConfig};
use pagoda_sched::fake::FakeExecutor;
use pagoda_server::{Reload, ServerConfig};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "/v1/completions";

/// An engine whose every answer is `text`.
fn saying(text: &str) -> Engine {
    let mut script = toy::ids(text);
    script.push(toy::EOS);
    let capacity = FakeExecutor::capacity_of(4096, 4, 64, toy::VOCAB);
    let executor = FakeExecutor::new(capacity).with_script(script);
    Engine::start(Arc::new(toy::model(64, Some(toy::TEMPLATE))), executor, EngineConfig::default()).unwrap()
}

async fn answer(server: &Server) -> String {
    let reply = server.post(PATH, &json!({"prompt": "x"})).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()["choices"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn calls_that_began_end_with_their_engine_and_later_ones_meet_the_next() {
    let server = Setup::saying("before").start().await;
    server.control.set_delay(Duration::from_millis(5));
    let mut stream = server.open(PATH, &json!({"prompt": "x", "stream": true})).await;
    let head = stream.head().await;
    let next = saying("after");
    let retired = server.state.replace_engine(next.handle().clone());
    assert_eq!(answer(&server).await, "after");
    let events = events(&stream.body(&head).await);
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "before");
    retired.idle().await;
    retired.handle().drain();
    assert_eq!(answer(&server).await, "after");
    assert_eq!(server.get("/health").await.head.status, 200);
}

#[tokio::test]
async fn requests_of_the_engine_before_are_listed_and_can_be_cancelled() {
    let server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_millis(1));
    let endless = json!({"prompt": "x", "max_tokens": 1_000_000, "ignore_eos": true, "stream": true});
    let mut stream = server.open_as("x-request-id: mine\r\n", PATH, &endless).await;
    stream.head().await;
    stream.chunk().await.unwrap();
    let next = saying("after");
    let retired = server.state.replace_engine(next.handle().clone());
    let listed = server.get("/v1/requests").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(server.get("/v1/requests/mine").await.head.status, 200);
    assert_eq!(server.send("DELETE", "/v1/requests/mine", "", "").await.head.status, 200);
    retired.idle().await;
    eventually(|| server.handle().snapshot().used_blocks == 0).await;
}

/// Clients that ask without a pause while the engine is replaced again and again.
#[tokio::test]
async fn no_call_is_lost_however_often_the_engine_is_replaced() {
    const CLIENTS: usize = 8;
    const TIMES: usize = 40;
    let server = Setup::saying("0").start().await;
    let address = server.address;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                let mut asked = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let body = json!({"prompt": "x", "stream": client % 2 == 0}).to_string();
                    let reply = Exchange::send(address, &request("POST", PATH, &body)).await.reply().await;
                    assert_eq!(reply.head.status, 200, "{}", reply.text());
                    assert!(!reply.text().contains("error"), "{}", reply.text());
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let mut engines = Vec::new();
    for time in 0..TIMES {
        let next = saying(&(time % 10).to_string());
        let retired = server.state.replace_engine(next.handle().clone());
        retired.idle().await;
        retired.handle().drain();
        retired.handle().ended().await;
        assert_eq!(answer(&server).await, (time % 10).to_string());
        engines.push(next);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0, "a client asked nothing");
    }
}

#[tokio::test]
async fn the_operator_orders_a_reload_and_is_told_what_came_of_it() {
    let plain = Setup { admin: true, ..Setup::saying("A") }.start().await;
    assert_eq!(plain.order("POST", "/v1/reload").await.head.status, 404);
    let (reload, mut orders) = Reload::channel();
    let config = ServerConfig { reload: Some(reload), keep_alive: None, ..ServerConfig::default() };
    let server = Setup { admin: true, config, ..Setup::saying("A") }.start().await;
    assert_eq!(server.post("/v1/reload", &json!({})).await.head.status, 404, "clients may not");
    let carry_out = async {
        orders.recv().await.unwrap().answer(Err("weights.safetensors is truncated".into()));
        let order = orders.recv().await.unwrap();
        assert_eq!(server.order("POST", "/v1/reload").await.head.status, 409, "one at a time");
        order.answer(Ok(()));
        drop(orders);
    };
    let ask = async {
        let failed = server.order("POST", "/v1/reload").await;
        assert_eq!(failed.head.status, 500);
        assert!(failed.text().contains("weights.safetensors is truncated"), "{}", failed.text());
        let done = server.order("POST", "/v1/reload").await;
        assert_eq!(done.json(), json!({"object": "model.reload", "model": "toy"}));
    };
    tokio::join!(carry_out, ask);
    assert_eq!(server.order("POST", "/v1/reload").await.head.status, 503);
}
