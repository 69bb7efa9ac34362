//! Formats of quantised weights.
//!
//! A weight is an unsigned code `u` of 8 or 4 bits with, per output and group of consecutive inputs, a scale `s` (bf16,
//! or as a file has it) and a zero point `z`: `w = (u - z) * s`. Activations are quantised too, per row and group, to 16 or 8 bits, so that the
//! sums of a group are exact integers and every instruction set gives the same bits.

use std::fmt;
use std::str::FromStr;

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// Codes from 0 to 255.
    Eight,
    /// Codes from 0 to 15.
    Four,
}

impl Bits {
    /// The largest code.
    pub fn max_code(self) -> u8 {
        match self {
            Bits::Eight => 255,
            Bits::Four => 15,
        }
    }

    /// The code of 0 where no zero point is stored.
    pub fn middle(self) -> u8 {
        self.max_code() / 2 + 1
    }

    /// Bytes of `codes` codes, a whole number of bytes.
    pub(crate) fn bytes(self, codes: usize) -> usize {
        match self {
            Bits::Eight => codes,
            Bits::Four => codes / 2,
        }
    }
}

/// How the scales of quantised weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleFormat {
    /// bfloat16; those of weights that are rounded here.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Single precision.
    F32,
}

impl ScaleFormat {
    /// Bytes of a scale.
    pub(crate) fn bytes(self) -> usize {
        match self {
            ScaleFormat::Bf16 | ScaleFormat::F16 => 2,
            ScaleFormat::F32 => 4,
        }
    }
}

/// How activations are rounded before they meet quantised weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activations {
    /// 16 bits per row and group: finer than bf16.
    I16,
    /// 8 bits per row and group: twice the speed of 16 where the machine multiplies bytes.
    I8,
}

impl Activations {
    /// Bits of an activation.
    pub fn bits(self) -> u8 {
        match self {
            Activations::I16 => 16,
            Activations::I8 => 8,
        }
    }

    /// The integer of the element of largest magnitude of a group.
    pub fn max(self) -> f32 {
        match self {
            Activations::I16 => 32767.0,
            Activations::I8 => 127.0,
        }
    }
}

/// A format of quantised weights. Its name, which [`FromStr`] reads, is `int8` or `int4` with activations of 16 bits,
/// `w8a8` or `w4a8` with 8 bits; `-g32`, `-g64`, `-g128` and `-sym`, `-asym` follow where they are not the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuantFormat {
    /// Bits of a weight.
    pub bits: Bits,
    /// Inputs that share a scale: 32, 64 or 128.
    pub group: u16,
    /// Whether each group has its own zero point; weights that are rounded here have them in 4 bits only. Without, it is
    /// [`Bits::middle`].
    pub zero_point: bool,
    /// How scales are stored; no part of the name.
    pub scales: ScaleFormat,
    /// How activations are rounded.
    pub activations: Activations,
}

/// A combination that no kernel computes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantFormatError {
    /// No format has this name.
    #[error(
        "unknown quantised format {name:?}; give int8, int4, w8a8 or w4a8, each with an optional group (-g32, -g64, -g128) and, for 4 bits, -sym or -asym"
    )]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The group is none of those computed.
    #[error("groups of {group} weights are not computed; use 32, 64 or 128")]
    Group {
        /// The group.
        group: u32,
    },
    /// Weights were to be rounded to 8 bits with zero points.
    #[error("weights are not rounded to 8 bits with zero points; use -sym, or 4 bits")]
    ZeroPoint,
    /// Weights were to be rounded with scales of another format.
    #[error("weights are rounded with scales of bf16 alone")]
    Scales,
}

impl QuantFormat {
    /// 8-bit weights in groups of 128, 16-bit activations.
    pub const INT8: QuantFormat = QuantFormat {
        bits: Bits::Eight,
        group: 128,
        zero_point: false,
        scales: ScaleFormat::Bf16,
        activations: Activations::I16,
    };

    /// 4-bit weights in groups of 64 without zero points, 16-bit activations. Groups of 32, or zero points, take 6 % more
    /// bytes and gain less than 0.1 % of perplexity.
    pub const INT4: QuantFormat = QuantFormat { bits: Bits::Four, group: 64, ..QuantFormat::INT8 };

    /// 8-bit weights in groups of 128, 8-bit activations.
    pub const W8A8: QuantFormat = QuantFormat { activations: Activations::I8, ..QuantFormat::INT8 };

    /// 4-bit weights, 8-bit activations.
    pub const W4A8: QuantFormat = QuantFormat { activations: Activations::I8, ..QuantFormat::INT4 };

