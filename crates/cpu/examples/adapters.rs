//! What adapters cost: tokens per second of 32 streams without adapters, with one for all and with one for each, in turn.
//!
//! ```sh
//! cargo run --release -p pagoda-cpu --example adapters -- qwen2.5-0.5b [RANK] [FORMAT] [THREADS]
//! ```
//!
//! The adapters change every matrix of every layer. FORMAT is `bf16`, or one to which the model is quantised, such as `w8a8`.

use pagoda_cpu::{AdapterLimits, CpuExecutor, CpuOptions, PackedAdapter};
use pagoda_model::{Adapter, Checkpoint, DecoderSpec, LayerRole, Naming, RandomShape, Role};
use pagoda_sched::{
    AdapterId, BlockId, Executor, RequestId, Row, SampleIndex, SampleRequest, SamplingParams, Slot,
    StepInput, StepOutput,
};
use serde_json::{Map, json};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const STREAMS: u32 = 32;
const CONTEXT: u32 = 256;
const STEPS: u32 = 16;
const ROUNDS: usize = 7;
const ROLES: [LayerRole; 7] =
    [LayerRole::Q, LayerRole::K, LayerRole::V, LayerRole::O, LayerRole::Gate, LayerRole::Up, LayerRole::Down];

/// A name, and the adapter of each stream.
type Way = (&'static str, fn(u32) -> AdapterId);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let shape: RandomShape =
        arguments.next().ok_or("usage: adapters SHAPE [RANK] [FORMAT] [THREADS]")?.parse()?;
    let rank: u32 = arguments.next().map_or(Ok(8), |rank| rank.parse())?;
    let format = arguments.next().filter(|format| format != "bf16");
    let checkpoint = Checkpoint::random(shape, 0);
    let options = CpuOptions {
        quantize: format.map(|format| format.parse()).transpose()?,
        threads: arguments.next().map(|count| count.parse()).transpose()?,
        blocks: 1 + STREAMS * (CONTEXT + STEPS).div_ceil(16),
        max_tokens_per_step: 512,
        max_rows: STREAMS,
        adapters: AdapterLimits { count: STREAMS, rank },
        ..CpuOptions::default()
    };
    let mut executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ())?;
    let folder = std::env::temp_dir().join(format!("pagoda-adapters-{}", std::process::id()));
    let attached = attach(&mut executor, &checkpoint, &options, &folder);
    std::fs::remove_dir_all(&folder)?;
    attached?;
    println!(
        "{}, {} threads, {}, rank {rank}: {STREAMS} adapters of {:.1} MiB each",
        executor.isa(),
        executor.plan().threads,
        executor.plan().weight_formats,
        executor.adapter_bytes() as f64 / f64::from(STREAMS) / f64::from(1 << 20)
    );
    let ways: [Way; 3] = [
        ("none", |_| AdapterId::NONE),
        ("one for all", |_| AdapterId(1)),
        ("one for each", |stream| AdapterId(1 + stream)),
    ];
    let mut rates = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        for ((_, adapter), rates) in ways.iter().zip(&mut rates) {
            let begun = Instant::now();
            decode(&mut executor, *adapter);
            // The first round brings everything into memory.
            if round > 0 {
                rates.push(f64::from(STREAMS * STEPS) / begun.elapsed().as_secs_f64());
            }
        }
    }
    let medians = rates.each_mut().map(|rates| median(rates));
    for ((name, _), median) in ways.iter().zip(medians) {
        println!("{name:12} {median:8.1} tokens/s  {:5.1} %", 100.0 * median / medians[0]);
    }
    Ok(())
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Writes adapters as PEFT does, reads and attaches them.
fn attach(
    executor: &mut CpuExecutor,
    checkpoint: &Checkpoint,
    options: &CpuOptions,
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    for id in 1..=STREAMS {
        write_adapter(folder, checkpoint.spec(), options.adapters.rank, id)?;
        let adapter = Adapter::open(folder, checkpoint.spec())?;
        let packed = PackedAdapter::pack(&adapter, checkpoint.spec(), options)?;
        executor.attach(AdapterId(id), Box::new(packed)).map_err(|error| error.message)?;
    }
    Ok(())
}

fn write_adapter(folder: &Path, spec: &DecoderSpec, rank: u32, seed: u32) -> Result<(), Box<dyn Error>> {
    let config = json!({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"});
    std::fs::write(folder.join("adapter_config.json"), config.to_string())?;
    let (mut header, mut data, mut state) = (Map::new(), Vec::new(), seed);
    for layer in 0..spec.layers.len() as u32 {
        for role in ROLES {
            let (role, name) =
                (Role::Layer(layer, role), Naming::name(spec.naming, Role::Layer(layer, role)));
            let shape = role.shape(spec);
            let module = name.strip_suffix(".weight").ok_or("a matrix")?;
            for (side, shape) in
                [("lora_A", [u64::from(rank), shape[1]]), ("lora_B", [shape[0], u64::from(rank)])]
            {
                let begin = data.len();
                for _ in 0..shape[0] * shape[1] {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // The upper half of a small f32 of either sign.
                    data.extend((0x3c00 | (state >> 16 & 0x807f) as u16).to_le_bytes());
                }
                let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, data.len()]});
                header.insert(format!("base_model.model.{module}.{side}.weight"), entry);
            }
        }
    }
    let header = serde_json::Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    Ok(std::fs::write(folder.join("adapter_model.safetensors"), file)?)
}

/// Decodes all streams behind a context whose keys and values are whatever the storage holds.
fn decode(executor: &mut CpuExecutor, adapter: fn(u32) -> AdapterId) {
    let params = Arc::new(SamplingParams::greedy());
    let mut input = StepInput { block_size: 16, ..StepInput::default() };
    let mut output = StepOutput::default();
    for position in CONTEXT..CONTEXT + STEPS {
        input.clear();
        for stream in 0..STREAMS {
            push_row(&mut input, stream, position, adapter(stream), &params);
        }
        output.clear();
        executor.execute(&input, &mut output).expect("a sound step");
    }
}

fn push_row(
    input: &mut StepInput,
    stream: u32,
    position: u32,
    adapter: AdapterId,
    params: &Arc<SamplingParams>,
) {
    let first_block = 1 + stream * (CONTEXT + STEPS).div_ceil(16);
    let (token, table) = (input.tokens.len() as u32, input.tables.len() as u32);
    input.tokens.push((position * 7919 + stream * 104_729) % 1000);
    input.positions.push(position);
    input.write_slots.push(Slot(first_block * 16 + position));
    input.tables.extend((0..=position / 16).map(|block| BlockId(first_block + block)));
    input.rows.push(Row {
        id: RequestId::EMPTY,
        sample: SampleIndex(0),
        adapter,
        tokens: token..token + 1,
        context: position + 1,
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
