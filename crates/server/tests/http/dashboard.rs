//! The dashboard in `ops/` asks for nothing that the server does not tell.

use crate::server::Setup;
use serde_json::{Value, json};

const DASHBOARD: &str = include_str!("../../../../ops/grafana.json");

/// The series that an expression selects: each has its labels in braces right after its name.
fn selected(expression: &str) -> impl Iterator<Item = &str> {
    let before_braces = expression.split('{').rev().skip(1);
    before_braces.map(|text| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        text.rfind(|c| !is_name(c)).map_or(text, |at| &text[at + 1..])
    })
}

/// The labels that an expression groups by, but for the bounds of buckets.
fn grouped(expression: &str) -> impl Iterator<Item = &str> {
    let after_by = expression.split("by (").skip(1).filter_map(|text| text.split(')').next());
    after_by.flat_map(|labels| labels.split(", ")).filter(|&label| label != "le")
}

#[tokio::test]
async fn every_expression_of_the_dashboard_finds_its_series() {
    let server = Setup::saying("A").start().await;
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "x"})).await.head.status, 200);
    let page = server.get("/metrics").await;
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let mut names = selected(expression).peekable();
            assert!(names.peek().is_some(), "{expression}");
            for name in names {
                let start = format!("{name}{{model_name=");
                let series = page.text().lines().find(|line| line.starts_with(&start));
                let series = series.unwrap_or_else(|| panic!("{expression}: there is no {name}"));
                for label in grouped(expression) {
                    assert!(series.contains(&format!("{label}=\"")), "{expression}: {series} has no {label}");
                }
            }
        }
    }
}
