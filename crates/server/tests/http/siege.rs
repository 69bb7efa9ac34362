//! Many clients that leave, stay silent or dawdle: nobody else hears of them, and nothing of theirs stays.

use crate::client::{Exchange, request};
use crate::server::{Dice, Server, Setup, resident_kib, times};
use pagoda_sched::SchedulerConfig;
use pagoda_server::ServerConfig;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PATH: &str = "/v1/completions";

/// How a client leaves.
#[derive(Clone, Copy)]
enum Exit {
    Close,
    Reset,
    HalfClose,
}

/// Asks, waits for so many bytes of the answer or so long, and leaves.
async fn ask_and_leave(address: SocketAddr, body: String, (bytes, wait): (usize, Duration), exit: Exit) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let whole = request("POST", PATH, &body);
    stream.write_all(&whole).await.unwrap();
    let mut answer = vec![0; bytes];
    let _ = tokio::time::timeout(wait, stream.read_exact(&mut answer)).await;
    match exit {
        Exit::Close => {}
        Exit::Reset => stream.set_zero_linger().unwrap(),
        Exit::HalfClose => {
            let _ = stream.shutdown().await;
            // The server takes it for the end, cancels and closes.
            while stream.read(&mut answer[..1]).await.is_ok_and(|read| read > 0) {}
        }
    }
}

async fn vanish(clients: u64) {
    let scheduler =
        SchedulerConfig { max_num_seqs: 8, max_waiting_requests: 1_000_000, ..SchedulerConfig::default() };
    let server = Setup { scheduler, max_model_len: 8192, ..Setup::repeating("A") }.start().await;
    server.control.set_delay(Duration::from_micros(200));
    let (mut dice, mut leaving) = (Dice(7), JoinSet::new());
    for _ in 0..clients {
        let body = json!({"prompt": "x".repeat(1 + dice.roll(600) as usize), "max_tokens": 1_000_000,
            "ignore_eos": true, "stream": dice.roll(2) == 0, "n": 1 + dice.roll(3)});
        let patience = (1 + dice.roll(2_000) as usize, Duration::from_millis(dice.roll(30)));
        let exit = [Exit::Close, Exit::Reset, Exit::HalfClose][dice.roll(3) as usize];
        leaving.spawn(ask_and_leave(server.address, body.to_string(), patience, exit));
        while leaving.len() >= 64 {
            leaving.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(client) = leaving.join_next().await {
        client.unwrap();
    }
    server.idle().await;
    assert_eq!(server.post(PATH, &json!({"prompt": "x", "max_tokens": 2})).await.head.status, 200);
    assert!(server.engine.failed().is_none());
}

#[tokio::test]
async fn clients_that_vanish_leave_nothing_behind() {
    vanish(5_000).await;
}

/// Longest time between the ends of two connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a connection does instead of asking.
#[derive(Clone, Copy)]
enum Dawdle {
    Silence,
    HeadByByte,
    BodyThatStops,
}

/// Whether the connection was made; ends when the server closes it.
async fn dawdle(address: SocketAddr, how: Dawdle) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let sent = match how {
        Dawdle::Silence => Ok(()),
        Dawdle::HeadByByte => {
            let mut sent = Ok(());
            for byte in b"GET /health HTTP/1.1\r\nhost: test\r\n".repeat(100) {
                sent = stream.write_u8(byte).await;
                if sent.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            sent
        }
        Dawdle::BodyThatStops => {
            stream
                .write_all(b"POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-length: 900\r\n\r\n{")
                .await
        }
    };
    if sent.is_ok() {
        // With an answer or without.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    true
}

/// Times of `count` short calls, sorted.
async fn calls(server: &Server, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let body = json!({"prompt": "x", "max_tokens": 1}).to_string();
        let reply = Exchange::send(server.address, &request("POST", PATH, &body)).await.reply().await;
        assert_eq!(reply.head.status, 200);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times
}

async fn besiege(connections: usize) {
    let short = Duration::from_secs(2);
    let config = ServerConfig { head_timeout: short, body_timeout: short, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::repeating("A") }.start().await;
    let before = calls(&server, 50).await;
    let memory = resident_kib();
    let mut besiegers = JoinSet::new();
    for at in 0..connections {
        let how = [Dawdle::Silence, Dawdle::HeadByByte, Dawdle::BodyThatStops][at % 3];
        besiegers.spawn(dawdle(server.address, how));
        if at % 32 == 31 {
            // Lets the server accept them.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let during = calls(&server, 50).await;
    let peak = resident_kib();
    let begun = Instant::now();
    let mut lost = 0;
    while let Ok(Some(closed)) = tokio::time::timeout(PATIENCE, besiegers.join_next()).await {
        lost += usize::from(!closed.unwrap());
    }
    assert!(besiegers.is_empty(), "{} connections were not closed", besiegers.len());
    println!(
        "{connections} connections, {lost} not made: calls p50 {:?}, p98 {:?}; without them {:?}, {:?}; {} KiB more, clients included; \
         the last was closed after {:?}",
        during[25],
        during[48],
        before[25],
        before[48],
        peak.saturating_sub(memory),
        begun.elapsed()
    );
    server.idle().await;
}

/// 60 connections, or as many as `PAGODA_DAWDLERS` says, which need twice as many file descriptors:
/// `PAGODA_DAWDLERS=9900 cargo test --release -p pagoda-server --test http -- --nocapture dawdle`
#[tokio::test]
async fn connections_that_dawdle_are_closed() {
    besiege(times("PAGODA_DAWDLERS", 60) as usize).await;
}
