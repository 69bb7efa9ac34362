//! Who may call: every route of the table with every credential, and paths that try to look like others.

use crate::client::Exchange;
use crate::server::{Server, Setup};
use pagoda_server::{AllowedHosts, ApiKeys, CorsOrigins, ServerConfig, admin_endpoints, endpoints};
use serde_json::json;

const KEY: &str = "sk-0123456789abcdef";
const OTHER: &str = "sk-fedcba9876543210";

/// What answers to everybody.
const OPEN: [&str; 6] = ["/health", "/live", "/ready", "/ping", "/healthz", "/metrics"];

fn keys() -> ApiKeys {
    let mut keys = ApiKeys::default();
    for key in [KEY, OTHER] {
        assert_eq!(keys.add(key.as_bytes()), Ok(true));
    }
    keys
}

fn locked() -> ServerConfig {
    ServerConfig { api_keys: keys(), keep_alive: None, ..ServerConfig::default() }
}

async fn start(config: ServerConfig) -> Server {
    Setup { config, admin: true, ..Setup::saying("A") }.start().await
}

/// Header lines that are no valid key.
fn invalid() -> Vec<String> {
    let bearer = |key: &str| format!("authorization: Bearer {key}\r\n");
    vec![
        String::new(),
        bearer(""),
        "authorization:\r\n".into(),
        bearer("none"),
        bearer(&KEY[..KEY.len() - 1]),
        bearer(&format!("{KEY}0")),
        bearer(&KEY.to_uppercase()),
        bearer(&format!("{KEY},{OTHER}")),
        bearer(&format!("{KEY} {KEY}")),
        bearer("\u{e9}"),
        format!("authorization: Basic {KEY}\r\n"),
        format!("authorization: Bearer{KEY}\r\n"),
        format!("authorization: {KEY}\r\n"),
        format!("{}{}", bearer(KEY), bearer("none")),
        format!("x-api-key: {KEY}\r\nx-api-key: {KEY}\r\n"),
        format!("cookie: api-key={KEY}\r\n"),
        format!("x-apikey: {KEY}\r\n"),
        format!("proxy-authorization: Bearer {KEY}\r\n"),
        "x-api-key:\r\napi-key: none\r\n".into(),
    ]
}

/// Header lines that are.
fn valid() -> Vec<String> {
    vec![
        format!("authorization: Bearer {KEY}\r\n"),
        format!("Authorization: bearer  {OTHER} \r\n"),
        format!("x-api-key: {KEY}\r\n"),
        format!("api-key: {OTHER}\r\n"),
        format!("authorization: Bearer none\r\nx-api-key: {KEY}\r\n"),
    ]
}

/// A path of the route with its parameters filled in.
fn filled(path: &str) -> String {
    path.replace("{*id}", "toy").replace("{id}", "cmpl-x")
}

#[tokio::test]
async fn without_a_valid_key_only_probes_answer() {
    let server = start(locked()).await;
    let listeners = [(server.address, endpoints()), (server.admin.unwrap(), admin_endpoints())];
    for (address, endpoints) in listeners {
        assert!(endpoints.len() > 10);
        for endpoint in &endpoints {
            let path = filled(&endpoint.path);
            for method in ["GET", "POST", "DELETE", "PUT", "OPTIONS", "PATCH"] {
                let open = OPEN.contains(&path.as_str()) && method == "GET";
                for lines in invalid().iter().take(if method == "GET" { usize::MAX } else { 2 }) {
                    let bytes = crate::client::request_with(method, &path, lines, "{}");
                    let reply = Exchange::send(address, &bytes).await.reply().await;
                    let expected = if open { 200 } else { 401 };
                    assert_eq!(reply.head.status, expected, "{method} {path} {lines:?}: {}", reply.text());
                    if !open {
                        let error = &reply.json()["error"];
                        if path.starts_with("/api/") {
                            assert!(error.as_str().unwrap().contains("API key"), "{error}");
                        } else {
                            assert_eq!(error["type"], "authentication_error");
                            assert_eq!(error["code"], "invalid_api_key");
                        }
                        assert_eq!(reply.head.field("www-authenticate"), Some("Bearer"));
                        assert!(reply.head.field("x-request-id").is_some());
                        assert!(!reply.text().contains("sk-"), "{}", reply.text());
                    }
                }
            }
        }
    }
    assert_eq!((server.control.steps(), server.handle().snapshot().waiting), (0, 0));
}

#[tokio::test]
async fn with_a_valid_key_every_route_answers() {
    let server = start(locked()).await;
    for endpoint in endpoints() {
        let path = filled(&endpoint.path);
        let method = endpoint.methods.split(", ").next().unwrap();
        for lines in valid() {
            let reply = server.send(method, &path, &lines, "{}").await;
            assert!(![401, 403, 405].contains(&reply.head.status), "{method} {path}: {}", reply.text());
        }
    }
    let lines = format!("authorization: Bearer {KEY}\r\n");
    let reply = server.post_as(&lines, "/v1/completions", &json!({"prompt": "x"})).await;
    assert_eq!((reply.head.status, &reply.json()["choices"][0]["text"]), (200, &json!("A")));
}

