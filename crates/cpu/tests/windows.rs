//! A model of which all layers have windows, in a pool that is shorter than its sequences.

use pagoda_cpu::{CpuExecutor, CpuOptions};
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_sched::{
    CompletionReason, Deadlines, Effect, Effects, Executor, Priority, Request, RequestId, SamplingParams,
    Scheduler, SchedulerConfig, StepOutput, TokenId,
};
use std::path::Path;
use std::time::Instant;

const OUTPUT: u32 = 90;

/// The tokens that a model generates with so many blocks of 16 tokens.
fn generate(model: &str, blocks: u32) -> (Vec<TokenId>, Option<CompletionReason>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(model);
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder)).expect("the model");
    let options = CpuOptions {
        blocks: blocks + 1,
        max_tokens_per_step: 32,
        max_rows: 2,
        threads: Some(1),
        ..CpuOptions::default()
    };
    let mut executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads");
    let config = SchedulerConfig {
        max_num_seqs: 2,
        max_num_batched_tokens: 32,
        max_model_len: 128,
        ..SchedulerConfig::default()
    };
    let mut scheduler = Scheduler::new(config, executor.capacity()).expect("the limits agree");
    let now = Instant::now();
    let request = Request {
        id: RequestId::new(),
        prompt: (0..20).collect(),
        sampling: SamplingParams::greedy().into(),
        max_tokens: OUTPUT,
        samples: 1,
        priority: Priority::Normal,
        tenant: Default::default(),
        salt: Default::default(),
        adapter: Default::default(),
        retention: Default::default(),
        enqueued_at: now,
        deadlines: Deadlines::default(),
    };
    scheduler.enqueue(request, now).expect("the request is acceptable");
    let (mut tokens, mut reason, mut output) = (Vec::new(), None, StepOutput::default());
    while let Some(input) = scheduler.plan(now) {
        output.clear();
        let result = executor.execute(input, &mut output);
        let mut effects = Effects::default();
        scheduler.commit(result.as_ref().map(|()| &output), now, &mut effects);
        scheduler.check_invariants();
        for effect in effects.events {
            match effect {
                Effect::Token { token, .. } => tokens.push(token),
                Effect::Finished { reason: why, .. } => reason = Some(why),
                other => panic!("{other:?}"),
            }
        }
    }
    (tokens, reason)
}

#[test]
fn a_sequence_goes_on_in_a_pool_that_its_windows_fit_in() {
    let whole = generate("mistral-window", 32);
    assert_eq!((whole.0.len() as u32, &whole.1), (OUTPUT, &Some(CompletionReason::MaxTokens)));
    assert_eq!(generate("mistral-window", 3), whole);
    let (tokens, reason) = generate("mistral-full", 3);
    assert!(tokens.len() < 48 && reason != Some(CompletionReason::MaxTokens), "{reason:?}");
}
