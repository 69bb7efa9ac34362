//! Who may go before whom: backfill, reservation, cached prefixes, prefixes to come.

use crate::bench::{Bench, request};
use pagoda_sched::{RequestId, SchedulerConfig};

/// Tokens that no other prompt begins with.
fn prompt(first: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (first * 31 + i * 7) % 1000).collect()
}

fn cold() -> SchedulerConfig {
    SchedulerConfig { prefix_cache: false, watermark_percent: 0, ..SchedulerConfig::default() }
}

fn ended(bench: &Bench, ids: &[RequestId]) -> usize {
    ids.iter().filter(|&&id| bench.end(id, 0).is_some()).count()
}

#[test]
fn what_fits_passes_a_head_that_does_not_sixteen_times() {
    let mut bench = Bench::with(32, 4, cold());
    let running = bench.submit(request(&prompt(1, 40), 80));
    bench.step();
    let large = bench.submit(request(&prompt(2, 112), 1));
    let small: Vec<_> = (0..40).map(|i| bench.submit(request(&prompt(3 + i, 4), 1))).collect();
    for _ in 0..40 {
        bench.step();
        assert!(!bench.is_running(large) && bench.end(large, 0).is_none());
    }
    assert_eq!(ended(&bench, &small), 16, "then the blocks are left to the large one");
    while bench.end(large, 0).is_none() {
        assert!(ended(&bench, &small) == 16 || bench.end(running, 0).is_some());
        bench.step();
    }
    bench.run();
    assert_eq!(ended(&bench, &small), 40);
}

#[test]
fn only_the_next_eight_are_looked_at() {
    let mut bench = Bench::with(32, 4, cold());
    bench.submit(request(&prompt(1, 40), 80));
    bench.step();
    (0..9).for_each(|i| {
        bench.submit(request(&prompt(2 + i, 112), 1));
    });
    let small = bench.submit(request(&prompt(99, 4), 1));
    for _ in 0..10 {
        bench.step();
    }
    assert!(bench.end(small, 0).is_none());
}

/// One row, so that the order of ends is that of admission.
fn warm() -> Bench {
    let config = SchedulerConfig { max_num_seqs: 1, ..SchedulerConfig::default() };
    let mut bench = Bench::with(256, 4, config);
    bench.submit(request(&prompt(1, 41), 1));
    bench.run();
    bench.ends.clear();
    bench
}

#[test]
fn a_cached_prompt_passes_at_most_eight_older_ones() {
    let mut bench = warm();
    let busy = bench.submit(request(&[5], 3));
    bench.step();
    let older: Vec<_> = (0..9).map(|i| bench.submit(request(&prompt(50 + i, 40), 1))).collect();
    let cached = bench.submit(request(&prompt(1, 41), 1));
    while bench.end(busy, 0).is_none() {
        bench.step();
    }
    bench.step();
    assert_eq!((ended(&bench, &older), bench.end(cached, 0).is_some()), (1, false), "nine were before it");
    bench.step();
    assert_eq!((ended(&bench, &older), bench.end(cached, 0).is_some()), (1, true));
}

#[test]
fn nobody_is_passed_by_cached_prompts_more_than_eight_times() {
    let mut bench = warm();
    let busy = bench.submit(request(&[5], 3));
    bench.step();
    let cold = bench.submit(request(&prompt(50, 40), 1));
    let cached: Vec<_> = (0..20).map(|_| bench.submit(request(&prompt(1, 41), 1))).collect();
    while bench.end(busy, 0).is_none() {
        bench.step();
    }
    while bench.end(cold, 0).is_none() {
        bench.step();
    }
    assert_eq!(ended(&bench, &cached), 8);
    bench.run();
    assert_eq!(ended(&bench, &cached), 20);
}

#[test]
fn a_prefix_that_several_bring_is_computed_once() {
    let config = SchedulerConfig { max_prefill_chunk: 64, ..SchedulerConfig::default() };
    let mut bench = Bench::with(512, 4, config);
    let shared = prompt(1, 200);
    let ids: Vec<_> = (0..8u32)
        .map(|i| {
            let tail = prompt(20 + i, 9);
            bench.submit(request(&[&shared[..], &tail[..]].concat(), 2))
        })
        .collect();
    let other = bench.submit(request(&prompt(90, 20), 2));
    bench.step();
    assert!(bench.is_running(other), "one that shares nothing does not wait");
    bench.run();
    assert_eq!(ended(&bench, &ids), 8);
    let computed = bench.scheduler.counters().computed_tokens;
    let once = 200 + 8 * 9 + 20 + 9;
    assert!(computed <= once + 8 * 8, "{computed} tokens were computed, {once} are different");
}

#[test]
fn nobody_waits_for_a_prefix_beyond_a_bound() {
    let config = SchedulerConfig { max_prefill_chunk: 4, ..SchedulerConfig::default() };
    let mut bench = Bench::with(2048, 4, config);
    let shared = prompt(1, 1000);
    bench.submit(request(&shared, 1));
    let second = bench.submit(request(&[&shared[..], &[3, 1, 4]].concat(), 1));
    let mut steps = 0;
    while !bench.is_running(second) {
        bench.step();
        steps += 1;
    }
    assert!((60..=70).contains(&steps), "it waited for {steps} steps");
}
