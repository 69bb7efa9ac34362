//! How weights are stored in memory.

use crate::blocks::BlockFormat;
use crate::quant::QuantFormat;
use std::fmt;

/// How weights are stored in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Small integers with a scale for each group.
    Quantized(QuantFormat),
    /// Small integers in blocks, as GGUF files store them.
    Blocks(BlockFormat),
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightFormat::F32 => f.write_str("f32"),
            WeightFormat::Bf16 => f.write_str("bf16"),
            WeightFormat::F16 => f.write_str("f16"),
            WeightFormat::Quantized(format) => format.fmt(f),
            WeightFormat::Blocks(format) => format.fmt(f),
        }
    }
}

impl From<BlockFormat> for WeightFormat {
    fn from(format: BlockFormat) -> Self {
        WeightFormat::Blocks(format)
    }
}

impl From<QuantFormat> for WeightFormat {
    fn from(format: QuantFormat) -> Self {
        WeightFormat::Quantized(format)
    }
}
