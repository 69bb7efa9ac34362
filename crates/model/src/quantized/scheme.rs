//! How a matrix is quantised.

use crate::Dtype;
use std::fmt;

/// How a stored matrix is quantised: along each row, groups of codes share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuantScheme {
    /// Bits of a code: 4 or 8.
    pub bits: u8,
    /// Codes that share a scale: 32, 64 or 128, a divisor of what a file has.
    pub group: u16,
    /// Whether each group has a zero point.
    pub zero_point: bool,
    /// Type of the scales.
    pub scales: ScaleType,
}

/// Type of the scales of a quantised matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// bfloat16.
    Bf16,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

impl ScaleType {
    /// The type of tensors of `dtype`; `None` where it is no float.
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::Bf16 => Some(Self::Bf16),
            Dtype::Fp8 | Dtype::Quantized(_) | Dtype::Blocks(_) => None,
        }
    }
}

impl QuantScheme {
    /// Groups of a row of `k` codes.
    pub fn groups(self, k: u64) -> u64 {
        k.div_ceil(self.group.into())
    }

    /// Shape of the codes of a matrix `[n, k]` as they are written: bytes, or words of eight codes.
    pub(crate) fn code_shape(self, n: u64, k: u64) -> [u64; 2] {
        if self.bits == 8 { [n, k] } else { [n, k.div_ceil(8)] }
    }

    /// Format of the codes as they are written, as a safetensors header names it.
    pub(crate) fn code_format(self) -> &'static str {
        if self.bits == 8 { "I8" } else { "I32" }
    }

    /// Name of the codes of the matrix `name`, which ends in `.weight`, as they are written.
    pub(crate) fn code_name(self, name: &str) -> String {
        if self.bits == 8 { name.to_owned() } else { format!("{name}_packed") }
    }

    /// The code of 0 where there are no zero points.
    pub(crate) fn middle(self) -> u8 {
        if self.bits == 8 { 128 } else { 8 }
    }

    /// Bytes of a row of `k` codes, in words of eight where they have 4 bits.
    pub(crate) fn row_bytes(self, k: usize) -> usize {
        if self.bits == 8 { k } else { k.div_ceil(8) * 4 }
    }
}

impl fmt::Display for QuantScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "int{} in groups of {}", self.bits, self.group)?;
        if self.zero_point { f.write_str(" with zero points") } else { Ok(()) }
    }
}
