//! How weights are stored in memory.

use crate::blocks::BlockFormat;
use crate::quant::{Activations, QuantFormat, QuantFormatError};
use std::fmt;
use std::str::FromStr;

/// What a name of blocks ends with where activations have 16 bits.
const FINE: &str = "-a16";

/// How weights are stored in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Floats of 8 bits, E4M3, with a scale for each output and 128 inputs, as files store them.
    Fp8,
    /// Small integers with a scale for each group.
    Quantized(QuantFormat),
    /// Small integers in blocks, as GGUF files store them, and how activations are rounded before they meet them.
    Blocks(BlockFormat, Activations),
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightFormat::F32 => f.write_str("f32"),
            WeightFormat::Bf16 => f.write_str("bf16"),
            WeightFormat::F16 => f.write_str("f16"),
            WeightFormat::Fp8 => f.write_str("fp8"),
            WeightFormat::Quantized(format) => format.fmt(f),
            WeightFormat::Blocks(format, Activations::I8) => format.fmt(f),
            WeightFormat::Blocks(format, Activations::I16) => write!(f, "{format}{FINE}"),
        }
    }
}

impl From<QuantFormat> for WeightFormat {
    fn from(format: QuantFormat) -> Self {
        WeightFormat::Quantized(format)
    }
}

impl FromStr for WeightFormat {
    type Err = String;

    /// Reads `f32`, `f16`, `bf16` and their longer names, `fp8`, those of [`QuantFormat`] and those of [`BlockFormat`], which mean
    /// activations of 8 bits unless `-a16` follows.
    ///
    /// # Errors
    ///
    /// A message with the names that there are.
    fn from_str(name: &str) -> Result<Self, String> {
        let (block, activations) = match name.strip_suffix(FINE) {
            Some(block) => (block, Activations::I16),
            None => (name, Activations::I8),
        };
        match (name, block.parse()) {
            ("f32" | "float32", _) => Ok(WeightFormat::F32),
            ("f16" | "float16", _) => Ok(WeightFormat::F16),
            ("bf16" | "bfloat16", _) => Ok(WeightFormat::Bf16),
            ("fp8", _) => Ok(WeightFormat::Fp8),
            (_, Ok(block)) => Ok(WeightFormat::Blocks(block, activations)),
            _ => name.parse().map(WeightFormat::Quantized).map_err(|error: QuantFormatError| {
                format!(
                    "{error}; or bf16, f16, f32, fp8; or {}, each with an optional {FINE}",
                    BlockFormat::names()
                )
            }),
        }
    }
}
