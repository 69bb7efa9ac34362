//! Time limits: queue, first token, total.

use crate::bench::{Bench, request};
use pagoda_sched::{CompletionReason, DeadlineKind, Deadlines, Request, SchedulerConfig};
use std::time::Duration;

const LIMIT: Duration = Duration::from_millis(100);
const INSTANT: Duration = Duration::from_nanos(1);

fn limited(deadlines: Deadlines) -> Request {
    Request { deadlines, ..request(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 50) }
}

/// One row and four tokens per step.
fn narrow() -> Bench {
    let config = SchedulerConfig { max_num_seqs: 1, max_num_batched_tokens: 4, ..SchedulerConfig::default() };
    Bench::with(64, 4, config)
}

#[test]
fn an_expired_waiting_request_is_never_prefilled() {
    let mut bench = narrow();
    bench.submit(request(&[1], 1000));
    bench.step();
    let kinds = [
        (Deadlines { queue: Some(LIMIT), ..Deadlines::default() }, DeadlineKind::Queue),
        (Deadlines { first_token: Some(LIMIT), ..Deadlines::default() }, DeadlineKind::FirstToken),
        (Deadlines { total: Some(LIMIT), ..Deadlines::default() }, DeadlineKind::Total),
    ];
    let ids = kinds.map(|(deadlines, _)| bench.submit(limited(deadlines)));
    let computed = bench.scheduler.counters().computed_tokens;
    bench.advance(LIMIT - INSTANT);
    bench.step();
    assert!(ids.iter().all(|&id| bench.end(id, 0).is_none()));
    bench.advance(INSTANT);
    bench.step();
    for (id, (_, kind)) in ids.into_iter().zip(kinds) {
        assert_eq!(bench.reason(id, 0), Some(CompletionReason::Timeout(kind)));
        assert_eq!(bench.stats(id, 0).queue_time, None);
    }
    assert_eq!(bench.scheduler.counters().computed_tokens, computed + 2, "only the first request ran");
}

/// Planning alone does not start a request whose time is over, even if nobody reaped it.
#[test]
fn planning_notices_deadlines() {
    let mut bench = narrow();
    let id = bench.submit(limited(Deadlines { queue: Some(LIMIT), ..Deadlines::default() }));
    bench.advance(LIMIT);
    assert!(bench.scheduler.plan(bench.now).is_none());
    assert!(!bench.scheduler.is_idle() && bench.scheduler.next_deadline() <= Some(bench.now));
    bench.reap();
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::Timeout(DeadlineKind::Queue)));
    assert!(bench.scheduler.is_idle() && bench.scheduler.next_deadline().is_none());
}

#[test]
fn a_met_deadline_is_over_and_the_next_one_counts() {
    let mut bench = narrow();
    let id = bench.submit(limited(Deadlines {
        queue: Some(LIMIT),
        first_token: Some(2 * LIMIT),
        total: Some(3 * LIMIT),
    }));
    bench.step();
    bench.advance(LIMIT);
    bench.step();
    assert_eq!(bench.end(id, 0), None, "it was scheduled in time");
    bench.advance(LIMIT - INSTANT);
    bench.step();
    assert_eq!(bench.output(id, 0).len(), 1);
    bench.advance(LIMIT);
    bench.step();
    assert_eq!(bench.end(id, 0), None, "its first token came in time");
    bench.advance(INSTANT);
    bench.reap();
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::Timeout(DeadlineKind::Total)));
    assert_eq!((bench.scheduler.pool().held(), bench.output(id, 0).len()), (0, 2));
}

#[test]
fn the_first_token_deadline_stops_a_prefill() {
    let mut bench = narrow();
    let id = bench.submit(limited(Deadlines { first_token: Some(LIMIT), ..Deadlines::default() }));
    bench.step();
    bench.advance(LIMIT);
    bench.step();
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::Timeout(DeadlineKind::FirstToken)));
    assert_eq!(bench.scheduler.pool().held(), 0);
}

#[test]
fn a_deadline_ends_all_samples_wherever_they_are() {
    for steps in [0, 1, 5] {
        let config = SchedulerConfig { max_num_seqs: 3, ..SchedulerConfig::default() };
        let mut bench = Bench::with(64, 4, config);
        let id = bench.submit(Request {
            samples: 3,
            ..limited(Deadlines { total: Some(LIMIT), ..Deadlines::default() })
        });
        (0..steps).for_each(|_| {
            bench.step();
        });
        bench.advance(LIMIT);
        bench.reap();
        for sample in 0..3 {
            assert_eq!(bench.reason(id, sample), Some(CompletionReason::Timeout(DeadlineKind::Total)));
        }
        assert!(bench.scheduler.is_idle());
    }
}

#[test]
fn a_limit_beyond_the_end_of_time_is_none() {
    let mut bench = narrow();
    bench.submit(limited(Deadlines { total: Some(Duration::MAX), ..Deadlines::default() }));
    assert_eq!(bench.scheduler.next_deadline(), None);
}