#[tokio::test]
async fn no_spelling_of_a_path_is_a_way_in() {
    let server = start(locked()).await;
    let open = ["/health?x=/v1/models", "/health#/v1/models"];
    let closed = [
        "/v1/models?/health",
        "/v1/models#/health",
        "/health/",
        "//health",
        "/health/../v1/models",
        "/./health",
        "/v1/../health",
        "/%68ealth",
        "/health%2f..%2fv1%2fmodels",
        "/health;/v1/models",
        "/health%00",
        "/HEALTH",
        "/health/v1/models",
        "/v1/models/../../health",
        "/v1/health",
        "/metrics/",
        "/metrics/../load",
        "/server_info?key=sk-0123456789abcdef",
        "/v1/models?api_key=sk-0123456789abcdef",
        "/",
        "/nowhere",
        "http://test/health",
        "http://test/v1/models",
        "http:///v1/models",
    ];
    for (paths, expected) in [(&open[..], 200), (&closed, 401)] {
        for path in paths {
            let mut exchange = Exchange::send(server.address, &crate::client::request("GET", path, "")).await;
            let status = exchange.head().await.status;
            // Some of them are no targets of a request at all.
            assert!(status == expected || (status == 400 && expected == 401), "{path}: {status}");
        }
    }
}

#[tokio::test]
async fn metrics_can_be_closed_too() {
    let server = start(ServerConfig { protect_metrics: true, ..locked() }).await;
    assert_eq!(server.get("/metrics").await.head.status, 401);
    assert_eq!(server.get("/health").await.head.status, 200);
    let lines = format!("x-api-key: {KEY}\r\n");
    assert_eq!(server.get_as(&lines, "/metrics").await.head.status, 200);
}

#[tokio::test]
async fn a_large_body_without_a_key_still_hears_why() {
    let server = start(locked()).await;
    let body = format!(r#"{{"prompt": "{}"}}"#, "x".repeat(3 << 20));
    assert_eq!(server.post_text("/v1/completions", &body).await.head.status, 401);
}

#[tokio::test]
async fn a_key_is_a_tenant_and_a_header_is_believed_only_where_it_is_trusted() {
    let server = start(locked()).await;
    let body = json!({"prompt": "a prompt of many blocks", "max_tokens": 1});
    let ask = async |server: &Server, lines: &str| {
        let reply = server.post_as(lines, "/v1/completions", &body).await;
        assert_eq!(reply.head.status, 200, "{}", reply.text());
        reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    let [one, other] = [KEY, OTHER].map(|key| format!("authorization: Bearer {key}\r\n"));
    assert_eq!([ask(&server, &one).await, ask(&server, &one).await, ask(&server, &other).await], [0, 20, 0]);
    let posing = format!("{other}x-tenant: a\r\n");
    let refused = server.post_as(&posing, "/v1/completions", &body).await;
    assert_eq!((refused.head.status, &refused.json()["error"]["param"]), (400, &json!("x-tenant")));

    let server = start(ServerConfig { trust_tenant_header: true, ..locked() }).await;
    let behind = format!("{one}x-tenant: a\r\n");
    assert_eq!(
        [ask(&server, &behind).await, ask(&server, &posing).await, ask(&server, &one).await],
        [0, 20, 0]
    );
    assert!(server.get("/metrics").await.text().contains("tenant=\"a\""));
}

#[tokio::test]
async fn a_key_is_written_nowhere() {
    let server = start(locked()).await;
    let lines = format!("authorization: Bearer {KEY}\r\n");
    server.post_as(&lines, "/v1/completions", &json!({"prompt": "x"})).await;
    for path in ["/server_info", "/metrics", "/v1/requests", "/props", "/version"] {
        let reply = server.get_as(&lines, path).await;
        assert_eq!(reply.head.status, 200, "{path}");
        assert!(!reply.text().contains(KEY) && !reply.text().contains(&KEY[3..]), "{path}: {}", reply.text());
    }
    assert_eq!(server.get_as(&lines, "/server_info").await.json()["server"]["api_keys"], 2);
}

#[tokio::test]
async fn calls_in_flight_are_limited_by_key() {
    let config = ServerConfig { max_in_flight_per_key: Some(2), ..locked() };
    let server = start(config).await;
    server.handle().pause();
    let [one, other] = [KEY, OTHER].map(|key| format!("authorization: Bearer {key}\r\n"));
    let body = json!({"prompt": "x", "stream": true});
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut exchange = server.open_as(&one, "/v1/completions", &body).await;
        assert_eq!(exchange.head().await.status, 200);
        running.push(exchange);
    }
    for path in ["/v1/completions", "/tokenize"] {
        let refused = server.post_as(&one, path, &body).await;
        assert_eq!(refused.head.status, 429, "{path}");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("this API key already has 2 calls in flight"), "{message}");
        assert!(refused.head.field("retry-after").is_some());
    }
    assert_eq!(server.post_as(&other, "/tokenize", &json!({"prompt": "x"})).await.head.status, 200);
    server.handle().resume();
    for exchange in running {
        drop(exchange);
    }
    server.idle().await;
    assert_eq!(server.post_as(&one, "/v1/completions", &json!({"prompt": "x"})).await.head.status, 200);
}

