//! Prefill beside streams: how long a step may take.

use crate::bench::{Bench, request};
use pagoda_sched::{RequestId, SchedulerConfig, StepInput};
use std::time::Duration;

fn prompt(tokens: u32, first: u32) -> Vec<u32> {
    (first..first + tokens).map(|token| token % 1000).collect()
}

/// Reading the weights, arithmetic per token, and attention of chunks, about as the 0.5B shape has them on two cores.
fn machine(input: &StepInput) -> Duration {
    let tokens = input.tokens.len() as u64;
    let attended: u64 = input
        .rows
        .iter()
        .map(|row| u64::from(row.tokens.end - row.tokens.start) * u64::from(row.context))
        .sum();
    Duration::from_micros(16_000)
        + Duration::from_micros(1100) * tokens as u32
        + Duration::from_nanos(100 * attended)
}

/// Eight streams that have run for a while on a machine of that kind.
fn streams(itl_target: Option<Duration>) -> Bench {
    streams_with(SchedulerConfig { itl_target, ..SchedulerConfig::default() })
}

fn streams_with(config: SchedulerConfig) -> Bench {
    let config = SchedulerConfig { max_num_batched_tokens: 512, ..config };
    let mut bench = Bench::with(2000, 16, config);
    bench.cost = machine;
    for stream in 0..8 {
        bench.submit(request(&prompt(20, 100 * stream), 3000));
    }
    (0..100).for_each(|_| assert!(bench.step()));
    bench
}

/// Steps until `id` has its first token: how long each took.
fn until_answer(bench: &mut Bench, id: RequestId) -> Vec<Duration> {
    let mut gaps = Vec::new();
    while bench.output(id, 0).is_empty() {
        let before = bench.now;
        assert!(bench.step() && gaps.len() < 5000, "no answer");
        gaps.push(bench.now - before);
    }
    gaps
}

fn last_step(bench: &mut Bench) -> Duration {
    let before = bench.now;
    bench.step();
    bench.now - before
}

#[test]
fn a_long_prompt_does_not_stall_streams() {
    let run = |target| {
        let mut bench = streams(target);
        let idle = last_step(&mut bench).as_secs_f64();
        let id = bench.submit(request(&prompt(3500, 7), 2));
        let mut gaps = until_answer(&mut bench, id);
        gaps.sort();
        let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize].as_secs_f64() / idle;
        (at(0.99), at(1.0))
    };
    let (p99, largest) = run(None);
    assert!(p99 <= 2.0 && largest <= 3.0, "p99 {p99}, largest {largest} times idle");
    let (_, without) = run(Some(Duration::from_secs(3600)));
    assert!(without > 10.0, "without the rule a stream stands still for {without} times idle");
}

/// More arrives than the machine can do beside the streams: they slow down so that the others begin.
#[test]
fn requests_that_wait_for_prefill_press_on_the_streams() {
    let mut bench = streams(None);
    let idle = last_step(&mut bench);
    let ids: Vec<_> = (0..30).map(|i| bench.submit(request(&prompt(128, 50 * i), 200))).collect();
    let mut gaps = Vec::new();
    while bench.output(ids[29], 0).is_empty() {
        let before = bench.now;
        assert!(bench.step());
        gaps.push((bench.now - before).as_secs_f64() / idle.as_secs_f64());
    }
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    // Seven times at most, of an idle that more than doubles with the streams.
    assert!((4.0..=16.5).contains(&longest), "the longest step took {longest} times idle");
    assert!(gaps.iter().filter(|&&gap| gap > 3.5).count() * 2 > gaps.len());
}

#[test]
fn a_given_target_is_kept_and_used() {
    let target = Duration::from_millis(100);
    let mut bench = streams(Some(target));
    let id = bench.submit(request(&prompt(3000, 7), 2));
    let gaps = until_answer(&mut bench, id);
    let late = gaps.iter().filter(|&&gap| gap > target.mul_f64(1.05)).count();
    assert!(late <= gaps.len() / 50 + 1, "{late} of {} steps took longer", gaps.len());
    // Of 100 ms, 25 go to the streams and what remains to four blocks.
    assert!(gaps.len() < 3000 / 45, "{} steps", gaps.len());
    let counters = bench.scheduler.counters();
    assert!(counters.paced_steps >= gaps.len() as u64 && counters.late_steps <= counters.paced_steps / 10);
    assert!(counters.misjudged_micros * 10 < counters.step_micros, "{counters:?}");
}

#[test]
fn without_streams_nothing_is_held_back() {
    let config = SchedulerConfig { max_num_batched_tokens: 512, ..SchedulerConfig::default() };
    let mut bench = Bench::with(2000, 16, config);
    bench.cost = machine;
    let id = bench.submit(request(&prompt(2048, 3), 1));
    assert_eq!(until_answer(&mut bench, id).len(), 4);
}

#[test]
fn a_short_prompt_passes_a_long_one() {
    let mut bench = streams(None);
    let long = bench.submit(request(&prompt(3500, 7), 2));
    (0..4).for_each(|_| assert!(bench.step()));
    let short = bench.submit(request(&prompt(20, 5), 2));
    let steps = until_answer(&mut bench, short).len();
    assert!(steps <= 6, "{steps} steps for 20 tokens");
    assert!(bench.output(long, 0).is_empty());
    until_answer(&mut bench, long);
}

#[test]
fn a_short_prompt_passes_a_long_one_without_streams_too() {
    let mut bench =
        Bench::with(2000, 16, SchedulerConfig { max_num_batched_tokens: 512, ..SchedulerConfig::default() });
    bench.cost = machine;
    let long = bench.submit(request(&prompt(3900, 7), 2));
    assert!(bench.step());
    let short = bench.submit(request(&prompt(20, 5), 2));
    let steps = until_answer(&mut bench, short).len();
    assert!(steps <= 2, "{steps} steps for 20 tokens");
    assert!(bench.output(long, 0).is_empty());
}

#[test]
fn at_most_two_prompts_are_computed_in_part() {
    let cut_short = SchedulerConfig {
        max_prefill_chunk: 32,
        itl_target: Some(Duration::from_secs(60)),
        ..SchedulerConfig::default()
    };
    for config in [SchedulerConfig::default(), cut_short] {
        // Every other step begins with prompts that are not begun.
        for steps_before in [1, 2] {
            assert_eq!(most_open(streams_with(config), steps_before), 2, "{config:?}, {steps_before}");
        }
    }
}

/// Most prompts that are open after a step while five long ones are computed, each shorter than the one before it, the first of
/// which comes earlier.
fn most_open(mut bench: Bench, steps_before: usize) -> usize {
    let long = |bench: &mut Bench, i: u32| bench.submit(request(&prompt(700 - 120 * i, 31 * i), 2));
    let mut ids = vec![long(&mut bench, 0)];
    (0..steps_before).for_each(|_| assert!(bench.step()));
    ids.extend((1..5).map(|i| long(&mut bench, i)));
    let mut most = 0;
    while ids.iter().any(|&id| bench.output(id, 0).is_empty()) {
        assert!(bench.step());
        let open = bench.scheduler.batch().iter().filter(|sequence| sequence.gap() > 1).count();
        most = most.max(open);
    }
    most
}
