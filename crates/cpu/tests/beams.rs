//! Beam search through the real scheduler and the real executor: the outputs are those of Hugging Face transformers
//! (`beams.json`, see `tests/golden/README.md`) and those of a search that computes every beam from its first token, alone
//! and beside others, with the prefix cache and without, preempted or not.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::Sequence;
use pagoda_cpu::{ComputeDtype, CpuExecutor, CpuOptions};
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_sched::{
    BeamSearch, Counters, Deadlines, EarlyStopping, Effect, Effects, Executor, Priority, Request, RequestId,
    SamplingParams, Scheduler, SchedulerConfig, StepOutput,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const BLOCKS: u32 = 256;

/// Tokens and the sum of their log-probabilities.
type Output = (Vec<u32>, f64);

/// What is searched for.
#[derive(Clone)]
struct Search {
    prompt: Vec<u32>,
    beam: BeamSearch,
    stop_ids: Vec<u32>,
    max_tokens: u32,
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn load(name: &str) -> CpuExecutor {
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder(name))).expect("the model");
    let options = CpuOptions {
        dtype: ComputeDtype::F32,
        blocks: BLOCKS,
        max_tokens_per_step: 128,
        max_rows: 64,
        threads: Some(1),
        ..CpuOptions::default()
    };
    CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads")
}

/// Runs all searches at once over a pool of `blocks`; the outputs of each, best first. In a small pool urgent requests come
/// now and then and take blocks from them.
fn run(
    executor: &mut CpuExecutor,
    searches: &[Search],
    (blocks, config): (u32, SchedulerConfig),
) -> (Vec<Vec<Output>>, Counters) {
    let mut capacity = executor.capacity();
    capacity.layout.blocks = blocks;
    let mut scheduler = Scheduler::new(config, capacity).expect("a sound configuration");
    let mut now = Instant::now();
    let ids: Vec<RequestId> = searches.iter().map(|search| submit(&mut scheduler, search, now)).collect();
    let mut found: HashMap<(RequestId, u16), Output> = HashMap::new();
    let (mut output, mut effects) = (StepOutput::default(), Effects::default());
    for step in 0.. {
        if scheduler.is_idle() {
            break;
        }
        now += Duration::from_millis(1);
        if blocks < BLOCKS && step % 7 == 3 {
            let urgent =
                Request { priority: Priority::Urgent, ..request(&[5; 70], SamplingParams::greedy(), 2, now) };
            scheduler.enqueue(urgent, now).expect("room in the queue");
        }
        if let Some(input) = scheduler.plan(now) {
            output.clear();
            executor.execute(input, &mut output).expect("a step");
            scheduler.commit(Ok(&output), now, &mut effects);
        }
        scheduler.check_invariants();
        scheduler.reap(now, &mut effects);
        for effect in &effects.events {
            match effect {
                Effect::Token { id, sample, token, logprob, .. } => {
                    let entry = found.entry((*id, sample.0)).or_default();
                    entry.0.push(*token);
                    entry.1 += f64::from(*logprob);
                }
                Effect::Finished { .. } | Effect::Prompt { .. } => {}
                Effect::Failed { failure, .. } => panic!("{failure}"),
            }
        }
        effects.clear();
    }
    let of = |(id, search): (&RequestId, &Search)| {
        let outputs = (0..search.beam.width).map(|sample| found.remove(&(*id, sample)).unwrap_or_default());
        outputs.collect()
    };
    (ids.iter().zip(searches).map(of).collect(), *scheduler.counters())
}

fn submit(scheduler: &mut Scheduler, search: &Search, now: Instant) -> RequestId {
    let id = RequestId::new();
    let sampling = SamplingParams {
        beam: Some(search.beam),
        stop_ids: search.stop_ids.clone().into(),
        ..SamplingParams::greedy()
    };
    let request = request(&search.prompt, sampling, search.max_tokens, now);
    scheduler.enqueue(Request { id, samples: search.beam.width, ..request }, now).expect("room in the queue");
    id
}

fn request(prompt: &[u32], sampling: SamplingParams, max_tokens: u32, now: Instant) -> Request {
    Request {
        id: RequestId::new(),
        prompt: prompt.into(),
        sampling: sampling.into(),
        max_tokens,
        samples: 1,
        priority: Priority::Low,
        tenant: Default::default(),
        salt: Default::default(),
        adapter: Default::default(),
        retention: Default::default(),
        enqueued_at: now,
        deadlines: Deadlines::default(),
    }
}

fn config(prefix_cache: bool) -> SchedulerConfig {
    SchedulerConfig {
        max_num_seqs: 64,
        max_num_batched_tokens: 128,
        watermark_percent: 0,
        ageing: Duration::from_secs(1000),
        prefix_cache,
        ..SchedulerConfig::default()
    }
}

#[derive(serde::Deserialize)]
struct Golden {
    max_tokens: u32,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    prompt: Vec<u32>,
    width: u16,
    length_penalty: f32,
    /// `true`, `false` or `"never"`.
    early_stopping: serde_json::Value,
    stop_ids: Vec<u32>,
    outputs: Vec<Vec<u32>>,
    scores: Vec<f64>,
}

