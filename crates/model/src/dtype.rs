//! Number formats of stored weights.

use crate::QuantScheme;
use std::fmt;

/// Number format of a stored tensor that the engine can compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single-precision number.
    Bf16,
    /// Small integers with a scale for each group.
    Quantized(QuantScheme),
}

impl Dtype {
    /// Bytes of an element of a float, and of a whole one otherwise.
    pub(crate) fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Quantized(_) => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::F16 => f.write_str("f16"),
            Self::Bf16 => f.write_str("bf16"),
            Self::Quantized(scheme) => scheme.fmt(f),
        }
    }
}
