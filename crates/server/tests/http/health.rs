//! Whether probes tell the truth when something hangs, and that nobody waits for what hangs.

use crate::client::{Exchange, events, request};
use crate::server::{Server, Setup};
use serde_json::json;
use std::time::{Duration, Instant};

const PATH: &str = "/v1/completions";

async fn until(server: &Server, path: &str, status: u16) -> Duration {
    let begun = Instant::now();
    while server.get(path).await.head.status != status {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn an_engine_that_hangs_is_told_of_and_given_up() {
    let mut setup = Setup { max_model_len: 8192, ..Setup::repeating("A") };
    setup.stall_after = Some(Duration::from_millis(700));
    let server = setup.start().await;
    let body = |stream| json!({"prompt": "x", "max_tokens": 5000, "ignore_eos": true, "stream": stream});
    let mut streaming = server.open(PATH, &body(true)).await;
    let head = streaming.head().await;
    streaming.chunk().await.unwrap();
    let whole = server.open(PATH, &body(false)).await;
    server.load(|load| load.running == 2).await;
    // Far longer than the test: the thread is left to itself.
    server.control.set_delay(Duration::from_secs(3_600));
    let begun = Instant::now();
    let queued = server.open(PATH, &body(false)).await;
    let not_ready = until(&server, "/ready", 503).await;
    assert_eq!(server.get("/live").await.head.status, 503);
    assert_eq!(server.get("/health").await.json()["error"]["code"], "unavailable");
    assert_eq!(server.post(PATH, &json!({"prompt": "x"})).await.head.status, 503);
    let error = events(&streaming.body(&head).await).pop().unwrap()["error"].take();
    assert_eq!(error["type"], "unavailable_error", "{error}");
    for exchange in [whole, queued] {
        let reply = exchange.reply().await;
        assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (503, &json!("unavailable")));
    }
    let failure = server.engine.failed().expect("the engine was given up");
    assert!(failure.contains("the engine thread hangs"), "{failure}");
    assert_eq!(server.get("/live").await.head.status, 503);
    println!("not ready after {not_ready:?}, everybody answered after {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_engine_that_was_slow_goes_on() {
    let mut setup = Setup::repeating("A");
    setup.stall_after = Some(Duration::from_millis(400));
    let server = setup.start().await;
    server.control.set_delay(Duration::from_millis(700));
    let slow = server.open(PATH, &json!({"prompt": "x", "max_tokens": 1})).await;
    until(&server, "/ready", 503).await;
    assert_eq!(slow.reply().await.head.status, 200);
    server.control.set_delay(Duration::ZERO);
    until(&server, "/ready", 200).await;
    assert_eq!(server.post(PATH, &json!({"prompt": "x"})).await.head.status, 200);
    assert!(server.engine.failed().is_none());
}

#[tokio::test]
async fn probes_answer_while_texts_are_long() {
    let config = pagoda_server::ServerConfig { text_threads: 1, keep_alive: None, ..Default::default() };
    let server = Setup { config, ..Setup::saying("A") }.start().await;
    let long = json!({"prompt": "a1_ é".repeat(650_000)}).to_string();
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(Exchange::send(server.address, &request("POST", "/tokenize", &long)).await);
    }
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        assert_eq!(server.get("/health").await.head.status, 200);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    for exchange in busy {
        assert_eq!(exchange.reply().await.head.status, 200);
    }
    println!(
        "{} bytes to tokenize, four times: health p50 {:?}, the slowest {:?}",
        long.len(),
        times[25],
        times[49]
    );
}
