//! Speed of the kernels beside the limits of the machine.
//!
//! `cargo bench -p pagoda-kernels [-- WORD...]`: instruction sets, formats, shapes (`qkv`, `o`, `gate_up`, `down`, `head`,
//! `small`), rows (`m=16`) and workers (`threads=1`); of each kind only what is named is measured, or all. Times
//! are the best of several: what the code does when nothing else has the machine. Each linear line ends with a checksum of
//! its output, which changes only when the arithmetic does.

mod common;

use common::{best, checksum, noise};
use pagoda_kernels::limits::{Unit, peak, read_bandwidth};
use pagoda_kernels::{
    Activations, BlockRef, Fp8Ref, Isa, Kernels, LinearScratch, LinearShape, PackedLinear, QuantizedMatrix,
    WeightFormat, Weights, WorkerPool,
};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let words = Words(std::env::args().skip(1).filter(|word| word != "--bench").collect());
    let threads = words.numbers("threads=", &[WorkerPool::default_threads()])[0];
    let pool = WorkerPool::new(threads)?;
    pool.pin_caller()?;
    let limits = Limits::measure(&pool)?;
    println!("{threads} workers; read {:.1} GB/s; {:.0?} GOP/s", limits.read, limits.peaks);
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    for name in words.choose(&isas) {
        if name == Isa::Scalar.name() && !words.0.iter().any(|word| word == name) {
            continue;
        }
        let kernels = Kernels::for_isa(name.parse()?).ok_or("an available instruction set has kernels")?;
        println!("\n{name}");
        linear(kernels, &pool, &limits, &words)?;
    }
    Ok(())
}

/// The words of the command line.
struct Words(Vec<String>);

impl Words {
    /// Those of `names` that are among the words; all, if none is.
    fn choose<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        let named: Vec<&str> =
            names.iter().copied().filter(|name| self.0.iter().any(|w| w == name)).collect();
        if named.is_empty() { names.to_vec() } else { named }
    }

    /// The numbers after `prefix`; `others`, if there is none.
    fn numbers(&self, prefix: &str, others: &[usize]) -> Vec<usize> {
        let named: Vec<usize> =
            self.0.iter().filter_map(|word| word.strip_prefix(prefix)?.parse().ok()).collect();
        if named.is_empty() { others.to_vec() } else { named }
    }
}

/// What the machine can do with all workers.
struct Limits {
    /// GB/s.
    read: f64,
    /// GOP/s of the units that there are.
    peaks: Vec<(Unit, f64)>,
}

impl Limits {
    fn measure(pool: &WorkerPool) -> Result<Self, Box<dyn Error>> {
        let peaks = Unit::ALL.into_iter().filter_map(|unit| Some((unit, peak(unit, pool)?))).collect();
        Ok(Limits { read: read_bandwidth(256 << 20, pool)?, peaks })
    }

    /// GOP/s of the unit that multiplies weights of `format`.
    fn peak(&self, isa: Isa, format: WeightFormat) -> f64 {
        let unit = match format {
            WeightFormat::Bf16 if isa >= Isa::Avx512Bf16 => Unit::Bf16Dot,
            WeightFormat::Quantized(format) if format.activations == Activations::I8 => Unit::Int8Dot,
            WeightFormat::Blocks(_, Activations::I8) => Unit::Int8Dot,
            WeightFormat::Quantized(_) | WeightFormat::Blocks(..) => Unit::Int16Dot,
            _ => Unit::F32,
        };
        self.peaks.iter().find(|(known, _)| *known == unit).map_or(f64::NAN, |(_, peak)| *peak)
    }
}

/// Formats of weights.
const FORMATS: [&str; 20] = [
    "f32", "f16", "bf16", "fp8", "int8", "int4", "w8a8", "w4a8", "q4_0", "q4_0-a16", "q5_0", "q8_0", "q2_k",
    "q3_k", "q4_k", "q4_k-a16", "q5_k", "q6_k", "iq4_nl", "mxfp4",
];

/// The linear operations of Qwen2.5-0.5B, one of a Llama whose inputs are whole blocks of every format, and a small one: name,
/// outputs, inputs.
const SHAPES: [(&str, usize, usize); 7] = [
    ("qkv", 1152, 896),
    ("o", 896, 896),
    ("gate_up", 2 * 4864, 896),
    ("down", 896, 4864),
    ("head", 151_936, 896),
    ("blocks", 8192, 2048),
    ("small", 288, 288),
];

