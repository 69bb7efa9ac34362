//! What integer dot products need of an instruction set.

use super::simd::Simd;
use half::bf16;

/// Registers of [`LANES`](Simd::LANES) words of 32 bits: an integer, two of 16 bits or four of 8.
pub(crate) trait Ints: Simd {
    /// A register.
    type I: Copy;

    fn zero_words(self) -> Self::I;
    fn add_words(self, a: Self::I, b: Self::I) -> Self::I;
    fn and_word(self, a: Self::I, mask: u32) -> Self::I;
    /// Shifts each 16 bits right.
    fn shift_halves<const BITS: u32>(self, a: Self::I) -> Self::I;
    /// `sum + a0 b0 + a1 b1` of the signed halves of each word; 0 and 1 may not both be -32768 squared.
    fn add_pairs(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    fn to_floats(self, a: Self::I) -> Self::F;
    /// The nearest integers, ties to even; anything where there is none.
    fn round_words(self, a: Self::F) -> Self::I;
    /// Each four lanes `(a, b, c, d)` as `(a, c, b, d)`.
    fn swap_middle(self, a: Self::I) -> Self::I;
    /// Replaces each of `4 * LANES` bytes, all below 16, by its entry of the table.
    ///
    /// # Safety
    ///
    /// `bytes` is readable and writable for `4 * LANES` bytes.
    unsafe fn look_up(self, table: &[u8; 16], bytes: *mut u8);
    /// Sum of the lanes.
    fn sum_words(self, a: Self::I) -> i32;

    /// # Safety
    ///
    /// `from` is readable for LANES words.
    unsafe fn load_words(self, from: *const u8) -> Self::I;
    /// The word in all lanes.
    ///
    /// # Safety
    ///
    /// `from` is readable.
    unsafe fn splat_word(self, from: *const u32) -> Self::I;
    /// LANES elements, widened.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES elements.
    unsafe fn load_bf16(self, from: *const bf16) -> Self::F;
    /// LANES signed bytes, widened.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES bytes.
    unsafe fn load_bytes(self, from: *const u8) -> Self::I;
    /// LANES bytes `z` as pairs `(z, 128 z)`.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES bytes.
    unsafe fn load_zeros(self, from: *const u8) -> Self::I;
    /// Writes words in the range of 16 bits as such.
    ///
    /// # Safety
    ///
    /// `to` is writable for LANES elements.
    unsafe fn store_halves(self, to: *mut u16, a: Self::I);
    /// Writes words in the range of 8 bits as such.
    ///
    /// # Safety
    ///
    /// `to` is writable for LANES elements.
    unsafe fn store_bytes(self, to: *mut u8, a: Self::I);
}
