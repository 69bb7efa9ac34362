//! Registers of AVX2.

use crate::vector::ints::Ints;
use crate::vector::simd::Simd;
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Proof that the machine runs AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The proof, where the features are enabled.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn here() -> Self {
        Avx2(())
    }
}

/// An intrinsic inside a method of the proof.
macro_rules! proven {
    ($call:expr) => {
        // SAFETY: a value of `Avx2` exists only where the features are enabled; pointers are as the caller promises.
        unsafe { $call }
    };
}

/// All bits of the first `n <= 8` lanes.
#[inline(always)]
fn mask(_: Avx2, n: usize) -> __m256i {
    const BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let lanes = &BITS[8 - n..][..8];
    proven!(_mm256_loadu_si256(lanes.as_ptr().cast()))
}

/// Widens pairs of bf16: the lower halves become even, the upper halves odd.
#[inline(always)]
fn widen(_: Avx2, pairs: __m256i) -> (__m256, __m256) {
    let even = proven!(_mm256_slli_epi32::<16>(pairs));
    let odd = proven!(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32.cast_signed())));
    (proven!(_mm256_castsi256_ps(even)), proven!(_mm256_castsi256_ps(odd)))
}

/// The lower half and the upper half.
#[inline(always)]
fn halves(_: Avx2, a: __m256) -> (__m128, __m128) {
    (proven!(_mm256_castps256_ps128(a)), proven!(_mm256_extractf128_ps::<1>(a)))
}

impl Simd for Avx2 {
    type F = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        proven!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn keep_above(self, a: __m256, x: __m256, bound: __m256) -> __m256 {
        proven!(_mm256_and_ps(a, _mm256_cmp_ps::<_CMP_GT_OQ>(x, bound)))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        proven!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn pow2(self, a: __m256) -> __m256 {
        let biased = proven!(_mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)));
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        let (low, high) = halves(self, a);
        let four = proven!(_mm_add_ps(low, high));
        let two = proven!(_mm_add_ps(four, _mm_movehl_ps(four, four)));
        proven!(_mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two))))
    }
    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        let (low, high) = halves(self, a);
        let four = proven!(_mm_max_ps(low, high));
        let two = proven!(_mm_max_ps(four, _mm_movehl_ps(four, four)));
        proven!(_mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two))))
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        proven!(_mm256_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> __m256 {
        proven!(_mm256_maskload_ps(from, mask(self, n)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: __m256) {
        proven!(_mm256_storeu_ps(to, a));
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize, a: __m256) {
        proven!(_mm256_maskstore_ps(to, mask(self, n), a));
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m256 {
        proven!(_mm256_cvtph_ps(_mm_loadu_si128(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_fp8(self, from: *const u8) -> __m256 {
        let signed = proven!(_mm_cvtepi8_epi16(_mm_loadl_epi64(from.cast())));
        let fields = proven!(_mm_slli_epi16::<7>(signed));
        proven!(_mm256_cvtph_ps(_mm_and_si128(fields, _mm_set1_epi16(!0x4000))))
    }
    #[inline(always)]
    unsafe fn load_pairs(self, from: *const bf16) -> (__m256, __m256) {
        widen(self, proven!(_mm256_loadu_si256(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_pairs_first(self, from: *const bf16, n: usize) -> (__m256, __m256) {
        widen(self, proven!(_mm256_maskload_epi32(from.cast(), mask(self, n))))
    }
    #[inline(always)]
    fn prefetch<T>(self, address: *const T) {
        proven!(_mm_prefetch::<_MM_HINT_T1>(address.cast()));
    }
}

impl Ints for Avx2 {
    type I = __m256i;

    #[inline(always)]
    fn zero_words(self) -> __m256i {
        proven!(_mm256_setzero_si256())
    }
    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn and_word(self, a: __m256i, mask: u32) -> __m256i {
        proven!(_mm256_and_si256(a, _mm256_set1_epi32(mask.cast_signed())))
    }
    #[inline(always)]
    fn shift_halves<const BITS: u32>(self, a: __m256i) -> __m256i {
        proven!(_mm256_srl_epi16(a, _mm_cvtsi32_si128(BITS.cast_signed())))
    }
    #[inline(always)]
    fn add_pairs(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(sum, _mm256_madd_epi16(a, b)))
    }
    #[inline(always)]
    fn add_quads(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // Two products of at most 127 * 128 fit in 16 bits.
        let pairs = proven!(_mm256_maddubs_epi16(a, b));
        proven!(_mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))))
    }
    #[inline(always)]
    fn to_floats(self, a: __m256i) -> __m256 {
        proven!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> __m256i {
        proven!(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn splat_word(self, from: *const u32) -> __m256i {
        proven!(_mm256_set1_epi32((*from).cast_signed()))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m256 {
        let words = proven!(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())));
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)))
    }
    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> __m256i {
        proven!(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
    }
    #[inline(always)]
    unsafe fn load_zeros(self, from: *const u8) -> __m256i {
        let words = proven!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())));
        proven!(_mm256_or_si256(words, _mm256_slli_epi32::<23>(words)))
    }
    #[inline(always)]
    fn round_words(self, a: __m256) -> __m256i {
        proven!(_mm256_cvtps_epi32(a))
    }
    #[inline(always)]
    fn swap_middle(self, a: __m256i) -> __m256i {
        proven!(_mm256_shuffle_epi32::<0b11_01_10_00>(a))
    }
    #[inline(always)]
    fn table(self, table: &[u8; 16]) -> __m256i {
        proven!(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())))
    }
    #[inline(always)]
    fn look_up(self, table: __m256i, bytes: __m256i) -> __m256i {
        proven!(_mm256_shuffle_epi8(table, bytes))
    }
    #[inline(always)]
    fn or_words(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_or_si256(a, b))
    }
    #[inline(always)]
    fn shift_halves_up<const BITS: u32>(self, a: __m256i) -> __m256i {
        proven!(_mm256_sll_epi16(a, _mm_cvtsi32_si128(BITS.cast_signed())))
    }
    #[inline(always)]
    unsafe fn write_words(self, to: *mut u8, a: __m256i) {
        proven!(_mm256_storeu_si256(to.cast(), a));
    }
    #[inline(always)]
    fn sum_words(self, a: __m256i) -> i32 {
        let four = proven!(_mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a)));
        let two = proven!(_mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four)));
        proven!(_mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two))))
    }
    #[inline(always)]
    unsafe fn store_halves(self, to: *mut u16, a: __m256i) {
        proven!(_mm_storeu_si128(to.cast(), halve(self, a)));
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, a: __m256i) {
        let halves = halve(self, a);
        proven!(_mm_storel_epi64(to.cast(), _mm_packs_epi16(halves, halves)));
    }
}

/// Words as 16 bits.
#[inline(always)]
fn halve(_: Avx2, a: __m256i) -> __m128i {
    proven!(_mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a)))
}
