//! Speed of the kernels beside the limits of the machine: streaming reads and fused multiply-adds.
//!
//! `cargo bench -p pagoda-kernels [-- ISA]` prints medians; each linear line ends with a checksum of its output, which
//! changes only when the arithmetic does.

use half::bf16;
use pagoda_kernels::{
    AttentionInput, AttentionRow, Buffer, Isa, Kernels, KvRef, KvShape, LinearScratch, LinearShape,
    PackedLinear, WeightFormat, Weights, WorkerPool,
};
use std::hint::black_box;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chosen = std::env::args().nth(1).and_then(|name| name.parse::<Isa>().ok());
    let pool = WorkerPool::new(WorkerPool::default_threads())?;
    pool.pin_caller()?;
    let limits = Limits::measure(&pool)?;
    println!("{} workers; read {:.1} GB/s; f32 FMA {:.0} GFLOP/s", pool.threads(), limits.read, limits.fma);
    for isa in Isa::available().filter(|&isa| chosen.map_or(isa > Isa::Scalar, |c| c == isa)) {
        let kernels = Kernels::for_isa(isa).ok_or("an available instruction set has kernels")?;
        println!("\n{isa}");
        linear(kernels, &pool, &limits)?;
        attention(kernels, &pool)?;
    }
    Ok(())
}

/// What the machine can do with all workers.
struct Limits {
    /// GB/s.
    read: f64,
    /// GFLOP/s.
    fma: f64,
}

impl Limits {
    fn measure(pool: &WorkerPool) -> Result<Self, Box<dyn std::error::Error>> {
        let words = 64 << 20;
        let memory = Buffer::<f32>::zeroed(words)?;
        // Reading the sums of all elements touches each page first, as a page of zeros of its own.
        let mut memory = memory;
        memory.fill(1.0);
        let seconds = median(9, || {
            pool.run(&|worker| {
                let part = words / pool.threads();
                black_box(sum(&memory[worker * part..(worker + 1) * part]));
            });
        });
        let rounds = 1 << 20;
        let fma = median(9, || pool.run(&|_| _ = black_box(multiply_add(rounds))));
        Ok(Limits {
            read: 4e-9 * words as f64 / seconds,
            fma: 1e-9 * (rounds * LANES * CHAINS * 2 * pool.threads()) as f64 / fma,
        })
    }
}

/// Independent chains of multiply-adds.
const CHAINS: usize = 12;
/// Elements of a chain.
const LANES: usize = 16;

fn sum(x: &[f32]) -> f32 {
    #[target_feature(enable = "avx2,fma")]
    #[cfg(target_arch = "x86_64")]
    fn wide(x: &[f32]) -> f32 {
        plain(x)
    }
    #[inline(always)]
    fn plain(x: &[f32]) -> f32 {
        let mut sums = [0f32; 128];
        for x in x.as_chunks::<128>().0 {
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
        sums.iter().sum()
    }
    #[cfg(target_arch = "x86_64")]
    if Isa::Avx2.is_available() {
        // SAFETY: the features were detected.
        return unsafe { wide(x) };
    }
    plain(x)
}

fn multiply_add(rounds: usize) -> f32 {
    #[inline(always)]
    fn plain(rounds: usize) -> f32 {
        let mut sums = [[1f32; LANES]; CHAINS];
        let (x, y) = (black_box([0.999f32; LANES]), black_box([1e-3f32; LANES]));
        for _ in 0..rounds {
            for sums in &mut sums {
                for lane in 0..LANES {
                    sums[lane] = sums[lane].mul_add(x[lane], y[lane]);
                }
            }
        }
        sums.iter().flatten().sum()
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn widest(rounds: usize) -> f32 {
        use std::arch::x86_64::*;
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3)));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn wide(rounds: usize) -> f32 {
        plain(rounds)
    }
    #[cfg(target_arch = "x86_64")]
    if Isa::Avx512.is_available() {
        // SAFETY: the features were detected.
        return unsafe { widest(rounds) };
    } else if Isa::Avx2.is_available() {
        // SAFETY: the features were detected.
        return unsafe { wide(rounds) };
    }
    plain(rounds)
}

