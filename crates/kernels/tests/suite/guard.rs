//! Inputs and outputs that end at a page which may not be touched: reading one element too far ends the process.

use crate::common::{Rng, all_kernels, linear};
use half::bf16;
use pagoda_kernels::{
    Angles, AttentionInput, AttentionLimits, AttentionRow, AttentionScratch, Glu, HeadRows, Kernels, KvRef,
    KvShape, LinearScratch, LinearShape, Map, Norm, NormKind, PackedLinear, Pairing, WeightFormat, Weights,
    WorkerPool,
};
use std::marker::PhantomData;

const PAGE: usize = 4096;

/// Memory whose last element is followed by a forbidden page.
struct Guarded<T> {
    base: *mut libc::c_void,
    mapped: usize,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Copy> Guarded<T> {
    fn new(from: &[T]) -> Self {
        let bytes = size_of_val(from).next_multiple_of(PAGE);
        let mapped = bytes + PAGE;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own at an address of the kernel's choice.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), mapped, access, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        // SAFETY: the last page of the mapping.
        assert_eq!(unsafe { libc::mprotect(base.byte_add(bytes), PAGE, libc::PROT_NONE) }, 0);
        let mut guarded = Guarded { base, mapped, len: from.len(), kind: PhantomData };
        guarded.slice().copy_from_slice(from);
        guarded
    }

    fn slice(&mut self) -> &mut [T] {
        let start = self.mapped - PAGE - self.len * size_of::<T>();
        // SAFETY: the last `len` elements before the forbidden page, borrowed from this value; their bytes are zeros or
        // were copied from elements.
        unsafe { std::slice::from_raw_parts_mut(self.base.byte_add(start).cast(), self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping of this value.
        unsafe { libc::munmap(self.base, self.mapped) };
    }
}

fn guarded(rng: &mut Rng, n: usize) -> Guarded<f32> {
    Guarded::new(&rng.floats(n))
}

#[test]
fn elementwise_operations_stay_inside() {
    let (mut rng, pool) = (Rng(20), WorkerPool::new(1).unwrap());
    for kernels in all_kernels() {
        for n in 1..70 {
            let (mut x, mut y, mut w) = (guarded(&mut rng, n), guarded(&mut rng, n), guarded(&mut rng, n));
            let mut bias = guarded(&mut rng, n);
            for kind in [NormKind::Rms, NormKind::Layer] {
                let norm = Norm { kind, weight: w.slice(), bias: Some(bias.slice()), eps: 1e-5 };
                kernels.norm(&pool, x.slice(), &norm, y.slice());
                kernels.add_norm(&pool, x.slice(), &norm, y.slice());
            }
            kernels.map(&pool, y.slice(), Map::Activate(Glu::Gelu));
            kernels.add(&pool, x.slice(), y.slice());
            assert!(kernels.row_stats(x.slice()).finite);
            assert!(kernels.sum_exp(w.slice(), 8.0, 1.0).is_finite());
            let mut pair = guarded(&mut rng, 2 * n);
            let heads = HeadRows { rows: 1, stride: 2 * n, heads: 1, head_dim: 2 * n };
            for pairing in [Pairing::Halves, Pairing::Neighbours] {
                let angles = Angles { cos: x.slice(), sin: w.slice(), pairing };
                kernels.rope(&pool, heads, pair.slice(), &angles);
            }
            let mut weight = guarded(&mut rng, 2 * n);
            let norm = Norm { kind: NormKind::Layer, weight: weight.slice(), bias: None, eps: 1e-5 };
            kernels.norm_heads(&pool, heads, pair.slice(), &norm);
        }
    }
}

#[test]
fn linear_stays_inside() {
    let (mut rng, pool) = (Rng(21), WorkerPool::new(1).unwrap());
    for kernels in all_kernels() {
        for (n, k) in [(1, 1), (5, 3), (33, 17), (40, 64), (65, 515)] {
            for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::F16] {
                let mut weights = guarded(&mut rng, n * k);
                let w = PackedLinear::pack(&[(Weights::F32(weights.slice()), n)], k, format, &pool).unwrap();
                let both = [Weights::F32(weights.slice()); 2];
                let unit = PackedLinear::pack_gated(both, LinearShape { n, k }, format, &pool).unwrap();
                for m in 1..14 {
                    let (mut x, mut out) = (guarded(&mut rng, m * k), guarded(&mut rng, m * n));
                    let mut bias = guarded(&mut rng, n);
                    linear(kernels, &pool, x.slice(), &w, Some(bias.slice()), out.slice());
                    assert!(out.slice().iter().all(|x| x.is_finite()));
                    let mut scratch = LinearScratch::new(m, k).unwrap();
                    kernels.gated_linear(
                        &pool,
                        x.slice(),
                        (&unit, Glu::Silu),
                        None,
                        &mut scratch,
                        out.slice(),
                    );
                    assert!(out.slice().iter().all(|x| x.is_finite()));
                }
            }
        }
    }
}

fn attend(kernels: &Kernels, rng: &mut Rng, head_dim: usize, context: usize) {
    let pool = WorkerPool::new(1).unwrap();
    let shape = KvShape { kv_heads: 1, head_dim, block_size: 16 };
    let blocks = context.div_ceil(16);
    let elements = rng.floats(blocks * shape.block_elements());
    let halves: Vec<bf16> = elements.iter().map(|&x| bf16::from_f32(x)).collect();
    let tables: Vec<u32> = (0..blocks as u32).collect();
    let tokens = context.min(5);
    let rows = [AttentionRow { tokens: 0..tokens as u32, context: context as u32, table: 0..blocks as u32 }];
    let (mut keys, mut values) = (Guarded::new(&elements), Guarded::new(&elements));
    let (mut half_keys, mut half_values) = (Guarded::new(&halves), Guarded::new(&halves));
    let (mut q, mut out) = (guarded(rng, tokens * 3 * head_dim), guarded(rng, tokens * 3 * head_dim));
    let input = AttentionInput {
        q: q.slice(),
        q_stride: 3 * head_dim,
        heads: 3,
        shape,
        rows: &rows,
        tables: &tables,
        scale: 0.1,
        window: None,
        softcap: None,
        sinks: None,
    };
    let limits = AttentionLimits { heads: 3, kv_heads: 1, head_dim, tokens, rows: 1, threads: 1 };
    let mut scratch = AttentionScratch::new(&limits).unwrap();
    let whole = KvRef::F32 { keys: keys.slice(), values: values.slice() };
    kernels.attention(&pool, &input, whole, &mut scratch, out.slice());
    assert!(out.slice().iter().all(|x| x.is_finite()));
    let half = KvRef::Bf16 { keys: half_keys.slice(), values: half_values.slice() };
    kernels.attention(&pool, &input, half, &mut scratch, out.slice());
    assert!(out.slice().iter().all(|x| x.is_finite()));
    let codes: Vec<i8> = elements.iter().map(|x| (x * 10.0) as i8).collect();
    let (mut keys, mut values) = (Guarded::new(&codes), Guarded::new(&codes));
    let scales = vec![0.1; blocks * shape.block_scales()];
    let (mut key_scales, mut value_scales) = (Guarded::new(&scales), Guarded::new(&scales));
    let bytes = KvRef::Int8 {
        keys: keys.slice(),
        values: values.slice(),
        key_scales: key_scales.slice(),
        value_scales: value_scales.slice(),
    };
    kernels.attention(&pool, &input, bytes, &mut scratch, out.slice());
    assert!(out.slice().iter().all(|x| x.is_finite()));
}

#[test]
fn attention_stays_inside() {
    let mut rng = Rng(22);
    for kernels in all_kernels() {
        for head_dim in [2, 4, 10, 16, 18, 30, 64, 80, 98] {
            for context in [1, 2, 15, 16, 17, 64, 65, 100] {
                attend(kernels, &mut rng, head_dim, context);
            }
        }
    }
}
