//! A read-only view of one stored tensor.

use crate::mxfp4::{self, Mxfp4Bytes};
use crate::quantized::{Fp8Bytes, Fp8Data, QuantizedBytes, QuantizedData};
use crate::random::Generator;
use crate::view::View;
use crate::{BlockFormat, Dtype};
use bytemuck::Pod;
use half::{bf16, f16};
use std::borrow::Cow;

/// One tensor of a checkpoint, checked: what it holds is exactly `shape` x `dtype`.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// File that holds it.
    pub file: &'a str,
    /// Number format.
    pub dtype: Dtype,
    /// Dimensions, slowest first: `[outputs, inputs]` of a matrix, `[n]` of a vector.
    pub shape: &'a [u64],
    pub(crate) content: Content<'a>,
}

/// Where the elements of a tensor come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// Little-endian elements, row-major, at any alignment, in a file.
    Stored(&'a [u8]),
    /// Elements that lie apart in a tensor of so many rows.
    Part(&'a [u8], u64, View),
    /// bf16 elements made on demand.
    Random(Generator),
    /// Codes and scales in a file.
    Quantized(QuantizedBytes<'a>),
    /// Four-bit floats with scales apart in a file.
    Mxfp4(Mxfp4Bytes<'a>),
    /// Floats of 8 bits with scales apart in a file.
    Fp8(Fp8Bytes<'a>),
}

/// The elements of a tensor, borrowed from the file where its alignment allows.
#[derive(Clone, Debug)]
pub enum TensorData<'a> {
    /// Single precision.
    F32(Cow<'a, [f32]>),
    /// Half precision.
    F16(Cow<'a, [f16]>),
    /// Upper half of single precision.
    Bf16(Cow<'a, [bf16]>),
    /// Floats of 8 bits with their scales.
    Fp8(Fp8Data<'a>),
    /// Codes with their scales.
    Quantized(QuantizedData<'a>),
    /// Blocks of a GGUF file, row after row.
    Blocks(BlockFormat, Cow<'a, [u8]>),
}

impl<'a> Tensor<'a> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product::<u64>() as usize
    }

    /// Bytes of all elements, scales and zero points included.
    pub fn byte_len(&self) -> usize {
        match self.content {
            Content::Stored(bytes) => bytes.len(),
            Content::Part(..) => self.dtype.bytes(self.elements()),
            Content::Random(_) => self.elements() * size_of::<bf16>(),
            Content::Quantized(parts) => parts.len(),
            Content::Fp8(parts) => parts.len(),
            Content::Mxfp4(_) => self.dtype.bytes(self.elements()),
        }
    }

    /// Little-endian elements, row-major, at any alignment; borrowed where a file holds them in this order. Of a quantised
    /// matrix the codes of all that is stored with it, as the file has them.
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        match self.content {
            Content::Stored(bytes)
            | Content::Quantized(QuantizedBytes { codes: bytes, .. })
            | Content::Fp8(Fp8Bytes { codes: bytes, .. }) => Cow::Borrowed(bytes),
            Content::Part(bytes, rows, view) => view.gather(bytes, rows, self.dtype.element_bytes()),
            Content::Random(generator) => {
                Cow::Owned(bytemuck::allocation::pod_collect_to_vec(&generator.elements(self.elements())))
            }
            Content::Mxfp4(parts) => Cow::Owned(parts.blocks()),
        }
    }

    /// The elements in their stored format; copied only when the file puts them apart or at an odd address. Those of a
    /// model with random weights are made by every call.
    pub fn data(&self) -> TensorData<'a> {
        let bytes = match self.content {
            Content::Stored(_) | Content::Part(..) => self.bytes(),
            Content::Random(generator) => {
                return TensorData::Bf16(Cow::Owned(generator.elements(self.elements())));
            }
            Content::Mxfp4(parts) => {
                return TensorData::Blocks(BlockFormat::Mxfp4, Cow::Owned(parts.blocks()));
            }
            Content::Quantized(parts) => {
                return TensorData::Quantized(parts.data(self.shape[1] as usize));
            }
            Content::Fp8(parts) => return TensorData::Fp8(parts.data(self.shape[1] as usize)),
        };
        match self.dtype {
            Dtype::F32 => TensorData::F32(elements(bytes)),
            Dtype::F16 => TensorData::F16(elements(bytes)),
            Dtype::Bf16 => TensorData::Bf16(elements(bytes)),
            Dtype::Blocks(format) => TensorData::Blocks(format, bytes),
            Dtype::Fp8 | Dtype::Quantized(_) => unreachable!("quantised content is of its own kind"),
        }
    }

    /// [`data`](Self::data), with what stands for floats widened to them: integers with scales, floats of 8 bits, blocks of
    /// MXFP4.
    pub fn floats(&self) -> TensorData<'a> {
        match self.data() {
            TensorData::Blocks(BlockFormat::Mxfp4, blocks) => {
                TensorData::Bf16(Cow::Owned(mxfp4::widen(&blocks)))
            }
            TensorData::Quantized(x) => TensorData::F32(Cow::Owned(x.widen(self.shape[1] as usize))),
            TensorData::Fp8(x) => TensorData::F32(Cow::Owned(x.widen(self.shape[1] as usize))),
            other => other,
        }
    }

    /// The elements widened to f32; exact for every float.
    ///
    /// # Panics
    /// For blocks, which are matrices: what they mean is the kernels' affair.
    pub fn to_f32_vec(&self) -> Vec<f32> {
        match self.data() {
            TensorData::F32(x) => x.into_owned(),
            TensorData::F16(x) => x.iter().map(|v| v.to_f32()).collect(),
            TensorData::Bf16(x) => x.iter().map(|v| v.to_f32()).collect(),
            TensorData::Quantized(x) => x.widen(self.shape[1] as usize),
            TensorData::Fp8(x) => x.widen(self.shape[1] as usize),
            TensorData::Blocks(format, _) => panic!("{} is stored as {format}", self.name),
        }
    }
}

fn elements<T: Pod>(bytes: Cow<'_, [u8]>) -> Cow<'_, [T]> {
    match bytes {
        Cow::Borrowed(bytes) => aligned(bytes),
        Cow::Owned(bytes) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(&bytes)),
    }
}

pub(crate) fn aligned<T: Pod>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(elements) => Cow::Borrowed(elements),
        Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)),
    }
}
