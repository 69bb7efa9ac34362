//! Faults of the model at any moment: every call hears one end, and the next is served.

use crate::client::{Exchange, Reply, request};
use crate::server::{Dice, Server, Setup, times};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::task::JoinSet;

const CLIENTS: u64 = 12;

/// Any call, and where it goes.
fn ask(dice: &mut Dice) -> (&'static str, Value) {
    let (path, prompt) = *dice.pick(&[("/v1/completions", "prompt"), ("/v1/chat/completions", "messages")]);
    let content = format!("x{}", dice.roll(50));
    let mut body = json!({"max_tokens": 1 + dice.roll(20), "n": 1 + dice.roll(2), "ignore_eos": true,
        "stream": dice.roll(4) > 0, "stream_options": {"include_usage": dice.roll(2) == 0}});
    body[prompt] =
        if prompt == "prompt" { content.into() } else { json!([{"role": "user", "content": content}]) };
    (path, body)
}

fn check_error(error: &Value) {
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("model_error")), "{error}");
}

/// Whether the answer is a failure; whatever it is, it has exactly one end.
fn failed(reply: &Reply, asked: &Value) -> bool {
    if asked["stream"] == false {
        let failed = reply.head.status != 200;
        if failed {
            assert_eq!(reply.head.status, 500, "{}", reply.text());
            check_error(&reply.json()["error"]);
        }
        return failed;
    }
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let events = crate::client::events(&reply.body);
    assert_eq!(reply.text().matches("[DONE]").count(), 1);
    let (mut ends, mut usages) = (0, 0);
    for (at, event) in events.iter().enumerate() {
        if !event["error"].is_null() {
            check_error(&event["error"]);
            assert_eq!(at + 1, events.len(), "something follows an error: {}", reply.text());
            return true;
        }
        assert_eq!(usages, 0, "something follows the usage: {}", reply.text());
        match event["choices"].as_array().unwrap().as_slice() {
            [] => usages += 1,
            choices => ends += choices.iter().filter(|choice| !choice["finish_reason"].is_null()).count(),
        }
    }
    assert_eq!(ends as u64, asked["n"].as_u64().unwrap(), "{}", reply.text());
    assert_eq!(usages == 1, asked["stream_options"]["include_usage"] == true);
    false
}

/// Calls until `failures` of its own have failed; the number that have not.
async fn client(address: SocketAddr, seed: u64, failures: u64) -> u64 {
    let (mut dice, mut left, mut served) = (Dice(seed), failures, 0);
    while left > 0 {
        let (path, body) = ask(&mut dice);
        let reply = Exchange::send(address, &request("POST", path, &body.to_string())).await.reply().await;
        if failed(&reply, &body) {
            left -= 1;
        } else {
            served += 1;
        }
    }
    served
}

async fn inject(server: &Server, failures: u64) -> u64 {
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(client(server.address, seed, failures / CLIENTS));
    }
    let mut served = 0;
    let mut dice = Dice(99);
    while !clients.is_empty() {
        tokio::select! {
            Some(client) = clients.join_next() => served += client.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(1 + dice.roll(5))) => server.control.fail_next(),
        }
    }
    served
}

/// 600 failures, or as many as `PAGODA_FAILURES` says, of rows and of whole steps.
#[tokio::test]
async fn every_failure_is_one_end() {
    let server = Setup::default().start().await;
    server.control.set_nan_rows(20_000, 3);
    let failures = times("PAGODA_FAILURES", 600);
    let served = inject(&server, failures).await;
    println!("{failures} failures, {served} calls served between them");
    assert!(served > failures / 4, "{served}");
    server.control.set_nan_rows(0, 3);
    server.idle().await;
    for _ in 0..100 {
        let reply = server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 2})).await;
        assert_eq!(reply.head.status, 200, "{}", reply.text());
    }
    assert!(server.engine.failed().is_none());
}
