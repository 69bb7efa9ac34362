//! The kernels one by one, in the shapes of a model, beside the limits of the machine.

use super::Random;
use super::limits::MachineLimits;
use super::roofline::{head_shape, layer_shapes};
use super::stats::Spread;
use crate::model::DecoderSpec;
use half::bf16;
use pagoda_kernels::{
    Angles, AttentionInput, AttentionLimits, AttentionRow, AttentionScratch, BlockRef, Buffer, Fp8Ref,
    HeadRows, Kernels, KvMut, KvRef, KvRows, KvShape, LinearScratch, LinearShape, Norm, NormKind,
    OutOfMemory, PackError, PackedLinear, Pairing, QuantizedMatrix, WeightFormat, Weights, WorkerPool,
};
use serde::Serialize;
use std::time::{Duration, Instant};

/// A measured case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelRow {
    /// Name of the operation.
    pub operation: String,
    /// Format of weights, or of keys and values; empty where there are none.
    pub format: String,
    /// What it was measured with, for instance `9728 x 896`.
    pub shape: String,
    /// Rows: tokens of a step.
    pub rows: usize,
    /// Seconds of a call.
    pub seconds: Spread,
    /// Bytes that have to be read and written, in GB/s at the median.
    pub gbs: f64,
    /// Multiplications and additions, in GFLOP/s at the median.
    pub gflops: f64,
    /// The least time that the machine needs over the time taken.
    pub limit_share: Option<f64>,
}

/// Why a case cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum KernelBenchError {
    /// The weights do not fit.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Other memory does not suffice.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// Measures kernels.
pub struct KernelBench<'a> {
    /// The instruction set.
    pub kernels: &'static Kernels,
    /// The workers.
    pub pool: &'a WorkerPool,
    /// The shape of the model.
    pub spec: &'a DecoderSpec,
    /// Limits of the machine, if they are known.
    pub limits: Option<&'a MachineLimits>,
    /// Calls of which the median counts.
    pub repetitions: usize,
}

/// What a case reads, writes and computes at least.
#[derive(Clone, Copy, Debug)]
struct Needs {
    bytes: f64,
    flops: f64,
    /// Highest peak of the units that can do it; none where caches hold the data, so that no limit is known.
    peak: Option<f64>,
}

/// Weights of one case together: more than caches hold, so that they are read from memory as in a step.
const COLD_BYTES: usize = 160 << 20;

/// Most copies of weights, or of keys and values, which take time to make.
const MOST_COPIES: usize = 100;

/// Rows of random weights that are stacked to make a matrix.
const TILE_ROWS: usize = 64;

/// A case that takes long is measured less often than asked, but at least three times.
const PATIENCE: Duration = Duration::from_secs(2);

