//! Instruction sets and which of them this machine runs.

use std::fmt;
use std::str::FromStr;

/// An instruction set that the kernels are written for, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust with `f64` sums; runs everywhere and is the truth that the others are tested against.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL; VNNI is used where the machine has it.
    Avx512,
    /// AVX-512 with dot products of bf16: activations are rounded to bf16 where the weights are.
    Avx512Bf16,
    /// Tiles of AMX, with products of bf16 and of bytes, beside AVX-512.
    Amx,
}

impl Isa {
    /// Every instruction set, weakest first.
    pub const ALL: [Isa; 5] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// Name as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }

    /// Whether this machine and its operating system run it.
    pub fn is_available(self) -> bool {
        crate::Kernels::for_isa(self).is_some()
    }

    /// Whether it is the best choice among those that this machine runs, if nothing stronger is.
    ///
    /// Dot products of bf16 have twice the rate of `f32` multiply-adds on AMD, but half of it on Intel, where
    /// multiply-adds are both faster and exact.
    pub(crate) fn is_worthwhile(self) -> bool {
        self != Isa::Avx512Bf16 || is_amd()
    }

    /// The instruction sets that this machine runs, weakest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }
}

/// Whether the processor is one of AMD's.
fn is_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx] == [*b"Auth", *b"enti", *b"cAMD"].map(u32::from_le_bytes)
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a name is not an instruction set that can be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No instruction set has this name.
    #[error("unknown instruction set {name:?}; this machine can run: {}", runnable())]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The kernels exist, but this machine cannot run them.
    #[error("this machine does not have {isa}; it can run: {}", runnable())]
    Unavailable {
        /// The instruction set asked for.
        isa: Isa,
    },
}

fn runnable() -> String {
    Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Isa {
    type Err = IsaError;

    /// Reads a name, in any case.
    ///
    /// # Errors
    ///
    /// Unknown names and instruction sets that this machine lacks; both messages list what it can run.
    fn from_str(name: &str) -> Result<Self, IsaError> {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| IsaError::Unknown { name: name.to_owned() })?;
        if isa.is_available() { Ok(isa) } else { Err(IsaError::Unavailable { isa }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for isa in Isa::available() {
            assert_eq!(isa.to_string().to_uppercase().parse(), Ok(isa));
        }
    }

    #[test]
    fn an_unknown_name_lists_what_runs() {
        let message = "avx9000".parse::<Isa>().unwrap_err().to_string();
        assert!(message.contains("avx9000") && message.contains("scalar"), "{message}");
    }

    #[test]
    fn a_missing_set_lists_what_runs() {
        let message = IsaError::Unavailable { isa: Isa::Avx512 }.to_string();
        assert!(message.contains("avx512") && message.contains("scalar"), "{message}");
    }
}
