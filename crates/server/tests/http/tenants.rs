//! Tenants: who a call is from, what each one's cache is, and what is counted.

use crate::server::{Server, Setup};
use pagoda_server::{ServerConfig, TenantName, TenantWeights};
use serde_json::json;

const PATH: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
/// Longer than a block, so that its start can be cached.
const PROMPT: &str = "a prompt of many blocks";

/// Cached tokens that a call reports.
async fn cached(server: &Server, lines: &str, salt: Option<&str>) -> u64 {
    let mut body = json!({"prompt": PROMPT, "max_tokens": 1});
    if let Some(salt) = salt {
        body["cache_salt"] = salt.into();
    }
    let reply = server.post_as(lines, PATH, &body).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn no_tenant_finds_what_another_has_sent() {
    let server = Setup::saying("A").start().await;
    let tenants = ["", "x-tenant: a\r\n", "x-tenant: b\r\n", "authorization: Bearer a\r\n"];
    for lines in tenants {
        for salt in [None, Some("s"), Some("t")] {
            assert_eq!(cached(&server, lines, salt).await, 0, "{lines:?} {salt:?} is the first of its kind");
            assert_eq!(cached(&server, lines, salt).await, 20, "{lines:?} {salt:?} finds its own");
        }
    }
}

#[tokio::test]
async fn tenants_share_what_has_no_salt_where_the_server_says_so() {
    let config = ServerConfig { share_prefix_cache: true, keep_alive: None, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::saying("A") }.start().await;
    assert_eq!(cached(&server, "x-tenant: a\r\n", None).await, 0);
    assert_eq!(cached(&server, "x-tenant: b\r\n", None).await, 20);
    assert_eq!(cached(&server, "", None).await, 20);
    assert_eq!(cached(&server, "x-tenant: a\r\n", Some("s")).await, 0);
    assert_eq!(cached(&server, "x-tenant: b\r\n", Some("s")).await, 0);
}

#[tokio::test]
async fn use_is_counted_by_tenant() {
    let mut tenants = TenantWeights::default();
    assert!(tenants.set(TenantName::header(b"known").unwrap(), "3".parse().unwrap()));
    let config = ServerConfig { tenants, keep_alive: None, ..ServerConfig::default() };
    let server = Setup { config, ..Setup::saying("AB") }.start().await;
    let count = async |what: &str, tenant: &str| {
        server
            .metric(&format!(
                "pagoda_tenant_{what}_total{{model_name=\"toy\",engine=\"0\",tenant=\"{tenant}\"}}"
            ))
            .await
    };
    let text = server.get("/metrics").await.text().to_owned();
    for tenant in ["default", "known", "other"] {
        assert!(
            text.contains(&format!(
                "pagoda_tenant_requests_total{{model_name=\"toy\",engine=\"0\",tenant=\"{tenant}\"}} 0"
            )),
            "{text}"
        );
    }
    let body = json!({"prompt": PROMPT, "max_tokens": 9, "n": 2});
    for _ in 0..2 {
        assert_eq!(server.post_as("x-tenant: a\r\n", PATH, &body).await.head.status, 200);
    }
    server.post(PATH, &json!({"prompt": "xyz"})).await;
    let prompt = PROMPT.len() as u64;
    assert_eq!(count("requests", "a").await, 2);
    assert_eq!(count("prompt_tokens", "a").await, 2 * prompt);
    assert_eq!(count("generation_tokens", "a").await, 2 * 2 * 3, "two samples of A, B and the end");
    assert_eq!(count("cached_tokens", "a").await, 20, "once for all samples");
    assert_eq!((count("requests", "default").await, count("prompt_tokens", "default").await), (1, 3));
    assert_eq!((count("requests", "known").await, count("requests", "other").await), (0, 0));
}

#[tokio::test]
async fn names_that_clients_make_up_do_not_grow_the_metrics() {
    let server = Setup::saying("A").start().await;
    let body = json!({"prompt": "x"});
    for at in 0..70 {
        assert_eq!(server.post_as(&format!("x-tenant: t{at}\r\n"), PATH, &body).await.head.status, 200);
    }
    let page = server.get("/metrics").await;
    let series = page.text().lines().filter(|line| line.starts_with("pagoda_tenant_requests_total{"));
    assert_eq!(series.count(), 66, "64 names, the default and all others");
    let others = "pagoda_tenant_requests_total{model_name=\"toy\",engine=\"0\",tenant=\"other\"}";
    assert_eq!(server.metric(others).await, 6);
}

#[tokio::test]
async fn a_key_appears_as_a_hash_only() {
    let server = Setup::saying("A").start().await;
    let chat = json!({"messages": [{"role": "user", "content": "x"}]});
    let reply = server.post_as("authorization: Bearer sk-secret\r\n", CHAT, &chat).await;
    assert_eq!(reply.head.status, 200);
    let page = server.get("/metrics").await;
    assert!(page.text().contains("tenant=\"key-"), "{}", page.text());
    for text in [reply.text(), page.text()] {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn bad_names_are_refused_before_anything_else() {
    let server = Setup::saying("A").start().await;
    let long = format!("x-tenant: {}\r\n", "x".repeat(257));
    for (lines, param) in [
        (long.as_str(), "x-tenant"),
        ("x-tenant: a b\r\n", "x-tenant"),
        ("x-tenant: caf\u{e9}\r\n", "x-tenant"),
        ("x-tenant:\r\n", "x-tenant"),
        ("x-tenant: a\r\nx-tenant: b\r\n", "x-tenant"),
        ("authorization: Bearer a b\r\n", "authorization"),
    ] {
        for path in [PATH, CHAT] {
            let reply = server.post_as(lines, path, &json!({})).await;
            assert_eq!(reply.head.status, 400, "{lines:?}: {}", reply.text());
            assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
        }
    }
    server.idle().await;
}
