//! The formats and what they are made of.

use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;

/// A format of weights in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 4 bits around 8, a scale for 32.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32.
    Q4_1,
    /// 5 bits around 16, a scale for 32.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32.
    Q5_1,
    /// 8 bits with a sign, a scale for 32.
    Q8_0,
    /// 2 bits; scales and minima of 4 bits for 16, with one scale each for 256.
    Q2K,
    /// 3 bits around 4; scales of 6 bits for 16, with one for 256.
    Q3K,
    /// 4 bits; scales and minima of 6 bits for 32, with one scale each for 256.
    Q4K,
    /// 5 bits; scales and minima of 6 bits for 32, with one scale each for 256.
    Q5K,
    /// 6 bits around 32; scales of 8 bits for 16, with one for 256.
    Q6K,
    /// 16 levels that are not evenly spaced, a scale for 32.
    Iq4Nl,
    /// The same levels; scales of 6 bits around 32 for 32, with one for 256.
    Iq4Xs,
    /// Floats of 4 bits: a sign, two bits of exponent, one of fraction; a power of two for 32.
    Mxfp4,
}

/// How the groups of a block are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// The block is one group: its numbers are those of the group.
    Own,
    /// A byte for the scale of each group and, where there are minima, one more.
    Bytes,
    /// The halves of a byte for each group: scale and minimum.
    Halves,
}

/// What a format is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    /// Inputs of a block.
    pub(crate) block: usize,
    /// Bytes of a block in a file.
    pub(crate) stored: usize,
    /// Inputs of a group.
    pub(crate) group: usize,
    /// Bits of a code in the first and in the second plane.
    pub(crate) planes: [usize; 2],
    /// What is taken from an opened code to make a level.
    pub(crate) zero: u8,
    pub(crate) scales: Scales,
    /// Whether groups have addends.
    pub(crate) minimum: bool,
    /// Levels that codes are places of, each plus `zero`.
    pub(crate) table: Option<&'static [u8; 16]>,
    /// Whether scales are the upper halves of f32, not f16.
    pub(crate) wide_scale: bool,
}

/// Twice the floats of [`BlockFormat::Mxfp4`], each plus 12.
const FLOATS: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// The levels of [`BlockFormat::Iq4Nl`] and [`BlockFormat::Iq4Xs`], each plus 128.
const LEVELS: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

/// Inputs of the largest block.
pub(crate) const MAX_BLOCK: usize = 256;

/// Inputs of the smallest group.
pub(crate) const MIN_GROUP: usize = 16;

/// A block that is one group, of `[low, high]` bits.
const fn plain(stored: usize, planes: [usize; 2], zero: u8) -> Build {
    let (scales, minimum, table, wide_scale) = (Scales::Own, zero == 0, None, false);
    Build { block: 32, stored, group: 32, planes, zero, scales, minimum, table, wide_scale }
}

/// A block of 256 with scales of its groups.
const fn grouped(stored: usize, group: usize, planes: [usize; 2], zero: u8) -> Build {
    let (scales, minimum, table, wide_scale) = (Scales::Bytes, zero == 0, None, false);
    Build { block: MAX_BLOCK, stored, group, planes, zero, scales, minimum, table, wide_scale }
}

impl Build {
    /// The largest level plus [`zero`](Self::zero).
    pub(crate) fn max_code(&self) -> u8 {
        let largest = self.table.and_then(|table| table.iter().max());
        largest.copied().unwrap_or(u8::MAX >> (8 - self.planes[0] - self.planes[1]))
    }

    /// Whether codes are opened to bytes before they are multiplied: those that lie in two planes, or are places of a
    /// table, or of which a byte has more than two.
    pub(crate) fn is_opened(&self) -> bool {
        self.table.is_some() || !matches!(self.planes, [4 | 8, 0])
    }

    /// The number whose stored bits are those of `scale`.
    pub(crate) fn number(&self, scale: f16) -> f32 {
        if self.wide_scale { bf16::from_bits(scale.to_bits()).to_f32() } else { scale.to_f32() }
    }
}

impl BlockFormat {
    /// Every format.
    pub const ALL: [BlockFormat; 13] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
    ];

    pub(crate) const fn build(self) -> Build {
        match self {
            Self::Q4_0 => plain(18, [4, 0], 8),
            Self::Q4_1 => plain(20, [4, 0], 0),
            Self::Q5_0 => plain(22, [4, 1], 16),
            Self::Q5_1 => plain(24, [4, 1], 0),
            Self::Q8_0 => plain(34, [8, 0], 128),
            Self::Iq4Nl => Build { table: Some(&LEVELS), ..plain(18, [4, 0], 128) },
            Self::Iq4Xs => Build { table: Some(&LEVELS), ..grouped(136, 32, [4, 0], 128) },
            Self::Mxfp4 => Build { table: Some(&FLOATS), wide_scale: true, ..plain(17, [4, 0], 12) },
            Self::Q2K => Build { scales: Scales::Halves, ..grouped(84, 16, [2, 0], 0) },
            Self::Q3K => grouped(110, 16, [2, 1], 4),
            Self::Q4K => grouped(144, 32, [4, 0], 0),
            Self::Q5K => grouped(176, 32, [4, 1], 0),
            Self::Q6K => grouped(210, 16, [4, 2], 32),
        }
    }

    /// The names of all, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Inputs of a block; a row has a whole number of them.
    pub fn block(self) -> usize {
        self.build().block
    }

    /// Bytes of a block in a file.
    pub fn stored_bytes(self) -> usize {
        self.build().stored
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

impl FromStr for BlockFormat {
    type Err = String;

    /// Reads a name, in any case.
    ///
    /// # Errors
    ///
    /// A message with the names that there are.
    fn from_str(name: &str) -> Result<Self, String> {
        let known = |format: &BlockFormat| format.to_string().eq_ignore_ascii_case(name);
        let unknown = || format!("unknown block format {name:?}; there are {}", Self::names());
        Self::ALL.into_iter().find(known).ok_or_else(unknown)
    }
}
