//! Who yields when blocks or rows run out, and how it comes back.

use crate::bench::{Bench, request};
use pagoda_sched::{CompletionReason, Priority, Request, RequestId, SchedulerConfig};
use std::time::Duration;

fn config(max_num_seqs: u32) -> SchedulerConfig {
    SchedulerConfig { max_num_seqs, watermark_percent: 0, prefix_cache: false, ..SchedulerConfig::default() }
}

fn of_class(priority: Priority, prompt: &[u32], max_tokens: u32) -> Request {
    Request { priority, ..request(prompt, max_tokens) }
}

fn waiting(bench: &Bench, id: RequestId) -> bool {
    bench.scheduler.queue().iter().any(|sequence| sequence.id().request == id)
}

/// Two requests that together outgrow the pool.
fn outgrowing(first: Priority, second: Priority) -> (Bench, RequestId, RequestId) {
    let mut bench = Bench::with(6, 4, config(4));
    let ids = [(first, [1, 2, 3, 4]), (second, [5, 6, 7, 8])]
        .map(|(class, prompt)| bench.submit(of_class(class, &prompt, 14)));
    while bench.scheduler.counters().preemptions == 0 {
        assert!(bench.step(), "nobody was preempted");
    }
    (bench, ids[0], ids[1])
}

#[test]
fn the_lowest_class_yields_then_the_newest() {
    for (first, second, victim) in [
        (Priority::Normal, Priority::Normal, 1),
        (Priority::Low, Priority::Normal, 0),
        (Priority::Urgent, Priority::High, 1),
    ] {
        let (mut bench, a, b) = outgrowing(first, second);
        let (victim, other) = if victim == 0 { (a, b) } else { (b, a) };
        assert!(waiting(&bench, victim) && bench.is_running(other));
        bench.run();
        for id in [a, b] {
            assert_eq!(bench.reason(id, 0), Some(CompletionReason::MaxTokens));
            assert_eq!(bench.output(id, 0).len(), 14);
        }
        assert!(bench.stats(victim, 0).preemptions >= 1);
        assert_eq!(bench.stats(other, 0).preemptions, 0);
    }
}

#[test]
fn among_equals_the_one_with_least_work_to_repeat_yields() {
    let mut bench = Bench::with(8, 4, config(4));
    let old = bench.submit(request(&[1, 2, 3, 4], 30));
    let young = bench.submit(request(&(0..12).collect::<Vec<_>>(), 30));
    while bench.scheduler.counters().preemptions == 0 {
        bench.step();
    }
    assert!(
        waiting(&bench, old) && bench.is_running(young),
        "without a cache the shorter one has less to repeat"
    );
}

#[test]
fn published_blocks_of_a_victim_are_hit_when_it_resumes() {
    let mut bench = Bench::with(6, 4, SchedulerConfig { prefix_cache: true, ..config(4) });
    let asked = [request(&[1, 2, 3, 4], 14), request(&[5, 6, 7, 8], 14)];
    let ids = asked.clone().map(|request| bench.submit(request));
    bench.run();
    let counters = *bench.scheduler.counters();
    assert!(counters.preemptions > 0 && counters.prefix_hits > 0, "{counters:?}");
    for (id, asked) in ids.into_iter().zip(asked) {
        assert_eq!(bench.output(id, 0), bench.answer(&asked, 0, 14));
    }
}

#[test]
fn a_strictly_higher_class_displaces_one_per_step() {
    let mut bench = Bench::with(64, 4, config(2));
    let low = [1, 2].map(|token| bench.submit(of_class(Priority::Low, &[token; 5], 30)));
    bench.step();
    let equal = bench.submit(of_class(Priority::Low, &[3; 5], 3));
    let high = [4, 5].map(|token| bench.submit(of_class(Priority::High, &[token; 5], 3)));
    bench.step();
    assert!(bench.is_running(high[0]) && bench.is_running(low[0]) && waiting(&bench, low[1]));
    assert!(waiting(&bench, high[1]), "one preemption per step for the sake of a waiting request");
    bench.step();
    assert!(bench.is_running(high[1]) && waiting(&bench, low[0]));
    assert_eq!(bench.scheduler.counters().displaced, 2);
    assert!(waiting(&bench, equal), "an equal class displaces nobody");
    bench.run();
    let starts = [low[0], low[1], equal].map(|id| bench.ends[&(id, 0)].1);
    assert!(starts[0].processing_time <= starts[2].processing_time, "the displaced kept their place");
}

