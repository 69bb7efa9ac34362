//! One decode-only step: plan and commit around answers that cost nothing.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use pagoda_sched::{
    Deadlines, Effects, KvCapacity, KvLayout, Priority, Request, RequestId, Sampled, SamplingParams,
    Scheduler, SchedulerConfig, StepOutput,
};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Prompt tokens of each row; contexts grow from there.
const PROMPT: u32 = 256;

struct Engine {
    scheduler: Scheduler,
    output: StepOutput,
    effects: Effects,
    now: Instant,
}

fn request(token: u32) -> Request {
    Request {
        id: RequestId::new(),
        prompt: vec![token; PROMPT as usize].into(),
        sampling: Arc::new(SamplingParams::greedy()),
        max_tokens: 3000,
        samples: 1,
        priority: Priority::Normal,
        tenant: Default::default(),
        salt: Default::default(),
        adapter: Default::default(),
        retention: Default::default(),
        enqueued_at: Instant::now(),
        deadlines: Deadlines { total: Some(Duration::from_secs(600)), ..Deadlines::default() },
    }
}

impl Engine {
    /// All rows past their prompt, and `waiting` requests that find no row.
    fn decoding(rows: u32, waiting: u32) -> Self {
        let layout = KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            block_size: 16,
            element_bytes: 2,
            scale_bytes: 0,
            blocks: rows * 256 + 1,
        };
        let config = SchedulerConfig {
            max_num_seqs: rows,
            max_num_batched_tokens: rows * PROMPT,
            max_waiting_requests: rows + waiting + 1,
            max_waiting_tokens: u64::MAX,
            watermark_percent: 0,
            ..SchedulerConfig::default()
        };
        let capacity = KvCapacity { layout, max_context: 4096, vocab_size: 1 << 20, window: None };
        let scheduler = Scheduler::new(config, capacity).expect("the limits agree");
        let mut engine = Self {
            scheduler,
            output: StepOutput::default(),
            effects: Effects::default(),
            now: Instant::now(),
        };
        for token in 0..rows + waiting {
            engine.scheduler.enqueue(request(token), engine.now).expect("the queue has room");
        }
        while engine.scheduler.batch().iter().any(|sequence| sequence.output().is_empty())
            || engine.scheduler.batch().is_empty()
        {
            engine.step();
        }
        assert_eq!(engine.scheduler.batch().len() as u32, rows);
        engine
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        self.scheduler.reap(self.now, &mut self.effects);
        let input = self.scheduler.plan(self.now).expect("rows are running");
        self.output.clear();
        for row in &input.rows {
            if row.sampling.is_some() {
                self.output.samples.push(Sampled { token: Ok(row.context), logprob: 0.0, top: 0..0 });
            }
        }
        self.scheduler.commit(Ok(&self.output), self.now, &mut self.effects);
        black_box(&self.effects);
        self.effects.clear();
    }
}

/// Steps per measured batch: contexts grow from 256 to 1,280 tokens.
const STEPS: u32 = 1024;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode step");
    group.sample_size(10);
    for (rows, waiting) in [(64, 0), (256, 0), (256, 1000), (1000, 10_000), (1024, 0)] {
        let id = BenchmarkId::from_parameter(format!("{rows} rows, {waiting} waiting"));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|steps| {
                let mut spent = Duration::ZERO;
                let mut left = steps;
                while left > 0 {
                    let mut engine = Engine::decoding(rows, waiting);
                    let batch = left.min(u64::from(STEPS));
                    let start = Instant::now();
                    (0..batch).for_each(|_| engine.step());
                    spent += start.elapsed();
                    left -= batch;
                }
                spent
            });
        });
    }
    group.finish();
}

fn enqueue_and_cancel(criterion: &mut Criterion) {
    for waiting in [0, 10_000] {
        criterion.bench_function(&format!("enqueue and cancel, {waiting} waiting"), |bencher| {
            let mut engine = Engine::decoding(1, waiting);
            bencher.iter_batched(
                || request(7),
                |request| {
                    let id = request.id;
                    engine.scheduler.enqueue(request, engine.now).expect("the queue has room");
                    assert!(engine.scheduler.cancel(id));
                    engine.scheduler.reap(engine.now, &mut engine.effects);
                    engine.effects.clear();
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, decode, enqueue_and_cancel);
criterion_main!(benches);
