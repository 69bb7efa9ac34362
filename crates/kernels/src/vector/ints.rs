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
    fn or_words(self, a: Self::I, b: Self::I) -> Self::I;
    /// Shifts each 16 bits left.
    fn shift_halves_up<const BITS: u32>(self, a: Self::I) -> Self::I;
    /// Shifts each 16 bits right.
    fn shift_halves<const BITS: u32>(self, a: Self::I) -> Self::I;
    /// `sum + a0 b0 + a1 b1` of the signed halves of each word; 0 and 1 may not both be -32768 squared.
    fn add_pairs(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// `sum + a0 b0 + a1 b1 + a2 b2 + a3 b3` of the bytes of each word, those of `a` below 128, those of `b` with a sign.
    fn add_quads(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    fn to_floats(self, a: Self::I) -> Self::F;
    /// The nearest integers, ties to even; anything where there is none.
    fn round_words(self, a: Self::F) -> Self::I;
    /// Each four lanes `(a, b, c, d)` as `(a, c, b, d)`.
    fn swap_middle(self, a: Self::I) -> Self::I;
    /// The register that [`look_up`](Self::look_up) takes.
    fn table(self, table: &[u8; 16]) -> Self::I;
    /// The entry of the table for each byte, all of which are below 16.
    fn look_up(self, table: Self::I, bytes: Self::I) -> Self::I;
    /// Sum of the lanes.
    fn sum_words(self, a: Self::I) -> i32;

    /// # Safety
    ///
    /// `from` is readable for LANES words.
    unsafe fn load_words(self, from: *const u8) -> Self::I;
    /// # Safety
    ///
    /// `to` is writable for LANES words.
    unsafe fn write_words(self, to: *mut u8, a: Self::I);
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
