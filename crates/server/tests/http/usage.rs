//! What is counted: streams, bodies and metrics agree, whatever ended an answer and whoever else was served.

use crate::client::{Exchange, Reply, events, request};
use crate::server::{Dice, Server, Setup, times};
use pagoda_sched::SchedulerConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::task::JoinSet;

const PATH: &str = "/v1/completions";
/// Clients at a time.
const CLIENTS: u64 = 8;

/// Text and ending of each choice, and the tokens of prompt and answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    choices: BTreeMap<u64, (String, String)>,
    prompt: u64,
    generated: u64,
}

fn usage(seen: &mut Seen, usage: &Value) {
    let count = |field: &str| usage[field].as_u64().unwrap_or_else(|| panic!("no {field} in {usage}"));
    (seen.prompt, seen.generated) = (count("prompt_tokens"), count("completion_tokens"));
    assert_eq!(count("total_tokens"), seen.prompt + seen.generated);
    assert!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() < seen.prompt);
}

fn of_body(reply: &Reply) -> Seen {
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let body = reply.json();
    let mut seen = Seen { choices: BTreeMap::new(), prompt: 0, generated: 0 };
    for choice in body["choices"].as_array().unwrap() {
        let text = |field: &str| choice[field].as_str().unwrap().to_owned();
        seen.choices.insert(choice["index"].as_u64().unwrap(), (text("text"), text("finish_reason")));
    }
    usage(&mut seen, &body["usage"]);
    seen
}

/// The same of a stream, whose usage on every event has to be what had come until then.
fn of_stream(reply: &Reply) -> Seen {
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let mut seen = Seen { choices: BTreeMap::new(), prompt: 0, generated: 0 };
    let mut tokens = 0;
    for event in events(&reply.body) {
        let before = seen.generated;
        usage(&mut seen, &event["usage"]);
        assert!(seen.generated >= before, "{event}");
        for choice in event["choices"].as_array().unwrap() {
            let (text, ending) = seen.choices.entry(choice["index"].as_u64().unwrap()).or_default();
            text.push_str(choice["text"].as_str().unwrap());
            assert!(ending.is_empty(), "after the end: {event}");
            ending.push_str(choice["finish_reason"].as_str().unwrap_or_default());
            tokens += choice["logprobs"]["tokens"].as_array().map_or(0, |tokens| tokens.len() as u64);
        }
    }
    assert!(
        tokens == 0 || tokens == seen.generated,
        "{tokens} of {} tokens have log-probabilities",
        seen.generated
    );
    seen
}

/// Any call; the model that answers it makes any bytes.
fn ask(dice: &mut Dice, stops: bool) -> Value {
    let beginning = *dice.pick(&["", "a beginning that some have in common, ", "another "]);
    let mut body = json!({"prompt": format!("{beginning}{}", dice.roll(40)), "max_tokens": 1 + dice.roll(30),
        "n": 1 + dice.roll(3), "ignore_eos": dice.roll(2) == 0});
    if dice.roll(2) == 0 {
        body["logprobs"] = 0.into();
    }
    if stops {
        let letters: Vec<String> =
            (0..8).map(|_| char::from(b' ' + dice.roll(90) as u8).to_string()).collect();
        body["stop"] = letters.into();
    }
    body
}

/// Sends calls of its own as bodies and as streams, and returns the tokens that all of them generated.
async fn client(address: SocketAddr, seed: u64, calls: u64, stops: bool) -> u64 {
    let (mut dice, mut generated) = (Dice(seed), 0);
    for _ in 0..calls {
        let whole = ask(&mut dice, stops);
        let mut stream = whole.clone();
        stream["stream"] = true.into();
        stream["stream_options"] = json!({"include_usage": true, "continuous_usage_stats": true});
        let send = async |body: &Value| {
            Exchange::send(address, &request("POST", PATH, &body.to_string())).await.reply().await
        };
        let (one, other) = (of_body(&send(&whole).await), of_stream(&send(&stream).await));
        assert_eq!(one, other, "{whole}");
        generated += one.generated + other.generated;
    }
    generated
}

async fn clients(server: &Server, stops: bool) -> u64 {
    let calls = times("PAGODA_REQUESTS", 200) / CLIENTS;
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(client(server.address, seed, calls, stops));
    }
    let mut generated = 0;
    while let Some(client) = clients.join_next().await {
        generated += client.unwrap();
    }
    server.idle().await;
    generated
}

/// A server with so few blocks that samples preempt each other.
async fn start() -> Server {
    let scheduler =
        SchedulerConfig { max_num_seqs: 16, max_num_batched_tokens: 32, ..SchedulerConfig::default() };
    let server = Setup { blocks: 40, max_model_len: 128, scheduler, ..Setup::default() }.start().await;
    // So that calls meet.
    server.control.set_delay(std::time::Duration::from_micros(300));
    server
}

/// 200 calls, each twice, or as many as `PAGODA_REQUESTS` says.
#[tokio::test]
async fn streams_bodies_and_metrics_count_the_same() {
    let server = start().await;
    let generated = clients(&server, false).await;
    assert_eq!(server.handle().snapshot().generated_tokens, generated);
    let (preempted, hits) =
        (server.metric("vllm:num_preemptions_total{").await, server.handle().snapshot().prefix_hits);
    assert!(preempted > 0 && hits > 0, "{preempted} preemptions, {hits} tokens from the cache");
    println!("{generated} tokens; {preempted} preemptions, {hits} prompt tokens from the cache");
}

#[tokio::test]
async fn a_stop_string_cuts_streams_and_bodies_alike() {
    let server = start().await;
    let generated = clients(&server, true).await;
    // What was drawn before the engine heard of the stop string is nobody's.
    assert!(server.handle().snapshot().generated_tokens >= generated);
    assert!(
        server
            .metric("vllm:request_success_total{model_name=\"toy\",engine=\"0\",finished_reason=\"stop\"}")
            .await
            > 50
    );
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_counted_up_to_its_end() {
    let server = Setup { max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(std::time::Duration::from_micros(300));
    let mut counted = 0;
    for _ in 0..10 {
        let body = json!({"prompt": "x", "max_tokens": 5000, "ignore_eos": true, "stream": true, "logprobs": 0,
            "stream_options": {"continuous_usage_stats": true}});
        let mut exchange = server.open(PATH, &body).await;
        let head = exchange.head().await;
        let id = head.field("x-request-id").unwrap().to_owned();
        exchange.chunk().await.unwrap();
        let cancelled = server.send("DELETE", &format!("/v1/requests/{id}"), "", "").await;
        assert_eq!(cancelled.head.status, 200, "{}", cancelled.text());
        let rest = events(&exchange.body(&head).await);
        let (last, before) = rest.split_last().unwrap();
        assert_eq!(last["error"]["code"], "request_cancelled");
        counted += before.last().map_or(1, |event| event["usage"]["completion_tokens"].as_u64().unwrap());
    }
    server.idle().await;
    let generated = server.handle().snapshot().generated_tokens;
    assert_eq!(generated, counted, "all that was generated was sent, and counted as it was");
}
