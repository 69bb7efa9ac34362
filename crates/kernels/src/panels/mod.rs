//! The order of packed weights, for each format.

pub(crate) mod blocks;
pub(crate) mod float;
pub(crate) mod fp8;
pub(crate) mod quantized;

use crate::blocks::BlockFormat;
use crate::format::WeightFormat;
use crate::quant::QuantFormat;
use float::FloatFormat;

/// Outputs per panel: one register of AVX-512, two of AVX2, one tile of AMX; a step of a panel of bf16 is a cache line.
pub(crate) const PANEL: usize = 16;

/// Outputs that one worker takes at least: the two registers or tiles that the widest blocks have side by side.
pub(crate) const UNIT: usize = 2 * PANEL;

/// Which of the kinds of order a format has.
pub(crate) enum Order {
    Float(FloatFormat),
    Fp8,
    Quantized(QuantFormat),
    Blocks(BlockFormat),
}

impl Order {
    pub(crate) fn of(format: WeightFormat) -> Self {
        match format {
            WeightFormat::F32 => Order::Float(FloatFormat::F32),
            WeightFormat::Bf16 => Order::Float(FloatFormat::Bf16),
            WeightFormat::F16 => Order::Float(FloatFormat::F16),
            WeightFormat::Fp8 => Order::Fp8,
            WeightFormat::Quantized(format) => Order::Quantized(format),
            WeightFormat::Blocks(format, _) => Order::Blocks(format),
        }
    }
}
