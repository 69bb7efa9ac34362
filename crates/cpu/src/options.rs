//! How a model is to be run on the CPU.

use crate::{AdapterLimits, CpuError};
use pagoda_kernels::{
    Activations, Bits, BlockFormat, Isa, QuantFormat, ScaleFormat, StackedLinear, WeightFormat, WorkerPool,
};
use pagoda_model::{
    BlockFormat as StoredBlocks, DecoderSpec, Dtype, ExpertRole, LayerRole, Mlp, QuantScheme, Role, ScaleType,
};
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
    /// Signed bytes with a scale per token and head.
    Int8,
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
    /// All matrices in `format`.
    fn all(format: WeightFormat) -> Self {
        WeightFormats { layers: format, vocabulary: format }
    }

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

/// The format of each matrix in memory.
#[derive(Clone, Copy)]
pub(crate) struct RoleFormats<'a> {
    spec: &'a DecoderSpec,
    usual: WeightFormats,
    /// Every matrix stays as it is stored.
    stored: bool,
    /// How activations are rounded where they meet matrices that are stored quantised or in blocks.
    activations: Activations,
}

impl RoleFormats<'_> {
    pub(crate) fn of(self, role: Role) -> WeightFormat {
        if matches!(role, Role::Layer(_, role) if role.is_router()) {
            // A choice must not hang on how weights are rounded.
            return WeightFormat::F32;
        }
        let stored = self.spec.stored_as(role);
        let coded = |dtype| matches!(dtype, Dtype::Quantized(_));
        let partner = self.partner(role).map(|partner| self.spec.stored_as(partner));
        if partner.is_some_and(|partner| coded(partner) != coded(stored)) {
            // The two of a gated unit arrange their input alike, which codes and floats do not.
            return WeightFormat::F32;
        }
        match stored {
            dtype @ Dtype::Quantized(_) => stored_format(dtype, self.activations),
            dtype if self.stored && self.spec.stored.contains_key(&role) => {
                stored_format(dtype, self.activations)
            }
            _ if matches!(role, Role::Layer(..)) => self.usual.layers,
            _ => self.usual.vocabulary,
        }
    }

    /// The other matrix of the gated unit that the matrix of `role` is of.
    fn partner(self, role: Role) -> Option<Role> {
        use LayerRole::{Expert, Gate, SharedGate, SharedUp, Up};
        let Role::Layer(layer, role) = role else { return None };
        let partner = match role {
            Gate => Up,
            Up if self.spec.layers[layer as usize].mlp == Mlp::Gated => Gate,
            SharedGate => SharedUp,
            SharedUp => SharedGate,
            Expert(expert, ExpertRole::Gate) => Expert(expert, ExpertRole::Up),
            Expert(expert, ExpertRole::Up) => Expert(expert, ExpertRole::Gate),
            _ => return None,
        };
        Some(Role::Layer(layer, partner))
    }

    /// Whether gate and up of some layer have two formats, or may have two orders of their inputs.
    pub(crate) fn has_mixed_gates(self) -> bool {
        if self.spec.reordered {
            return true;
        }
        use LayerRole::{Gate, SharedGate, SharedUp, Up};
        let layers = 0..self.spec.layers.len() as u32;
        let pairs = layers.flat_map(|layer| {
            [[Gate, Up], [SharedGate, SharedUp]]
                .map(|pair| pair.map(|role| self.of(Role::Layer(layer, role))))
        });
        pairs.into_iter().any(|formats| StackedLinear::scratch_rows(formats) > 1)
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
    /// Quantise the matrices while loading; `dtype` is then [`ComputeDtype::Auto`]. Of a checkpoint that is quantised
    /// already, with the same bits, groups and zero points, it decides on the activations.
    pub quantize: Option<QuantFormat>,
    /// How activations are rounded before they meet weights that are stored quantised or in blocks; `None` is as the
    /// checkpoint says, and 16 bits where it says nothing. Excludes `quantize`, whose format says it.
    pub activations: Option<Activations>,
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
    /// Longest sequence that will be run, in tokens; `None` is the model's context. It chooses the factors of LongRoPE.
    pub longest: Option<u32>,
    /// Room for adapters.
    pub adapters: AdapterLimits,
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self {
            threads: None,
            isa: None,
            dtype: ComputeDtype::Auto,
            quantize: None,
            activations: None,
            kv_dtype: None,
            block_size: 16,
            blocks: 1024,
            max_tokens_per_step: 512,
            max_rows: 64,
            longest: None,
            adapters: AdapterLimits::default(),
        }
    }
}

