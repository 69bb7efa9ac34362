//! Stored matrices as the kernels take them.

use crate::options::{block_format, quant_format};
use pagoda_kernels::{
    Activations, BlockRef, Fp8Ref, LinearShape, PackError, QuantizedParts, QuantizedRef, Scales, Weights,
};
use pagoda_model::{ScaleData, TensorData};

/// The matrix `[n, k]` in `data`.
pub(crate) fn matrix<'a>(data: &'a TensorData<'_>, shape: LinearShape) -> Result<Weights<'a>, PackError> {
    Ok(match data {
        TensorData::F32(x) => Weights::F32(x),
        TensorData::F16(x) => Weights::F16(x),
        TensorData::Bf16(x) => Weights::Bf16(x),
        TensorData::Quantized(x) => {
            let scales = match &x.scales {
                ScaleData::Bf16(scales) => Scales::Bf16(scales),
                ScaleData::F16(scales) => Scales::F16(scales),
                ScaleData::F32(scales) => Scales::F32(scales),
            };
            let (zeros, order) = (x.zeros.as_deref(), x.order.as_deref());
            let parts = QuantizedParts { codes: &x.codes, scales, zeros, order };
            let format = quant_format(x.scheme, Activations::I16);
            Weights::Quantized(QuantizedRef::new(shape.n, shape.k, format, parts)?)
        }
        TensorData::Fp8(x) => Weights::Fp8(Fp8Ref::new(shape.n, shape.k, &x.codes, &x.scales)?),
        TensorData::Blocks(format, bytes) => {
            Weights::Blocks(BlockRef::new(shape.n, shape.k, block_format(*format), bytes)?)
        }
    })
}
