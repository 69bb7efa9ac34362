//! Every limit of a request's head and body, one below, at it and one above.

use crate::client::{Exchange, Head, request_with};
use crate::server::{Server, Setup};
use pagoda_server::{HeadLimits, ServerConfig};
use serde_json::{Value, json};
use std::time::Duration;

/// Header lines of `request_with` itself: the host and the length of the body.
const OWN_FIELDS: usize = 2;

async fn code(server: &Server, bytes: &[u8]) -> (u16, Value) {
    let reply = Exchange::send(server.address, bytes).await.reply().await;
    let code = if reply.head.status == 200 { Value::Null } else { reply.json()["error"]["code"].clone() };
    (reply.head.status, code)
}

#[tokio::test]
async fn a_head_may_have_so_many_bytes() {
    let server = Setup::default().start().await;
    let limit = HeadLimits::default().bytes;
    assert_eq!(limit, 16 << 10);
    let empty = request_with("GET", "/health", "x: \r\n", "").len();
    for (size, expected) in [
        (limit - 1, (200, Value::Null)),
        (limit, (200, Value::Null)),
        (limit + 1, (431, json!("head_too_large"))),
    ] {
        let line = format!("x: {}\r\n", "y".repeat(size - empty));
        let bytes = request_with("GET", "/health", &line, "");
        assert_eq!(bytes.len(), size);
        assert_eq!(code(&server, &bytes).await, expected, "{size}");
    }
}

#[tokio::test]
async fn a_head_may_have_so_many_fields() {
    let server = Setup::default().start().await;
    let limit = HeadLimits::default().fields;
    assert_eq!(limit, 64);
    for (fields, expected) in [
        (limit - 1, (200, Value::Null)),
        (limit, (200, Value::Null)),
        (limit + 1, (431, json!("head_too_large"))),
    ] {
        let lines: String = (0..fields - OWN_FIELDS).map(|at| format!("x-{}: y\r\n", at / 2)).collect();
        let bytes = request_with("GET", "/health", &lines, "");
        assert_eq!(code(&server, &bytes).await, expected, "{fields}");
    }
}

#[tokio::test]
async fn a_path_may_be_so_long() {
    let server = Setup::default().start().await;
    let limit = HeadLimits::default().uri;
    assert_eq!(limit, 8 << 10);
    for (size, expected) in [
        (limit - 1, (200, Value::Null)),
        (limit, (200, Value::Null)),
        (limit + 1, (414, json!("uri_too_long"))),
    ] {
        let path = format!("/health?{}", "x".repeat(size - "/health?".len()));
        assert_eq!(code(&server, &request_with("GET", &path, "", "")).await, expected, "{size}");
    }
}

#[tokio::test]
async fn heads_without_end_are_ended() {
    let server = Setup::default().start().await;
    let many: String = (0..10_000).map(|at| format!("x-{at}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(1 << 20));
    let path = format!("/{}", "x".repeat(1 << 20));
    for bytes in [
        request_with("GET", "/health", &many, ""),
        request_with("GET", "/health", &long, ""),
        request_with("GET", &path, "", ""),
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        // The server may have heard enough before all of it is sent.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await;
        let mut answer = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let refused =
            ["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"].iter().any(|line| answer.starts_with(line));
        assert!(refused || answer.is_empty(), "{answer}");
    }
    assert_eq!(server.get("/health").await.head.status, 200);
}

#[tokio::test]
async fn a_body_may_be_so_large_whatever_its_pieces() {
    let limit = 5_000;
    let config = ServerConfig { body_limit: limit, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::repeating("A") }.start().await;
    let body = |size: usize| {
        let start = r#"{"prompt": "x", "user": ""#;
        format!("{start}{}\"}}", "u".repeat(size - start.len() - 2))
    };
    for (size, expected) in [
        (limit - 1, (200, Value::Null)),
        (limit, (200, Value::Null)),
        (limit + 1, (413, json!("body_too_large"))),
    ] {
        let whole = request_with("POST", "/v1/completions", "", &body(size));
        assert_eq!(code(&server, &whole).await, expected, "{size}");
        // A byte at a time costs no more than all at once.
        let chunks: String = body(size).chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
        let chunked = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        );
        assert_eq!(code(&server, chunked.as_bytes()).await, expected, "{size} in pieces");
    }
}

#[tokio::test]
async fn bodies_may_have_so_many_levels_and_fields() {
    let server = Setup::repeating("A").start().await;
    let nested = |levels: usize| {
        format!(r#"{{"prompt": "x", "user": {}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1))
    };
    let wide = |fields: usize| {
        let more: String = (1..fields).map(|at| format!(r#", "f{at}": 1"#)).collect();
        format!(r#"{{"prompt": "x"{more}}}"#)
    };
    for (body, expected) in [
        (nested(63), 200),
        (nested(64), 200),
        (nested(65), 400),
        (wide(255), 200),
        (wide(256), 200),
        (wide(257), 400),
    ] {
        assert_eq!(server.post_text("/v1/completions", &body).await.head.status, expected, "{body}");
    }
}

/// Status of one more request on a connection.
async fn again(exchange: &mut Exchange) -> Head {
    exchange.write(b"GET /live HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let head = exchange.head().await;
    exchange.body(&head).await;
    head
}

#[tokio::test]
async fn a_connection_may_rest_between_requests_but_not_within_a_head() {
    let config = ServerConfig {
        head_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(3_600),
        ..ServerConfig::default()
    };
    let server = Setup { config, ..Setup::default() }.start().await;
    let mut exchange = Exchange::send(server.address, b"").await;
    assert_eq!(again(&mut exchange).await.status, 200);
    // Longer than a head may take.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(again(&mut exchange).await.status, 200);
    exchange.write(b"GET /live HTT").await;
    exchange.closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let config = ServerConfig { idle_timeout: Duration::from_millis(50), ..ServerConfig::default() };
    let server = Setup { config, ..Setup::default() }.start().await;
    let mut exchange = Exchange::send(server.address, b"").await;
    assert_eq!(again(&mut exchange).await.status, 200);
    exchange.closed().await;
}

#[tokio::test]
async fn a_long_answer_is_no_idle_connection() {
    let config = ServerConfig {
        head_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        keep_alive: None,
        ..ServerConfig::default()
    };
    let server = Setup { config, ..Setup::saying("A") }.start().await;
    server.handle().pause();
    for stream in [true, false] {
        let mut exchange = server.open("/v1/completions", &json!({"prompt": "x", "stream": stream})).await;
        server.load(|load| load.waiting == 1).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.handle().resume();
        let head = exchange.head().await;
        let body = exchange.body(&head).await;
        assert!(String::from_utf8(body).unwrap().contains("\"text\":\"A\""));
        server.handle().pause();
    }
}