impl CpuOptions {
    /// Worker threads.
    pub(crate) fn workers(&self) -> usize {
        self.threads.unwrap_or_else(WorkerPool::default_threads).max(1)
    }

    /// Longest sequence of a model of `spec`.
    pub(crate) fn longest(&self, spec: &DecoderSpec) -> u32 {
        self.longest.map_or(spec.max_context, |longest| longest.min(spec.max_context))
    }

    /// How activations are rounded for what a checkpoint of `spec` stores quantised.
    fn activations(&self, spec: &DecoderSpec) -> Activations {
        let stored = if spec.activation_bits == Some(8) { Activations::I8 } else { Activations::I16 };
        self.quantize.map(|format| format.activations).or(self.activations).unwrap_or(stored)
    }

    /// Formats of the matrices in memory for a checkpoint of `spec`.
    pub fn weight_formats(&self, spec: &DecoderSpec) -> WeightFormats {
        let (asked, activations) = (self.asked_formats(spec), self.activations(spec));
        let keep = |stored, asked| match stored {
            Dtype::Quantized(_) => stored_format(stored, activations),
            _ => asked,
        };
        WeightFormats {
            layers: keep(spec.dtype, asked.layers),
            vocabulary: keep(spec.vocabulary_dtype, asked.vocabulary),
        }
    }

    /// Formats that are asked for, whether what is stored can be brought into them or not.
    fn asked_formats(&self, spec: &DecoderSpec) -> WeightFormats {
        match (self.quantize, self.dtype) {
            (Some(format), _) => WeightFormats::quantized(format),
            (None, ComputeDtype::Auto) => WeightFormats {
                layers: stored_format(spec.dtype, self.activations(spec)),
                vocabulary: stored_format(spec.vocabulary_dtype, self.activations(spec)),
            },
            (None, ComputeDtype::F32) => WeightFormats::all(WeightFormat::F32),
            (None, ComputeDtype::F16) => WeightFormats::all(WeightFormat::F16),
            (None, ComputeDtype::Bf16) => WeightFormats::all(WeightFormat::Bf16),
        }
    }

    /// Formats of all matrices in memory for a checkpoint of `spec`.
    pub(crate) fn role_formats<'a>(&self, spec: &'a DecoderSpec) -> RoleFormats<'a> {
        let stored = self.quantize.is_none() && self.dtype == ComputeDtype::Auto;
        let (usual, activations) = (self.weight_formats(spec), self.activations(spec));
        RoleFormats { spec, usual, stored, activations }
    }

    /// Format of keys and values for a checkpoint of `spec`.
    pub fn kv_format(&self, spec: &DecoderSpec) -> KvDtype {
        match (self.kv_dtype, self.weight_formats(spec).layers) {
            (Some(dtype), _) => dtype,
            (None, WeightFormat::F32) => KvDtype::F32,
            (None, _) => KvDtype::Bf16,
        }
    }

    /// Fails unless the weights that a checkpoint of `spec` stores can be brought into the format that is asked for.
    pub(crate) fn check_formats(&self, spec: &DecoderSpec) -> Result<(), CpuError> {
        if let (Some(quantize), true) = (self.quantize, self.dtype != ComputeDtype::Auto) {
            return Err(CpuError::Formats { dtype: self.dtype, quantize });
        }
        if let (Some(quantize), Some(activations)) = (self.quantize, self.activations) {
            return Err(CpuError::Activations { quantize, activations });
        }
        if let Some(format) = self.quantize {
            format.checked()?;
        }
        let asked = self.asked_formats(spec);
        let usual = [(spec.dtype, asked.layers, true), (spec.vocabulary_dtype, asked.vocabulary, false)];
        let auto = self.quantize.is_none() && self.dtype == ComputeDtype::Auto;
        let others = spec.stored.iter().filter(|_| !auto).map(|(role, stored)| {
            let asked = if matches!(role, Role::Layer(..)) { asked.layers } else { asked.vocabulary };
            (*stored, asked, false)
        });
        for (stored, asked, main) in usual.into_iter().chain(others) {
            let fits = match (stored, asked) {
                // What is asked for is what most of the layers are; the rest stays as it is, too.
                (Dtype::Quantized(scheme), WeightFormat::Quantized(format)) => {
                    let scales = format.scales;
                    let scheme = QuantFormat { scales, ..quant_format(scheme, Activations::I16) };
                    !main || scheme.same_weights(format)
                }
                // Floats, which can be rounded to whatever is asked for.
                (Dtype::Fp8 | Dtype::Blocks(StoredBlocks::Mxfp4), _) => true,
                (Dtype::Blocks(stored), WeightFormat::Blocks(asked, _)) => asked == block_format(stored),
                (Dtype::Blocks(_), _) => false,
                (Dtype::Quantized(_), _) => false,
                _ => true,
            };
            if !fits {
                return Err(CpuError::Stored { stored, asked });
            }
        }
        Ok(())
    }
}

