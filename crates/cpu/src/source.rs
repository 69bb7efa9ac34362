//! Stored matrices as the kernels take them.

use crate::options::{block_format, quant_format};
use pagoda_kernels::{Activations, BlockRef, LinearShape, PackError, QuantizedParts, QuantizedRef, Weights};
use pagoda_model::TensorData;

/// The matrix `[n, k]` in `data`.
pub(crate) fn matrix<'a>(data: &'a TensorData<'_>, shape: LinearShape) -> Result<Weights<'a>, PackError> {
    Ok(match data {
        TensorData::F32(x) => Weights::F32(x),
        TensorData::F16(x) => Weights::F16(x),
        TensorData::Bf16(x) => Weights::Bf16(x),
        TensorData::Quantized(x) => {
            let parts = QuantizedParts { codes: x.codes, scales: &x.scales, zeros: x.zeros.as_deref() };
            let format = quant_format(x.scheme, Activations::I16);
            Weights::Quantized(QuantizedRef::new(shape.n, shape.k, format, parts)?)
        }
        TensorData::Blocks(format, bytes) => {
            Weights::Blocks(BlockRef::new(shape.n, shape.k, block_format(*format), bytes)?)
        }
    })
}