impl KernelBench<'_> {
    /// Names of the linear operations with their shapes.
    pub fn linear_shapes(&self) -> Vec<(&'static str, LinearShape)> {
        let mut shapes = layer_shapes(self.spec).to_vec();
        shapes.push(("head", head_shape(self.spec)));
        shapes
    }

    /// One linear operation in one format, for each number of `rows`.
    ///
    /// # Errors
    /// [`KernelBenchError`] when there is no memory for the weights.
    pub fn linear(
        &self,
        (operation, shape): (&str, LinearShape),
        format: WeightFormat,
        rows: &[usize],
    ) -> Result<Vec<KernelRow>, KernelBenchError> {
        let bytes = PackedLinear::packed_bytes(shape, format) as usize;
        let copies = COLD_BYTES.div_ceil(bytes.max(1)).min(MOST_COPIES);
        let weights: Result<Vec<_>, _> =
            (0..copies).map(|_| random_weights(shape, format, self.pool)).collect();
        let weights = weights?;
        rows.iter().map(|&m| self.linear_row((operation, shape), format, &weights, m)).collect()
    }

    fn linear_row(
        &self,
        (operation, LinearShape { n, k }): (&str, LinearShape),
        format: WeightFormat,
        weights: &[PackedLinear],
        m: usize,
    ) -> Result<KernelRow, KernelBenchError> {
        let (x, mut out) = (noise(m * k), vec![0.0; m * n]);
        let mut scratch = LinearScratch::new(m, k)?;
        let seconds = self.time(weights.len(), || {
            for w in weights {
                self.kernels.linear(self.pool, &x, w, None, &mut scratch, &mut out);
            }
        });
        let needs = Needs {
            bytes: weights[0].bytes() as f64,
            flops: 2.0 * (m * n * k) as f64,
            peak: self.limits.map(|limits| limits.best_peak(format)),
        };
        Ok(self.row((operation, &format.to_string(), &format!("{n} x {k}")), m, seconds, needs))
    }

    fn attention_row(&self, case: AttentionCase) -> Result<KernelRow, KernelBenchError> {
        let AttentionCase { sequences, tokens, context } = case;
        let spec = self.spec;
        let shape =
            KvShape { kv_heads: spec.kv_heads as usize, head_dim: spec.head_dim as usize, block_size: 16 };
        let per_row = context.div_ceil(shape.block_size);
        let blocks = per_row * sequences;
        let copies = COLD_BYTES.div_ceil(4 * blocks * shape.block_elements()).min(MOST_COPIES);
        let kvs: Result<Vec<_>, _> = (0..copies).map(|_| self.random_kv(&shape, blocks)).collect();
        let kvs = kvs?;
        let tables: Vec<u32> = (0..blocks as u32).collect();
        let rows: Vec<AttentionRow> = (0..sequences).map(|row| case.row(row, per_row)).collect();
        let width = spec.q_width() as usize;
        let (q, mut out) = (noise(sequences * tokens * width), vec![0.0; sequences * tokens * width]);
        let input = AttentionInput {
            q: &q,
            q_stride: width,
            heads: spec.heads as usize,
            shape,
            rows: &rows,
            tables: &tables,
            scale: spec.attn_scale,
            window: None,
            softcap: None,
            sinks: None,
        };
        let mut scratch = AttentionScratch::new(&self.attention_limits(case))?;
        let seconds = self.time(copies, || {
            for (keys, values) in &kvs {
                let kv = KvRef::Bf16 { keys, values };
                self.kernels.attention(self.pool, &input, kv, &mut scratch, &mut out);
            }
        });
        let pairs = (sequences * tokens) as f64 * (context as f64 - (tokens as f64 - 1.0) / 2.0);
        let needs = Needs {
            bytes: 4.0 * (sequences * context * shape.token_elements()) as f64,
            flops: 4.0 * pairs * width as f64,
            peak: self.limits.map(MachineLimits::attention_peak),
        };
        let name = if tokens == 1 { "attention, decode" } else { "attention, prefill" };
        Ok(self.row((name, "bf16", &format!("context {context}")), sequences * tokens, seconds, needs))
    }

    fn attention_limits(&self, AttentionCase { sequences, tokens, .. }: AttentionCase) -> AttentionLimits {
        AttentionLimits {
            heads: self.spec.heads as usize,
            kv_heads: self.spec.kv_heads as usize,
            head_dim: self.spec.head_dim as usize,
            tokens: sequences * tokens,
            rows: sequences,
            threads: self.pool.threads(),
        }
    }

    /// Keys and values of so many blocks.
    fn random_kv(&self, shape: &KvShape, blocks: usize) -> Result<(Buffer<bf16>, Buffer<bf16>), OutOfMemory> {
        let elements = blocks * shape.block_elements();
        let (mut keys, mut values) = (Buffer::<bf16>::zeroed(elements)?, Buffer::<bf16>::zeroed(elements)?);
        let token = noise(shape.token_elements());
        // Every token has the same numbers: a stride of 0 reads the one row again.
        let rows = KvRows { keys: &token, values: &token, stride: 0 };
        let slots: Vec<u32> = (0..(blocks * shape.block_size) as u32).collect();
        self.kernels.kv_write(
            self.pool,
            shape,
            KvMut::Bf16 { keys: &mut keys, values: &mut values },
            rows,
            &slots,
        );
        Ok((keys, values))
    }

    /// Attention of decoding sequences, one for each number of `rows`, and of a chunk of a prompt, each at `contexts`.
    ///
    /// # Errors
    /// [`KernelBenchError`] when there is no memory for keys and values.
    pub fn attention(&self, rows: &[usize], contexts: &[usize]) -> Result<Vec<KernelRow>, KernelBenchError> {
        let decode = contexts.iter().flat_map(|&context| {
            rows.iter().map(move |&sequences| AttentionCase { sequences, tokens: 1, context })
        });
        let chunk = contexts.iter().map(|&context| AttentionCase {
            sequences: 1,
            tokens: context.min(PREFILL_CHUNK),
            context,
        });
        decode.chain(chunk).map(|case| self.attention_row(case)).collect()
    }

    /// The operations without weights: norm, rotation, activation, sum, and writing keys and values.
    ///
    /// # Errors
    /// [`KernelBenchError`] when there is no memory for keys and values.
    pub fn small(&self, rows: &[usize]) -> Result<Vec<KernelRow>, KernelBenchError> {
        rows.iter().map(|&m| self.small_rows(m)).collect::<Result<Vec<_>, _>>().map(|rows| rows.concat())
    }

    fn small_rows(&self, m: usize) -> Result<Vec<KernelRow>, KernelBenchError> {
        let (spec, kernels, pool) = (self.spec, self.kernels, self.pool);
        let hidden = spec.hidden as usize;
        let head_dim = spec.head_dim as usize;
        let mut rows = Vec::new();
        let mut add = |name: &str, width: usize, words: usize, seconds: Spread| {
            let needs = Needs { bytes: 4.0 * words as f64, flops: 0.0, peak: None };
            rows.push(self.row((name, "", &width.to_string()), m, seconds, needs));
        };
        let (mut x, weight, mut out) = (noise(m * hidden), noise(hidden), vec![0.0; m * hidden]);
        let norm = Norm { kind: NormKind::Rms, weight: &weight, bias: None, eps: 1e-6 };
        let norm = self.time(1, || kernels.add_norm(pool, &mut x, &norm, &mut out));
        add("norm", hidden, 4 * m * hidden, norm);
        let width = spec.q_width() as usize;
        let heads = HeadRows { rows: m, stride: width, heads: spec.heads as usize, head_dim };
        let (mut q, angles) = (noise(m * width), noise(m * head_dim / 2));
        let angles = Angles { cos: &angles, sin: &angles, pairing: Pairing::Halves };
        let rope = self.time(1, || kernels.rope(pool, heads, &mut q, &angles));
        add("rope", width, 2 * m * width, rope);
        let shape = KvShape { kv_heads: spec.kv_heads as usize, head_dim, block_size: 16 };
        let elements = m.div_ceil(16) * shape.block_elements();
        let (mut keys, mut values) = (Buffer::<bf16>::zeroed(elements)?, Buffer::<bf16>::zeroed(elements)?);
        let kv_width = shape.token_elements();
        let (from, slots) = (noise(m * kv_width), (0..m as u32).collect::<Vec<_>>());
        let write = self.time(1, || {
            let kv = KvMut::Bf16 { keys: &mut keys, values: &mut values };
            let rows = KvRows { keys: &from, values: &from, stride: kv_width };
            kernels.kv_write(pool, &shape, kv, rows, &slots);
        });
        add("kv_write", kv_width, 3 * m * kv_width, write);
        Ok(rows)
    }

    fn row(
        &self,
        (operation, format, shape): (&str, &str, &str),
        rows: usize,
        seconds: Spread,
        needs: Needs,
    ) -> KernelRow {
        let least = self
            .limits
            .zip(needs.peak)
            .map(|(limits, peak)| (needs.bytes / (1e9 * limits.read_gbs)).max(needs.flops / (1e9 * peak)));
        let time = seconds.median.max(1e-12);
        KernelRow {
            operation: operation.to_owned(),
            format: format.to_owned(),
            shape: shape.to_owned(),
            rows,
            seconds,
            gbs: 1e-9 * needs.bytes / time,
            gflops: 1e-9 * needs.flops / time,
            limit_share: least.map(|least| least / time).filter(|share| share.is_finite()),
        }
    }

    /// Seconds of one of the `parts` calls in `call`, after a call that warms up.
    fn time(&self, parts: usize, mut call: impl FnMut()) -> Spread {
        call();
        let start = Instant::now();
        let mut seconds = Vec::with_capacity(self.repetitions);
        while seconds.len() < self.repetitions && (seconds.len() < 3 || start.elapsed() < PATIENCE) {
            let before = Instant::now();
            call();
            seconds.push(before.elapsed().as_secs_f64() / parts as f64);
        }
        Spread::of(seconds).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 })
    }
}

