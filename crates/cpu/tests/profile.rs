//! The profile of steps, on a model with random weights.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::{Sequence, push_row, step};
use pagoda_cpu::{CpuExecutor, CpuOptions, MemoryPlan, Operation, OperationReport, ProfileReport, StepKind};
use pagoda_model::{Checkpoint, DecoderSpec};
use pagoda_sched::{Executor, SamplingParams, StepOutput};
use std::sync::Arc;
use std::time::Duration;

fn checkpoint() -> Checkpoint {
    Checkpoint::random("tiny".parse().expect("a known shape"), 3)
}

fn load() -> CpuExecutor {
    let options = CpuOptions {
        blocks: 33,
        max_tokens_per_step: 64,
        max_rows: 4,
        threads: Some(2),
        ..CpuOptions::default()
    };
    CpuExecutor::load(&checkpoint(), &options, &mut |_| ()).expect("loads")
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * i * 31 + i * 7) % 1_000).collect()
}

fn part(report: &ProfileReport, operation: Operation) -> OperationReport {
    report.operations[Operation::ALL.iter().position(|other| *other == operation).expect("in the list")]
}

#[test]
fn a_random_model_gives_finite_logits_that_differ_and_repeat() {
    let tokens = prompt(40);
    let mut executor = load();
    let sequence = Sequence::scattered(&tokens, &executor, 0, 1);
    let logits = feed(&mut executor, &sequence, 0, 40).pop().expect("logits");
    let mean = logits.iter().sum::<f32>() / logits.len() as f32;
    let deviation = (logits.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / logits.len() as f32).sqrt();
    assert!((1.0..4.0).contains(&deviation), "logits have a deviation of {deviation}");
    let mut again = load();
    assert_eq!(feed(&mut again, &sequence, 0, 7).pop(), Some(logits));
}

#[test]
fn the_parts_sum_to_the_whole_and_count_what_a_step_does() {
    let mut executor = load();
    let profile = executor.profile().clone();
    let sequence = Sequence::scattered(&prompt(50), &executor, 0, 1);
    feed(&mut executor, &sequence, 0, 25);
    assert_eq!(profile.report().steps, 0, "off until it is started");
    profile.start();
    let mut input = step(&executor);
    push_row(&mut input, &sequence, 25..48, None);
    executor.execute(&input, &mut StepOutput::default()).expect("a step");
    feed(&mut executor, &sequence, 48, 1);
    profile.stop();
    feed(&mut executor, &sequence, 49, 1);

    let report = profile.report();
    assert_eq!((report.steps, report.tokens, report.sampled), (3, 25, 2));
    let [prefill, decode] = [StepKind::Prefill, StepKind::Decode].map(|kind| profile.report_of(kind));
    assert_eq!((prefill.steps, prefill.tokens, decode.steps, decode.sampled), (1, 23, 2, 2));
    assert_eq!(prefill.time + decode.time, report.time);
    let parts: Duration = report.operations.iter().map(|part| part.time).sum();
    assert!(report.time > Duration::ZERO);
    assert_eq!(parts, report.time);
    let layers = checkpoint().spec().layers.len() as u64;
    // The first step samples nothing, so that it ends with the last keys and values.
    for (operation, calls) in [
        (Operation::Qkv, 3 * layers),
        (Operation::KvWrite, 3 * layers),
        (Operation::Attention, 3 * layers - 1),
        (Operation::Down, 3 * layers - 1),
    ] {
        assert_eq!(part(&report, operation).calls, calls, "{operation}");
        assert!(part(&report, operation).time > Duration::ZERO, "{operation}");
    }
    assert_eq!(part(&report, Operation::Head).calls, 2);
}

#[test]
fn costs_are_those_of_the_shape() {
    let mut executor = load();
    let spec: DecoderSpec = checkpoint().spec().clone();
    let plan: MemoryPlan = *executor.plan();
    let profile = executor.profile().clone();
    profile.start();
    let sequence = Sequence::scattered(&prompt(50), &executor, 0, 1);
    let params = Arc::new(SamplingParams::greedy());
    let mut input = step(&executor);
    push_row(&mut input, &sequence, 0..48, None);
    executor.execute(&input, &mut StepOutput::default()).expect("a step");
    let report = profile.report();
    let kv_token = plan.layout.block_bytes() / u64::from(plan.layout.block_size);
    let cost = |operation| part(&report, operation).cost;
    assert_eq!(cost(Operation::KvWrite).kv_bytes, 48 * kv_token);
    let layers = spec.layers.len() as u64;
    assert_eq!(cost(Operation::Attention).kv_bytes, 48 * kv_token / layers * (layers - 1));
    let pairs = 48 * 49 / 2 * u64::from(spec.q_width()) * (layers - 1);
    assert_eq!(cost(Operation::Attention).flops, 4 * pairs);
    assert_eq!(cost(Operation::Head).weight_bytes, 0, "no row sampled");

    profile.start();
    let mut input = step(&executor);
    push_row(&mut input, &sequence, 48..50, Some(&params));
    executor.execute(&input, &mut StepOutput::default()).expect("a step");
    let report = profile.report();
    let cost = |operation| part(&report, operation).cost;
    let head = u64::from(spec.vocab_size) * u64::from(spec.hidden);
    assert_eq!(cost(Operation::Head).flops, 2 * head);
    assert_eq!(cost(Operation::Attention).kv_bytes, 50 * kv_token);
    let inner = u64::from(spec.intermediate) * u64::from(spec.hidden);
    // Two tokens, but in the last layer the one that samples.
    assert_eq!(cost(Operation::GateUp).flops, 2 * 2 * inner * (2 * (layers - 1) + 1));
    assert_eq!(cost(Operation::Down).weight_bytes, 2 * inner * layers);
}