fn linear(kernels: &Kernels, pool: &WorkerPool, limits: &Limits) -> Result<(), Box<dyn std::error::Error>> {
    let shapes = [(4096, 4096, "4096x4096"), (2 * 4864, 896, "9728x896"), (288, 288, "288x288")];
    for format in [WeightFormat::Bf16, WeightFormat::F32] {
        for (n, k, name) in shapes {
            let weights: Vec<f32> = (0..n * k).map(noise).collect();
            // Enough copies that the weights do not stay in cache.
            let size = PackedLinear::packed_bytes(LinearShape { n, k }, format);
            let copies = if n > 1000 { (192u64 << 20).div_ceil(size).min(8) } else { 1 };
            let parts = [(Weights::F32(&weights), n)];
            let packed: Vec<_> =
                (0..copies).map(|_| PackedLinear::pack(&parts, k, format, pool)).collect::<Result<_, _>>()?;
            for m in [1, 2, 4, 8, 16, 64, 256] {
                let x: Vec<f32> = (0..m * k).map(noise).collect();
                let (mut scratch, mut out) = (LinearScratch::new(m, k)?, vec![0.0; m * n]);
                let seconds = median(9, || {
                    for w in &packed {
                        kernels.linear(pool, &x, w, None, &mut scratch, &mut out);
                    }
                }) / copies as f64;
                let bytes = packed[0].bytes() as f64;
                let (gb, gf) = (1e-9 * bytes / seconds, 2e-9 * (m * n * k) as f64 / seconds);
                println!(
                    "linear {format:?} {name:>10} m={m:<3} {:>9.1} us  {gb:>6.1} GB/s {:>3.0} %  {gf:>6.1} GFLOP/s {:>3.0} %  {:016x}",
                    1e6 * seconds,
                    100.0 * gb / limits.read,
                    100.0 * gf / limits.fma,
                    checksum(&out)
                );
            }
        }
    }
    Ok(())
}

fn attention(kernels: &Kernels, pool: &WorkerPool) -> Result<(), Box<dyn std::error::Error>> {
    let shape = KvShape { kv_heads: 8, head_dim: 64, block_size: 16 };
    for (context, sequences, tokens) in
        [(1024, 1, 1), (4096, 1, 1), (1024, 32, 1), (1024, 1, 256), (4096, 1, 256)]
    {
        let per_row = usize::div_ceil(context, 16);
        let elements = per_row * sequences * shape.block_elements();
        let mut keys = Buffer::<bf16>::zeroed(elements)?;
        let mut values = Buffer::<bf16>::zeroed(elements)?;
        for i in 0..elements {
            (keys[i], values[i]) = (bf16::from_f32(noise(i)), bf16::from_f32(noise(i + 7)));
        }
        let tables: Vec<u32> = (0..(per_row * sequences) as u32).rev().collect();
        let rows: Vec<_> = (0..sequences)
            .map(|i| AttentionRow {
                tokens: (i * tokens) as u32..((i + 1) * tokens) as u32,
                context: context as u32,
                table: (i * per_row) as u32..((i + 1) * per_row) as u32,
            })
            .collect();
        let heads = 32;
        let q: Vec<f32> = (0..sequences * tokens * heads * 64).map(noise).collect();
        let mut out = vec![0.0; q.len()];
        let input = AttentionInput {
            q: &q,
            q_stride: heads * 64,
            heads,
            shape,
            rows: &rows,
            tables: &tables,
            scale: 0.125,
            window: None,
            softcap: None,
        };
        let kv = KvRef::Bf16 { keys: &keys, values: &values };
        let seconds = median(9, || kernels.attention(pool, &input, kv, &mut out));
        let pairs = (sequences * tokens * (context - tokens / 2) * heads) as f64;
        println!(
            "attention bf16 context={context} sequences={sequences:<2} tokens={tokens:<3} {:>9.1} us  {:>6.1} GB/s  {:>6.1} GFLOP/s",
            1e6 * seconds,
            4e-9 * elements as f64 / seconds,
            4e-9 * pairs * 64.0 / seconds
        );
    }
    Ok(())
}

/// Median time of a call in seconds.
fn median(times: usize, mut call: impl FnMut()) -> f64 {
    call();
    let mut seconds: Vec<f64> = (0..times)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[times / 2]
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