/// Tokens of the chunk of a prompt that attention is measured with.
const PREFILL_CHUNK: usize = 256;

#[derive(Clone, Copy, Debug)]
struct AttentionCase {
    sequences: usize,
    tokens: usize,
    context: usize,
}

impl AttentionCase {
    /// Row number `row`, whose table has `blocks` blocks.
    fn row(&self, row: usize, blocks: usize) -> AttentionRow {
        AttentionRow {
            tokens: (row * self.tokens) as u32..((row + 1) * self.tokens) as u32,
            context: self.context as u32,
            table: (row * blocks) as u32..((row + 1) * blocks) as u32,
        }
    }
}

/// Random weights, made of stacked copies of a few rows so that they cost little time and memory.
fn random_weights(
    LinearShape { n, k }: LinearShape,
    format: WeightFormat,
    pool: &WorkerPool,
) -> Result<PackedLinear, PackError> {
    let tile = noise(TILE_ROWS * k);
    let (tiles, rest) = (n / TILE_ROWS, n % TILE_ROWS);
    let stack = |tile, end| {
        let parts = std::iter::repeat_n((tile, TILE_ROWS), tiles).chain((rest > 0).then_some((end, rest)));
        PackedLinear::pack(&parts.collect::<Vec<_>>(), k, format, pool)
    };
    if let WeightFormat::Blocks(format, _) = format {
        let bytes = random_blocks(TILE_ROWS * k / format.block() * format.stored_bytes());
        let row = k / format.block() * format.stored_bytes();
        let blocks = |rows| BlockRef::new(rows, k, format, &bytes[..rows * row]).map(Weights::Blocks);
        return stack(blocks(TILE_ROWS)?, blocks(rest.max(1))?);
    }
    if format == WeightFormat::Fp8 {
        let (codes, scales) = (random_blocks(TILE_ROWS * k), vec![0.01; TILE_ROWS * k.div_ceil(128)]);
        let floats = |rows: usize| {
            Fp8Ref::new(rows, k, &codes[..rows * k], &scales[..rows * k.div_ceil(128)]).map(Weights::Fp8)
        };
        return stack(floats(TILE_ROWS)?, floats(rest.max(1))?);
    }
    let floats = |rows: usize| Weights::F32(&tile[..rows * k]);
    let WeightFormat::Quantized(quant) = format else { return stack(floats(TILE_ROWS), floats(rest)) };
    // Quantised once, so that every copy has only the packing to do.
    let whole = QuantizedMatrix::quantize(floats(TILE_ROWS), TILE_ROWS, k, quant, pool)?;
    let end = rest.max(1);
    let end = QuantizedMatrix::quantize(floats(end), end, k, quant, pool)?;
    stack(Weights::Quantized(whole.as_ref()), Weights::Quantized(end.as_ref()))
}

/// Blocks of any codes, with scales below 1: no exponent of a half has all bits.
fn random_blocks(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(1, 0);
    (0..bytes).map(|_| (255.0 * random.unit()) as u8 & 0x3b).collect()
}

/// Numbers in -1..1.
fn noise(count: usize) -> Vec<f32> {
    let mut random = Random::new(1, 0);
    (0..count).map(|_| 2.0 * random.unit() as f32 - 1.0).collect()
}
