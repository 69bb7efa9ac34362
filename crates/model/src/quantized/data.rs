//! The elements of a quantised matrix.

use super::QuantScheme;
use crate::Dtype;
use crate::tensor::aligned;
use half::{bf16, f16};
use std::borrow::Cow;

/// The parts of a stored matrix `[n, k]`, as bytes of its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantizedBytes<'a> {
    pub(crate) scheme: QuantScheme,
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    /// A float format.
    pub(crate) scale_dtype: Dtype,
    pub(crate) zeros: Option<&'a [u8]>,
}

/// A quantised matrix `[n, k]`: a weight is `(u - zero) * scale` with codes `u` from 0 on.
#[derive(Clone, Debug)]
pub struct QuantizedData<'a> {
    /// Bits, group and whether there are zero points.
    pub scheme: QuantScheme,
    /// 8 bits: `[n, k]`, each `u - 128` in two's complement. 4 bits: `[n, ceil(k / 8)]` little-endian words of 32 bits, the
    /// first code in the lowest bits.
    pub codes: &'a [u8],
    /// `[n, groups]`
    pub scales: Cow<'a, [bf16]>,
    /// `[n, groups]`
    pub zeros: Option<Vec<u8>>,
}

impl<'a> QuantizedBytes<'a> {
    pub(crate) fn len(&self) -> usize {
        self.codes.len() + self.scales.len() + self.zeros.map_or(0, <[u8]>::len)
    }

    /// The scales, rounded to bf16 if they are stored finer.
    pub(crate) fn scales(&self) -> Cow<'a, [bf16]> {
        match self.scale_dtype {
            Dtype::F32 => aligned(self.scales).iter().map(|&scale| bf16::from_f32(scale)).collect(),
            Dtype::F16 => {
                aligned::<f16>(self.scales).iter().map(|scale| bf16::from_f32(scale.to_f32())).collect()
            }
            Dtype::Bf16 | Dtype::Quantized(_) | Dtype::Blocks(_) => aligned(self.scales),
        }
    }

    /// The parts of a matrix of `n` rows of `k`.
    pub(crate) fn data(&self, n: usize, k: usize) -> QuantizedData<'a> {
        let groups = self.scheme.groups(k as u64) as usize;
        // Words of eight rows each: row 8 i + j is in bits 4 j of word i.
        let zero = |packed: &[u8], row: usize, group: usize| {
            let byte = packed[(row / 8 * groups + group) * 4 + row % 8 / 2];
            (byte >> (row % 2 * 4)) & 15
        };
        let zeros = self.zeros.map(|packed| {
            (0..n).flat_map(|row| (0..groups).map(move |group| zero(packed, row, group))).collect()
        });
        QuantizedData { scheme: self.scheme, codes: self.codes, scales: self.scales(), zeros }
    }
}

impl QuantizedData<'_> {
    /// The weights of a matrix of rows of `k`, each rounded to f32.
    pub(crate) fn widen(&self, k: usize) -> Vec<f32> {
        let (group, groups) = (usize::from(self.scheme.group), self.scheme.groups(k as u64) as usize);
        let row_bytes = if self.scheme.bits == 8 { k } else { k.div_ceil(8) * 4 };
        let weight = |row: usize, k: usize| {
            let cell = row * groups + k / group;
            let bytes = &self.codes[row * row_bytes..];
            let code = match self.scheme.bits {
                8 => i16::from(bytes[k] as i8),
                _ => {
                    let zero = self.zeros.as_ref().map_or(8, |zeros| zeros[cell]);
                    i16::from((bytes[k / 2] >> (k % 2 * 4)) & 15) - i16::from(zero)
                }
            };
            f32::from(code) * self.scales[cell].to_f32()
        };
        let n = self.codes.len().checked_div(row_bytes).unwrap_or(0);
        (0..n).flat_map(|row| (0..k).map(move |k| weight(row, k))).collect()
    }
}
