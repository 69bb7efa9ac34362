//! The same answer in any company: 50 prompts of 48 tokens through the real scheduler and the real executor, with
//! the tokens and the bits of the logits equal to those of each prompt alone, whatever the batch, the chunks, the
//! prefix cache and preemption. Run with `--nocapture` for the table.

use pagoda_cpu::{ComputeDtype, CpuExecutor, CpuOptions, KvDtype};
use pagoda_kernels::Isa;
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_sched::{
    CacheSalt, CompletionReason, Counters, Deadlines, Effect, Effects, Executor, KvCapacity, Priority,
    Request, RequestId, SamplingParams, Scheduler, SchedulerConfig, StepInput, StepOutput, Tenant,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROMPTS: usize = 50;
const TOKENS: u32 = 48;
const BLOCKS: u32 = 640;
/// Blocks for four sequences of average length.
const SMALL_POOL: u32 = 22;
const MAX_ROWS: u32 = 16;
/// Tokens that the prompts of one family have in common: two blocks and a part of the third.
const COMMON: usize = 35;

/// One generated token and the bits of the logits that it was drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    token: u32,
    logits: u64,
}

/// Choices by (request, sample), in order.
type Answers = HashMap<(usize, u16), Vec<Choice>>;

/// A scheduler over the one executor of a test, with what it has answered.
struct Run<'a> {
    executor: &'a mut CpuExecutor,
    scheduler: Scheduler,
    now: Instant,
    ids: HashMap<RequestId, usize>,
    answers: Answers,
    steps: u32,
    widest: usize,
}

impl<'a> Run<'a> {
    fn new(executor: &'a mut CpuExecutor, config: SchedulerConfig, blocks: u32) -> Self {
        let mut capacity: KvCapacity = executor.capacity();
        capacity.layout.blocks = blocks;
        Self {
            executor,
            scheduler: Scheduler::new(config, capacity).expect("a sound configuration"),
            now: Instant::now(),
            ids: HashMap::new(),
            answers: HashMap::new(),
            steps: 0,
            widest: 0,
        }
    }

    fn submit(&mut self, index: usize, prompt: &[u32], samples: u16, priority: Priority) {
        let id = RequestId::new();
        self.ids.insert(id, index);
        let request = Request {
            id,
            prompt: prompt.into(),
            sampling: Arc::new(params(index)),
            max_tokens: TOKENS,
            samples,
            priority,
            tenant: Tenant::default(),
            salt: CacheSalt::default(),
            adapter: Default::default(),
            retention: Default::default(),
            enqueued_at: self.now,
            deadlines: Deadlines::default(),
        };
        self.scheduler.enqueue(request, self.now).expect("room in the queue");
    }

    /// Runs until all that was submitted has ended.
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
            record(&self.ids, self.executor, input, &output, &mut self.answers);
            self.steps += 1;
            self.widest = self.widest.max(input.rows.len());
            self.scheduler.commit(Ok(&output), self.now, &mut effects);
        }
        for effect in effects.events {
            match effect {
                Effect::Token { .. } | Effect::Prompt { .. } => {}
                Effect::Finished { reason, .. } => assert_eq!(reason, CompletionReason::MaxTokens),
                Effect::Failed { failure, .. } => panic!("{failure}"),
            }
        }
    }

    fn counters(&self) -> Counters {
        self.scheduler.stats(self.now).counters
    }
}

/// Notes the choices of one step.
fn record(
    ids: &HashMap<RequestId, usize>,
    executor: &CpuExecutor,
    input: &StepInput,
    output: &StepOutput,
    answers: &mut Answers,
) {
    let mut samples = output.samples.iter();
    let requests = input.rows.iter().filter_map(|row| Some((row, row.sampling.as_ref()?)));
    for (index, (row, request)) in requests.enumerate() {
        let logits = hash(executor.last_logits(index).expect("logits of a sampled row"));
        for offset in 0..request.count {
            let token = samples.next().expect("a sample").token.expect("finite logits");
            let answer = answers.entry((ids[&row.id], row.sample.0 + offset)).or_default();
            assert_eq!(answer.len(), request.generated as usize, "no token is chosen twice");
            answer.push(Choice { token, logits });
        }
    }
}

