//! AVX-512: 32 registers of 16 lanes.

mod attention;
mod bf16_dot;
mod linear;
mod simd;
mod vnni;

use crate::vector::table;
use crate::{Isa, Kernels};
use linear::{BLOCKING, linear, prepare};
use simd::Avx512;

table!(Isa::Avx512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");

static KERNELS: Kernels = TABLE;

/// With integer dot products in one step.
static VNNI_KERNELS: Kernels = Kernels {
    prepare: linear::vnni_prepare,
    linear: linear::vnni_linear,
    attention: attention::vnni_attention,
    ..TABLE
};

/// As [`VNNI_KERNELS`], with bf16 weights times activations rounded to bf16.
static BF16_KERNELS: Kernels = Kernels {
    isa: Isa::Avx512Bf16,
    prepare: linear::bf16_prepare,
    linear: linear::bf16_linear,
    attention: attention::bf16_attention,
    ..TABLE
};

/// The table, where the machine and its operating system run AVX-512.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    has.then(|| if is_x86_feature_detected!("avx512vnni") { &VNNI_KERNELS } else { &KERNELS })
}

/// The table with dot products of bf16, where the machine has them; every such machine has VNNI.
pub(crate) fn bf16_kernels() -> Option<&'static Kernels> {
    let has = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
    kernels().filter(|_| has).map(|_| &BF16_KERNELS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LinearScratch, PackedLinear, QuantFormat, Weights, WorkerPool};

    #[test]
    fn without_vnni_the_bits_are_the_same() {
        if kernels().is_none() {
            return;
        }
        let pool = WorkerPool::new(1).unwrap();
        let (n, k) = (40, 300);
        let weights: Vec<f32> = (0..n * k).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
        let x: Vec<f32> = (0..17 * k).map(|i| (i * 53 % 97) as f32 - 48.0).collect();
        let asymmetric = QuantFormat { zero_point: true, ..QuantFormat::INT4 };
        let named = QuantFormat::NAMED.map(|(_, format)| format);
        for format in named.into_iter().chain([asymmetric]) {
            let parts = [(Weights::F32(&weights), n)];
            let w = PackedLinear::pack(&parts, k, format.into(), &pool).unwrap();
            for m in [1, 2, 7, 17] {
                let mut scratch = LinearScratch::new(m, k).unwrap();
                let [mut want, mut got] = [vec![0.0; m * n], vec![1.0; m * n]];
                crate::scalar::KERNELS.linear(&pool, &x[..m * k], &w, None, &mut scratch, &mut want);
                KERNELS.linear(&pool, &x[..m * k], &w, None, &mut scratch, &mut got);
                assert_eq!(want, got, "{format} m={m}");
            }
        }
    }
}
