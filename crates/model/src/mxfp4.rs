//! MXFP4: four-bit floats in blocks of 32 that share a power of two ("OCP Microscaling Formats (MX) Specification", 2023).

use crate::view::View;
use half::bf16;

/// Elements of a block.
pub(crate) const BLOCK: u64 = 32;

/// Bytes of the codes of a block.
const HALVES: usize = BLOCK as usize / 2;

/// Values of the codes: a sign, two bits of exponent, one of fraction.
const VALUES: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// A stored matrix, as bytes of its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mxfp4Bytes<'a> {
    /// `[rows, blocks, 16]`: the first of two elements in the lower half of a byte.
    pub(crate) blocks: &'a [u8],
    /// `[rows, blocks]`: exponents of 2, plus 127.
    pub(crate) scales: &'a [u8],
    /// Rows that are stored, and which of them are meant.
    pub(crate) rows: u64,
    pub(crate) view: View,
}

impl Mxfp4Bytes<'_> {
    /// The blocks as GGUF files have them, row after row: the scale, then bytes of which the lower halves are the first 16
    /// elements and the upper ones the rest.
    pub(crate) fn blocks(&self) -> Vec<u8> {
        let blocks = self.view.gather(self.blocks, self.rows, 1);
        let scales = self.view.gather(self.scales, self.rows, 1);
        let blocks = blocks.as_chunks::<HALVES>().0.iter();
        let code = |block: &[u8; HALVES], i: usize| block[i / 2] >> (4 * (i % 2)) & 15;
        let one = |(block, &scale): (&[u8; HALVES], &u8)| {
            let mut bytes = [scale; HALVES + 1];
            for (i, byte) in bytes[1..].iter_mut().enumerate() {
                *byte = code(block, i) | code(block, i + HALVES) << 4;
            }
            bytes
        };
        blocks.zip(scales.iter()).flat_map(one).collect()
    }
}

/// The elements of blocks as GGUF files have them: exact but where they leave the range of bf16.
pub(crate) fn widen(blocks: &[u8]) -> Vec<bf16> {
    let blocks = blocks.as_chunks::<{ HALVES + 1 }>().0.iter();
    blocks.flat_map(|[scale, halves @ ..]| elements(*scale, halves)).collect()
}

/// `2^(scale - 127)`; of the largest scale NaN.
fn power(scale: u8) -> f32 {
    match scale {
        0 => f32::from_bits(1 << 22),
        u8::MAX => f32::NAN,
        _ => f32::from_bits(u32::from(scale) << 23),
    }
}

fn elements(scale: u8, halves: &[u8; HALVES]) -> [bf16; 2 * HALVES] {
    let scale = power(scale);
    std::array::from_fn(|i| {
        let code = halves[i % HALVES] >> (i / HALVES * 4) & 15;
        bf16::from_f32(VALUES[usize::from(code)] * scale)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_floats_times_powers_of_two() {
        // Two rows of one block, of which the second is meant.
        let mut blocks = [0u8; 32];
        blocks[16..20].copy_from_slice(&[0x10, 0x72, 0x9f, 0x0c]);
        let of = |scale: u8| {
            let view = View::rows(1, 1);
            widen(&Mxfp4Bytes { blocks: &blocks, scales: &[0, scale], rows: 2, view }.blocks())
        };
        let values: Vec<f32> = of(129).iter().map(|x| x.to_f32()).collect();
        assert_eq!(values[..8], [0.0, 2.0, 4.0, 24.0, -24.0, -2.0, -8.0, 0.0]);
        assert_eq!((values.len(), &values[8..]), (32, &[0.0; 24][..]));
        assert_eq!(of(0)[1].to_f32(), 2f32.powi(-128));
        assert!(of(255).iter().all(|x| x.is_nan()));
    }
}
