//! How a model is to be run on the CPU.

use pagoda_kernels::{Bits, Isa, QuantFormat, WeightFormat};
use pagoda_model::Dtype;
use std::fmt;
use std::str::FromStr;

/// Number format of the weights in memory. Activations are f32 in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ComputeDtype {
    /// As the checkpoint stores most of its weights.
    #[default]
    Auto,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Single precision.
    F32,
}

/// Number format of stored keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvDtype {
    /// bfloat16.
    Bf16,
    /// Single precision.
    F32,
}

/// Formats of a model's matrices in memory. Norms and biases are f32 in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightFormats {
    /// The matrices of the layers.
    pub layers: WeightFormat,
    /// The embedding and the head.
    pub vocabulary: WeightFormat,
}

impl WeightFormats {
    /// Layers in `format`, and vectors of tokens in 8 bits at least: few bytes where the layers are many, and errors in
    /// them reach every token.
    pub fn quantized(format: QuantFormat) -> Self {
        let vocabulary = match format.bits {
            Bits::Eight => format,
            Bits::Four => format.for_vocabulary(),
        };
        WeightFormats { layers: format.into(), vocabulary: vocabulary.into() }
    }
}

/// How a model is to be run on the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Worker threads; `None` is one per physical core that the process may use.
    pub threads: Option<usize>,
    /// Instruction set; `None` is the best that the machine runs.
    pub isa: Option<Isa>,
    /// Number format of the weights.
    pub dtype: ComputeDtype,
    /// Quantise the matrices while loading; `dtype` is then [`ComputeDtype::Auto`].
    pub quantize: Option<QuantFormat>,
    /// Number format of keys and values; `None` is f32 where the weights are, else bfloat16.
    pub kv_dtype: Option<KvDtype>,
    /// Tokens per KV block: a multiple of 16.
    pub block_size: u32,
    /// KV blocks, the null block included; at least 2.
    pub blocks: u32,
    /// Most tokens of one step; scratch memory is sized for it.
    pub max_tokens_per_step: u32,
    /// Most rows of one step; scratch memory has a row of logits for each.
    pub max_rows: u32,
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self {
            threads: None,
            isa: None,
            dtype: ComputeDtype::Auto,
            quantize: None,
            kv_dtype: None,
            block_size: 16,
            blocks: 1024,
            max_tokens_per_step: 512,
            max_rows: 64,
        }
    }
}

impl CpuOptions {
    /// Formats of the matrices in memory for a checkpoint that stores them as `stored`.
    pub fn weight_formats(&self, stored: Dtype) -> WeightFormats {
        let layers = match (self.quantize, self.dtype, stored) {
            (Some(format), ..) => return WeightFormats::quantized(format),
            (None, ComputeDtype::F32, _) | (None, ComputeDtype::Auto, Dtype::F32) => WeightFormat::F32,
            (None, ComputeDtype::F16, _) | (None, ComputeDtype::Auto, Dtype::F16) => WeightFormat::F16,
            (None, ComputeDtype::Bf16, _) | (None, ComputeDtype::Auto, Dtype::Bf16) => WeightFormat::Bf16,
        };
        WeightFormats { layers, vocabulary: layers }
    }

    /// Format of keys and values for a checkpoint that stores its weights as `stored`.
    pub fn kv_format(&self, stored: Dtype) -> KvDtype {
        match (self.kv_dtype, self.weight_formats(stored).layers) {
            (Some(KvDtype::F32), _) | (None, WeightFormat::F32) => KvDtype::F32,
            _ => KvDtype::Bf16,
        }
    }
}

impl fmt::Display for WeightFormats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layers.fmt(f)?;
        if self.vocabulary == self.layers { Ok(()) } else { write!(f, ", vocabulary {}", self.vocabulary) }
    }
}

impl fmt::Display for ComputeDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

impl fmt::Display for KvDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        })
    }
}

/// A name that is no number format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown number format {name:?}; known are: {known}")]
pub struct DtypeError {
    name: String,
    known: &'static str,
}

impl FromStr for ComputeDtype {
    type Err = DtypeError;

    /// Reads `auto`, `bf16`, `f16`, `f32` and the longer names that other engines use for them.
    fn from_str(name: &str) -> Result<Self, DtypeError> {
        Ok(match name {
            "auto" => Self::Auto,
            "bf16" | "bfloat16" => Self::Bf16,
            "f16" | "float16" | "half" => Self::F16,
            "f32" | "float32" | "float" => Self::F32,
            _ => return Err(DtypeError { name: name.to_owned(), known: "auto, bf16, f16, f32" }),
        })
    }
}

impl FromStr for KvDtype {
    type Err = DtypeError;

    /// Reads `bf16` and `f32` and their longer names.
    fn from_str(name: &str) -> Result<Self, DtypeError> {
        Ok(match name {
            "bf16" | "bfloat16" => Self::Bf16,
            "f32" | "float32" | "float" => Self::F32,
            _ => return Err(DtypeError { name: name.to_owned(), known: "bf16, f32" }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused_with_the_known_ones() {
        for dtype in [ComputeDtype::Auto, ComputeDtype::Bf16, ComputeDtype::F16, ComputeDtype::F32] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        for dtype in [KvDtype::Bf16, KvDtype::F32] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        let message = "fp8".parse::<ComputeDtype>().expect_err("unknown").to_string();
        assert!(message.contains("fp8") && message.contains("bf16"), "{message}");
        assert!("auto".parse::<KvDtype>().is_err());
    }

    #[test]
    fn auto_keeps_the_stored_format() {
        let options = CpuOptions::default();
        assert_eq!(options.weight_formats(Dtype::F16).layers, WeightFormat::F16);
        assert_eq!(options.kv_format(Dtype::F16), KvDtype::Bf16);
        assert_eq!(options.weight_formats(Dtype::F32).vocabulary, WeightFormat::F32);
        assert_eq!(options.kv_format(Dtype::F32), KvDtype::F32);
        let narrow = CpuOptions { dtype: ComputeDtype::Bf16, ..options };
        assert_eq!(narrow.weight_formats(Dtype::F32).layers, WeightFormat::Bf16);
        assert_eq!(narrow.kv_format(Dtype::F32), KvDtype::Bf16);
        let wide_kv = CpuOptions { kv_dtype: Some(KvDtype::F32), ..narrow };
        assert_eq!(wide_kv.kv_format(Dtype::F32), KvDtype::F32);
    }
    #[test]
    fn the_vocabulary_of_4_bit_layers_has_8_bits() {
        let formats = |quantize| {
            CpuOptions { quantize: Some(quantize), ..CpuOptions::default() }.weight_formats(Dtype::F32)
        };
        let of = |format: QuantFormat| WeightFormat::Quantized(format);
        assert_eq!(formats(QuantFormat::W4A8).layers, of(QuantFormat::W4A8));
        assert_eq!(formats(QuantFormat::W4A8).vocabulary, of(QuantFormat::W8A8));
        let fine = QuantFormat { group: 32, ..QuantFormat::INT8 };
        assert_eq!(formats(fine).vocabulary, of(fine));
        let options = CpuOptions { quantize: Some(fine), ..CpuOptions::default() };
        assert_eq!(options.kv_format(Dtype::F32), KvDtype::Bf16);
    }
}
