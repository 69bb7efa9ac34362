//! Number formats of stored weights.

use crate::QuantScheme;
use std::fmt;

/// Number format of a stored tensor that the engine can compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single-precision number.
    Bf16,
    /// Floats of 8 bits, E4M3, with scales.
    Fp8,
    /// Small integers with a scale for each group.
    Quantized(QuantScheme),
    /// Small integers in blocks, as GGUF files store them.
    Blocks(BlockFormat),
}

/// A format of blocks of GGUF files; what the bits mean is the kernels' affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the files")]
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
}

impl BlockFormat {
    /// Elements and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Mxfp4 => (32, 17),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Iq4Xs => (256, 136),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Iq4Nl => "iq4_nl",
            Self::Iq4Xs => "iq4_xs",
            Self::Mxfp4 => "mxfp4",
        })
    }
}

impl Dtype {
    /// Bytes of an element of a float, and of a whole one otherwise.
    pub(crate) fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Fp8 | Self::Quantized(_) | Self::Blocks(_) => 1,
        }
    }

    /// Bytes of `elements` elements, whole blocks of them.
    pub(crate) fn bytes(self, elements: usize) -> usize {
        match self {
            Self::Blocks(format) => {
                let (block, bytes) = format.block();
                elements / block * bytes
            }
            _ => elements * self.element_bytes(),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::F16 => f.write_str("f16"),
            Self::Bf16 => f.write_str("bf16"),
            Self::Fp8 => f.write_str("fp8"),
            Self::Quantized(scheme) => scheme.fmt(f),
            Self::Blocks(format) => format.fmt(f),
        }
    }
}
