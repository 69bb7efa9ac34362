//! Shares of tenants: virtual token counters.

use crate::bench::{Bench, request};
use pagoda_sched::{Request, RequestId, SchedulerConfig, Tenant, TenantId, Weight};
use std::collections::HashMap;
use std::time::Duration;

const PROMPT: u32 = 8;
const OUTPUT: u32 = 6;

fn tenant(id: u64, weight: f64) -> Tenant {
    Tenant { id: TenantId(id), weight: Weight::try_from(weight).expect("a positive number") }
}

fn of(tenant: Tenant, first: u32) -> Request {
    let prompt: Vec<_> = (0..PROMPT).map(|i| (first + i * i) % 1000).collect();
    Request { tenant, ..request(&prompt, OUTPUT) }
}

fn bench(rows: u32) -> Bench {
    let config = SchedulerConfig {
        max_num_seqs: rows,
        max_waiting_requests: 10_000,
        prefix_cache: false,
        ageing: Duration::from_secs(1),
        ..SchedulerConfig::default()
    };
    Bench::with(512, 4, config)
}

/// Service by tenant so far: prompt tokens once, generated tokens that were computed twice.
fn served(bench: &Bench, owners: &HashMap<RequestId, u64>) -> HashMap<u64, f64> {
    let mut served = HashMap::new();
    let mut add = |id: RequestId, computed: u32| {
        let generated = computed.saturating_sub(PROMPT);
        *served.entry(owners[&id]).or_default() += f64::from(computed - generated + 2 * generated);
    };
    for &(id, _) in bench.ends.keys() {
        add(id, PROMPT + OUTPUT - 1);
    }
    for sequence in bench.scheduler.batch().iter() {
        add(sequence.id().request, sequence.computed());
    }
    served
}

/// The bound of the paper: twice the larger of a request and of what a batch may hold.
fn bound(rows: u32) -> f64 {
    f64::from(2 * rows * (PROMPT + 2 * OUTPUT))
}

#[test]
fn two_backlogged_tenants_are_served_alike_whatever_they_offer() {
    let mut bench = bench(4);
    let mut owners = HashMap::new();
    for round in 0..60 {
        for (id, count) in [(1, 10), (2, 1)] {
            for request in 0..count {
                let request = bench.submit(of(tenant(id, 1.0), round * 100 + request));
                owners.insert(request, id);
            }
        }
    }
    // As long as both have requests waiting.
    let waits =
        |bench: &Bench, id| bench.scheduler.queue().iter().any(|it| it.request().tenant.id == TenantId(id));
    let mut steps = 0;
    while waits(&bench, 2) {
        bench.step();
        bench.advance(Duration::from_millis(100));
        let served = served(&bench, &owners);
        let difference = (served.get(&1).unwrap_or(&0.0) - served.get(&2).unwrap_or(&0.0)).abs();
        assert!(difference <= bound(4), "after {steps} steps the service differs by {difference}");
        steps += 1;
    }
    assert!(steps > 100 && waits(&bench, 1));
    let served = served(&bench, &owners);
    let (sum, squares) = served.values().fold((0.0, 0.0), |(sum, squares), s| (sum + s, squares + s * s));
    assert!(sum * sum / (2.0 * squares) >= 0.95, "Jain's index of {served:?}");
    bench.run();
    assert_eq!(bench.ends.len(), owners.len(), "what one leaves, the other has");
}

#[test]
fn service_is_in_proportion_to_weights() {
    let mut bench = bench(4);
    let mut owners = HashMap::new();
    for round in 0..200 {
        for (id, weight) in [(1, 1.0), (2, 3.0)] {
            owners.insert(bench.submit(of(tenant(id, weight), round * 7)), id);
        }
    }
    for _ in 0..300 {
        bench.step();
    }
    let served = served(&bench, &owners);
    let ratio = served[&2] / served[&1];
    assert!((2.7..3.3).contains(&ratio), "{ratio}");
}

#[test]
fn a_tenant_that_was_away_has_saved_nothing_up() {
    let mut bench = bench(1);
    let mut owners = HashMap::new();
    for round in 0..40 {
        owners.insert(bench.submit(of(tenant(1, 1.0), round)), 1);
    }
    for _ in 0..100 {
        bench.step();
    }
    for round in 0..20 {
        owners.insert(bench.submit(of(tenant(2, 1.0), 500 + round)), 2);
    }
    let before = served(&bench, &owners)[&1];
    for _ in 0..100 {
        bench.step();
    }
    let served = served(&bench, &owners);
    let difference = served[&1] - before - served[&2];
    assert!(difference.abs() <= bound(1), "the one that stayed has {difference} more since");
}