impl Case {
    fn search(&self, max_tokens: u32) -> Search {
        let early_stopping = match self.early_stopping.as_bool() {
            Some(false) => EarlyStopping::No,
            Some(true) => EarlyStopping::Yes,
            None => EarlyStopping::Never,
        };
        let beam = BeamSearch { width: self.width, length_penalty: self.length_penalty, early_stopping };
        Search { prompt: self.prompt.clone(), beam, stop_ids: self.stop_ids.clone(), max_tokens }
    }
}

#[test]
fn hugging_face_finds_the_same() {
    for name in ["llama-gqa3-untied", "qwen3-sharded"] {
        let name = format!("tests/golden/{name}");
        let text = std::fs::read_to_string(folder(&name).join("beams.json")).expect("the reference");
        let golden: Golden = serde_json::from_str(&text).expect("the reference is well formed");
        let searches: Vec<_> = golden.cases.iter().map(|case| case.search(golden.max_tokens)).collect();
        let mut executor = load(&name);
        for (blocks, prefix_cache) in [(BLOCKS, true), (BLOCKS, false), (24, true), (24, false)] {
            let (found, counters) = run(&mut executor, &searches, (blocks, config(prefix_cache)));
            assert!(counters.preemptions > 0 || blocks == BLOCKS, "a small pool preempts");
            for (at, (case, found)) in golden.cases.iter().zip(&found).enumerate() {
                let tokens: Vec<_> = found.iter().map(|(tokens, _)| tokens.clone()).collect();
                assert_eq!(tokens, case.outputs, "case {at} of {name}, {blocks} blocks");
                for ((tokens, sum), score) in found.iter().zip(&case.scores) {
                    let ours = sum / (tokens.len() as f64).powf(f64::from(case.length_penalty));
                    assert!((ours - score).abs() < 2e-3 * score.abs().max(1.0), "{ours} is {score}");
                }
            }
            println!("{name}: {} searches, {} preemptions", found.len(), counters.preemptions);
        }
    }
}

/// Log-probabilities after `tokens`, computed from the first of them.
fn log_probabilities(executor: &mut CpuExecutor, tokens: &[u32]) -> Vec<f64> {
    let sequence = Sequence::scattered(tokens, executor, 0, 1);
    let logits = feed(executor, &sequence, 0, tokens.len() as u32).pop().expect("the last logits");
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit - most) - total.ln()).collect()
}

/// The search over whole texts, without blocks, ranks of candidates or anything else in common with the scheduler.
fn plain(executor: &mut CpuExecutor, search: &Search) -> Vec<Output> {
    let width = usize::from(search.beam.width);
    let score =
        |(tokens, sum): &Output| sum / (tokens.len() as f64).powf(f64::from(search.beam.length_penalty));
    let best = |kept: &mut Vec<Output>| {
        kept.sort_by(|one, other| score(other).total_cmp(&score(one)));
        kept.truncate(width);
    };
    let (mut live, mut kept) = (vec![(Vec::new(), 0.0)], Vec::new());
    for _ in 0..search.max_tokens {
        let mut all: Vec<Output> = Vec::new();
        for (tokens, sum) in &live {
            let text = [&search.prompt[..], tokens].concat();
            let next = log_probabilities(executor, &text).into_iter().zip(0..);
            all.extend(next.map(|(logprob, token)| ([&tokens[..], &[token]].concat(), sum + logprob)));
        }
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        let ends = |output: &&Output| output.0.last().is_some_and(|last| search.stop_ids.contains(last));
        kept.extend(all.iter().take(width).filter(ends).cloned());
        best(&mut kept);
        live = all.iter().filter(|output| !ends(output)).take(width).cloned().collect();
        // Early stopping: none of these searches asks for another rule.
        if kept.len() == width && score(&kept[width - 1]) >= score(&live[0]) {
            return kept;
        }
    }
    kept.extend(live);
    best(&mut kept);
    kept
}

#[test]
fn a_search_over_whole_texts_finds_the_same() {
    let mut executor = load("models/folktale");
    let prompt =
        |length: u32, seed: u32| (0..length).map(|i| (i * i * 31 + i * 7 + seed * 977) % 4000).collect();
    let search = |(width, length, stop_ids): (u16, u32, &[u32])| Search {
        prompt: prompt(length, u32::from(width)),
        beam: BeamSearch { width, length_penalty: 1.0, early_stopping: EarlyStopping::No },
        stop_ids: stop_ids.to_vec(),
        max_tokens: 20,
    };
    let shapes: [(u16, u32, &[u32]); 6] = [
        (2, 1, &[]),
        (3, 17, &[]),
        (4, 33, &[]),
        (4, 15, &[14, 15, 16, 17]),
        (3, 40, &[0, 1, 2]),
        (2, 16, &[]),
    ];
    let searches: Vec<Search> = shapes.into_iter().map(search).collect();
    let expected: Vec<_> = searches.iter().map(|search| plain(&mut executor, search)).collect();
    for (blocks, prefix_cache) in [(BLOCKS, true), (BLOCKS, false), (22, true), (18, false)] {
        let (found, counters) = run(&mut executor, &searches, (blocks, config(prefix_cache)));
        assert!(counters.preemptions > 0 || blocks == BLOCKS, "a small pool preempts");
        for ((found, expected), search) in found.iter().zip(&expected).zip(&searches) {
            for ((tokens, sum), (plain, plain_sum)) in found.iter().zip(expected) {
                assert_eq!(tokens, plain, "{} beams, {blocks} blocks", search.beam.width);
                assert!((sum - plain_sum).abs() < 1e-3, "{sum} is {plain_sum}");
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}