/// Rows of activations.
const ROWS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 256, 512];

/// Bytes of weights that do not stay in the caches.
const BEYOND_CACHE: u64 = 160 << 20;

fn linear(
    kernels: &Kernels,
    pool: &WorkerPool,
    limits: &Limits,
    words: &Words,
) -> Result<(), Box<dyn Error>> {
    for name in words.choose(&FORMATS) {
        let format: WeightFormat = name.parse()?;
        for shape in words.choose(&SHAPES.map(|shape| shape.0)) {
            let (_, n, k) = *SHAPES.iter().find(|(name, ..)| *name == shape).ok_or("a known shape")?;
            if matches!(format, WeightFormat::Blocks(blocks, _) if k % blocks.block() > 0) {
                continue;
            }
            let packed = copies(LinearShape { n, k }, format, pool)?;
            for m in words.numbers("m=", &ROWS) {
                let x: Vec<f32> = (0..m * k).map(noise).collect();
                let (mut scratch, mut out) = (LinearScratch::new(m, k)?, vec![0.0; m * n]);
                // Many rows are so much arithmetic that it does not matter where the weights are.
                let packed = &packed[..packed.len().div_ceil(m.div_ceil(32))];
                let seconds = best(5, || {
                    for w in packed {
                        kernels.linear(pool, &x, w, None, &mut scratch, &mut out);
                    }
                }) / packed.len() as f64;
                let (gb, gop) =
                    (1e-9 * packed[0].bytes() as f64 / seconds, 2e-9 * (m * n * k) as f64 / seconds);
                println!(
                    "linear {name:<8} {shape:<7} m={m:<3} {:>9.1} us  {gb:>6.1} GB/s {:>3.0} %  {gop:>6.1} GOP/s {:>3.0} %  {:016x}",
                    1e6 * seconds,
                    100.0 * gb / limits.read,
                    100.0 * gop / limits.peak(kernels.isa(), format),
                    checksum(&out)
                );
            }
        }
    }
    Ok(())
}

/// Enough copies of a matrix that they do not stay in cache; of a small one, which does in a model, one.
fn copies(
    shape: LinearShape,
    format: WeightFormat,
    pool: &WorkerPool,
) -> Result<Vec<PackedLinear>, Box<dyn Error>> {
    let LinearShape { n, k } = shape;
    let bytes = PackedLinear::packed_bytes(shape, format);
    let copies = if n * k < 1 << 18 { 1 } else { BEYOND_CACHE.div_ceil(bytes) };
    let floats: Vec<f32> = (0..n * k).map(noise).collect();
    let quantized = match format {
        WeightFormat::Quantized(format) => {
            Some(QuantizedMatrix::quantize(Weights::F32(&floats), n, k, format, pool)?)
        }
        _ => None,
    };
    let mut weights = quantized.as_ref().map_or(Weights::F32(&floats), |w| Weights::Quantized(w.as_ref()));
    let blocks = stored_blocks(format, n * k);
    if let WeightFormat::Blocks(format, _) = format {
        weights = Weights::Blocks(BlockRef::new(n, k, format, &blocks)?);
    }
    let (codes, scales): (Vec<u8>, Vec<f32>);
    if format == WeightFormat::Fp8 {
        // Any codes but NaN.
        codes = (0..n * k).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 0xbe).collect();
        scales = vec![0.01; n * k.div_ceil(128)];
        weights = Weights::Fp8(Fp8Ref::new(n, k, &codes, &scales)?);
    }
    let pack = |_| Ok(PackedLinear::pack(&[(weights, n)], k, format, pool)?);
    (0..copies).map(pack).collect()
}

/// The bytes of blocks with any codes and with scales below 1: no exponent of a half has all bits. None for other formats.
fn stored_blocks(format: WeightFormat, elements: usize) -> Vec<u8> {
    let WeightFormat::Blocks(format, _) = format else { return Vec::new() };
    let bytes = elements / format.block() * format.stored_bytes();
    (0..bytes).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 0x3b).collect()
}
