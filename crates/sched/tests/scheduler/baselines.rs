//! What the baselines do that the rules are compared with.

use crate::bench::{Bench, request};
use pagoda_sched::{Batching, CompletionReason, RequestId, Reservation, SchedulerConfig};

fn submit(bench: &mut Bench, token: u32, max_tokens: u32) -> RequestId {
    bench.submit(request(&[token; 4], max_tokens))
}

#[test]
fn a_static_batch_takes_nobody_in_until_its_last_row_has_left() {
    let config =
        SchedulerConfig { batching: Batching::Static, max_num_seqs: 3, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 4, config);
    let first = [(1, 2), (2, 9)].map(|(token, tokens)| submit(&mut bench, token, tokens));
    assert!(bench.step());
    let late = [(3, 2), (4, 2), (5, 2), (6, 2)].map(|(token, tokens)| submit(&mut bench, token, tokens));
    while bench.end(first[1], 0).is_none() {
        assert!(late.iter().all(|&id| !bench.is_running(id)));
        assert!(bench.step());
    }
    assert!(bench.end(first[0], 0).is_some());
    assert!(bench.step());
    let running = late.map(|id| bench.is_running(id));
    assert_eq!(running, [true, true, true, false], "as many as fit");
    bench.run();
    assert!(late.iter().all(|&id| bench.reason(id, 0) == Some(CompletionReason::MaxTokens)));
}

#[test]
fn a_static_batch_is_filled_over_several_steps_from_those_that_waited() {
    let config = SchedulerConfig {
        batching: Batching::Static,
        max_num_seqs: 4,
        max_num_batched_tokens: 4,
        ..SchedulerConfig::default()
    };
    let mut bench = Bench::with(64, 4, config);
    let first = [1, 2, 3].map(|token| submit(&mut bench, token, 30));
    assert!(bench.step());
    let late = submit(&mut bench, 4, 30);
    (0..20).for_each(|_| assert!(bench.step()));
    assert!(first.iter().all(|&id| bench.is_running(id)));
    assert!(!bench.is_running(late), "it came after the batch was opened");
    bench.run();
    assert_eq!(bench.output(late, 0).len(), 30);
}

#[test]
fn what_is_reserved_for_the_worst_case_is_never_preempted_for_a_block() {
    let run = |reservation| {
        let config = SchedulerConfig { reservation, watermark_percent: 0, ..SchedulerConfig::default() };
        let mut bench = Bench::with(16, 4, config);
        let ids: Vec<_> = (0..12).map(|token| submit(&mut bench, token, 20)).collect();
        let mut most = 0;
        while bench.step() {
            most = most.max(bench.scheduler.batch().len());
        }
        bench.reap();
        assert!(ids.iter().all(|&id| bench.output(id, 0).len() == 20));
        (most, bench.scheduler.counters().preemptions)
    };
    // Six blocks each: prompt 4, output 20.
    assert_eq!(run(Reservation::WorstCase), (2, 0));
    let (most, preemptions) = run(Reservation::Expected);
    assert!(most > 2 && preemptions > 0, "{most} rows, {preemptions} preemptions");
}

#[test]
fn the_worst_case_counts_every_sample() {
    let config = SchedulerConfig {
        reservation: Reservation::WorstCase,
        watermark_percent: 0,
        ..SchedulerConfig::default()
    };
    let mut bench = Bench::with(20, 4, config);
    let mut asked = request(&[1, 2, 3, 4, 5], 11);
    asked.samples = 3;
    let ids = [asked.clone(), request(&[9; 4], 20)].map(|asked| bench.submit(asked));
    bench.run();
    assert_eq!(bench.scheduler.counters().preemptions, 0);
    assert!((0..3).all(|sample| bench.output(ids[0], sample).len() == 11));
    assert_eq!(bench.output(ids[1], 0).len(), 20);
}
