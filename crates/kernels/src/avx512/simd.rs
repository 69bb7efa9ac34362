//! Registers of AVX-512.

use crate::vector::ints::Ints;
use crate::vector::simd::Simd;
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Proof that the machine runs AVX-512 F, BW, DQ, VL, AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The proof, where the features are enabled.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    pub(super) fn here() -> Self {
        Avx512(())
    }
}

/// An intrinsic inside a method of the proof.
macro_rules! proven {
    ($call:expr) => {
        // SAFETY: a value of `Avx512` exists only where the features are enabled; pointers are as the caller promises.
        unsafe { $call }
    };
}

/// The first `n <= 16` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

/// Widens pairs of bf16: the lower halves become even, the upper halves odd.
#[inline(always)]
fn widen(_: Avx512, pairs: __m512i) -> (__m512, __m512) {
    let even = proven!(_mm512_slli_epi32::<16>(pairs));
    let odd = proven!(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())));
    (proven!(_mm512_castsi512_ps(even)), proven!(_mm512_castsi512_ps(odd)))
}

impl Simd for Avx512 {
    type F = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn keep_above(self, a: __m512, x: __m512, bound: __m512) -> __m512 {
        let above = proven!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, bound));
        proven!(_mm512_maskz_mov_ps(above, a))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn pow2(self, a: __m512) -> __m512 {
        let biased = proven!(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)));
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_add_ps(a))
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_max_ps(a))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        proven!(_mm512_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> __m512 {
        proven!(_mm512_maskz_loadu_ps(mask(n), from))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: __m512) {
        proven!(_mm512_storeu_ps(to, a));
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize, a: __m512) {
        proven!(_mm512_mask_storeu_ps(to, mask(n), a));
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_fp8(self, from: *const u8) -> __m512 {
        let signed = proven!(_mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())));
        let fields = proven!(_mm256_slli_epi16::<7>(signed));
        proven!(_mm512_cvtph_ps(_mm256_and_si256(fields, _mm256_set1_epi16(!0x4000))))
    }
    #[inline(always)]
    unsafe fn load_pairs(self, from: *const bf16) -> (__m512, __m512) {
        widen(self, proven!(_mm512_loadu_si512(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_pairs_first(self, from: *const bf16, n: usize) -> (__m512, __m512) {
        widen(self, proven!(_mm512_maskz_loadu_epi32(mask(n), from.cast())))
    }
    #[inline(always)]
    fn prefetch<T>(self, address: *const T) {
        proven!(_mm_prefetch::<_MM_HINT_T1>(address.cast()));
    }
}

impl Ints for Avx512 {
    type I = __m512i;

    #[inline(always)]
    fn zero_words(self) -> __m512i {
        proven!(_mm512_setzero_si512())
    }
    #[inline(always)]
    fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn and_word(self, a: __m512i, mask: u32) -> __m512i {
        proven!(_mm512_and_si512(a, _mm512_set1_epi32(mask.cast_signed())))
    }
    #[inline(always)]
    fn shift_halves<const BITS: u32>(self, a: __m512i) -> __m512i {
        proven!(_mm512_srli_epi16::<BITS>(a))
    }
    #[inline(always)]
    fn add_pairs(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(sum, _mm512_madd_epi16(a, b)))
    }
    #[inline(always)]
    fn add_quads(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // Two products of at most 127 * 128 fit in 16 bits.
        let pairs = proven!(_mm512_maddubs_epi16(a, b));
        proven!(_mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))))
    }
    #[inline(always)]
    fn to_floats(self, a: __m512i) -> __m512 {
        proven!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> __m512i {
        proven!(_mm512_loadu_si512(from.cast()))
    }
    #[inline(always)]
    unsafe fn splat_word(self, from: *const u32) -> __m512i {
        proven!(_mm512_set1_epi32((*from).cast_signed()))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m512 {
        let words = proven!(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())));
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> __m512i {
        proven!(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_zeros(self, from: *const u8) -> __m512i {
        let words = proven!(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())));
        proven!(_mm512_or_si512(words, _mm512_slli_epi32::<23>(words)))
    }
    #[inline(always)]
    fn round_words(self, a: __m512) -> __m512i {
        proven!(_mm512_cvtps_epi32(a))
    }
    #[inline(always)]
    fn swap_middle(self, a: __m512i) -> __m512i {
        proven!(_mm512_shuffle_epi32::<0b11_01_10_00>(a))
    }
    #[inline(always)]
    fn table(self, table: &[u8; 16]) -> __m512i {
        proven!(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())))
    }
    #[inline(always)]
    fn look_up(self, table: __m512i, bytes: __m512i) -> __m512i {
        proven!(_mm512_shuffle_epi8(table, bytes))
    }
    #[inline(always)]
    fn or_words(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn shift_halves_up<const BITS: u32>(self, a: __m512i) -> __m512i {
        proven!(_mm512_slli_epi16::<BITS>(a))
    }
    #[inline(always)]
    unsafe fn write_words(self, to: *mut u8, a: __m512i) {
        proven!(_mm512_storeu_si512(to.cast(), a));
    }
    #[inline(always)]
    fn sum_words(self, a: __m512i) -> i32 {
        proven!(_mm512_reduce_add_epi32(a))
    }
    #[inline(always)]
    unsafe fn store_halves(self, to: *mut u16, a: __m512i) {
        proven!(_mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(a)));
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, a: __m512i) {
        proven!(_mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(a)));
    }
}
