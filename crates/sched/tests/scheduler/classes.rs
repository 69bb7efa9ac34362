//! Order of admission: classes, ageing, first come first served.

use crate::bench::{Bench, request};
use pagoda_sched::{Priority, Request, SchedulerConfig};
use std::time::Duration;

const A: Duration = Duration::from_secs(5);

/// One row at a time, so that the order of admission is the order of ends.
fn single() -> Bench {
    Bench::with(64, 4, SchedulerConfig { max_num_seqs: 1, ageing: A, ..SchedulerConfig::default() })
}

fn of_class(priority: Priority, max_tokens: u32) -> Request {
    Request { priority, ..request(&[1, 2, 3], max_tokens) }
}

#[test]
fn higher_classes_go_first_and_equals_in_order_of_arrival() {
    let mut bench = single();
    let order = [1, 0, 3, 2, 3, 0, 1, 2];
    let ids = order.map(|class| bench.submit(of_class(Priority::try_from(class).unwrap(), 1)));
    let mut started = Vec::new();
    while bench.step() {
        started.extend(
            bench.ends.keys().map(|&(id, _)| id).filter(|id| !started.contains(id)).collect::<Vec<_>>(),
        );
    }
    assert_eq!(started, [2, 4, 3, 7, 0, 6, 1, 5].map(|index| ids[index]));
}

/// How many of 20 urgent requests end before one of `class` that has waited for `waited` when they arrive.
fn urgent_before(class: Priority, waited: Duration) -> usize {
    let mut bench = single();
    let old = bench.submit(of_class(class, 1));
    bench.advance(waited);
    for _ in 0..20 {
        bench.submit(of_class(Priority::Urgent, 1));
    }
    while bench.end(old, 0).is_none() {
        assert!(bench.step());
    }
    bench.ends.len() - 1
}

#[test]
fn waiting_raises_the_class_by_one_per_period() {
    for (class, bound) in Priority::ALL.into_iter().zip([3 * A, 2 * A, A]) {
        assert_eq!(single().scheduler.ageing_bound(class), bound);
        assert_eq!(urgent_before(class, bound - Duration::from_nanos(1)), 20, "below the bound all go first");
        assert_eq!(urgent_before(class, bound), 8, "at the bound every ninth turn is that of the class");
    }
    assert_eq!(urgent_before(Priority::Urgent, Duration::ZERO), 0);
}

/// However many low requests have waited for however long, an urgent one goes next.
#[test]
fn a_long_queue_of_aged_requests_does_not_hold_back_an_urgent_one() {
    let mut bench = single();
    for _ in 0..50 {
        bench.submit(of_class(Priority::Low, 1));
    }
    bench.advance(100 * A);
    bench.step();
    let urgent = bench.submit(of_class(Priority::Urgent, 1));
    bench.step();
    assert!(bench.end(urgent, 0).is_some());
}

/// R5: under urgent arrivals without end, a low request starts within its ageing bound and nine turns.
#[test]
fn nobody_starves_under_urgent_arrivals() {
    let mut bench =
        Bench::with(16, 4, SchedulerConfig { max_num_seqs: 2, ageing: A, ..SchedulerConfig::default() });
    let step = Duration::from_millis(100);
    (0..4).for_each(|_| {
        bench.submit(of_class(Priority::Urgent, 3));
    });
    let low = bench.submit(of_class(Priority::Low, 3));
    let bound = bench.scheduler.ageing_bound(Priority::Low);
    let mut waited = Duration::ZERO;
    // Two rows of three steps each: nine turns are 14 steps.
    while !bench.is_running(low) {
        assert!(waited <= bound + 15 * step, "waited {waited:?}");
        bench.submit(of_class(Priority::Urgent, 3));
        bench.step();
        bench.advance(step);
        waited += step;
    }
    assert!(waited >= bound, "the low request passed urgent ones after {waited:?}");
}

/// Running is not waiting: a request that has run for long does not outrank an urgent one when it is displaced.
#[test]
fn time_spent_running_does_not_age() {
    let mut bench = single();
    let low = bench.submit(of_class(Priority::Low, 100));
    bench.step();
    bench.advance(10 * A);
    let urgent = bench.submit(of_class(Priority::Urgent, 2));
    bench.step();
    assert!(bench.is_running(urgent) && !bench.is_running(low));
}

/// A preempted request that waited little inherits the rank of the one that has waited longest behind it, or the
/// latter's bound would not hold.
#[test]
fn a_preempted_request_does_not_hold_back_an_aged_one_of_its_class() {
    let mut bench = single();
    let first = bench.submit(of_class(Priority::Low, 20));
    bench.step();
    let aged = bench.submit(of_class(Priority::Low, 1));
    bench.advance(A * 3 - Duration::from_millis(1));
    let urgent = bench.submit(of_class(Priority::Urgent, 2));
    bench.step();
    assert!(bench.is_running(urgent), "the first request was displaced");
    bench.advance(Duration::from_millis(1));
    for _ in 0..10 {
        bench.submit(of_class(Priority::Urgent, 1));
    }
    while !bench.is_running(first) {
        bench.step();
    }
    assert_eq!(bench.ends.len(), 9, "the class has aged to the top and its oldest member has the ninth turn");
    bench.run();
    assert!(bench.end(aged, 0).is_some());
}
