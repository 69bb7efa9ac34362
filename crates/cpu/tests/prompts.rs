//! What is reported of prompts: the bits that the same tokens have when they are generated, whatever the chunks, the neighbours,
//! the cache and preemption.

use pagoda_cpu::{CpuExecutor, CpuOptions};
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_sched::{
    CompletionReason, Deadlines, Effect, Effects, Executor, KvCapacity, Pooling, Priority, PromptReport,
    Request, RequestId, SamplingParams, Scheduler, SchedulerConfig, StepOutput, TokenLogprob,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BLOCKS: u32 = 200;
const MAX_ROWS: u32 = 8;
const MAX_TOKENS: u32 = 96;
const TOP: u8 = 5;

/// Bits of a log-probability, its rank and the most likely tokens in its place.
type Place = (u32, u32, Vec<(u32, u32)>);

/// Everything that was said of one request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    prompt: Vec<Place>,
    hidden: Vec<f64>,
    generated: Vec<(u32, Place)>,
}

fn places(logprobs: impl Iterator<Item = (f32, u32)>, top: &[TokenLogprob], each: usize) -> Vec<Place> {
    let likely = |at: usize| top[at * each..(at + 1) * each].iter().map(|t| (t.token, t.logprob.to_bits()));
    logprobs.enumerate().map(|(at, (lp, rank))| (lp.to_bits(), rank, likely(at).collect())).collect()
}

/// Rank of a token among the most likely ones, or 0.
fn rank(token: u32, top: &[TokenLogprob]) -> u32 {
    top.iter().position(|likely| likely.token == token).map_or(0, |at| at as u32 + 1)
}

/// The scheduler over an executor, until all that was submitted has ended.
struct Run<'a> {
    executor: &'a mut CpuExecutor,
    scheduler: Scheduler,
    now: Instant,
    answers: HashMap<RequestId, Answer>,
}

impl<'a> Run<'a> {
    fn new(executor: &'a mut CpuExecutor, config: SchedulerConfig, blocks: u32) -> Self {
        let mut capacity: KvCapacity = executor.capacity();
        capacity.layout.blocks = blocks;
        let scheduler = Scheduler::new(config, capacity).expect("a sound configuration");
        Self { executor, scheduler, now: Instant::now(), answers: HashMap::new() }
    }

    fn submit(&mut self, request: Request) -> RequestId {
        let id = RequestId::new();
        let request = Request { id, enqueued_at: self.now, ..request };
        self.scheduler.enqueue(request, self.now).expect("room in the queue");
        id
    }

    fn finish(&mut self) {
        while !self.scheduler.is_idle() {
            self.step();
        }
        self.scheduler.check_invariants();
    }

    fn step(&mut self) {
        let (mut output, mut effects) = (StepOutput::default(), Effects::default());
        self.now += Duration::from_millis(1);
        self.scheduler.reap(self.now, &mut effects);
        if let Some(input) = self.scheduler.plan(self.now) {
            self.executor.execute(input, &mut output).expect("a step");
            self.scheduler.commit(Ok(&output), self.now, &mut effects);
        }
        for effect in &effects.events {
            self.book(effect, &effects);
        }
    }

    fn book(&mut self, effect: &Effect, effects: &Effects) {
        match effect {
            Effect::Prompt { id, positions: _, logprobs, top, hidden } => {
                let answer = self.answers.entry(*id).or_default();
                let logprobs = &effects.prompt[logprobs.start as usize..logprobs.end as usize];
                let top = &effects.top[top.start as usize..top.end as usize];
                let each = top.len().checked_div(logprobs.len()).unwrap_or(0);
                answer.prompt.extend(places(
                    logprobs.iter().map(|place| (place.logprob, place.rank)),
                    top,
                    each,
                ));
                let sum = &effects.hidden[hidden.start as usize..hidden.end as usize];
                answer.hidden.resize(sum.len().max(answer.hidden.len()), 0.0);
                answer.hidden.iter_mut().zip(sum).for_each(|(all, more)| *all += more);
            }
            Effect::Token { id, token, logprob, top, .. } => {
                let top = &effects.top[top.start as usize..top.end as usize];
                let place = places([(*logprob, rank(*token, top))].into_iter(), top, top.len());
                self.answers.entry(*id).or_default().generated.push((*token, place[0].clone()));
            }
            Effect::Finished { reason, .. } => assert_eq!(*reason, CompletionReason::MaxTokens),
            Effect::Failed { failure, .. } => panic!("{failure}"),
        }
    }
}

