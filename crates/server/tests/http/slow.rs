//! Readers that do not read: what is kept for each is bounded, and nobody waits for them.

use crate::client::events;
use crate::server::{Server, Setup, resident_kib, times};
use pagoda_sched::SchedulerConfig;
use pagoda_server::ServerConfig;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/v1/completions";

fn endless() -> Value {
    json!({"prompt": "x", "max_tokens": 1_000_000, "ignore_eos": true, "stream": true, "logprobs": 20})
}

async fn start(config: ServerConfig) -> Server {
    let scheduler = SchedulerConfig { max_num_seqs: 300, ..SchedulerConfig::default() };
    Setup { config, scheduler, blocks: 1 << 20, max_model_len: 16_000, ..Setup::repeating("A") }.start().await
}

/// 3 streams, or as many as `PAGODA_READERS` says:
/// `PAGODA_READERS=200 cargo test -p pagoda-server --test http -- --nocapture readers_that`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_are_let_go() {
    // Only what is kept of the streams ends them.
    let config = ServerConfig {
        stall_timeout: Duration::from_secs(3_600),
        keep_alive: None,
        ..ServerConfig::default()
    };
    let buffer = config.stream_buffer;
    let server = start(config).await;
    let before = resident_kib();
    let readers = times("PAGODA_READERS", 3);
    let mut unread = Vec::new();
    for _ in 0..readers {
        let mut exchange = server.open(PATH, &endless()).await;
        assert_eq!(exchange.head().await.status, 200);
        unread.push(exchange);
    }
    // One that reads is served meanwhile, to its end.
    let read = json!({"prompt": "x", "max_tokens": 300, "ignore_eos": true, "stream": true, "stream_options": {"include_usage": true}});
    let read = events(&server.post(PATH, &read).await.body).pop().unwrap();
    assert_eq!(read["usage"]["completion_tokens"], 300);
    let mut peak = before;
    server
        .load(|load| {
            peak = peak.max(resident_kib());
            load.running == 0
        })
        .await;
    let too_slow = server.metric("pagoda_requests_too_slow_total{").await;
    println!(
        "{readers} streams that nobody reads, {too_slow} ended for it: {} KiB more, clients and sockets included; \
         {} KiB may wait for each",
        peak.saturating_sub(before),
        buffer >> 10
    );
    assert_eq!(too_slow, readers);
    // Whoever reads after all finds what was kept, and then why there is no more.
    let mut late = unread.pop().unwrap();
    let mut last = Vec::new();
    while let Some(chunk) = late.chunk().await {
        last.push(String::from_utf8(chunk).unwrap());
    }
    assert_eq!(last.pop().unwrap(), "data: [DONE]\n\n");
    assert!(last.pop().unwrap().contains("client_too_slow"));
    drop(unread);
    server.idle().await;
}