/// FNV-1a over the bits.
fn hash(logits: &[f32]) -> u64 {
    logits.iter().fold(0xcbf2_9ce4_8422_2325, |hash, x| {
        (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A third greedy, a third drawn, a third drawn with penalties and log-probabilities.
fn params(index: usize) -> SamplingParams {
    let greedy = SamplingParams::greedy();
    let drawn = SamplingParams { temperature: 0.9, top_p: 0.95, seed: index as u64, ..greedy.clone() };
    match index % 3 {
        0 => greedy,
        1 => drawn,
        _ => SamplingParams {
            repetition_penalty: 1.1,
            frequency_penalty: 0.2,
            logprobs: Some(3),
            top_k: 40,
            ..drawn
        },
    }
}

/// Prompt `index` of 1 to 63 tokens; those of one family begin alike.
fn prompt(index: usize, vocab: u32) -> Vec<u32> {
    let family = index % 5;
    let length = 1 + (index * 11) % 63;
    (0..length)
        .map(|place| {
            let own = if place < COMMON { 0 } else { index + 1 };
            ((place * place * 13 + place * 7 + family * 101 + own * 37) % vocab as usize) as u32
        })
        .collect()
}

fn config() -> SchedulerConfig {
    SchedulerConfig {
        max_num_seqs: MAX_ROWS,
        max_num_batched_tokens: 128,
        max_prefill_chunk: 64,
        prefix_cache: false,
        ..SchedulerConfig::default()
    }
}

/// A model with the answers of each prompt alone.
struct Bench {
    name: &'static str,
    executor: CpuExecutor,
    prompts: Vec<Vec<u32>>,
    alone: Answers,
}

impl Bench {
    fn new(name: &'static str, folder: &str, dtype: ComputeDtype, threads: usize) -> Self {
        Self::with(name, folder, CpuOptions { dtype, threads: Some(threads), ..CpuOptions::default() })
    }

    /// A bench of a model quantised while loading.
    fn quantized(folder: &str, format: &'static str, isa: Isa) -> Self {
        let quantize = Some(format.parse().expect("a format"));
        let options = CpuOptions { quantize, isa: Some(isa), threads: Some(1), ..CpuOptions::default() };
        Self::with(format, folder, options)
    }

    fn with(name: &'static str, folder: &str, options: CpuOptions) -> Self {
        let folder = format!("{}/../../{folder}", env!("CARGO_MANIFEST_DIR"));
        let checkpoint = Checkpoint::open(&ModelSource::Folder(folder.into())).expect("the model");
        let options = CpuOptions { blocks: BLOCKS, max_tokens_per_step: 128, max_rows: MAX_ROWS, ..options };
        let mut executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads");
        let vocab = executor.capacity().vocab_size;
        let prompts: Vec<Vec<u32>> = (0..PROMPTS).map(|index| prompt(index, vocab)).collect();
        let mut run = Run::new(&mut executor, config(), BLOCKS);
        for (index, prompt) in prompts.iter().enumerate() {
            run.submit(index, prompt, 1, Priority::Normal);
            run.finish();
        }
        let alone = run.answers;
        assert!(alone.len() == PROMPTS && alone.values().all(|answer| answer.len() == TOKENS as usize));
        println!("| model | way | steps | widest | preemptions | cached tokens | equal |");
        println!("|---|---|---|---|---|---|---|");
        Self { name, executor, prompts, alone }
    }

    /// Runs all prompts at once, after `before`, and compares.
    fn compare(&mut self, way: &str, config: SchedulerConfig, before: &[Vec<u32>]) -> Counters {
        let mut run = Run::new(&mut self.executor, config, BLOCKS);
        for (index, prompt) in before.iter().enumerate() {
            run.submit(PROMPTS + index, prompt, 1, Priority::Normal);
        }
        run.finish();
        let earlier = run.counters();
        (run.steps, run.widest) = (0, 0);
        for (index, prompt) in self.prompts.iter().enumerate() {
            run.submit(index, prompt, 1, Priority::Normal);
        }
        run.finish();
        let counters = check(self.name, way, &run, &self.alone);
        Counters { prefix_hits: counters.prefix_hits - earlier.prefix_hits, ..counters }
    }

    fn batches(&mut self, sizes: impl Iterator<Item = u32>) {
        for max_num_seqs in sizes {
            let config = SchedulerConfig { max_num_seqs, ..config() };
            self.compare(&format!("batch {max_num_seqs}"), config, &[]);
        }
    }

    fn chunks(&mut self, sizes: &[u32]) {
        for &max_prefill_chunk in sizes {
            let max_num_batched_tokens = max_prefill_chunk.max(MAX_ROWS);
            let config = SchedulerConfig { max_prefill_chunk, max_num_batched_tokens, ..config() };
            self.compare(&format!("chunk {max_prefill_chunk}"), config, &[]);
        }
    }

    fn caches(&mut self) {
        let config = SchedulerConfig { prefix_cache: true, ..config() };
        let cold = self.compare("cold cache", config, &[]);
        // Other prompts of the same families: their first two blocks are found, their tails are not.
        let kin: Vec<Vec<u32>> = (0..5)
            .map(|family| {
                let full = self.prompts.iter().skip(family).step_by(5).find(|prompt| prompt.len() > COMMON);
                let mut prompt = full.expect("a long prompt of each family")[..COMMON].to_vec();
                prompt.extend([1, 2, 3]);
                prompt
            })
            .collect();
        let partial = self.compare("partial cache", config, &kin);
        let prompts = self.prompts.clone();
        let warm = self.compare("warm cache", config, &prompts);
        let total: usize = self.prompts.iter().map(Vec::len).sum();
        assert!(cold.prefix_hits < partial.prefix_hits && partial.prefix_hits < warm.prefix_hits);
        assert!(warm.prefix_hits > total as u64 / 2, "{} of {total} tokens", warm.prefix_hits);
    }

    /// A pool for a few sequences: the low half of the prompts outgrows it, and urgent ones displace them.
    fn preemption(&mut self) {
        for prefix_cache in [false, true] {
            let config = SchedulerConfig { prefix_cache, watermark_percent: 0, ..config() };
            let mut run = Run::new(&mut self.executor, config, SMALL_POOL);
            let (urgent, low): (Vec<_>, Vec<_>) =
                self.prompts.iter().enumerate().partition(|(index, _)| index % 2 == 1);
            for (index, prompt) in low {
                run.submit(index, prompt, 1, Priority::Low);
            }
            for (index, prompt) in urgent {
                (0..20).for_each(|_| run.step());
                run.submit(index, prompt, 1, Priority::Urgent);
            }
            run.finish();
            let counters = check(self.name, &format!("preempted, cache {prefix_cache}"), &run, &self.alone);
            assert!(counters.preemptions >= 10, "{} preemptions", counters.preemptions);
            assert!(counters.displaced >= 5 && counters.recomputed_tokens > 0, "{counters:?}");
        }
    }
}

/// Compares what a run has answered with what each prompt gave alone, and prints a line of the table.
fn check(name: &str, way: &str, run: &Run<'_>, alone: &Answers) -> Counters {
    for (key, expected) in alone {
        assert_eq!(&run.answers[key], expected, "{name}, {way}: prompt {}", key.0);
    }
    let counters = run.counters();
    let Counters { preemptions, prefix_hits, .. } = counters;
    let (steps, widest) = (run.steps, run.widest);
    println!(
        "| {name} | {way} | {steps} | {widest} | {preemptions} | {prefix_hits} | {PROMPTS} x {TOKENS} |"
    );
    counters
}

#[test]
fn f32_weights() {
    let mut bench = Bench::new("llama f32", "tests/golden/llama-gqa3-untied", ComputeDtype::F32, 2);
    bench.batches(2..=MAX_ROWS);
    bench.chunks(&[1, 7, 16, 64]);
    bench.caches();
    bench.preemption();
}

#[test]
fn f16_weights_and_mixed_windows() {
    let mut bench = Bench::new("qwen2 f16", "tests/golden/qwen2-mixed-window", ComputeDtype::Auto, 1);
    bench.batches([2, 5, 16].into_iter());
    bench.chunks(&[1, 7, 16, 64]);
    bench.caches();
    bench.preemption();
}

#[test]
fn bf16_weights_of_the_story_model() {
    let mut bench = Bench::new("folktale bf16", "models/folktale", ComputeDtype::Bf16, 2);
    bench.batches([3, 16].into_iter());
    bench.chunks(&[7]);
    bench.caches();
    bench.preemption();
}

#[test]
fn mixtures_of_experts() {
    for (name, folder) in
        [("qwen2 moe", "tests/golden/qwen2-moe-sparse"), ("gpt-oss", "tests/golden/gpt-oss-mxfp4")]
    {
        let mut bench = Bench::new(name, folder, ComputeDtype::Auto, 2);
        bench.batches([3, 16].into_iter());
        bench.chunks(&[1, 7, 64]);
        bench.caches();
        bench.preemption();
    }
}

#[test]
fn quantised_weights_on_every_instruction_set() {
    let formats = [
        ("int8", "tests/golden/llama-gqa3-untied"),
        ("int4", "tests/golden/qwen3-sharded"),
        ("w4a8-g32-asym", "tests/golden/llama-gqa3-untied"),
    ];
    for isa in Isa::available() {
        println!("{isa}");
        for (format, model) in formats {
            let mut bench = Bench::quantized(model, format, isa);
            bench.batches([16].into_iter());
            bench.chunks(&[7]);
        }
    }
}

#[test]
fn quantised_weights_of_the_story_model() {
    let mut bench = Bench::quantized("models/folktale", "int4", pagoda_kernels::Kernels::best().isa());
    bench.batches([16].into_iter());
    bench.caches();
    bench.preemption();
}

#[test]
fn int8_keys_and_values() {
    let options = CpuOptions { kv_dtype: Some(KvDtype::Int8), threads: Some(2), ..CpuOptions::default() };
    let mut bench = Bench::with("qwen3 int8 KV", "tests/golden/qwen3-sharded", options);
    bench.batches([3, 16].into_iter());
    bench.chunks(&[1, 7, 64]);
    bench.caches();
    bench.preemption();
}

#[test]
fn samples_of_one_request_share_its_prompt_and_go_their_own_ways() {
    let mut bench = Bench::new("qwen3 bf16", "tests/golden/qwen3-sharded", ComputeDtype::Auto, 1);
    let tight = SchedulerConfig { watermark_percent: 0, ..config() };
    let mut preemptions = 0;
    for (config, blocks) in [(config(), BLOCKS), (tight, SMALL_POOL)] {
        let mut run = Run::new(&mut bench.executor, config, blocks);
        for (index, prompt) in bench.prompts.iter().enumerate() {
            run.submit(index, prompt, 4, Priority::Normal);
        }
        run.finish();
        preemptions += run.counters().preemptions;
        for (index, prompt) in bench.prompts.iter().enumerate() {
            let samples: Vec<_> = (0..4).map(|sample| &run.answers[&(index, sample)]).collect();
            assert_eq!(samples[0], &bench.alone[&(index, 0)], "prompt {index} of {} tokens", prompt.len());
            assert!(samples.iter().all(|sample| sample[0].logits == samples[0][0].logits));
            let greedy = params(index).temperature == 0.0;
            assert_eq!(samples[1] == samples[0], greedy, "prompt {index}: samples differ when drawn");
        }
    }
    assert!(preemptions > 0, "the small pool preempts");
}
