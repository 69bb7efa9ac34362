//! Speed of attention: keys and values read in GB/s and arithmetic in GFLOP/s, for decode rows and prefill chunks of
//! common shapes.
//!
//! `cargo bench -p pagoda-kernels --bench attention [-- ISA [MODEL [THREADS]]]` prints the best of several runs, since
//! other work on the machine only ever adds to a time; each line ends with a checksum of the output, which changes only
//! when the arithmetic does.

use half::bf16;
use pagoda_kernels::{
    AttentionInput, AttentionLimits, AttentionRow, AttentionScratch, Buffer, Isa, Kernels, KvRef, KvShape,
    WorkerPool,
};
use std::time::Instant;

/// Heads of a model.
struct Model {
    name: &'static str,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

const MODELS: [Model; 3] = [
    Model { name: "qwen2.5-0.5b", heads: 14, kv_heads: 2, head_dim: 64 },
    Model { name: "llama-3.2-1b", heads: 32, kv_heads: 8, head_dim: 64 },
    Model { name: "llama-3.1-8b", heads: 32, kv_heads: 8, head_dim: 128 },
];

/// Sequences, tokens of each in the step, context of each.
const STEPS: [(usize, usize, usize); 10] = [
    (1, 1, 256),
    (1, 1, 1024),
    (1, 1, 8192),
    (8, 1, 256),
    (8, 1, 1024),
    (64, 1, 256),
    (64, 1, 1024),
    (1, 512, 512),
    (1, 512, 1024),
    (1, 512, 2048),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut chosen = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let isa = chosen.next().and_then(|name| name.parse::<Isa>().ok());
    let model = chosen.next().unwrap_or_default();
    let threads = chosen.next().and_then(|n| n.parse().ok()).unwrap_or_else(WorkerPool::default_threads);
    let pool = WorkerPool::new(threads)?;
    pool.pin_caller()?;
    for isa in Isa::available().filter(|&i| isa.map_or(i > Isa::Scalar, |chosen| chosen == i)) {
        let kernels = Kernels::for_isa(isa).ok_or("an available instruction set has kernels")?;
        for model in MODELS.iter().filter(|m| m.name.contains(&model)) {
            for (sequences, tokens, context) in STEPS {
                measure(kernels, &pool, model, (sequences, tokens, context))?;
            }
        }
    }
    Ok(())
}

fn measure(
    kernels: &Kernels,
    pool: &WorkerPool,
    model: &Model,
    (sequences, tokens, context): (usize, usize, usize),
) -> Result<(), Box<dyn std::error::Error>> {
    let &Model { name, heads, kv_heads, head_dim } = model;
    let shape = KvShape { kv_heads, head_dim, block_size: 16 };
    let per_row = usize::div_ceil(context, 16);
    // Enough layers that keys and values do not stay in cache.
    let layers = 1.max((32 << 20) / (per_row * sequences * shape.block_elements() * 4)).min(24);
    let blocks = per_row * sequences;
    let elements = blocks * shape.block_elements() * layers;
    let (mut keys, mut values) = (Buffer::<bf16>::zeroed(elements)?, Buffer::<bf16>::zeroed(elements)?);
    for i in 0..elements {
        (keys[i], values[i]) = (bf16::from_f32(noise(i)), bf16::from_f32(noise(i + 7)));
    }
    // Blocks of a sequence lie apart, as a pool in use gives them.
    let tables: Vec<u32> = (0..sequences)
        .flat_map(|sequence| (0..per_row).map(move |block| (block * sequences + sequence) as u32))
        .collect();
    let rows: Vec<_> = (0..sequences)
        .map(|i| AttentionRow {
            tokens: (i * tokens) as u32..((i + 1) * tokens) as u32,
            context: context as u32,
            table: (i * per_row) as u32..((i + 1) * per_row) as u32,
        })
        .collect();
    let q: Vec<f32> = (0..sequences * tokens * heads * head_dim).map(noise).collect();
    let mut out = vec![0.0; q.len()];
    let input = AttentionInput {
        q: &q,
        q_stride: heads * head_dim,
        heads,
        shape,
        rows: &rows,
        tables: &tables,
        scale: (head_dim as f32).powf(-0.5),
        window: None,
        softcap: None,
    };
    let layer = elements / layers;
    let mut scratch = AttentionScratch::new(&AttentionLimits {
        heads,
        kv_heads,
        head_dim,
        tokens: sequences * tokens,
        rows: sequences,
        threads: pool.threads(),
    })?;
    let seconds = best(12, || {
        for at in (0..elements).step_by(layer) {
            let kv = KvRef::Bf16 { keys: &keys[at..at + layer], values: &values[at..at + layer] };
            kernels.attention(pool, &input, kv, &mut scratch, &mut out);
        }
    }) / layers as f64;
    let pairs = (sequences * (tokens * (context - tokens) + tokens * (tokens + 1) / 2) * heads) as f64;
    println!(
        "{} {name} bf16 rows={sequences:<2} tokens={tokens:<3} context={context:<4} {:>9.1} us {:>6.1} GB/s {:>6.1} GFLOP/s {:016x}",
        kernels.isa(),
        1e6 * seconds,
        4e-9 * layer as f64 / seconds,
        4e-9 * pairs * head_dim as f64 / seconds,
        checksum(&out)
    );
    Ok(())
}

/// Shortest time of a call in seconds.
fn best(times: usize, mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(time).fold(f64::INFINITY, f64::min)
}

/// A number in -1..1 that looks random.
fn noise(i: usize) -> f32 {
    let hash = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash ^ (hash >> 29)) & 0xffff) as f32 / 32768.0 - 1.0
}

fn checksum(x: &[f32]) -> u64 {
    x.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x100_0000_01b3))
}
