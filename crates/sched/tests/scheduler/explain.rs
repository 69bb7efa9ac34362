//! What holds a request back, and when it will be served.

use crate::bench::{Bench, request};
use pagoda_sched::{
    Estimate, Priority, Request, RequestId, Rule, SchedulerConfig, Standing, StepInput, Tenant, TenantId,
    Weight,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

fn prompt(first: u32, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (first * 31 + i * 7) % 1000).collect()
}

fn rule(bench: &mut Bench, id: RequestId) -> Rule {
    match bench.scheduler.explain(id, bench.now).expect("the request is known").standing {
        Standing::Waiting { rule, .. } => rule,
        running => panic!("it does not wait: {running:?}"),
    }
}

#[test]
fn each_rule_is_named() {
    let config = SchedulerConfig { max_num_seqs: 2, max_prefill_chunk: 8, ..SchedulerConfig::default() };
    let mut bench = Bench::with(32, 4, config);
    let shared = bench.submit(request(&prompt(1, 60), 20));
    assert_eq!(rule(&mut bench, shared), Rule::Next);
    bench.step();
    let follower = bench.submit(request(&[&prompt(1, 56)[..], &[1, 2, 3]].concat(), 2));
    let Rule::Prefix { with } = rule(&mut bench, follower) else { panic!("the prefix is being computed") };
    assert_eq!(with.request, shared);
    let large = bench.submit(request(&prompt(2, 100), 20));
    assert_eq!(rule(&mut bench, large), Rule::Blocks);
    let small = bench.submit(request(&prompt(3, 4), 50));
    assert_eq!(rule(&mut bench, small), Rule::Next, "it may pass the two that cannot go");
    bench.step();
    let last = bench.submit(request(&prompt(4, 4), 1));
    assert_eq!(rule(&mut bench, last), Rule::Rows);
    let explained = bench.scheduler.explain(last, bench.now).unwrap();
    assert_eq!(explained.machine.rows, (2, 2));
    let Standing::Waiting { position, before, .. } = explained.standing else { panic!("it waits") };
    assert_eq!((position, before), (2, vec![follower, large]));
    let Standing::Running { computed, generated, blocks } =
        bench.scheduler.explain(small, bench.now).unwrap().standing
    else {
        panic!("it runs")
    };
    assert_eq!((computed, generated, blocks), (4, 1, 1));
    bench.run();
    assert_eq!(bench.scheduler.explain(small, bench.now), None);
}

#[test]
fn a_third_long_prompt_waits_for_the_open_ones() {
    let config = SchedulerConfig { max_prefill_chunk: 8, ..SchedulerConfig::default() };
    let mut bench = Bench::with(512, 4, config);
    let ids: Vec<_> = (0..3).map(|i| bench.submit(request(&prompt(1 + i, 200), 1))).collect();
    bench.step();
    assert_eq!(rule(&mut bench, ids[2]), Rule::Prefill);
}

/// Requests of several classes and tenants, alike but for that.
fn crowd(bench: &mut Bench, count: u32) -> Vec<RequestId> {
    let of = |i: u32| {
        let weight = Weight::try_from(f64::from(1 + i % 3)).expect("a positive number");
        let tenant = Tenant { id: TenantId(u64::from(1 + i % 3)), weight };
        Request { tenant, priority: Priority::ALL[(i as usize * 7) % 4], ..request(&prompt(i, 8), 6) }
    };
    (0..count).map(|i| bench.submit(of(i))).collect()
}

