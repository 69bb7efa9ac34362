//! Number formats of tensors in GGUF files.

use crate::{BlockFormat, Dtype};

/// A format that a file may name, also those that no weight may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorFormat {
    /// Its number in files.
    id: u32,
    pub(super) name: &'static str,
    /// Elements and bytes of a block; a row has a whole number of blocks.
    pub(super) block: u64,
    pub(super) bytes: u64,
}

#[rustfmt::skip]
const FORMATS: [(u32, &str, u64, u64); 36] = [
    (0, "F32", 1, 4), (1, "F16", 1, 2), (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20), (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24), (8, "Q8_0", 32, 34), (9, "Q8_1", 32, 40), (10, "Q2_K", 256, 84), (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144), (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210), (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66), (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98), (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18), (21, "IQ3_S", 256, 110), (22, "IQ2_S", 256, 82), (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1), (25, "I16", 1, 2), (26, "I32", 1, 4), (27, "I64", 1, 8), (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56), (30, "BF16", 1, 2), (34, "TQ1_0", 256, 54), (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17), (40, "NVFP4", 64, 36), (4, "Q4_2", 16, 10), (5, "Q4_3", 16, 12), (41, "Q1_0", 128, 18),
];

impl TensorFormat {
    pub(super) fn numbered(id: u32) -> Option<Self> {
        let found = FORMATS.iter().find(|(known, ..)| *known == id);
        found.map(|&(id, name, block, bytes)| Self { id, name, block, bytes })
    }

    /// The format to compute with, if it is one.
    pub(super) fn dtype(self) -> Option<Dtype> {
        let block = match self.id {
            0 => return Some(Dtype::F32),
            1 => return Some(Dtype::F16),
            30 => return Some(Dtype::Bf16),
            2 => BlockFormat::Q4_0,
            3 => BlockFormat::Q4_1,
            6 => BlockFormat::Q5_0,
            7 => BlockFormat::Q5_1,
            8 => BlockFormat::Q8_0,
            10 => BlockFormat::Q2K,
            11 => BlockFormat::Q3K,
            12 => BlockFormat::Q4K,
            13 => BlockFormat::Q5K,
            14 => BlockFormat::Q6K,
            20 => BlockFormat::Iq4Nl,
            23 => BlockFormat::Iq4Xs,
            39 => BlockFormat::Mxfp4,
            _ => return None,
        };
        Some(Dtype::Blocks(block))
    }
}