#[tokio::test]
async fn an_open_server_takes_any_key_and_none() {
    let server = Setup::saying("A").start().await;
    let body = json!({"prompt": "x"});
    for lines in ["", "authorization: Bearer \r\n", "authorization: Bearer any\r\n", "x-api-key: any\r\n"] {
        assert_eq!(server.post_as(lines, "/v1/completions", &body).await.head.status, 200, "{lines:?}");
    }
}

async fn get_at(server: &Server, host: &str, path: &str) -> u16 {
    let bytes = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    Exchange::send(server.address, bytes.as_bytes()).await.head().await.status
}

#[tokio::test]
async fn a_name_that_points_here_is_not_enough() {
    let mut hosts = AllowedHosts::loopback();
    assert!(hosts.add("models.example.org"));
    let config = ServerConfig { allowed_hosts: Some(hosts), ..ServerConfig::default() };
    let server = start(config).await;
    for host in ["localhost", "127.0.0.1:8000", "[::1]:8000", "models.example.org", "LOCALHOST:1"] {
        assert_eq!(get_at(&server, host, "/v1/models").await, 200, "{host}");
    }
    for host in ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.1.5"] {
        for path in ["/v1/models", "/health", "/nowhere"] {
            assert_eq!(get_at(&server, host, path).await, 403, "{host} {path}");
        }
    }
    let reply = server.get("/v1/models").await;
    assert_eq!(reply.json()["error"]["code"], "host_not_allowed");
    assert!(
        reply.json()["error"]["message"].as_str().unwrap().contains("--allowed-hosts"),
        "{}",
        reply.text()
    );
    let absolute = b"GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(Exchange::send(server.address, absolute).await.head().await.status, 403);
}

#[tokio::test]
async fn pages_of_other_origins_neither_read_nor_change_anything() {
    let server = Setup::saying("A").start().await;
    let body = json!({"prompt": "x"});
    let from = |origin: &str| format!("origin: {origin}\r\n");
    for origin in ["https://evil.example", "null", "http://test:81", "file://"] {
        let reply = server.post_as(&from(origin), "/v1/completions", &body).await;
        assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (403, &json!("origin_not_allowed")));
        assert_eq!(reply.head.field("access-control-allow-origin"), None);
        let read = server.get_as(&from(origin), "/v1/models").await;
        assert_eq!((read.head.status, read.head.field("access-control-allow-origin")), (200, None));
    }
    assert_eq!(server.control.steps(), 0);
    assert_eq!(server.post_as(&from("http://test"), "/v1/completions", &body).await.head.status, 200);
}

#[tokio::test]
async fn listed_pages_may_call_and_are_asked_for_no_key_before() {
    let mut cors_origins = CorsOrigins::default();
    assert!(cors_origins.add("http://localhost:3000"));
    let server = start(ServerConfig { cors_origins, ..locked() }).await;
    let asking = "origin: http://localhost:3000\r\naccess-control-request-method: POST\r\n\
                  access-control-request-headers: authorization\r\n";
    let preflight = server.send("OPTIONS", "/v1/completions", asking, "").await;
    assert_eq!(preflight.head.status, 204);
    assert_eq!(preflight.head.field("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(preflight.head.field("access-control-allow-headers"), Some("authorization"));
    assert_eq!(preflight.head.field("access-control-allow-credentials"), None);
    assert_eq!(preflight.head.field("vary"), Some("origin"));
    let foreign = asking.replace(":3000", ":3001");
    let refused = server.send("OPTIONS", "/v1/completions", &foreign, "").await;
    assert_eq!((refused.head.status, refused.head.field("access-control-allow-origin")), (401, None));

    let lines = format!("origin: http://localhost:3000\r\nauthorization: Bearer {KEY}\r\n");
    let reply = server.post_as(&lines, "/v1/completions", &json!({"prompt": "x"})).await;
    assert_eq!(reply.head.status, 200);
    assert_eq!(reply.head.field("access-control-allow-origin"), Some("http://localhost:3000"));
    let exposed = reply.head.field("access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-request-id"), "{exposed}");
    let keyless = server.post_as("origin: http://localhost:3000\r\n", "/v1/completions", &json!({})).await;
    assert_eq!(keyless.head.status, 401);
    assert_eq!(keyless.head.field("access-control-allow-origin"), Some("http://localhost:3000"));
}
