//! What attention needs of AVX-512.

use super::simd::Avx512;
use super::vnni::Vnni;
use crate::attention::{Area, AttentionTask};
use crate::vector::attention::attention_of;
use crate::vector::attention::product::{Half, KvSimd, Product, Widened};
use crate::vector::simd::Simd;
use half::bf16;
use std::arch::x86_64::*;

impl KvSimd for Avx512 {
    const FLOOR: f32 = -200.0;

    #[inline(always)]
    fn scale(self, x: __m512, n: __m512) -> __m512 {
        // SAFETY: a value of `Avx512` exists only where the features are enabled.
        unsafe { _mm512_scalef_ps(x, n) }
    }
    #[inline(always)]
    unsafe fn load_codes(self, from: *const i8) -> __m512i {
        // SAFETY: as the caller promises, here and below.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_codes_first(self, from: *const i8, n: usize) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi16(((1u32 << n) - 1) as __mmask16, from.cast())) }
    }
    #[inline(always)]
    unsafe fn store_rounded(self, to: *mut i16, x: __m512) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x))) };
    }
    #[inline(always)]
    unsafe fn store_words(self, to: *mut f32, a: __m512i) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(to.cast(), a) };
    }
}

/// Attention where pairs of 16 bits are multiplied and added in one step.
pub(super) fn vnni_attention(task: &AttentionTask<'_>, area: &mut Area<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn enter(task: &AttentionTask<'_>, area: &mut Area<'_>) {
        attention_of::<Avx512, Widened, Vnni>(Avx512::here(), task, area);
    }
    // SAFETY: the table with VNNI is handed out only after the features were detected.
    unsafe { enter(task, area) }
}

/// Attention where pairs of bf16 are multiplied in one step, with queries and weights rounded to bf16.
pub(super) fn bf16_attention(task: &AttentionTask<'_>, area: &mut Area<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma,f16c")]
    fn enter(task: &AttentionTask<'_>, area: &mut Area<'_>) {
        attention_of::<Avx512, Pairs, Vnni>(Avx512::here(), task, area);
    }
    // SAFETY: the table of AVX512-BF16 is handed out only after the features were detected.
    unsafe { enter(task, area) }
}

/// Pairs of bf16 times pairs of bf16. It is named only where AVX512-BF16 is enabled.
#[derive(Clone, Copy)]
struct Pairs;

/// Words as pairs of bf16.
#[inline(always)]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: vectors of one size, of which every bit pattern is a value.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}

impl Product<Avx512> for Pairs {
    type Stored = bf16;
    type Column = __m512i;
    type Sum = __m512;
    const STEP: usize = 2;
    const WORDS: usize = 1;

    #[inline(always)]
    fn zero(s: Avx512) -> __m512 {
        s.splat(0.0)
    }
    #[inline(always)]
    fn empty(_: Avx512) -> __m512i {
        // SAFETY: the features are enabled, here and below.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn add(_: Avx512, left: *const f32, column: __m512i, sum: __m512) -> __m512 {
        // SAFETY: as the caller promises.
        let word = unsafe { _mm512_set1_epi32(left.cast::<i32>().read()) };
        // SAFETY: as above.
        unsafe { _mm512_dpbf16_ps(sum, pairs(column), pairs(word)) }
    }
    #[inline(always)]
    unsafe fn load(_: Avx512, from: *const bf16) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first(_: Avx512, from: *const bf16, n: usize) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_maskz_loadu_epi32(((1u32 << n) - 1) as __mmask16, from.cast()) }
    }
    #[inline(always)]
    fn half(_: Avx512, column: __m512i, half: Half) -> __m512i {
        let mask = match half {
            Half::First => 0x0000_ffff,
            Half::Second => 0xffff_0000_u32.cast_signed(),
        };
        // SAFETY: as above.
        unsafe { _mm512_and_si512(column, _mm512_set1_epi32(mask)) }
    }
    #[inline(always)]
    unsafe fn take(s: Avx512, from: *const f32) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { s.load(from) }
    }
    #[inline(always)]
    unsafe fn put(s: Avx512, to: *mut f32, sum: __m512) {
        // SAFETY: as the caller promises.
        unsafe { s.store(to, sum) }
    }
    #[inline(always)]
    fn floats(_: Avx512, sum: __m512) -> __m512 {
        sum
    }
    #[inline(always)]
    fn query(s: Avx512, query: &[f32], left: &mut [f32]) -> f32 {
        assert!(left.len() >= query.len().next_multiple_of(Avx512::LANES));
        for at in (0..query.len()).step_by(Avx512::LANES) {
            // SAFETY: there are LANES words from `at` on.
            unsafe { Self::put_weights(s, left.as_mut_ptr(), at, s.get(query, at)) };
        }
        1.0
    }
    #[inline(always)]
    unsafe fn put_weights(_: Avx512, left: *mut f32, at: usize, weights: __m512) {
        // SAFETY: as the caller promises; of the LANES words only the first half of their bytes is written.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(weights));
            _mm256_storeu_si256(left.cast::<u16>().add(at).cast(), rounded);
        }
    }
}
