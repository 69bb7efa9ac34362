//! Mixtures of experts: what a step reads of them, and that a token's bits are its own.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::{Sequence, push_row, step};
use pagoda_cpu::{CpuExecutor, CpuOptions, Operation, OperationReport, ProfileReport};
use pagoda_kernels::{LinearShape, PackedLinear, QuantFormat, WeightFormat};
use pagoda_model::{Checkpoint, DecoderSpec, ExpertSpec};
use pagoda_sched::{Executor, SamplingParams, StepOutput};
use std::collections::BTreeSet;
use std::sync::Arc;

fn checkpoint() -> Checkpoint {
    Checkpoint::random("tiny-moe".parse().expect("a known shape"), 5)
}

fn load(threads: usize, quantize: Option<QuantFormat>) -> CpuExecutor {
    let options = CpuOptions {
        blocks: 65,
        max_tokens_per_step: 400,
        max_rows: 8,
        threads: Some(threads),
        quantize,
        ..CpuOptions::default()
    };
    CpuExecutor::load(&checkpoint(), &options, &mut |_| ()).expect("loads")
}

fn experts(spec: &DecoderSpec) -> ExpertSpec {
    *spec.layers[0].mlp.experts().expect("a mixture of experts")
}

fn part(report: &ProfileReport, operation: Operation) -> OperationReport {
    *report.operations.iter().find(|part| part.operation == operation).expect("in the list")
}

fn prompt(length: u32, salt: u32) -> Vec<u32> {
    (0..length).map(|i| (i * i * 31 + i * 7 + salt * 113) % 1_000).collect()
}

#[test]
fn a_step_reads_the_experts_that_its_tokens_chose_and_no_others() {
    for quantize in [None, Some(QuantFormat::INT4)] {
        let mut executor = load(2, quantize);
        let spec = checkpoint().spec().clone();
        let experts = experts(&spec);
        let format = executor.plan().weight_formats.layers;
        let (hidden, inner) = (spec.hidden as usize, experts.intermediate as usize);
        let gate_up = PackedLinear::packed_gated_bytes(LinearShape { n: inner, k: hidden }, format);
        let down = PackedLinear::packed_bytes(LinearShape { n: hidden, k: inner }, format);
        let profile = executor.profile().clone();
        let layers = spec.layers.len() as u64;

        // One token passes as many experts as it chooses in each layer.
        let sequence = Sequence::scattered(&prompt(30, 1), &executor, 0, 1);
        feed(&mut executor, &sequence, 0, 29);
        profile.start();
        feed(&mut executor, &sequence, 29, 1);
        let report = profile.report();
        let read = |operation| part(&report, operation).cost;
        let chosen = u64::from(experts.per_token) * layers;
        assert_eq!(read(Operation::GateUp).weight_bytes, chosen * gate_up);
        assert_eq!(read(Operation::Down).weight_bytes, chosen * down);
        assert_eq!(read(Operation::Down).flops, chosen * 2 * (hidden * inner) as u64);
        let router = PackedLinear::packed_bytes(
            LinearShape { n: experts.count as usize, k: hidden },
            WeightFormat::F32,
        );
        assert_eq!(read(Operation::Route).weight_bytes, layers * router);

        // Many tokens read no expert twice, and compute each of its choices.
        profile.start();
        let long = Sequence::scattered(&prompt(390, 2), &executor, 1, 2);
        feed(&mut executor, &long, 0, 390);
        let report = profile.report();
        let all = u64::from(experts.count) * layers;
        let bytes = part(&report, Operation::GateUp).cost.weight_bytes;
        assert!(
            bytes <= all * gate_up && bytes > chosen * gate_up && bytes.is_multiple_of(gate_up),
            "{bytes}"
        );
        // In the last layer the one token that samples.
        let choices = (390 * (layers - 1) + 1) * u64::from(experts.per_token);
        assert_eq!(part(&report, Operation::Down).cost.flops, choices * 2 * (hidden * inner) as u64);
    }
}

#[test]
fn the_plan_is_what_is_held() {
    for quantize in [None, Some(QuantFormat::W8A8)] {
        let executor = load(2, quantize);
        let plan = executor.plan();
        let [weights, kv, rest] = executor.held_bytes();
        assert_eq!((weights, kv, rest), (plan.weights, plan.kv, plan.activations));
    }
}

/// Logits of the last token of each of `sequences`, all in one step after their prompts in chunks of `chunk`.
fn together(executor: &mut CpuExecutor, prompts: &[Vec<u32>], chunk: u32) -> Vec<Vec<f32>> {
    let sequences: Vec<_> =
        (0..).zip(prompts).map(|(index, prompt)| Sequence::scattered(prompt, executor, index, 6)).collect();
    let params = Arc::new(SamplingParams::greedy());
    let mut done = vec![0; prompts.len()];
    let mut logits = vec![Vec::new(); prompts.len()];
    while (0..prompts.len()).any(|i| done[i] < prompts[i].len() as u32) {
        let (mut input, mut sampled) = (step(executor), Vec::new());
        for (i, sequence) in sequences.iter().enumerate() {
            let length = prompts[i].len() as u32;
            let end = length.min(done[i] + chunk);
            if end > done[i] {
                let ends = end == length;
                push_row(&mut input, sequence, done[i]..end, ends.then_some(&params));
                sampled.extend(ends.then_some(i));
                done[i] = end;
            }
        }
        executor.execute(&input, &mut StepOutput::default()).expect("a step");
        for (row, i) in sampled.into_iter().enumerate() {
            logits[i] = executor.last_logits(row).expect("a row that sampled").to_vec();
        }
    }
    logits
}

#[test]
fn neighbours_chunks_and_threads_change_no_bit() {
    let prompts: Vec<_> = (0..6).map(|salt| prompt(1 + 13 * salt, salt)).collect();
    for quantize in [None, Some(QuantFormat::W4A8)] {
        let mut one = load(1, quantize);
        let alone: Vec<_> = prompts
            .iter()
            .map(|prompt| together(&mut one, std::slice::from_ref(prompt), 400).remove(0))
            .collect();
        let distinct: BTreeSet<_> = alone.iter().map(|logits| logits[0].to_bits()).collect();
        assert_eq!(distinct.len(), prompts.len());
        for (threads, chunk) in [(1, 400), (2, 400), (3, 7), (2, 1)] {
            let mut executor = load(threads, quantize);
            assert!(
                together(&mut executor, &prompts, chunk) == alone,
                "{threads} threads, chunks of {chunk}"
            );
        }
    }
}
