//! What attention needs of AVX2.

use super::simd::Avx2;
use crate::vector::attention::product::KvSimd;
use crate::vector::simd::Simd;
use std::arch::x86_64::*;

impl KvSimd for Avx2 {
    // The power of 2 with exponent bits 0, which is read as 0.
    const FLOOR: f32 = -127.0;

    #[inline(always)]
    fn scale(self, x: __m256, n: __m256) -> __m256 {
        self.mul(x, self.pow2(n))
    }
    #[inline(always)]
    unsafe fn load_codes(self, from: *const i8) -> __m256i {
        // SAFETY: as the caller promises, and a value of `Avx2` exists only where the features are enabled; here and below.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_codes_first(self, from: *const i8, n: usize) -> __m256i {
        let mut pairs = [0i8; 16];
        // SAFETY: as above; the pairs are at most 8.
        unsafe { pairs.as_mut_ptr().copy_from_nonoverlapping(from, 2 * n) };
        // SAFETY: as above.
        unsafe { self.load_codes(pairs.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_rounded(self, to: *mut i16, x: __m256) {
        // SAFETY: as above.
        unsafe {
            let words = _mm256_cvtps_epi32(x);
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), _mm_packs_epi32(low, high));
        }
    }
    #[inline(always)]
    unsafe fn store_words(self, to: *mut f32, a: __m256i) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(to.cast(), a) };
    }
}
