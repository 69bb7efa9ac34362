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
}
