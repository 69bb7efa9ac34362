//! How a matrix is quantised.

use std::fmt;

/// How a stored matrix is quantised: along each row, groups of codes share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuantScheme {
    /// Bits of a code: 4 or 8.
    pub bits: u8,
    /// Codes that share a scale: 32, 64 or 128.
    pub group: u16,
    /// Whether each group has a zero point; 4 bits only.
    pub zero_point: bool,
}

impl QuantScheme {
    /// Groups of a row of `k` codes.
    pub fn groups(self, k: u64) -> u64 {
        k.div_ceil(self.group.into())
    }

    /// Shape of the stored codes of a matrix `[n, k]`: bytes, or words of eight codes.
    pub(crate) fn code_shape(self, n: u64, k: u64) -> [u64; 2] {
        if self.bits == 8 { [n, k] } else { [n, k.div_ceil(8)] }
    }

    /// Format of the stored codes, as a safetensors header names it.
    pub(crate) fn code_format(self) -> &'static str {
        if self.bits == 8 { "I8" } else { "I32" }
    }

    /// Name of the codes of the matrix `name`, which ends in `.weight`.
    pub(crate) fn code_name(self, name: &str) -> String {
        if self.bits == 8 { name.to_owned() } else { format!("{name}_packed") }
    }
}

impl fmt::Display for QuantScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "int{} in groups of {}", self.bits, self.group)?;
        if self.zero_point { f.write_str(" with zero points") } else { Ok(()) }
    }
}