/// The format that keeps what is stored as it is.
fn stored_format(stored: Dtype, activations: Activations) -> WeightFormat {
    match stored {
        Dtype::F32 => WeightFormat::F32,
        Dtype::F16 => WeightFormat::F16,
        Dtype::Fp8 => WeightFormat::Fp8,
        Dtype::Bf16 => WeightFormat::Bf16,
        Dtype::Quantized(scheme) => quant_format(scheme, activations).into(),
        Dtype::Blocks(format) => WeightFormat::Blocks(block_format(format), activations),
    }
}

/// The format of the kernels for blocks of a GGUF file.
pub(crate) fn block_format(stored: StoredBlocks) -> BlockFormat {
    match stored {
        StoredBlocks::Q4_0 => BlockFormat::Q4_0,
        StoredBlocks::Q4_1 => BlockFormat::Q4_1,
        StoredBlocks::Q5_0 => BlockFormat::Q5_0,
        StoredBlocks::Q5_1 => BlockFormat::Q5_1,
        StoredBlocks::Q8_0 => BlockFormat::Q8_0,
        StoredBlocks::Q2K => BlockFormat::Q2K,
        StoredBlocks::Q3K => BlockFormat::Q3K,
        StoredBlocks::Q4K => BlockFormat::Q4K,
        StoredBlocks::Q5K => BlockFormat::Q5K,
        StoredBlocks::Q6K => BlockFormat::Q6K,
        StoredBlocks::Iq4Nl => BlockFormat::Iq4Nl,
        StoredBlocks::Iq4Xs => BlockFormat::Iq4Xs,
        StoredBlocks::Mxfp4 => BlockFormat::Mxfp4,
    }
}

/// The format of the kernels for matrices that are stored in `scheme`.
pub(crate) fn quant_format(scheme: QuantScheme, activations: Activations) -> QuantFormat {
    QuantFormat {
        bits: if scheme.bits == 8 { Bits::Eight } else { Bits::Four },
        group: scheme.group,
        zero_point: scheme.zero_point,
        scales: match scheme.scales {
            ScaleType::Bf16 => ScaleFormat::Bf16,
            ScaleType::F16 => ScaleFormat::F16,
            ScaleType::F32 => ScaleFormat::F32,
        },
        activations,
    }
}

