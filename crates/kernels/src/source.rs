//! Weights as a checkpoint holds them.

use crate::blocks::BlockRef;
use crate::format::WeightFormat;
use crate::fp8::Fp8Ref;
use crate::quant::Activations;
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
    /// Floats of 8 bits with their scales.
    Fp8(Fp8Ref<'a>),
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
            Weights::Fp8(w) => w.n() * w.k(),
            Weights::Quantized(w) => w.n() * w.k(),
            Weights::Blocks(w) => w.n() * w.k(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows and columns of a matrix that is packed only as it is.
    pub(crate) fn fixed_shape(&self) -> Option<(usize, usize)> {
        match self {
            Weights::F32(_) | Weights::Bf16(_) | Weights::F16(_) => None,
            Weights::Fp8(w) => Some((w.n(), w.k())),
            Weights::Quantized(w) => Some((w.n(), w.k())),
            Weights::Blocks(w) => Some((w.n(), w.k())),
        }
    }

    /// The format of a matrix that is packed only as it is; how activations are rounded is of no concern to it.
    pub(crate) fn fixed_format(&self) -> Option<WeightFormat> {
        match self {
            Weights::F32(_) | Weights::Bf16(_) | Weights::F16(_) => None,
            Weights::Fp8(_) => Some(WeightFormat::Fp8),
            Weights::Quantized(w) => Some(w.format().into()),
            Weights::Blocks(w) => Some(WeightFormat::Blocks(w.format(), Activations::I8)),
        }
    }

    /// The inputs that the columns belong to, where they are not in order.
    pub(crate) fn order(&self) -> Option<&[u32]> {
        match self {
            Weights::Quantized(w) => w.order(),
            _ => None,
        }
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
            Weights::Fp8(_) | Weights::Quantized(_) | Weights::Blocks(_) => {
                unreachable!("quantised weights are packed as they are")
            }
        }
    }
}
