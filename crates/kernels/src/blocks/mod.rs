//! Weights in blocks, as GGUF files store them: integers of 2 to 8 bits with scales that are integers themselves.
//!
//! A matrix is stored row by row, a row block by block; a block is 32 or 256 inputs of one output. [`stored`] reads the
//! blocks of the files, [`crate::panels::blocks`] says how they lie in memory. Each group of 16 or 32 inputs has a factor
//! and, in some formats, an addend: `w = level * factor + addend`, where `level` is an integer of at most 8 bits.

mod format;
mod source;
pub(crate) mod stored;

pub use format::BlockFormat;
pub(crate) use format::{Build, MAX_BLOCK, Scales};
pub use source::BlockRef;