#[test]
fn nobody_is_displaced_in_vain() {
    let mut bench = Bench::with(8, 4, config(4));
    let high = bench.submit(of_class(Priority::High, &[1; 12], 3));
    let low = bench.submit(of_class(Priority::Low, &[2; 4], 12));
    bench.step();
    let urgent = bench.submit(of_class(Priority::High, &[3; 24], 2));
    bench.step();
    assert!(
        bench.is_running(low) && waiting(&bench, urgent),
        "without the low one's blocks it would not fit either"
    );
    assert!(bench.is_running(high));
    bench.run();
    assert_eq!(bench.reason(urgent, 0), Some(CompletionReason::MaxTokens));
}

/// After three preemptions a request is spared while its class has others.
#[test]
fn three_preemptions_are_enough_unless_alone_in_the_class() {
    let mut bench = Bench::with(64, 4, config(2));
    let [spared, other] = [1, 2].map(|token| bench.submit(of_class(Priority::Low, &[token; 5], 200)));
    // The same work to repeat and the newest: `other` is the victim three times.
    for round in 0..3 {
        bench.step();
        let high = bench.submit(of_class(Priority::High, &[7; 4], 1));
        bench.step();
        assert!(
            bench.end(high, 0).is_some() && waiting(&bench, other) && bench.is_running(spared),
            "round {round}"
        );
        bench.step();
        assert!(bench.is_running(other));
    }
    bench.step();
    bench.submit(of_class(Priority::High, &[7; 4], 1));
    bench.step();
    assert!(waiting(&bench, spared) && bench.is_running(other), "the one that was never preempted yields");
    bench.scheduler.cancel(spared);
    bench.step();
    bench.submit(of_class(Priority::High, &[7; 4], 2));
    bench.submit(of_class(Priority::High, &[7; 4], 2));
    bench.step();
    assert!(waiting(&bench, other), "alone in its class it yields again");
}

/// A request that was resumed generates at least one token before it is displaced again.
#[test]
fn each_residence_makes_progress() {
    let mut bench = Bench::with(64, 4, SchedulerConfig { max_prefill_chunk: 4, ..config(1) });
    let low = bench.submit(of_class(Priority::Low, &(0..12).collect::<Vec<_>>(), 8));
    let mut generated = 0;
    while bench.end(low, 0).is_none() {
        let before = bench.scheduler.counters().displaced;
        bench.submit(of_class(Priority::High, &[7; 3], 1));
        for _ in 0..6 {
            bench.step();
        }
        let displaced = bench.scheduler.counters().displaced - before;
        let now = bench.output(low, 0).len();
        assert!(displaced == 0 || now > generated, "displaced {displaced} times at {now} tokens");
        generated = now;
        bench.advance(Duration::from_millis(1));
    }
    assert_eq!(bench.reason(low, 0), Some(CompletionReason::MaxTokens));
}

/// Resuming is held to the same reserve as a first admission, or the two would preempt each other for ever.
#[test]
fn resuming_needs_the_whole_gap_and_the_watermark() {
    let mut bench = Bench::with(20, 4, SchedulerConfig { watermark_percent: 20, ..config(2) });
    let a = bench.submit(of_class(Priority::Low, &[1; 30], 40));
    let b = bench.submit(of_class(Priority::Low, &[2; 24], 40));
    bench.step();
    assert!(
        bench.is_running(a) && bench.is_running(b),
        "8 and 6 blocks, one per row, 4 of watermark: all 20"
    );
    let high = bench.submit(of_class(Priority::High, &[3], 1));
    bench.step();
    assert!(bench.end(high, 0).is_some() && waiting(&bench, b));
    bench.step();
    assert!(waiting(&bench, b), "it needs 7 blocks by now, and 12 are free, of which 6 are to stay");
    bench.run();
    assert_eq!(bench.reason(b, 0), Some(CompletionReason::MaxTokens));
}

