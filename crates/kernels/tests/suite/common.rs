//! Inputs, comparison and paged storage for the tests.

use half::bf16;
use pagoda_kernels::{
    Isa, Kernels, KvMut, KvRef, KvRows, KvShape, LinearScratch, PackedLinear, WeightFormat, Weights,
    WorkerPool,
};

/// Half the distance from 1 to the next `f32`.
pub(crate) const EPS: f64 = f32::EPSILON as f64 / 2.0;

/// The kernels of every instruction set of this machine, the scalar ones included, and those over emulated tiles.
pub(crate) fn all_kernels() -> impl Iterator<Item = &'static Kernels> {
    let here = Isa::available().map(|isa| Kernels::for_isa(isa).unwrap());
    #[cfg(target_arch = "x86_64")]
    let here = here.chain(std::iter::once(Kernels::emulated_amx()));
    here
}

pub(crate) fn scalar() -> &'static Kernels {
    Kernels::for_isa(Isa::Scalar).unwrap()
}

/// [`Kernels::linear`] with scratch memory of exactly the size that the operation needs.
pub(crate) fn linear(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &PackedLinear,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let mut scratch = LinearScratch::new(x.len() / w.k(), w.k()).unwrap();
    kernels.linear(pool, x, w, bias, &mut scratch, out);
}

/// A small random number generator (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number with the magnitudes of activations: mostly near 1, sometimes far from it.
    pub(crate) fn float(&mut self) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let scale = [0.001, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 8.0][self.below(8)];
        unit * scale
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// Asserts `|got - want| <= bound(i)` for each element; NaN fails.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f32], bound: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (error, bound) = ((f64::from(got) - f64::from(want)).abs(), bound(i));
        let close = error <= bound || got.to_bits() == want.to_bits();
        assert!(close, "{what}: element {i} is {got}, want {want}: off by {error:e}, bound {bound:e}");
    }
}

/// Asserts equal bits.
#[track_caller]
pub(crate) fn assert_same(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.to_bits(), want.to_bits(), "{what}: element {i} is {got}, was {want}");
    }
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    Bf16,
    Int8,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::F32, Kind::Bf16, Kind::Int8];

    /// The head of one token as storage rounds it.
    pub(crate) fn round(self, head: &[f32]) -> Vec<f32> {
        let largest = head.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let code = |x: f32| (x * (127.0 / largest)).round_ties_even();
        let round = |&x: &f32| match self {
            Kind::F32 => x,
            Kind::Bf16 => bf16::from_f32(x).to_f32(),
            Kind::Int8 if largest == 0.0 => 0.0,
            Kind::Int8 => code(x) * (largest / 127.0),
        };
        head.iter().map(round).collect()
    }
}

/// KV storage of one layer that starts out as NaN (bytes: as the largest, with scales of NaN), so that reading what was not
/// written shows.
#[derive(Clone)]
pub(crate) enum Store {
    F32(Vec<f32>, Vec<f32>),
    Bf16(Vec<bf16>, Vec<bf16>),
    /// Keys, values, their scales.
    Int8([Vec<i8>; 2], [Vec<f32>; 2]),
}

impl Store {
    pub(crate) fn new(shape: &KvShape, blocks: usize, kind: Kind) -> Self {
        let n = blocks * shape.block_elements();
        match kind {
            Kind::F32 => Store::F32(vec![f32::NAN; n], vec![f32::NAN; n]),
            Kind::Bf16 => Store::Bf16(vec![bf16::NAN; n], vec![bf16::NAN; n]),
            Kind::Int8 => {
                let scales = vec![f32::NAN; blocks * shape.block_scales()];
                Store::Int8([vec![127; n], vec![127; n]], [scales.clone(), scales])
            }
        }
    }

    pub(crate) fn read(&self) -> KvRef<'_> {
        match self {
            Store::F32(keys, values) => KvRef::F32 { keys, values },
            Store::Bf16(keys, values) => KvRef::Bf16 { keys, values },
            Store::Int8([keys, values], [key_scales, value_scales]) => {
                KvRef::Int8 { keys, values, key_scales, value_scales }
            }
        }
    }

    pub(crate) fn write(&mut self) -> KvMut<'_> {
        match self {
            Store::F32(keys, values) => KvMut::F32 { keys, values },
            Store::Bf16(keys, values) => KvMut::Bf16 { keys, values },
            Store::Int8([keys, values], [key_scales, value_scales]) => {
                KvMut::Int8 { keys, values, key_scales, value_scales }
            }
        }
    }
}

/// Keys and values of a sequence, `[tokens, kv_heads * head_dim]` each.
pub(crate) struct Sequence {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
    /// Its blocks.
    pub(crate) table: Vec<u32>,
}

impl Sequence {
    /// Writes tokens `from..to` to their blocks.
    pub(crate) fn store(
        &self,
        pool: &WorkerPool,
        shape: &KvShape,
        store: &mut Store,
        tokens: std::ops::Range<usize>,
    ) {
        let width = shape.token_elements();
        let slots: Vec<u32> = tokens
            .clone()
            .map(|t| {
                self.table[t / shape.block_size] * shape.block_size as u32 + (t % shape.block_size) as u32
            })
            .collect();
        let rows = KvRows {
            keys: &self.keys[tokens.start * width..],
            values: &self.values[tokens.start * width..],
            stride: width,
        };
        scalar().kv_write(pool, shape, store.write(), rows, &slots);
    }
}

/// Weights `[n, k]` and bias `[n]` of a linear operation.
pub(crate) struct Case {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Case {
    pub(crate) fn new(rng: &mut Rng, n: usize, k: usize) -> Self {
        Case { n, k, weights: rng.floats(n * k), bias: rng.floats(n) }
    }

    pub(crate) fn pack(&self, format: impl Into<WeightFormat>, pool: &WorkerPool) -> PackedLinear {
        PackedLinear::pack(&[(Weights::F32(&self.weights), self.n)], self.k, format.into(), pool).unwrap()
    }
}
