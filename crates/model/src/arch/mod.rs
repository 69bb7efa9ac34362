//! Readings of config.json, one per architecture. A reading resolves every default to what the reference
//! implementation does; it never looks at weights.

mod llama;
mod mistral;
mod qwen;
mod spans;

use crate::config::Common;
use crate::json::{Object, clip};
use crate::{Activation, DecoderSpec, Dtype, LayerSpec, ModelError, RopeSpec};

/// Architectures whose config.json can be read, as `architectures` names them.
pub const SUPPORTED_ARCHITECTURES: &[&str] =
    &["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"];

/// Most letters in which a suggested name may differ.
const NEAR: usize = 3;

struct Reading {
    architecture: &'static str,
    model_type: &'static str,
    read: fn(&Object) -> Result<DecoderSpec, ModelError>,
}

const READINGS: [Reading; 4] = [
    Reading { architecture: SUPPORTED_ARCHITECTURES[0], model_type: "llama", read: llama::read },
    Reading { architecture: SUPPORTED_ARCHITECTURES[1], model_type: "mistral", read: mistral::read },
    Reading { architecture: SUPPORTED_ARCHITECTURES[2], model_type: "qwen2", read: qwen::read_qwen2 },
    Reading { architecture: SUPPORTED_ARCHITECTURES[3], model_type: "qwen3", read: qwen::read_qwen3 },
];

/// Which linear layers have a bias, and whether heads are normalised.
#[derive(Clone, Copy, Debug, Default)]
struct Extras {
    qkv_bias: bool,
    o_bias: bool,
    mlp_bias: bool,
    qk_norm: bool,
}

/// Reads config.json with the reading of its architecture.
pub(crate) fn read_spec(config: &Object) -> Result<DecoderSpec, ModelError> {
    let reading = choose(config)?;
    let mut spec = (reading.read)(config)?;
    spec.architecture = reading.architecture.to_owned();
    Ok(spec)
}

fn choose(config: &Object) -> Result<&'static Reading, ModelError> {
    let architectures = config.texts("architectures")?.unwrap_or_default();
    let model_type = config.text("model_type")?;
    let Some(name) = architectures.first() else {
        let Some(model_type) = model_type else {
            let problem = format!("is missing: name one of {}", SUPPORTED_ARCHITECTURES.join(", "));
            return Err(config.error("architectures", problem));
        };
        let by_type = READINGS.iter().find(|reading| reading.model_type == model_type);
        return by_type.ok_or_else(|| unknown(model_type));
    };
    let reading =
        READINGS.iter().find(|reading| reading.architecture == *name).ok_or_else(|| unknown(name))?;
    match model_type {
        Some(other) if other != reading.model_type => {
            let problem = format!(
                "is {:?}, but architectures names {name}, whose model_type is {:?}: correct the one that is wrong",
                clip(other),
                reading.model_type
            );
            Err(config.error("model_type", problem))
        }
        _ => Ok(reading),
    }
}

fn unknown(name: &str) -> ModelError {
    let name = clip(name);
    let distance = |reading: &Reading| {
        let candidates = [reading.architecture, reading.model_type];
        candidates.map(|known| edit_distance(&known.to_lowercase(), &name.to_lowercase())).into_iter().min()
    };
    let nearest = READINGS
        .iter()
        .filter_map(|reading| Some((distance(reading)?, reading.architecture)))
        .min()
        .filter(|(distance, _)| *distance <= NEAR)
        .map(|(_, architecture)| architecture);
    ModelError::UnknownArchitecture { name, supported: SUPPORTED_ARCHITECTURES, nearest }
}

/// Insertions, deletions and replacements that turn one text into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The spec of a decoder with the given parts. The stored format is filled in when the weights are known.
fn assemble(common: &Common, rope: RopeSpec, layers: Vec<LayerSpec>, extras: Extras) -> DecoderSpec {
    DecoderSpec {
        architecture: String::new(),
        vocab_size: common.vocab_size,
        hidden: common.hidden,
        layers,
        heads: common.heads,
        kv_heads: common.kv_heads,
        head_dim: common.head_dim,
        intermediate: common.intermediate,
        norm_eps: common.norm_eps,
        rope,
        qk_norm: extras.qk_norm,
        qkv_bias: extras.qkv_bias,
        o_bias: extras.o_bias,
        mlp_bias: extras.mlp_bias,
        activation: Activation::Silu,
        tied_head: common.tied_head,
        max_context: common.max_context,
        attn_scale: f64::from(common.head_dim).powf(-0.5) as f32,
        dtype: Dtype::F32,
        vocabulary_dtype: Dtype::F32,
        activation_bits: None,
    }
}
