//! MXFP4: four-bit floats in blocks of 32 that share a power of two ("OCP Microscaling Formats (MX) Specification", 2023).

use crate::view::View;
use half::bf16;

/// Elements of a block.
pub(crate) const BLOCK: u64 = 32;

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
    /// The elements, row after row: exact but where they leave the range of bf16.
    pub(crate) fn elements(&self) -> Vec<bf16> {
        let blocks = self.view.gather(self.blocks, self.rows, 1);
        let scales = self.view.gather(self.scales, self.rows, 1);
        let blocks = blocks.as_chunks::<{ BLOCK as usize / 2 }>().0.iter();
        blocks.zip(scales.iter()).flat_map(|(block, &scale)| widen(block, power(scale))).collect()
    }
}

/// `2^(scale - 127)`; of the largest scale NaN.
fn power(scale: u8) -> f32 {
    match scale {
        0 => f32::from_bits(1 << 22),
        u8::MAX => f32::NAN,
        _ => f32::from_bits(u32::from(scale) << 23),
    }
}

fn widen(block: &[u8], scale: f32) -> impl Iterator<Item = bf16> {
    let value = move |code: u8| bf16::from_f32(VALUES[usize::from(code & 15)] * scale);
    block.iter().flat_map(move |&byte| [value(byte), value(byte >> 4)])
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
            Mxfp4Bytes { blocks: &blocks, scales: &[0, scale], rows: 2, view }.elements()
        };
        let values: Vec<f32> = of(129).iter().map(|x| x.to_f32()).collect();
        assert_eq!(values[..8], [0.0, 2.0, 4.0, 24.0, -24.0, -2.0, -8.0, 0.0]);
        assert_eq!((values.len(), &values[8..]), (32, &[0.0; 24][..]));
        assert_eq!(of(0)[1].to_f32(), 2f32.powi(-128));
        assert!(of(255).iter().all(|x| x.is_nan()));
    }
}
