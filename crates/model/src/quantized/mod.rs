//! Quantised folders: what config.json says of them, and where the parts of their matrices are.
//!
//! Read are those of GPTQ ([`gptq`]), AWQ ([`awq`]), compressed-tensors ([`compressed`]) and floats of 8 bits ([`fp8`]). Each
//! finds the tensors of a module and says how its codes lie ([`codes`]), its scales and its zero points ([`data`]); the
//! kernels get all of them in one order. A weight is `(code - zero) * scale`.
//!
//! The layout of what is written here is that of compressed-tensors, which other engines read. Beyond what they commonly do, the
//! files of [`QuantizedFolder`] quantise the embedding and the head too, to 8 bits (a group with the targets `Embedding`
//! and `lm_head`), may use scales below 0 and a last group that is cut short, and say in a field of their own,
//! `pagoda.activation_bits` of config.json, to how many bits activations are to be rounded.

mod awq;
mod codes;
mod compressed;
mod config;
mod data;
mod fp8;
mod gptq;
mod parts;
mod pattern;
mod scheme;
mod write;

pub(crate) use config::Quantization;
pub(crate) use data::QuantizedBytes;
pub use data::{QuantizedData, ScaleData};
pub use fp8::Fp8Data;
pub(crate) use fp8::{Fp8Bytes, Fp8Place};
pub(crate) use parts::{Finding, Part, QuantizedPlace};
pub use scheme::{QuantScheme, ScaleType};
pub use write::{QuantizedFolder, pack_zero_points};

/// What the elements of a stored matrix are.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Floats, or blocks of a GGUF file.
    Plain,
    /// Blocks of MXFP4, with these scales.
    Mxfp4(Part),
    /// Codes, with what belongs to them.
    Quantized(QuantizedPlace),
    /// Floats of 8 bits, with their scales.
    Fp8(Fp8Place),
}
