//! What rules of the scheduler are worth, in figures that hold on the built-in machine: two cores with a small model.

use pagoda_lab::{
    Process, Report, Rule, RuleSet, Setup, Shape, Source, StepCost, Workload, highest_rate, run,
};
use pagoda_sched::SchedulerConfig;

fn chat(process: Process, requests: u64) -> Workload {
    Workload { shape: Shape::Chat, process, requests, seed: 7 }
}

fn without(rules: &[Rule], setup: &Setup) -> Setup {
    Setup { without: rules.iter().copied().collect::<RuleSet>(), ..setup.clone() }
}

fn done(workload: Workload, setup: &Setup) -> Report {
    run(&Source::Workload(workload), setup).expect("the setup makes sense")
}

/// How many times the load that static batches carry continuous ones carry, with p90 end to end within `slack` times that of a
/// request alone.
fn gain_over_static(setup: &Setup, slack: f64) -> f64 {
    let bound = slack * done(chat(Process::Clients(1), 300), setup).latencies.e2e_s.p90;
    let rate = |setup: &Setup| {
        let found = highest_rate(&chat(Process::Burst, 400), setup, bound).expect("the setup makes sense");
        found.expect("some rate keeps the bound").rate
    };
    let (continuous, fixed) = (rate(setup), rate(&without(&[Rule::ContinuousBatching], setup)));
    println!(
        "p90 within {bound:.1} s: {continuous:.3} and {fixed:.3} requests/s, {:.2} times",
        continuous / fixed
    );
    continuous / fixed
}

#[test]
fn continuous_batches_carry_three_times_the_load_of_static_ones_at_equal_latency() {
    // Beyond eleven rows the arithmetic of two cores is the limit, so the gain falls with the latency that is allowed.
    let gain = gain_over_static(&Setup::default(), 1.5);
    assert!(gain >= 3.0, "{gain} times");
    // Where the reading of weights is most of a step, it does not.
    let cost =
        StepCost { base_s: 8e-3, token_s: 40e-6, free_tokens: 200.0, context_s: 20e-9, attended_s: 1e-9 };
    for slack in [1.5, 3.0] {
        let gain = gain_over_static(&Setup { cost, ..Setup::default() }, slack);
        assert!(gain >= 3.0, "{gain} times");
    }
}

#[test]
fn fewer_than_four_percent_of_the_slots_in_use_hold_no_token() {
    let report = done(chat(Process::Clients(64), 1000), &Setup::default());
    println!("waste {:.2} %", report.kv.waste_percent);
    assert!(report.kv.waste_percent < 4.0, "{:?}", report.kv);
}

#[test]
fn twice_as_many_run_in_the_blocks_that_the_worst_case_would_reserve() {
    let setup = Setup { kv_blocks: 1024, ..Setup::default() };
    let running = |setup: &Setup| done(chat(Process::Burst, 1000), setup).throughput.mean_running;
    let (paged, reserved) = (running(&setup), running(&without(&[Rule::PagedKv], &setup)));
    println!("{paged:.1} and {reserved:.1} sequences run, {:.2} times", paged / reserved);
    assert!(paged >= 2.0 * reserved, "{paged} and {reserved} sequences run");
}

/// A run in half of the blocks that `rows` at once would use, and the throughput relative to that of worst-case reservation.
fn in_half_of_the_demand(rows: u32) -> (Report, f64) {
    let of = |kv_blocks| {
        let base = Setup::default();
        Setup { kv_blocks, config: SchedulerConfig { max_num_seqs: rows, ..base.config }, ..base }
    };
    let load = chat(Process::Burst, 1500);
    let demand = done(load, &of(16_384)).kv.mean_used_percent / 100.0 * 16_384.0;
    let setup = of((demand / 2.0) as u32);
    let (half, reserved) = (done(load, &setup), done(load, &without(&[Rule::PagedKv], &setup)));
    let gain = half.throughput.output_tok_s / reserved.throughput.output_tok_s;
    let lost = &half.preemptions;
    println!(
        "{rows} rows, half of {demand:.0} blocks: {:.1} % preempted, {} times at most, {:.1} % recomputed, {gain:.2} times the throughput",
        lost.requests_percent, lost.most_per_request, lost.recomputed_percent
    );
    (half, gain)
}

#[test]
fn a_pool_of_half_the_demand_serves_everybody_with_little_lost() {
    for rows in [32, 64] {
        let (half, gain) = in_half_of_the_demand(rows);
        let lost = &half.preemptions;
        assert_eq!(half.outcomes.finished, 1500);
        assert!(lost.requests_percent <= 15.0 && lost.most_per_request <= 4, "{lost:?}");
        assert!(lost.recomputed_percent <= 25.0, "{lost:?}");
        // At 64 rows the arithmetic of two cores is the limit, whether a third of them runs or all.
        assert!(gain >= if rows == 32 { 1.3 } else { 1.0 }, "{gain} times the throughput with {rows} rows");
    }
}
