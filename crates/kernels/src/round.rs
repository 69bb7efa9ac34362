//! Rounding to bfloat16.

use half::bf16;

/// `x` to the nearest bf16, ties to even; NaN stays NaN. The same values as [`bf16::from_f32`], without branches, which
/// would be taken at random.
#[inline]
pub(crate) fn to_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    bf16::from_bits(if x.is_nan() { quiet } else { rounded } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_upper_half_with_every_kind_of_lower_half_rounds_as_half_does() {
        for upper in 0..=0xffff_u32 {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(upper << 16 | lower);
                assert_eq!(to_bf16(x).to_bits(), bf16::from_f32(x).to_bits(), "{x} {upper:x} {lower:x}");
            }
        }
    }
}
