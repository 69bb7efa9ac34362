//! Faults of the model at any moment: every call hears one end, and the next is served.

use crate::client::{Exchange, Reply, request};
use crate::server::{Dice, Server, Setup, times};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::task::JoinSet;

const CLIENTS: u64 = 12;

/// How a call of one interface is asked, and how its stream ends.
struct Interface {
    path: &'static str,
    /// The body, given some content and the number of tokens.
    body: fn(String, u64) -> Value,
    /// What each event of the end begins with or has in it: of a good end, and of a failure.
    good: &'static [&'static str],
    bad: &'static [&'static str],
    /// What comes after the end, if anything.
    after: &'static str,
}

const DONE: &str = "data: [DONE]\n\n";

const INTERFACES: [Interface; 6] = [
    Interface {
        path: "/v1/completions",
        body: |content, tokens| json!({"prompt": content, "max_tokens": tokens, "ignore_eos": true}),
        good: &["\"finish_reason\":\"length\""],
        bad: &["data: {\"error\""],
        after: DONE,
    },
    Interface {
        path: "/v1/chat/completions",
        body: |content, tokens| json!({"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "ignore_eos": true}),
        good: &["\"finish_reason\":\"length\""],
        bad: &["data: {\"error\""],
        after: DONE,
    },
    Interface {
        path: "/v1/responses",
        body: |content, tokens| json!({"input": content, "max_output_tokens": 16 + tokens}),
        good: &["event: response.completed\n", "event: response.incomplete\n"],
        bad: &["event: response.failed\n"],
        after: "",
    },
    Interface {
        path: "/v1/messages",
        body: |content, tokens| json!({"messages": [{"role": "user", "content": content}], "max_tokens": tokens}),
        good: &["event: message_stop\n"],
        bad: &["event: error\n"],
        after: "",
    },
    Interface {
        path: "/api/generate",
        body: |content, tokens| json!({"prompt": content, "options": {"num_predict": tokens}}),
        good: &["\"done\":true"],
        bad: &["{\"error\""],
        after: "",
    },
    Interface {
        path: "/completion",
        body: |content, tokens| json!({"prompt": content, "n_predict": tokens, "ignore_eos": true}),
        good: &["\"stop\":true"],
        bad: &["\"error\":{"],
        after: "",
    },
];

/// Any call, and where it goes.
fn ask(dice: &mut Dice) -> (&'static Interface, Value) {
    let interface = &INTERFACES[dice.roll(INTERFACES.len() as u64) as usize];
    let mut body = (interface.body)(format!("x{}", dice.roll(50)), 1 + dice.roll(20));
    body["stream"] = (dice.roll(4) > 0).into();
    (interface, body)
}

/// Whether the answer is a failure; whatever it is, it has exactly one end.
fn failed(reply: &Reply, interface: &Interface, asked: &Value) -> bool {
    let (path, text) = (interface.path, reply.text());
    if asked["stream"] == false {
        let failed = reply.head.status != 200;
        assert!(!failed || reply.head.status == 500, "{path}: {text}");
        assert!(!failed || reply.json()["error"].to_string().contains("model"), "{path}: {text}");
        return failed;
    }
    assert_eq!(reply.head.status, 200, "{path}: {text}");
    let rest = text.strip_suffix(interface.after).unwrap_or_else(|| panic!("{path} has no end: {text}"));
    assert!(!rest.contains("[DONE]"), "{path}: {text}");
    let count = |marks: &[&str]| marks.iter().map(|mark| rest.matches(mark).count()).sum::<usize>();
    let (good, bad) = (count(interface.good), count(interface.bad));
    assert_eq!(good + bad, 1, "{path} ends {good} times well and {bad} times badly: {text}");
    // Nothing follows it.
    let separator = if path.starts_with("/api") { "\n" } else { "\n\n" };
    let last = rest.trim_end_matches('\n').rsplit(separator).next().unwrap();
    let is_last = interface.good.iter().chain(interface.bad).any(|mark| format!("{last}\n").contains(mark));
    assert!(is_last, "{path}: {last:?} is no end: {text}");
    bad == 1
}

/// Calls until `failures` of its own have failed; the number that have not.
async fn client(address: SocketAddr, seed: u64, failures: u64) -> u64 {
    let (mut dice, mut left, mut served) = (Dice(seed), failures, 0);
    while left > 0 {
        let (interface, body) = ask(&mut dice);
        let reply =
            Exchange::send(address, &request("POST", interface.path, &body.to_string())).await.reply().await;
        if failed(&reply, interface, &body) {
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
    assert!(served > 0);
    server.control.set_nan_rows(0, 3);
    server.idle().await;
    let body = json!({"prompt": "x", "max_tokens": 2});
    // The last failure may have been asked for after the last step.
    server.post("/v1/completions", &body).await;
    for _ in 0..100 {
        let reply = server.post("/v1/completions", &body).await;
        assert_eq!(reply.head.status, 200, "{}", reply.text());
    }
    assert!(server.engine.failed().is_none());
}