#[test]
fn positions_are_the_order_of_the_next_hundred_admissions() {
    let config = SchedulerConfig { max_num_seqs: 1, prefix_cache: false, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 4, config);
    bench.submit(request(&[1], 2));
    bench.step();
    let ids = crowd(&mut bench, 100);
    let mut expected = ids.clone();
    let position = |bench: &mut Bench, id| match bench.scheduler.explain(id, bench.now).unwrap().standing {
        Standing::Waiting { position, .. } => position,
        running => panic!("{running:?}"),
    };
    let positions: HashMap<_, _> = ids.iter().map(|&id| (id, position(&mut bench, id))).collect();
    expected.sort_by_key(|id| positions[id]);
    let mut admitted = Vec::new();
    while bench.step() {
        admitted.extend(
            ids.iter()
                .copied()
                .filter(|&id| bench.is_running(id))
                .filter(|id| admitted.last() != Some(id))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(admitted, expected);
}

#[test]
fn what_is_explained_is_what_the_next_step_does() {
    for seed in 0..8 {
        let config = SchedulerConfig { max_num_seqs: 6, max_prefill_chunk: 16, ..SchedulerConfig::default() };
        let mut bench = Bench::with(300, 4, config);
        let mut ids = Vec::new();
        for step in 0..100u32 {
            for i in 0..(step * 7 + seed) % 3 {
                let length = 4 + (step * 13 + i * 5 + seed) % 90;
                let class = Priority::ALL[((step + i + seed) % 4) as usize];
                let asked = Request { priority: class, ..request(&prompt(step % 5, length), 1 + step % 12) };
                ids.push(bench.submit(asked));
            }
            bench.reap();
            let waits =
                |bench: &Bench, id: RequestId| bench.scheduler.queue().iter().any(|it| it.id().request == id);
            let fresh: Vec<_> = ids.iter().copied().filter(|&id| waits(&bench, id)).collect();
            let rules: Vec<_> = fresh.iter().map(|&id| (id, rule(&mut bench, id))).collect();
            let before = *bench.scheduler.counters();
            bench.step();
            if bench.scheduler.counters().preemptions > before.preemptions {
                continue;
            }
            let next: Vec<_> = rules.iter().filter(|(_, rule)| *rule == Rule::Next).collect();
            let went = rules.iter().filter(|(id, _)| !waits(&bench, *id)).count();
            assert_eq!(next.is_empty(), went == 0, "step {step} of seed {seed}: {went} went of {rules:?}");
            for (id, rule) in rules {
                let may_go = matches!(rule, Rule::Next | Rule::Order { .. });
                assert!(
                    may_go || waits(&bench, id),
                    "step {step} of seed {seed}: {rule:?}, and yet it was admitted"
                );
            }
        }
    }
}

/// About what two cores need for a model of half a billion parameters.
fn machine(input: &StepInput) -> Duration {
    Duration::from_micros(15_000) + Duration::from_micros(1200) * input.tokens.len() as u32
}

/// Errors of the estimates of start and finish, relative to what came, of requests that arrive with `gap` between them.
fn errors(gap: Duration, of: impl Fn(u32) -> Request) -> Vec<f64> {
    let config = SchedulerConfig {
        max_num_seqs: 16,
        prefix_cache: false,
        max_num_batched_tokens: 512,
        ..SchedulerConfig::default()
    };
    let mut bench = Bench::with(4000, 16, config);
    bench.cost = machine;
    (0..20).for_each(|i| {
        bench.submit(of(i));
    });
    bench.run();
    let mut asked: Vec<(RequestId, Instant, Option<Estimate>)> = Vec::new();
    let (mut next, mut count) = (bench.now, 0);
    let mut ran = true;
    while ran || count < 150 {
        while count < 150 && next <= bench.now {
            let id = bench.submit(of(count));
            asked.push((id, bench.now, bench.scheduler.estimate(id, bench.now)));
            (next, count) = (next + gap, count + 1);
        }
        ran = bench.step();
        if !ran {
            bench.now = bench.now.max(next);
        }
    }
    let known = asked.iter().filter_map(|(id, _, estimate)| Some((id, (*estimate)?)));
    let error =
        |expected: Duration, came: Duration| (expected.as_secs_f64() / came.as_secs_f64() - 1.0).abs();
    let errors = known.flat_map(|(&id, estimate)| {
        let stats = bench.stats(id, 0);
        let waited = stats.queue_time.expect("it ran");
        let start = (waited > Duration::from_millis(500)).then(|| error(estimate.start, waited));
        [start, Some(error(estimate.finish, stats.processing_time))]
    });
    let mut errors: Vec<_> = errors.flatten().collect();
    errors.sort_by(f64::total_cmp);
    errors
}

#[test]
fn estimates_are_about_right_under_three_loads() {
    let burst = errors(Duration::ZERO, |i| request(&prompt(i, 128), 128));
    let steady = errors(Duration::from_millis(450), |i| request(&prompt(i, 128), 64 + 8 * (i % 16)));
    let mixed =
        errors(Duration::from_millis(300), |i| request(&prompt(i, 20 + 37 * (i % 11)), 10 + 17 * (i % 13)));
    for (load, errors) in [("burst", burst), ("steady", steady), ("mixed", mixed)] {
        let at = |share: f64| errors[(errors.len() as f64 * share) as usize];
        let (median, p90) = (at(0.5), at(0.9));
        println!("{load}: median {median:.2}, p90 {p90:.2}");
        assert!(median <= 0.25 && p90 <= 0.60, "{load}: median {median:.2}, p90 {p90:.2}");
    }
}