/// How files store what the kernels compute in `format`.
pub(crate) fn quant_scheme(format: QuantFormat) -> QuantScheme {
    QuantScheme {
        bits: if format.bits == Bits::Eight { 8 } else { 4 },
        group: format.group,
        zero_point: format.zero_point,
        scales: match format.scales {
            ScaleFormat::Bf16 => ScaleType::Bf16,
            ScaleFormat::F16 => ScaleType::F16,
            ScaleFormat::F32 => ScaleType::F32,
        },
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
            Self::Int8 => "int8",
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

    /// Reads `bf16`, `f32` and their longer names, and `int8`.
    fn from_str(name: &str) -> Result<Self, DtypeError> {
        Ok(match name {
            "bf16" | "bfloat16" => Self::Bf16,
            "f32" | "float32" | "float" => Self::F32,
            "int8" => Self::Int8,
            _ => return Err(DtypeError { name: name.to_owned(), known: "bf16, f32, int8" }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_model::{Checkpoint, RandomShape};

    #[test]
    fn names_read_back_and_others_are_refused_with_the_known_ones() {
        for dtype in [ComputeDtype::Auto, ComputeDtype::Bf16, ComputeDtype::F16, ComputeDtype::F32] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        for dtype in [KvDtype::Bf16, KvDtype::F32, KvDtype::Int8] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        let message = "fp8".parse::<ComputeDtype>().expect_err("unknown").to_string();
        assert!(message.contains("fp8") && message.contains("bf16"), "{message}");
        assert!("auto".parse::<KvDtype>().is_err());
    }

    /// A model that is stored as `dtype`.
    fn stored(dtype: Dtype) -> DecoderSpec {
        let shape: RandomShape = "qwen2.5-0.5b".parse().expect("a known shape");
        let spec = Checkpoint::random(shape, 0).spec().clone();
        DecoderSpec { dtype, vocabulary_dtype: dtype, ..spec }
    }

    #[test]
    fn auto_keeps_the_stored_format() {
        let options = CpuOptions::default();
        let (half, single) = (stored(Dtype::F16), stored(Dtype::F32));
        assert_eq!(options.weight_formats(&half).layers, WeightFormat::F16);
        assert_eq!(options.kv_format(&half), KvDtype::Bf16);
        assert_eq!(options.weight_formats(&single).vocabulary, WeightFormat::F32);
        assert_eq!(options.kv_format(&single), KvDtype::F32);
        let narrow = CpuOptions { dtype: ComputeDtype::Bf16, ..options };
        assert_eq!(narrow.weight_formats(&single).layers, WeightFormat::Bf16);
        assert_eq!(narrow.kv_format(&single), KvDtype::Bf16);
        let wide_kv = CpuOptions { kv_dtype: Some(KvDtype::F32), ..narrow };
        assert_eq!(wide_kv.kv_format(&single), KvDtype::F32);
    }

    fn quantize(format: QuantFormat) -> CpuOptions {
        CpuOptions { quantize: Some(format), ..CpuOptions::default() }
    }

    #[test]
    fn the_vocabulary_of_4_bit_layers_has_8_bits() {
        let spec = stored(Dtype::F32);
        let formats = |format| quantize(format).weight_formats(&spec);
        let of = |format: QuantFormat| WeightFormat::Quantized(format);
        assert_eq!(formats(QuantFormat::W4A8).layers, of(QuantFormat::W4A8));
        assert_eq!(formats(QuantFormat::W4A8).vocabulary, of(QuantFormat::W8A8));
        let fine = QuantFormat { group: 32, ..QuantFormat::INT8 };
        assert_eq!(formats(fine).vocabulary, of(fine));
        assert_eq!(quantize(fine).kv_format(&spec), KvDtype::Bf16);
    }

    #[test]
    fn a_quantised_checkpoint_stays_as_it_is() {
        let four = QuantScheme { bits: 4, group: 64, zero_point: false, scales: ScaleType::Bf16 };
        let eight = Dtype::Quantized(QuantScheme { bits: 8, group: 128, ..four });
        let four = Dtype::Quantized(four);
        let mut spec = DecoderSpec { dtype: four, vocabulary_dtype: eight, ..stored(Dtype::Bf16) };
        assert_eq!(CpuOptions::default().weight_formats(&spec), WeightFormats::quantized(QuantFormat::INT4));
        spec.activation_bits = Some(8);
        assert_eq!(CpuOptions::default().weight_formats(&spec), WeightFormats::quantized(QuantFormat::W4A8));
        for format in [QuantFormat::INT4, QuantFormat::W4A8] {
            assert!(quantize(format).check_formats(&spec).is_ok(), "{format}");
        }
        let other = quantize(QuantFormat::INT8).check_formats(&spec).expect_err("other bits").to_string();
        assert!(other.contains("int4 in groups of 64") && other.contains("int8"), "{other}");
        let fine = CpuOptions { activations: Some(Activations::I16), ..CpuOptions::default() };
        assert_eq!(fine.weight_formats(&spec), WeightFormats::quantized(QuantFormat::INT4));
        let both = CpuOptions { activations: Some(Activations::I8), ..quantize(QuantFormat::INT4) };
        let both = both.check_formats(&spec).expect_err("both").to_string();
        assert!(both.contains("int4") && both.contains('8'), "{both}");
        let float = CpuOptions { dtype: ComputeDtype::Bf16, ..CpuOptions::default() };
        let float = float.check_formats(&spec).expect_err("a float").to_string();
        assert!(float.contains("bf16"), "{float}");
    }

    #[test]
    fn a_float_format_and_a_quantised_one_exclude_each_other() {
        let both = CpuOptions { dtype: ComputeDtype::F16, ..quantize(QuantFormat::INT8) };
        let message = both.check_formats(&stored(Dtype::F32)).expect_err("both").to_string();
        assert!(message.contains("f16") && message.contains("int8"), "{message}");
    }
}
