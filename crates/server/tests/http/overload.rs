//! Many times the load that the server can take: what it can do it still does, and it refuses the rest at once.

use crate::client::{Exchange, request};
use crate::server::{Server, Setup, resident_kib, times};
use pagoda_sched::SchedulerConfig;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Tokens of every answer.
const TOKENS: u64 = 32;

/// Sequences that run at a time.
const ROWS: u32 = 16;

enum Outcome {
    Served,
    /// How long the refusal took, and the seconds after which the client may return.
    Refused(Duration, u64),
}

/// A server whose steps last `delay`, with room for `waiting` requests.
async fn start(waiting: u32, delay: Duration) -> Server {
    let scheduler =
        SchedulerConfig { max_num_seqs: ROWS, max_waiting_requests: waiting, ..SchedulerConfig::default() };
    let server = Setup { scheduler, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(delay);
    server
}

async fn ask(address: SocketAddr) -> Outcome {
    let body = json!({"prompt": "x", "max_tokens": TOKENS, "ignore_eos": true}).to_string();
    let begun = Instant::now();
    let reply = Exchange::send(address, &request("POST", "/v1/completions", &body)).await.reply().await;
    if reply.head.status == 200 {
        assert_eq!(reply.json()["usage"]["completion_tokens"], TOKENS);
        return Outcome::Served;
    }
    assert_eq!(reply.head.status, 429, "{}", reply.text());
    let seconds = reply.head.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "retry-after: {seconds}");
    Outcome::Refused(begun.elapsed(), seconds)
}

#[tokio::test]
async fn rows_stay_full_while_most_are_refused() {
    let waiting = 64;
    let server = start(waiting, Duration::from_millis(2)).await;
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..2 * (waiting + ROWS) {
        let (address, stop, refused) = (server.address, Arc::clone(&stop), Arc::clone(&refused));
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if let Outcome::Refused(..) = ask(address).await {
                    refused.fetch_add(1, Ordering::Relaxed);
                    // Much earlier than it was told to.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    server.load(|load| load.waiting == u64::from(waiting)).await;
    let done = || (server.handle().snapshot().generated_tokens, server.control.steps());
    let (tokens, steps) = done();
    server
        .load(|load| {
            assert!(load.waiting <= u64::from(waiting));
            load.generated_tokens >= tokens + 8 * u64::from(ROWS) * TOKENS
        })
        .await;
    let (tokens, steps) = (done().0 - tokens, done().1 - steps);
    assert!(10 * tokens >= 9 * u64::from(ROWS) * steps, "{tokens} tokens in {steps} steps of {ROWS} rows");
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(refused.load(Ordering::Relaxed) > 0);
    server.idle().await;
}

/// For 3 s, or as many as `PAGODA_OVERLOAD_SECONDS` says:
/// `PAGODA_OVERLOAD_SECONDS=60 cargo test -p pagoda-server --test http -- --nocapture ten_times`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_what_the_server_can_do_is_served_or_refused() {
    let seconds = times("PAGODA_OVERLOAD_SECONDS", 3);
    let server = start(SchedulerConfig::default().max_waiting_requests, Duration::from_millis(5)).await;
    let address = server.address;
    let tokens = || server.handle().snapshot().generated_tokens;

    let mut clients = JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..2 * ROWS {
        let stop = Arc::clone(&stop);
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert!(matches!(ask(address).await, Outcome::Served));
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, before) = (Instant::now(), tokens());
    tokio::time::sleep(Duration::from_secs(1 + seconds / 6)).await;
    let most = (tokens() - before) as f64 / TOKENS as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    server.idle().await;

    let (begun, before, rss) = (Instant::now(), tokens(), resident_kib() / 1024);
    let (mut tasks, mut peak) = (JoinSet::new(), rss);
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        while f64::from(sent) < 10.0 * most * begun.elapsed().as_secs_f64() {
            tasks.spawn(ask(address));
            sent += 1;
        }
        peak = peak.max(resident_kib() / 1024);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let served = (tokens() - before) as f64 / TOKENS as f64 / begun.elapsed().as_secs_f64();
    let (mut times, mut hints) = (Vec::new(), Vec::new());
    while let Some(outcome) = tasks.join_next().await {
        if let Outcome::Refused(time, seconds) = outcome.unwrap() {
            times.push(time);
            hints.push(seconds);
        }
    }
    assert!(!times.is_empty(), "nothing was refused");
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    let (least, largest) = (hints.iter().min().unwrap(), hints.iter().max().unwrap());
    println!("saturated: {most:.1} requests/s");
    println!("{sent} requests in {seconds} s: {served:.1} served per s, {:.0} %", 100.0 * served / most);
    println!("{} refused: p50 {:?}, p99 {:?}; Retry-After {least} to {largest}", times.len(), at(50), at(99));
    println!("resident, clients included: {rss} MiB before, at most {peak}");
    server.idle().await;
}