fn request(prompt: &[u32], report: PromptReport, max_tokens: u32) -> Request {
    Request {
        id: RequestId::EMPTY,
        prompt: prompt.into(),
        sampling: Arc::new(SamplingParams { logprobs: Some(TOP), report, ..SamplingParams::greedy() }),
        max_tokens,
        samples: 1,
        priority: Priority::Normal,
        tenant: Default::default(),
        salt: Default::default(),
        adapter: Default::default(),
        retention: Default::default(),
        enqueued_at: Instant::now(),
        deadlines: Deadlines::default(),
    }
}

fn config() -> SchedulerConfig {
    SchedulerConfig {
        max_num_seqs: MAX_ROWS,
        max_num_batched_tokens: MAX_TOKENS,
        max_prefill_chunk: 64,
        ..SchedulerConfig::default()
    }
}

fn load(folder: &str, options: CpuOptions) -> CpuExecutor {
    let folder = format!("{}/../../{folder}", env!("CARGO_MANIFEST_DIR"));
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder.into())).expect("the model");
    let options =
        CpuOptions { blocks: BLOCKS, max_tokens_per_step: MAX_TOKENS, max_rows: MAX_ROWS, ..options };
    CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("the model loads")
}

fn prompt(length: u32, seed: u32) -> Vec<u32> {
    (0..length).map(|i| (i * i * 31 + i * 7 + seed * 977) % 140).collect()
}

const LOGPROBS: PromptReport = PromptReport::Logprobs { top: TOP };
const MEAN: PromptReport = PromptReport::Hidden(Pooling::Mean);
const LAST: PromptReport = PromptReport::Hidden(Pooling::Last);

/// What the places of a text give when each of its tokens is generated: a prompt of all tokens before it, one token generated.
fn forced(executor: &mut CpuExecutor, text: &[u32]) -> Vec<(u32, Place)> {
    let mut run = Run::new(executor, config(), BLOCKS);
    let ids: Vec<_> = (1..text.len())
        .map(|end| {
            let id = run.submit(request(&text[..end], PromptReport::Nothing, 1));
            run.finish();
            id
        })
        .collect();
    ids.iter().map(|id| run.answers[id].generated[0].clone()).collect()
}

/// Compares reports with what generating the same text gives: all numbers where the token is among the most likely ones, and
/// those of the most likely ones everywhere.
fn check_forced(text: &[u32], report: &[Place], forced: &[(u32, Place)]) {
    assert_eq!(report.len(), forced.len());
    for (at, ((logprob, rank, top), (token, (generated, _, likely)))) in report.iter().zip(forced).enumerate()
    {
        assert_eq!(top, likely, "most likely tokens in place {}", at + 1);
        if *token == text[at + 1] {
            assert_eq!((logprob, *rank), (generated, 1), "the likeliest token, in place {}", at + 1);
        }
        match likely.iter().position(|(token, _)| *token == text[at + 1]) {
            Some(place) => assert_eq!((*logprob, *rank), (likely[place].1, place as u32 + 1)),
            None => assert!(*rank > u32::from(TOP), "rank {rank} in place {}", at + 1),
        }
    }
}