#[test]
fn an_aged_request_gives_way_to_a_higher_class_but_not_out_of_turn() {
    let mut bench = Bench::with(64, 4, config(1));
    let low = bench.submit(of_class(Priority::Low, &[2; 4], 9));
    bench.advance(bench.scheduler.ageing_bound(Priority::Low));
    bench.step();
    let urgent = (0..12).map(|_| bench.submit(of_class(Priority::Urgent, &[3; 4], 2))).collect::<Vec<_>>();
    bench.step();
    assert!(bench.is_running(urgent[0]), "no urgent request had waited when the low one began");
    while !bench.is_running(low) {
        bench.step();
    }
    assert_eq!(bench.ends.len(), 8, "the ninth turn is that of the aged class");
    while bench.end(low, 0).is_none() {
        assert!(bench.is_running(low), "what it was given in its turn it keeps");
        bench.step();
    }
}

#[test]
fn a_resumed_request_is_not_displaced_before_it_has_a_token() {
    let mut bench = Bench::with(64, 4, SchedulerConfig { max_prefill_chunk: 4, ..config(1) });
    let low = bench.submit(of_class(Priority::Low, &[1; 8], 30));
    bench.step();
    bench.step();
    bench.submit(of_class(Priority::High, &[2; 4], 1));
    bench.step();
    assert!(waiting(&bench, low));
    let generated = bench.output(low, 0).len();
    bench.step();
    bench.submit(of_class(Priority::High, &[3; 4], 1));
    while bench.output(low, 0).len() == generated {
        assert!(bench.is_running(low), "it was displaced before it had caught up");
        bench.step();
    }
    bench.step();
    assert!(waiting(&bench, low));
}

#[test]
fn an_equal_class_is_not_displaced_where_the_lower_one_is_protected() {
    let mut bench = Bench::with(64, 4, SchedulerConfig { max_prefill_chunk: 4, ..config(2) });
    let low = bench.submit(of_class(Priority::Low, &[1; 8], 30));
    let high = bench.submit(of_class(Priority::High, &[2; 4], 30));
    bench.step();
    bench.step();
    bench.submit(of_class(Priority::Urgent, &[3; 4], 1));
    bench.step();
    assert!(waiting(&bench, low));
    bench.step();
    bench.submit(of_class(Priority::High, &[4; 4], 1));
    bench.step();
    assert!(bench.is_running(low) && bench.is_running(high), "the low one has not caught up yet");
}

#[test]
fn a_wide_head_takes_its_rows_one_step_at_a_time() {
    let mut bench = Bench::with(64, 4, config(2));
    let low = [1, 2].map(|token| bench.submit(of_class(Priority::Low, &[token; 5], 30)));
    bench.step();
    let wide = bench.submit(Request { samples: 2, ..of_class(Priority::High, &[3; 5], 3) });
    bench.step();
    assert_eq!(bench.scheduler.counters().displaced, 1);
    assert!(bench.is_running(low[0]) && !bench.is_running(wide));
    bench.step();
    assert!(bench.is_running(wide));
}

/// What a displaced row was going to use is there for the one that takes its place.
#[test]
fn the_budget_of_a_displaced_row_goes_to_its_successor() {
    let mut bench = Bench::with(64, 4, SchedulerConfig { max_num_batched_tokens: 3, ..config(2) });
    let low = [1, 2].map(|token| bench.submit(of_class(Priority::Low, &[token], 30)));
    bench.step();
    let high = bench.submit(of_class(Priority::High, &[3, 4], 3));
    bench.step();
    assert!(waiting(&bench, low[1]));
    assert_eq!(bench.output(high, 0).len(), 1, "both its tokens were in the budget");

    // The same for the right to a chunk that ends inside a block.
    let config = SchedulerConfig { max_num_batched_tokens: 4, ..config(1) };
    let mut bench = Bench::with(64, 16, config);
    bench.submit(of_class(Priority::Low, &[1; 7], 30));
    bench.step();
    let high = bench.submit(of_class(Priority::High, &[2; 8], 1));
    bench.step();
    assert!(bench.is_running(high));
    bench.step();
    assert!(bench.end(high, 0).is_some());
}
