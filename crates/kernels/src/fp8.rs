//! Floats of 8 bits: a sign, four bits of exponent, three of fraction (E4M3 of "FP8 Formats for Deep Learning", 2022).

use crate::pack_error::PackError;

/// Inputs that share a scale in memory; a K block holds whole groups.
pub(crate) const GROUP: usize = 128;

/// The code of NaN, without its sign; there is no infinity.
pub(crate) const NAN: u8 = 0x7f;

/// What a code's value is divided by where it is opened as a half-precision number whose fields are the code's.
pub(crate) const UNIT_OF_HALVES: f32 = 256.0;

/// The half-precision number with the sign, exponent and fraction of `code`: its value over [`UNIT_OF_HALVES`]. NaN has a value.
#[inline(always)]
pub(crate) const fn half_bits(code: u8) -> u16 {
    ((code as i8 as i16) << 7).cast_unsigned() & 0xbfff
}

/// A view of a matrix `[n, k]` of floats of 8 bits, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Fp8Ref<'a> {
    n: usize,
    k: usize,
    codes: &'a [u8],
    scales: &'a [f32],
}

impl<'a> Fp8Ref<'a> {
    /// A view of `codes`, `[n, k]`, each of which stands for its value times the scale of its row and of its 128 inputs in
    /// `scales`, `[n, ceil(k / 128)]`.
    ///
    /// # Errors
    ///
    /// Codes or scales of another number than `n` and `k` call for.
    pub fn new(n: usize, k: usize, codes: &'a [u8], scales: &'a [f32]) -> Result<Self, PackError> {
        let check = |what, found, needed| match needed {
            Some(needed) if needed == found => Ok(()),
            _ => Err(PackError::Parts { what, found, n, k }),
        };
        check("codes", codes.len(), n.checked_mul(k))?;
        check("scales", scales.len(), n.checked_mul(k.div_ceil(GROUP)))?;
        Ok(Fp8Ref { n, k, codes, scales })
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Scale and codes of group `group` of `row`.
    pub(crate) fn group(&self, row: usize, group: usize) -> (f32, &'a [u8]) {
        let scale = self.scales[row * self.k.div_ceil(GROUP) + group];
        let end = ((group + 1) * GROUP).min(self.k);
        (scale, &self.codes[row * self.k + group * GROUP..row * self.k + end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn codes_are_halves_of_another_unit() {
        let value = |code: u8| f16::from_bits(half_bits(code)).to_f32() * UNIT_OF_HALVES;
        for code in 0..=u8::MAX {
            let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
            let magnitude = match exponent {
                0 => fraction * 2f32.powi(-9),
                _ => (8.0 + fraction) * 2f32.powi(exponent - 10),
            };
            let expected = if code >> 7 == 1 { -magnitude } else { magnitude };
            assert_eq!(value(code).to_bits(), expected.to_bits(), "{code:#x}");
        }
        assert_eq!([0x38, 0x7e, 0x81].map(value), [1.0, 448.0, -(2f32.powi(-9))]);
    }
}
