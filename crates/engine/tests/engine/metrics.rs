//! Metrics equal what was observed, and exist from the start.

use crate::common::{Setup, bytes, metric, prompt_for};
use pagoda_engine::GenerateParams;

const COUNTERS: [&str; 6] = [
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:num_preemptions_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "pagoda_requests_refused_total",
];
const GAUGES: [&str; 3] =
    ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"];
const HISTOGRAMS: [&str; 6] = [
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:request_time_per_output_token_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:iteration_tokens_total",
];
const REASONS: [&str; 6] = ["stop", "length", "abort", "timeout", "repetition", "error"];

#[test]
fn every_series_is_there_at_zero_before_the_first_request() {
    let engine = Setup::default().start();
    let page = engine.handle.metrics_text();
    for name in COUNTERS.iter().chain(&GAUGES) {
        assert_eq!(metric(&page, name, "model_name=\"fake\""), 0.0);
    }
    for name in HISTOGRAMS {
        assert_eq!(metric(&page, &format!("{name}_count"), ""), 0.0);
        assert_eq!(metric(&page, &format!("{name}_bucket"), "le=\"+Inf\""), 0.0);
    }
    for reason in REASONS {
        assert_eq!(
            metric(&page, "vllm:request_success_total", &format!("finished_reason=\"{reason}\"")),
            0.0
        );
    }
    assert_eq!(metric(&page, "vllm:cache_config_info", "block_size=\"4\""), 1.0);
    assert_eq!(metric(&page, "pagoda_kv_blocks_total", ""), 511.0);
    assert!(page.ends_with("# EOF\n"), "{page}");
    engine.finish();
}

#[test]
fn counts_are_what_clients_saw() {
    let mut script = bytes("one STOP two");
    script.push(crate::common::EOS);
    let engine = Setup::default().script(script).start();
    let mut generated = 0;
    let mut count = |params: GenerateParams| {
        let sessions = engine.sessions(params);
        let results = sessions.into_iter().map(|session| session.result_blocking().unwrap());
        generated += results.map(|result| u64::from(result.tokens_generated)).sum::<u64>();
    };
    count(prompt_for("five!", 4));
    count(GenerateParams { n: Some(2), ..prompt_for("seven!!", 3) });
    count(GenerateParams { ignore_eos: false, ..prompt_for("nine nine", 100) });
    let page = engine.handle.metrics_text();
    let value = |name: &str| metric(&page, name, "model_name=\"fake\"") as u64;
    assert_eq!(value("vllm:prompt_tokens_total"), 5 + 7 + 9, "a prompt counts once, whatever its samples");
    assert_eq!(value("vllm:generation_tokens_total"), generated);
    assert_eq!(value("vllm:time_to_first_token_seconds_count"), 4);
    assert_eq!(value("vllm:inter_token_latency_seconds_count"), generated - 4);
    assert_eq!(value("vllm:e2e_request_latency_seconds_count"), 4);
    assert_eq!(value("vllm:request_generation_tokens_sum"), generated);
    assert_eq!(value("vllm:prefix_cache_queries_total"), 5 + 7 + 9);
    assert_eq!(metric(&page, "vllm:request_success_total", "\"length\""), 3.0);
    assert_eq!(metric(&page, "vllm:request_success_total", "\"stop\""), 1.0);
    assert_eq!(value("vllm:num_requests_running"), 0);
    let snapshot = engine.handle.snapshot();
    assert_eq!((snapshot.prompt_tokens, snapshot.generated_tokens), (21, generated));
    engine.finish();
}

#[test]
fn a_stop_string_counts_as_a_stop() {
    let engine = Setup::saying("one STOP two").start();
    let params = GenerateParams { stop: vec!["STOP".to_owned()], ..prompt_for("x", 100) };
    engine.session(params).result_blocking().unwrap();
    let page = engine.handle.metrics_text();
    assert_eq!(metric(&page, "vllm:request_success_total", "\"stop\""), 1.0);
    assert_eq!(metric(&page, "vllm:request_success_total", "\"abort\""), 0.0);
    engine.finish();
}

#[test]
fn cached_prompt_tokens_count_as_hits() {
    let engine = Setup::default().start();
    for _ in 0..2 {
        engine.session(prompt_for("sixteen letters.!", 1)).result_blocking().unwrap();
    }
    let page = engine.handle.metrics_text();
    assert_eq!(metric(&page, "vllm:prefix_cache_queries_total", ""), 34.0);
    assert_eq!(metric(&page, "vllm:prefix_cache_hits_total", ""), 16.0);
    engine.finish();
}

#[test]
fn refusals_are_counted() {
    let mut setup = Setup::default();
    setup.config.scheduler.max_waiting_requests = 1;
    let engine = setup.start();
    engine.handle.pause();
    let waiting = engine.session(prompt_for("one", 1));
    let refused = engine.handle.model().validate(prompt_for("two", 1)).unwrap();
    engine.handle.submit(refused).unwrap_err();
    assert_eq!(metric(&engine.handle.metrics_text(), "pagoda_requests_refused_total", ""), 1.0);
    drop(waiting);
    engine.finish();
}
