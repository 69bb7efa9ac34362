//! AVX-512: 32 registers of 16 lanes.

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
static VNNI_KERNELS: Kernels =
    Kernels { prepare: linear::vnni_prepare, linear: linear::vnni_linear, ..TABLE };

/// As [`VNNI_KERNELS`], with bf16 weights times activations rounded to bf16.
static BF16_KERNELS: Kernels =
    Kernels { isa: Isa::Avx512Bf16, prepare: linear::bf16_prepare, linear: linear::bf16_linear, ..TABLE };

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
