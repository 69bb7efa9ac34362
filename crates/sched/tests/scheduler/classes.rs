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

/// Numbers that look random, the same for the same seed (Marsaglia, "Xorshift RNGs", 2003).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit) as u32
    }
}

/// While low requests fill batch and queue, an urgent one has its first token within two steps and those of its prefill.
#[test]
fn an_urgent_request_is_answered_within_two_steps() {
    const CHUNK: u32 = 16;
    for seed in 1..=1000 {
        let mut draw = Draw(seed);
        let config = SchedulerConfig {
            max_num_seqs: 4,
            max_prefill_chunk: CHUNK,
            ageing: A,
            ..SchedulerConfig::default()
        };
        let mut bench = Bench::with(64, 4, config);
        let low = |draw: &mut Draw| {
            let prompt: Vec<_> = (0..1 + draw.below(30)).map(|_| draw.below(1000)).collect();
            Request { priority: Priority::Low, ..request(&prompt, 1 + draw.below(30)) }
        };
        for _ in 0..20 {
            bench.submit(low(&mut draw));
        }
        for _ in 0..3 {
            for _ in 0..5 + draw.below(40) {
                bench.advance(Duration::from_millis(u64::from(draw.below(2000))));
                bench.step();
                bench.submit(low(&mut draw));
            }
            let prompt: Vec<_> = (0..1 + draw.below(40)).map(|_| draw.below(1000)).collect();
            let urgent = bench.submit(Request { priority: Priority::Urgent, ..request(&prompt, 2) });
            let mut steps = 0;
            while bench.output(urgent, 0).is_empty() {
                bench.step();
                steps += 1;
            }
            let allowed = 2 + (prompt.len() as u32).div_ceil(CHUNK);
            assert!(steps <= allowed, "seed {seed}: {steps} steps, {allowed} are allowed");
        }
    }
}

/// Under urgent requests without end, the last of several low ones starts within its ageing bound and nine turns for each.
#[test]
fn the_wait_of_low_requests_is_bounded() {
    let step = Duration::from_millis(100);
    for seed in 1..=1000 {
        let mut draw = Draw(seed);
        let (rows, tokens, lows) = (1 + draw.below(4), 1 + draw.below(4), 1 + draw.below(4));
        let config = SchedulerConfig { max_num_seqs: rows, ageing: A / 10, ..SchedulerConfig::default() };
        let mut bench = Bench::with(64, 4, config);
        let urgent = |bench: &mut Bench| {
            (0..rows).for_each(|_| {
                bench.submit(of_class(Priority::Urgent, tokens));
            })
        };
        urgent(&mut bench);
        let ids: Vec<_> = (0..lows).map(|_| bench.submit(of_class(Priority::Low, tokens))).collect();
        // A turn takes at most the steps of a request, shared by the rows.
        let turns = step * (9 * lows * tokens).div_ceil(rows) + step * tokens;
        let bound = bench.scheduler.ageing_bound(Priority::Low) + turns;
        let mut waited = Duration::ZERO;
        while ids.iter().any(|&id| !bench.is_running(id) && bench.end(id, 0).is_none()) {
            assert!(waited <= bound, "seed {seed}: waited {waited:?}, the bound is {bound:?}");
            urgent(&mut bench);
            bench.step();
            bench.advance(step);
            waited += step;
        }
    }
}
