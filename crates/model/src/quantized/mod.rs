//! Quantised folders in the layout of compressed-tensors: what config.json says of them, and where the parts are.
//!
//! | bits | codes | scales | zero points |
//! |---|---|---|---|
//! | 8 (`int-quantized`) | `weight` I8 `[n, k]` | `weight_scale` `[n, k / group]` | – |
//! | 4 (`pack-quantized`) | `weight_packed` I32 `[n, k / 8]`, low bits first, each + 8 | as above | `weight_zero_point` I32 `[n / 8, k / group]`, each + 8 |
//!
//! Divisions round up. A weight is `(code - zero) * scale`; without zero points, zero is 0.
//!
//! The layout of each matrix is that of compressed-tensors, which other engines read. Beyond what they commonly do, the
//! files of [`QuantizedFolder`] quantise the embedding and the head too, to 8 bits (a group with the targets `Embedding`
//! and `lm_head`), may use scales below 0 and a last group that is cut short, and say in a field of their own,
//! `pagoda.activation_bits` of config.json, to how many bits activations are to be rounded.

mod config;
mod data;
mod parts;
mod scheme;
mod write;

pub(crate) use config::Quantization;
pub(crate) use data::QuantizedBytes;
pub use data::QuantizedData;
pub(crate) use parts::{QuantizedPlace, find};
pub use scheme::QuantScheme;
pub use write::{QuantizedFolder, pack_zero_points};
