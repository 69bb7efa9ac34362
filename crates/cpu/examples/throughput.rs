//! Tokens per second of a model folder, or of a public shape with random weights, and where the time of a decode step
//! goes, without scheduler and text:
//!
//! ```sh
//! cargo run --release -p pagoda-cpu --example throughput -- models/folktale [auto|bf16|f16|f32] [threads]
//! cargo run --release -p pagoda-cpu --example throughput -- qwen2.5-0.5b
//! ```

use pagoda_cpu::{CpuExecutor, CpuOptions, MemoryPlan, ProfileReport};
use pagoda_model::{Checkpoint, ModelSource, RandomShape};
use pagoda_sched::{
    BlockId, Executor, RequestId, Row, SampleIndex, SampleRequest, SamplingParams, Slot, StepInput,
    StepOutput,
};
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

const PROMPT: u32 = 256;
const DECODED: u32 = 64;
const BATCHES: [u32; 4] = [1, 4, 16, 64];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: throughput FOLDER|SHAPE [DTYPE] [THREADS]")?;
    let dtype = arguments.next().map_or(Ok(Default::default()), |name| name.parse())?;
    let threads = arguments.next().map(|count| count.parse()).transpose()?;
    let source = match model.parse::<RandomShape>() {
        Ok(shape) => ModelSource::Random { shape, seed: 0 },
        Err(_) => ModelSource::Folder(model.into()),
    };
    let checkpoint = Checkpoint::open(&source)?;
    let largest = BATCHES[BATCHES.len() - 1];
    let options = CpuOptions {
        threads,
        dtype,
        blocks: 1 + largest * (PROMPT + DECODED).div_ceil(16),
        max_tokens_per_step: 512,
        max_rows: largest,
        ..CpuOptions::default()
    };
    let plan = MemoryPlan::new(checkpoint.spec(), &options)?;
    let start = Instant::now();
    let mut executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ())?;
    let loaded = start.elapsed().as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{}, {} threads, loaded in {loaded:.2} s; weights {:.1} MiB, keys and values {:.1} MiB, rest {:.1} MiB",
        executor.isa(),
        plan.threads,
        mib(plan.weights),
        mib(plan.kv),
        mib(plan.activations)
    );
    println!("{}", peak_memory());
    let profile = executor.profile().clone();
    for batch in BATCHES {
        let prefill = timed(|| run(&mut executor, batch, 0..PROMPT, PROMPT.min(512 / batch)));
        profile.start();
        let decode = timed(|| run(&mut executor, batch, PROMPT..PROMPT + DECODED, 1));
        profile.stop();
        let rate = |tokens: u32, seconds: f64| f64::from(batch * tokens) / seconds;
        let (prefill, decode) = (rate(PROMPT, prefill), rate(DECODED, decode));
        println!("batch {batch:3}: prefill {prefill:8.0} tokens/s, decode {decode:8.0} tokens/s");
        show(&profile.report());
    }
    println!("{}", peak_memory());
    Ok(())
}

/// One line per operation of a step.
fn show(report: &ProfileReport) {
    let steps = report.steps.max(1) as f64;
    for part in &report.operations {
        let seconds = part.time.as_secs_f64();
        let bytes = (part.cost.weight_bytes + part.cost.kv_bytes) as f64;
        println!(
            "    {:10} {:9.1} us {:5.1} %  {:6.1} GB/s {:8.1} GFLOP/s",
            part.operation.name(),
            seconds * 1e6 / steps,
            100.0 * seconds / report.time.as_secs_f64(),
            bytes / seconds.max(1e-9) / 1e9,
            part.cost.flops as f64 / seconds.max(1e-9) / 1e9
        );
    }
}

/// The most memory that the process has held, as Linux counts it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown").to_owned()
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Advances `batch` sequences over `positions`, `chunk` tokens per row and step.
fn run(executor: &mut CpuExecutor, batch: u32, positions: Range<u32>, chunk: u32) {
    let params = Arc::new(SamplingParams::greedy());
    let mut input = StepInput { block_size: 16, ..StepInput::default() };
    let mut output = StepOutput::default();
    let vocab = executor.capacity().vocab_size;
    let mut position = positions.start;
    while position < positions.end {
        let end = (position + chunk).min(positions.end);
        input.clear();
        for sequence in 0..batch {
            push_row(&mut input, sequence, position..end, vocab, &params);
        }
        output.clear();
        executor.execute(&input, &mut output).expect("a sound step");
        position = end;
    }
}

fn push_row(
    input: &mut StepInput,
    sequence: u32,
    range: Range<u32>,
    vocab: u32,
    params: &Arc<SamplingParams>,
) {
    let first_block = 1 + sequence * (PROMPT + DECODED).div_ceil(16);
    let (first, table) = (input.tokens.len() as u32, input.tables.len() as u32);
    for position in range.clone() {
        input.tokens.push((position * 7919 + sequence * 104_729) % vocab);
        input.positions.push(position);
        input.write_slots.push(Slot(first_block * 16 + position));
    }
    input.tables.extend((0..range.end.div_ceil(16)).map(|block| BlockId(first_block + block)));
    input.rows.push(Row {
        id: RequestId::EMPTY,
        sample: SampleIndex(0),
        adapter: Default::default(),
        tokens: first..input.tokens.len() as u32,
        context: range.end,
        table: table..input.tables.len() as u32,
        report: None,
        sampling: Some(SampleRequest {
            params: Arc::clone(params),
            count: 1,
            generated: 0,
            history: 0..0,
            history_prompt: 0,
        }),
    });
}
