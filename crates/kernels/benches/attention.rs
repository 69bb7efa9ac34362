//! Speed of attention: keys and values read in GB/s and arithmetic in GFLOP/s, for decode rows and prefill chunks of
//! common shapes.
//!
//! `cargo bench -p pagoda-kernels --bench attention [-- ISA [MODEL [THREADS]]]` prints the best of several runs, since
//! other work on the machine only ever adds to a time; each line ends with a checksum of the output, which changes only
//! when the arithmetic does.

mod common;

use common::{best, checksum, noise};
use half::bf16;
use pagoda_kernels::limits::read_bandwidth;
use pagoda_kernels::{
    AttentionInput, AttentionLimits, AttentionRow, AttentionScratch, Buffer, Isa, Kernels, KvRef, KvShape,
    OutOfMemory, WorkerPool,
};

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

/// Rows of a step that are alike.
#[derive(Clone, Copy)]
struct Step {
    sequences: usize,
    /// Tokens of each.
    tokens: usize,
    context: usize,
    /// Positions from the first on whose blocks all sequences share.
    shared: usize,
}

const fn step(sequences: usize, tokens: usize, context: usize, shared: usize) -> Step {
    Step { sequences, tokens, context, shared }
}

/// The last two compare decode rows that share a prefix with what one pass over it could reach: a chunk of as many tokens.
const STEPS: [Step; 12] = [
    step(1, 1, 256, 0),
    step(1, 1, 1024, 0),
    step(1, 1, 8192, 0),
    step(8, 1, 1024, 0),
    step(64, 1, 256, 0),
    step(64, 1, 1024, 0),
    step(1, 512, 512, 0),
    step(1, 512, 1024, 0),
    step(1, 512, 2048, 0),
    step(32, 1, 1056, 0),
    step(32, 1, 1056, 1024),
    step(1, 32, 1056, 0),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut chosen = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let isa = chosen.next().and_then(|name| name.parse::<Isa>().ok());
    let model = chosen.next().unwrap_or_default();
    let threads = chosen.next().and_then(|n| n.parse().ok()).unwrap_or_else(WorkerPool::default_threads);
    let pool = WorkerPool::new(threads)?;
    pool.pin_caller()?;
    let read = read_bandwidth(256 << 20, &pool)?;
    println!("{threads} workers; read {read:.1} GB/s");
    for isa in Isa::available().filter(|&i| isa.map_or(i > Isa::Scalar, |chosen| chosen == i)) {
        let kernels = Kernels::for_isa(isa).ok_or("an available instruction set has kernels")?;
        for model in MODELS.iter().filter(|m| m.name.contains(&model)) {
            for step in STEPS {
                for format in [Format::Bf16, Format::Int8] {
                    measure(kernels, &pool, (model, format), step, read)?;
                }
            }
        }
    }
    Ok(())
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug)]
enum Format {
    Bf16,
    Int8,
}

/// Keys and values of some layers.
struct Kv {
    shape: KvShape,
    blocks: usize,
    halves: Buffer<bf16>,
    codes: Buffer<i8>,
    scales: Buffer<f32>,
}

impl Kv {
    fn random(shape: KvShape, blocks: usize, layers: usize) -> Result<Self, OutOfMemory> {
        let elements = layers * blocks * shape.block_elements();
        let mut kv = Kv {
            shape,
            blocks,
            halves: Buffer::zeroed(2 * elements)?,
            codes: Buffer::zeroed(2 * elements)?,
            scales: Buffer::zeroed(2 * layers * blocks * shape.block_scales())?,
        };
        kv.scales.fill(1.0 / 127.0);
        for i in 0..2 * elements {
            (kv.halves[i], kv.codes[i]) = (bf16::from_f32(noise(i)), (127.0 * noise(i)) as i8);
        }
        Ok(kv)
    }

    /// One layer.
    fn layer(&self, format: Format, layer: usize) -> KvRef<'_> {
        let size = self.blocks * self.shape.block_elements();
        let scales = self.blocks * self.shape.block_scales();
        let part = |index: usize, size: usize| index * size..(index + 1) * size;
        let (k, v) = (2 * layer, 2 * layer + 1);
        match format {
            Format::Bf16 => {
                KvRef::Bf16 { keys: &self.halves[part(k, size)], values: &self.halves[part(v, size)] }
            }
            Format::Int8 => KvRef::Int8 {
                keys: &self.codes[part(k, size)],
                values: &self.codes[part(v, size)],
                key_scales: &self.scales[part(k, scales)],
                value_scales: &self.scales[part(v, scales)],
            },
        }
    }
}

fn measure(
    kernels: &Kernels,
    pool: &WorkerPool,
    (model, format): (&Model, Format),
    step: Step,
    read: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let &Model { name, heads, kv_heads, head_dim } = model;
    let Step { sequences, tokens, context, shared } = step;
    let shape = KvShape { kv_heads, head_dim, block_size: 16 };
    let per_row = context.div_ceil(16);
    // Enough layers that keys and values do not stay in cache.
    let layers = ((32 << 20) / (per_row * sequences * shape.block_elements() * 4)).clamp(1, 24);
    let kv = Kv::random(shape, per_row * sequences, layers)?;
    // Blocks of a sequence lie apart, as a pool in use gives them.
    let block = |sequence: usize, block: usize| {
        (block * sequences + if block < shared / 16 { 0 } else { sequence }) as u32
    };
    let tables: Vec<u32> = (0..sequences).flat_map(|s| (0..per_row).map(move |b| block(s, b))).collect();
    let rows: Vec<_> = (0..sequences)
        .map(|i| AttentionRow {
            tokens: (i * tokens) as u32..((i + 1) * tokens) as u32,
            context: context as u32,
            table: (i * per_row) as u32..((i + 1) * per_row) as u32,
        })
        .collect();
    let q: Vec<f32> = (0..sequences * tokens * heads * head_dim).map(noise).collect();
    let mut out = vec![0.0; q.len()];
    let (scale, q_stride) = ((head_dim as f32).powf(-0.5), heads * head_dim);
    let (window, softcap) = (None, None);
    let input = AttentionInput {
        q: &q,
        q_stride,
        heads,
        shape,
        rows: &rows,
        tables: &tables,
        scale,
        window,
        softcap,
        sinks: None,
    };
    let (count, threads) = (sequences * tokens, pool.threads());
    let limits = AttentionLimits { heads, kv_heads, head_dim, tokens: count, rows: sequences, threads };
    let mut scratch = AttentionScratch::new(&limits)?;
    let seconds = best(12, || {
        (0..layers)
            .for_each(|i| kernels.attention(pool, &input, kv.layer(format, i), &mut scratch, &mut out));
    }) / layers as f64;
    let bytes = match format {
        Format::Bf16 => 4 * head_dim,
        Format::Int8 => 2 * head_dim + 8,
    };
    let gb = 1e-9 * (sequences * per_row * 16 * kv_heads * bytes) as f64 / seconds;
    let pairs = (sequences * (tokens * (context - tokens) + tokens * (tokens + 1) / 2) * heads) as f64;
    println!(
        "{} {name} {format:?} rows={sequences:<2} tokens={tokens:<3} context={context:<4} shared={shared:<4} {:>9.1} us {gb:>6.1} GB/s {:>3.0} % {:>6.1} GFLOP/s {:016x}",
        kernels.isa(),
        1e6 * seconds,
        100.0 * gb / read,
        4e-9 * pairs * head_dim as f64 / seconds,
        checksum(&out)
    );
    Ok(())
}
