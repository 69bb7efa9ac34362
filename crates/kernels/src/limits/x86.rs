//! Loops that keep one unit of an x86-64 core busy.

use super::{CHAINS, Spin, Unit, plain_sum};
use crate::amx::peak;
use std::arch::x86_64::*;
use std::hint::black_box;

/// The widest loop of `unit` that this machine runs.
pub(super) fn spin(unit: Unit) -> Option<Spin> {
    let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    let vnni = wide && is_x86_feature_detected!("avx512vnni");
    let bf16 = wide && is_x86_feature_detected!("avx512bf16");
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let spin =
        |run, lanes: usize, products: usize| Some(Spin { run, operations: CHAINS * lanes * products * 2 });
    match unit {
        // SAFETY: the features of each loop were detected.
        Unit::F32 if wide => spin(|rounds| unsafe { f32_avx512(rounds) }, 16, 1),
        // SAFETY: as above.
        Unit::F32 if avx2 => spin(|rounds| unsafe { f32_avx2(rounds) }, 8, 1),
        // SAFETY: as above.
        Unit::Bf16Dot if bf16 => spin(|rounds| unsafe { bf16_dot(rounds) }, 16, 2),
        // SAFETY: as above.
        Unit::Int16Dot if vnni => spin(|rounds| unsafe { int16_dot(rounds) }, 16, 2),
        // SAFETY: as above.
        Unit::Int16Dot if avx2 => spin(|rounds| unsafe { int16_avx2(rounds) }, 8, 2),
        // SAFETY: as above.
        Unit::Int8Dot if vnni => spin(|rounds| unsafe { int8_dot(rounds) }, 16, 4),
        Unit::AmxBf16 => peak::bf16().map(|run| Spin { run, operations: peak::BF16_OPERATIONS }),
        Unit::AmxInt8 => peak::int8().map(|run| Spin { run, operations: peak::INT8_OPERATIONS }),
        _ => None,
    }
}

/// The loop over all elements with the widest loads.
pub(super) fn sum() -> Option<fn(&[f32]) -> f32> {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the feature was detected.
        return Some(|x| unsafe { sum_avx512(x) });
    }
    // SAFETY: the feature was detected.
    is_x86_feature_detected!("avx2").then_some(|x| unsafe { sum_avx2(x) })
}

#[target_feature(enable = "avx512f")]
fn sum_avx512(x: &[f32]) -> f32 {
    plain_sum(x)
}

#[target_feature(enable = "avx2")]
fn sum_avx2(x: &[f32]) -> f32 {
    plain_sum(x)
}

/// A function that applies one instruction to independent chains; nothing in it can be computed beforehand.
macro_rules! chains {
    ($name:ident, $features:literal, $start:expr, $operands:expr, $step:expr) => {
        #[target_feature(enable = $features)]
        fn $name(rounds: usize) {
            let mut chains = [$start; CHAINS];
            let (x, y) = $operands;
            for _ in 0..rounds {
                for chain in &mut chains {
                    *chain = $step(*chain, x, y);
                }
            }
            black_box(chains);
        }
    };
}

chains!(
    f32_avx512,
    "avx512f",
    _mm512_set1_ps(1.0),
    (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3))),
    |c, x, y| _mm512_fmadd_ps(c, x, y)
);
chains!(
    f32_avx2,
    "avx2,fma",
    _mm256_set1_ps(1.0),
    (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3))),
    |c, x, y| _mm256_fmadd_ps(c, x, y)
);
chains!(
    bf16_dot,
    "avx512f,avx512bf16",
    _mm512_set1_ps(1.0),
    (pairs(black_box(1e-3)), pairs(black_box(1e-3))),
    |c, x, y| _mm512_dpbf16_ps(c, x, y)
);
chains!(
    int16_dot,
    "avx512f,avx512vnni",
    _mm512_set1_epi32(1),
    (_mm512_set1_epi32(black_box(3)), _mm512_set1_epi32(black_box(5))),
    |c, x, y| _mm512_dpwssd_epi32(c, x, y)
);
chains!(
    int16_avx2,
    "avx2",
    _mm256_set1_epi32(1),
    (_mm256_set1_epi32(black_box(3)), _mm256_set1_epi32(black_box(5))),
    |c, x, y| _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_xor_si256(c, x), y))
);
chains!(
    int8_dot,
    "avx512f,avx512vnni",
    _mm512_set1_epi32(1),
    (_mm512_set1_epi32(black_box(3)), _mm512_set1_epi32(black_box(5))),
    |c, x, y| _mm512_dpbusd_epi32(c, x, y)
);

#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(x: f32) -> __m512bh {
    let x = _mm512_set1_ps(x);
    _mm512_cvtne2ps_pbh(x, x)
}