    /// The four formats that have a name without a suffix.
    pub const NAMED: [(&'static str, QuantFormat); 4] = [
        ("int8", QuantFormat::INT8),
        ("int4", QuantFormat::INT4),
        ("w8a8", QuantFormat::W8A8),
        ("w4a8", QuantFormat::W4A8),
    ];

    /// The format itself, if weights are rounded to it.
    ///
    /// # Errors
    ///
    /// A group other than 32, 64 and 128; zero points of 8-bit weights; scales other than of bf16.
    pub fn checked(self) -> Result<Self, QuantFormatError> {
        match self {
            QuantFormat { bits: Bits::Eight, zero_point: true, .. } => Err(QuantFormatError::ZeroPoint),
            QuantFormat { scales: ScaleFormat::F16 | ScaleFormat::F32, .. } => Err(QuantFormatError::Scales),
            _ => self.computed(),
        }
    }

    /// The format itself, if kernels compute it.
    pub(crate) fn computed(self) -> Result<Self, QuantFormatError> {
        match self.group {
            32 | 64 | 128 => Ok(self),
            group => Err(QuantFormatError::Group { group: group.into() }),
        }
    }

    /// The format in which a table of token vectors is stored beside layers in this one: 8 bits, the same activations.
    pub fn for_vocabulary(self) -> QuantFormat {
        QuantFormat { activations: self.activations, ..QuantFormat::INT8 }
    }

    /// Whether weights of both are the same numbers, whatever activations they meet.
    pub fn same_weights(self, other: QuantFormat) -> bool {
        QuantFormat { activations: other.activations, ..self } == other
    }

    /// The format of the same name without suffixes.
    fn base(self) -> (&'static str, QuantFormat) {
        let same =
            |(_, base): &(_, QuantFormat)| base.bits == self.bits && base.activations == self.activations;
        QuantFormat::NAMED.into_iter().find(same).expect("every pair of bits and activations has a name")
    }
}

impl fmt::Display for QuantFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, base) = self.base();
        f.write_str(name)?;
        if self.group != base.group {
            write!(f, "-g{}", self.group)?;
        }
        match (self.zero_point, base.zero_point) {
            (true, false) => f.write_str("-asym"),
            (false, true) => f.write_str("-sym"),
            _ => Ok(()),
        }
    }
}

impl FromStr for QuantFormat {
    type Err = QuantFormatError;

    /// Reads a name, in any case; suffixes that say the default are accepted.
    ///
    /// # Errors
    ///
    /// Names of nothing that kernels compute.
    fn from_str(name: &str) -> Result<Self, QuantFormatError> {
        let unknown = || QuantFormatError::Unknown { name: name.to_owned() };
        let lower = name.to_ascii_lowercase();
        let mut words = lower.split('-');
        let base = words.next().unwrap_or_default();
        let named = QuantFormat::NAMED.into_iter().find(|(known, _)| *known == base);
        let (_, mut format) = named.ok_or_else(unknown)?;
        let (mut group, mut symmetry) = (None, None);
        for word in words {
            let given = match word {
                "sym" => symmetry.replace(false).is_some(),
                "asym" => symmetry.replace(true).is_some(),
                _ => {
                    let size =
                        word.strip_prefix('g').and_then(|size| size.parse().ok()).ok_or_else(unknown)?;
                    group.replace(size).is_some()
                }
            };
            if given {
                return Err(unknown());
            }
        }
        format.group = group.unwrap_or(format.group);
        format.zero_point = symmetry.unwrap_or(format.zero_point);
        format.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_its_own_name() {
        for bits in [Bits::Eight, Bits::Four] {
            for activations in [Activations::I16, Activations::I8] {
                for group in [32, 64, 128] {
                    for zero_point in [false, true] {
                        let format =
                            QuantFormat { bits, group, zero_point, activations, ..QuantFormat::INT8 };
                        let read = format.to_string().to_uppercase().parse();
                        assert_eq!(read, format.checked(), "{format}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_named_formats_are_computed_and_have_no_suffix() {
        for (name, format) in QuantFormat::NAMED {
            assert_eq!((name.parse(), format.to_string()), (Ok(format), name.to_owned()));
        }
        assert_eq!("int8-g128-sym".parse(), Ok(QuantFormat::INT8));
    }

    #[test]
    fn other_names_are_refused_with_what_to_give() {
        for name in ["", "int3", "int4-", "int4-g", "int4-g32-g64", "int4-sym-asym", "int4-q", "int4 "] {
            let error = name.parse::<QuantFormat>().unwrap_err();
            assert!(matches!(error, QuantFormatError::Unknown { .. }), "{name:?}: {error}");
            assert!(error.to_string().contains("int8, int4, w8a8 or w4a8"), "{error}");
        }
        assert_eq!("int4-g48".parse::<QuantFormat>(), Err(QuantFormatError::Group { group: 48 }));
        assert_eq!("int8-asym".parse::<QuantFormat>(), Err(QuantFormatError::ZeroPoint));
    }
}
