//! Blocks behind the windows of all layers.

use crate::bench::{Bench, request};
use pagoda_sched::fake::FakeExecutor;
use pagoda_sched::{CompletionReason, KvCapacity, LengthKind, Request, Retention, SchedulerConfig};
use std::time::Duration;

/// `blocks` blocks of four tokens, and an executor that sees `window` tokens back.
fn windowed(blocks: u32, window: Option<u32>) -> Bench {
    let capacity = KvCapacity { window, ..FakeExecutor::capacity_of(blocks + 1, 4, 4096, 1000) };
    Bench::over(capacity, SchedulerConfig { watermark_percent: 0, ..SchedulerConfig::default() })
}

fn most_held(bench: &mut Bench) -> u32 {
    let mut most = 0;
    while bench.step() {
        most = most.max(bench.scheduler.pool().held());
    }
    most
}

#[test]
fn a_sequence_outlives_its_pool_where_all_layers_have_windows() {
    for (window, reason) in [
        (Some(6), CompletionReason::MaxTokens),
        (Some(1), CompletionReason::MaxTokens),
        (None, CompletionReason::LengthLimit(LengthKind::Pool)),
    ] {
        let mut bench = windowed(5, window);
        let asked = request(&[1, 2, 3, 4, 5], 60);
        let id = bench.submit(asked.clone());
        assert!(most_held(&mut bench) <= 5);
        bench.reap();
        assert_eq!(bench.reason(id, 0), Some(reason), "{window:?}");
        let length = bench.output(id, 0).len();
        assert_eq!(bench.output(id, 0), bench.answer(&asked, 0, length), "{window:?}");
        assert_eq!(window.is_some(), length == 60, "{window:?}: {length} tokens");
        assert_eq!(bench.scheduler.counters().preemptions, 0);
    }
}

#[test]
fn sequences_that_would_outgrow_the_pool_together_are_not_preempted() {
    let mut bench = windowed(8, Some(4));
    let asked = [request(&[1, 2, 3, 4], 40), request(&[5, 6, 7, 8], 40), request(&[9; 9], 20)];
    let ids = asked.clone().map(|request| bench.submit(request));
    bench.run();
    for (id, asked) in ids.into_iter().zip(&asked) {
        assert_eq!(bench.output(id, 0), bench.answer(asked, 0, asked.max_tokens as usize));
    }
    assert_eq!(bench.scheduler.counters().preemptions, 0);
}

#[test]
fn blocks_behind_the_window_serve_as_cache_until_they_are_needed() {
    let prompt: Vec<u32> = (0..24).collect();
    let mut bench = windowed(16, Some(4));
    bench.submit(request(&prompt, 20));
    (0..6).for_each(|_| assert!(bench.step()));
    assert!(bench.scheduler.pool().held() >= 7, "nobody needed them");
    bench.submit(request(&prompt, 2));
    bench.run();
    assert!(bench.scheduler.counters().prefix_hits >= 20, "{:?}", bench.scheduler.counters());
}

#[test]
fn what_waits_for_blocks_is_admitted_from_behind_the_windows() {
    for window in [Some(4), None] {
        let mut bench = windowed(9, window);
        let long = bench.submit(request(&(0..24).collect::<Vec<_>>(), 30));
        (0..3).for_each(|_| assert!(bench.step()));
        let next = bench.submit(request(&(100..108).collect::<Vec<_>>(), 20));
        (0..3).for_each(|_| assert!(bench.step()));
        assert!(bench.is_running(long));
        assert_eq!(bench.is_running(next), window.is_some());
        bench.run();
        assert_eq!(bench.scheduler.counters().preemptions, 0);
    }
}

#[test]
fn samples_share_what_is_left_and_kept_prompts_stay_whole() {
    let mut bench = windowed(12, Some(5));
    let asked = Request { samples: 3, ..request(&[7; 10], 24) };
    let id = bench.submit(asked.clone());
    bench.run();
    for sample in 0..3 {
        assert_eq!(bench.output(id, sample), bench.answer(&asked, sample, 24));
    }
    let mut bench = windowed(6, Some(4));
    let kept = Request { retention: Retention::ttl(Duration::from_secs(600)), ..request(&[3; 8], 40) };
    let id = bench.submit(kept);
    bench.run();
    assert_ne!(bench.reason(id, 0), Some(CompletionReason::MaxTokens), "its blocks are not given back");
}
