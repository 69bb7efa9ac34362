//! Weights as a checkpoint holds them.

use crate::blocks::BlockRef;
use crate::quantized::QuantizedRef;
use half::{bf16, f16};
use std::ops::Range;

/// A weight matrix as a checkpoint holds it: row-major `[n, k]`.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// Codes with their scales.
    Quantized(QuantizedRef<'a>),
    /// Blocks of a GGUF file.
    Blocks(BlockRef<'a>),
}

impl Weights<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Weights::F32(w) => w.len(),
            Weights::Bf16(w) => w.len(),
            Weights::F16(w) => w.len(),
            Weights::Quantized(w) => w.n() * w.k(),
            Weights::Blocks(w) => w.n() * w.k(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Widens the elements `range` of a matrix of floats to `out`.
    ///
    /// # Panics
    ///
    /// For a quantised matrix, which is never widened before it is packed.
    pub(crate) fn widen(&self, range: Range<usize>, out: &mut [f32]) {
        match self {
            Weights::F32(w) => out.copy_from_slice(&w[range]),
            Weights::Bf16(w) => out.iter_mut().zip(&w[range]).for_each(|(out, x)| *out = x.to_f32()),
            Weights::F16(w) => out.iter_mut().zip(&w[range]).for_each(|(out, x)| *out = x.to_f32()),
            Weights::Quantized(_) | Weights::Blocks(_) => {
                unreachable!("quantised weights are packed as they are")
            }
        }
    }
}