fn every_way(name: &str, mut executor: CpuExecutor) {
    let texts: Vec<Vec<u32>> = [70, 33, 17, 2, 1].into_iter().map(|length| prompt(length, length)).collect();
    let mut alone = Vec::new();
    for text in &texts {
        let mut run = Run::new(&mut executor, config(), BLOCKS);
        let ids = [(LOGPROBS, 3), (MEAN, 0), (LAST, 0)].map(|(report, max_tokens)| {
            let id = run.submit(request(text, report, max_tokens));
            run.finish();
            id
        });
        alone.push(ids.map(|id| run.answers.remove(&id).unwrap_or_default()));
        let forced = forced(&mut executor, text);
        check_forced(text, &alone[alone.len() - 1][0].prompt, &forced);
    }
    // All at once, in every cut, after the same texts are cached, and in a pool that is too small for all.
    let ways = [(1, BLOCKS), (5, BLOCKS), (16, BLOCKS), (48, BLOCKS), (64, BLOCKS), (7, 9)];
    for (max_prefill_chunk, blocks) in ways {
        let config = SchedulerConfig { max_prefill_chunk, watermark_percent: 0, ..config() };
        let mut run = Run::new(&mut executor, config, blocks);
        for text in &texts {
            run.submit(request(text, PromptReport::Nothing, 2));
        }
        (0..20).for_each(|_| run.step());
        let mut ids = Vec::new();
        for text in &texts {
            for (report, max_tokens) in [(LOGPROBS, 3), (MEAN, 0), (LAST, 0)] {
                // Later ones displace earlier ones in the middle of their prompts where blocks are few.
                let priority = Priority::ALL[ids.len() % 4];
                ids.push(run.submit(Request { priority, ..request(text, report, max_tokens) }));
                (0..3).for_each(|_| run.step());
            }
        }
        run.finish();
        assert_eq!(run.scheduler.counters().preemptions > 0, blocks < BLOCKS, "a small pool preempts");
        for (id, expected) in ids.iter().zip(alone.iter().flatten()) {
            let answer = run.answers.get(id).cloned().unwrap_or_default();
            assert_eq!(&answer, expected, "{name}: chunks of {max_prefill_chunk}, {blocks} blocks");
        }
    }
}

#[test]
fn the_story_model() {
    let threads = Some(2);
    every_way("folktale", load("models/folktale", CpuOptions { threads, ..CpuOptions::default() }));
}

#[test]
fn windows_and_untied_heads() {
    let threads = Some(1);
    for folder in ["tests/golden/qwen2-mixed-window", "tests/golden/llama-gqa3-untied"] {
        every_way(folder, load(folder, CpuOptions { threads, ..CpuOptions::default() }));
    }
}

#[test]
fn quantised_weights() {
    let quantize = Some("w4a8-g32-asym".parse().expect("a format"));
    let options = CpuOptions { quantize, threads: Some(2), ..CpuOptions::default() };
    every_way("w4a8", load("tests/golden/llama-gqa3-untied", options));
}

/// One row of logits at a time is enough, and more than a piece holds are asked for.
#[test]
fn the_head_runs_in_pieces() {
    let text = prompt(90, 4);
    let reports = [1, 3, 64].map(|max_rows| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/qwen3-sharded");
        let checkpoint = Checkpoint::open(&ModelSource::Folder(folder.into())).expect("the model");
        let options = CpuOptions {
            blocks: 20,
            max_tokens_per_step: 96,
            max_rows,
            threads: Some(1),
            ..Default::default()
        };
        let mut executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads");
        let scratch = executor.held_bytes()[2];
        let config = SchedulerConfig { max_num_seqs: 1, max_prefill_chunk: 96, ..config() };
        let mut run = Run::new(&mut executor, config, 20);
        let id = run.submit(request(&text, LOGPROBS, 1));
        run.finish();
        let answer = run.answers.remove(&id).expect("an answer");
        assert_eq!(executor.held_bytes()[2], scratch, "memory is what it was");
        answer
    });
    assert_eq!(reports[0].prompt.len(), 89);
    assert!(reports[1] == reports[0] && reports[2] == reports[0]);
}
