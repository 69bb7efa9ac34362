//! Readings of config.json, one per architecture. A reading resolves every default to what the reference
//! implementation does; it never looks at weights.

mod cohere;
mod experts;
mod gemma;
mod glm;
mod gpt;
mod gpt_oss;
mod llama;
mod mixtral;
mod olmo;
mod phi;
mod qwen;
mod qwen_moe;
mod spans;
mod stablelm;

use crate::config::{Common, Defaults, MAX_CONTEXT};
use crate::json::{Object, clip};
use crate::{
    AttentionSpan, BlockSpec, DecoderSpec, Dtype, Flow, ModelError, Naming, NormKind, NormSpec, RopeSpec,
    rope_config,
};
use std::collections::HashMap;

/// Most letters in which a suggested name may differ.
const NEAR: usize = 3;

/// How the config.json of one architecture is read.
struct Reading {
    architecture: &'static str,
    model_type: &'static str,
    /// Models of this architecture, by the names that people know.
    models: &'static str,
    read: fn(&Object) -> Result<DecoderSpec, ModelError>,
}

/// All readings, in the order in which they are listed.
const READINGS: &[Reading] = &[
    Reading {
        architecture: "LlamaForCausalLM",
        model_type: "llama",
        models: "Llama 2, 3.x; SmolLM 1, 2; Falcon 3; and others of this structure",
        read: llama::read_llama,
    },
    Reading {
        architecture: "MistralForCausalLM",
        model_type: "mistral",
        models: "Mistral",
        read: llama::read_mistral,
    },
    Reading {
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        models: "Qwen2, Qwen2.5",
        read: qwen::read_qwen2,
    },
    Reading {
        architecture: "Qwen3ForCausalLM",
        model_type: "qwen3",
        models: "Qwen3",
        read: qwen::read_qwen3,
    },
    Reading {
        architecture: "GemmaForCausalLM",
        model_type: "gemma",
        models: "Gemma 1, CodeGemma",
        read: gemma::read_gemma,
    },
    Reading {
        architecture: "Gemma2ForCausalLM",
        model_type: "gemma2",
        models: "Gemma 2",
        read: gemma::read_gemma2,
    },
    Reading {
        architecture: "Gemma3ForCausalLM",
        model_type: "gemma3_text",
        models: "Gemma 3, text alone",
        read: gemma::read_gemma3,
    },
    Reading {
        architecture: "Gemma3ForConditionalGeneration",
        model_type: "gemma3",
        models: "Gemma 3 with images, of which the text part is read",
        read: gemma::read_gemma3_images,
    },
    Reading {
        architecture: "Phi3ForCausalLM",
        model_type: "phi3",
        models: "Phi-3, Phi-3.5-mini, Phi-4",
        read: phi::read_phi3,
    },
    Reading {
        architecture: "SmolLM3ForCausalLM",
        model_type: "smollm3",
        models: "SmolLM 3",
        read: llama::read_smollm3,
    },
    Reading {
        architecture: "Olmo2ForCausalLM",
        model_type: "olmo2",
        models: "OLMo 2",
        read: olmo::read_olmo2,
    },
    Reading {
        architecture: "Olmo3ForCausalLM",
        model_type: "olmo3",
        models: "OLMo 3",
        read: olmo::read_olmo3,
    },
    Reading {
        architecture: "GraniteForCausalLM",
        model_type: "granite",
        models: "Granite 3, dense",
        read: llama::read_granite,
    },
    Reading {
        architecture: "StableLmForCausalLM",
        model_type: "stablelm",
        models: "StableLM 3B, StableLM 2 1.6B",
        read: stablelm::read_stablelm,
    },
    Reading {
        architecture: "CohereForCausalLM",
        model_type: "cohere",
        models: "Command R, R+",
        read: cohere::read_cohere,
    },
    Reading {
        architecture: "Cohere2ForCausalLM",
        model_type: "cohere2",
        models: "Command R7B, Command A",
        read: cohere::read_cohere2,
    },
    Reading { architecture: "GlmForCausalLM", model_type: "glm", models: "GLM-4-9B", read: glm::read_glm },
    Reading {
        architecture: "Glm4ForCausalLM",
        model_type: "glm4",
        models: "GLM-4-0414",
        read: glm::read_glm4,
    },
    Reading {
        architecture: "InternLM2ForCausalLM",
        model_type: "internlm2",
        models: "InternLM 2, 2.5",
        read: llama::read_internlm2,
    },
    Reading { architecture: "GPT2LMHeadModel", model_type: "gpt2", models: "GPT-2", read: gpt::read_gpt2 },
    Reading {
        architecture: "GPTNeoXForCausalLM",
        model_type: "gpt_neox",
        models: "GPT-NeoX, Pythia",
        read: gpt::read_gpt_neox,
    },
    Reading {
        architecture: "FalconForCausalLM",
        model_type: "falcon",
        models: "Falcon 7B, 40B, 180B, 11B, without ALiBi",
        read: gpt::read_falcon,
    },
    Reading {
        architecture: "Starcoder2ForCausalLM",
        model_type: "starcoder2",
        models: "StarCoder 2",
        read: gpt::read_starcoder2,
    },
    Reading {
        architecture: "ExaoneForCausalLM",
        model_type: "exaone",
        models: "EXAONE 3, 3.5",
        read: llama::read_exaone,
    },
    Reading {
        architecture: "Exaone4ForCausalLM",
        model_type: "exaone4",
        models: "EXAONE 4",
        read: olmo::read_exaone4,
    },
    Reading {
        architecture: "MixtralForCausalLM",
        model_type: "mixtral",
        models: "Mixtral",
        read: mixtral::read_mixtral,
    },
    Reading {
        architecture: "Qwen2MoeForCausalLM",
        model_type: "qwen2_moe",
        models: "Qwen1.5-MoE, Qwen2-MoE",
        read: qwen_moe::read_qwen2,
    },
    Reading {
        architecture: "Qwen3MoeForCausalLM",
        model_type: "qwen3_moe",
        models: "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder",
        read: qwen_moe::read_qwen3,
    },
    Reading {
        architecture: "OlmoeForCausalLM",
        model_type: "olmoe",
        models: "OLMoE",
        read: mixtral::read_olmoe,
    },
    Reading {
        architecture: "GraniteMoeForCausalLM",
        model_type: "granitemoe",
        models: "Granite 3 MoE",
        read: mixtral::read_granite,
    },
    Reading {
        architecture: "GptOssForCausalLM",
        model_type: "gpt_oss",
        models: "gpt-oss-20b, gpt-oss-120b",
        read: gpt_oss::read,
    },
];

/// Architectures whose config.json can be read, as `architectures` names them.
pub const SUPPORTED_ARCHITECTURES: &[&str] = &NAMES;

const NAMES: [&str; READINGS.len()] = {
    let mut names = [""; READINGS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = READINGS[index].architecture;
        index += 1;
    }
    names
};

/// What is missing for architectures that are known but not read: how their names begin, what they need beyond a
/// [`DecoderSpec`], and the supported one that is nearest in structure.
const UNREAD: &[(&str, &str, &str)] = &[
    ("DeepseekV2", "multi-head latent attention", "LlamaForCausalLM"),
    ("DeepseekV3", "multi-head latent attention", "LlamaForCausalLM"),
    ("MiniCPM3", "multi-head latent attention", "LlamaForCausalLM"),
    ("Mamba", "state-space layers", "LlamaForCausalLM"),
    ("FalconMamba", "state-space layers", "LlamaForCausalLM"),
    ("Jamba", "state-space layers", "LlamaForCausalLM"),
    ("Zamba", "state-space layers", "LlamaForCausalLM"),
    ("Nemotron", "an activation or layers of its own", "LlamaForCausalLM"),
    ("Rwkv", "a recurrent state", "LlamaForCausalLM"),
    ("RecurrentGemma", "a recurrent state", "LlamaForCausalLM"),
    ("Qwen3Next", "gated linear attention", "Qwen3ForCausalLM"),
    ("Llama4", "chunked attention and mixtures of experts", "LlamaForCausalLM"),
    ("Bloom", "ALiBi positions", "LlamaForCausalLM"),
    ("MPT", "ALiBi positions", "LlamaForCausalLM"),
    ("T5", "an encoder", "LlamaForCausalLM"),
    ("Bart", "an encoder", "LlamaForCausalLM"),
    ("Whisper", "an encoder", "LlamaForCausalLM"),
    ("Bert", "attention in both directions", "LlamaForCausalLM"),
    ("GraniteMoeHybrid", "state-space layers", "GraniteMoeForCausalLM"),
    ("GraniteMoeShared", "a shared expert beside stacked ones", "GraniteMoeForCausalLM"),
    ("Bamba", "state-space layers", "LlamaForCausalLM"),
    ("FalconH1", "state-space layers", "FalconForCausalLM"),
    ("Lfm2", "convolutions in place of attention in some layers", "LlamaForCausalLM"),
    ("Gemma3n", "an embedding for each layer", "Gemma3ForCausalLM"),
    ("Glm4Moe", "experts weighed by sigmoids", "Qwen3MoeForCausalLM"),
    ("PhiMoE", "a router of its own", "MixtralForCausalLM"),
    ("PhiFor", "a head with a bias", "GPTNeoXForCausalLM"),
    ("GPTJ", "a head with a bias", "GPTNeoXForCausalLM"),
    ("Phi4Multimodal", "images and sound", "Phi3ForCausalLM"),
    ("Qwen2VL", "images", "Qwen2ForCausalLM"),
    ("Qwen2_5_VL", "images", "Qwen2ForCausalLM"),
    ("Qwen3VL", "images", "Qwen3ForCausalLM"),
    ("Mistral3", "images", "MistralForCausalLM"),
    ("Pixtral", "images", "MistralForCausalLM"),
    ("Mllama", "images", "LlamaForCausalLM"),
    ("Llava", "images", "LlamaForCausalLM"),
];

/// Readable architectures with the models that have them.
pub fn supported_models() -> impl Iterator<Item = (&'static str, &'static str)> {
    READINGS.iter().map(|reading| (reading.architecture, reading.models))
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
    let known = UNREAD.iter().find(|(start, ..)| name.to_lowercase().starts_with(&start.to_lowercase()));
    if let Some(&(_, missing, nearest)) = known {
        let (missing, nearest) = (Some(missing), Some(nearest));
        return ModelError::UnknownArchitecture {
            name,
            missing,
            supported: SUPPORTED_ARCHITECTURES,
            nearest,
        };
    }
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
    ModelError::UnknownArchitecture { name, missing: None, supported: SUPPORTED_ARCHITECTURES, nearest }
}

/// The name of `names` that is nearly `name`.
pub(crate) fn nearest(name: &str, names: &[&'static str]) -> Option<&'static str> {
    let distance =
        |known: &&'static str| (edit_distance(&known.to_lowercase(), &name.to_lowercase()), *known);
    let (distance, known) = names.iter().map(distance).min()?;
    (distance <= NEAR).then_some(known)
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

/// The fields that every architecture has, with one rotation and full attention in all layers: a Llama without biases,
/// from which a reading goes on.
fn plain(config: &Object, defaults: &Defaults) -> Result<DecoderSpec, ModelError> {
    let common = Common::read(config, defaults)?;
    let rope = rope_config::read(config, &common, defaults)?;
    Ok(assemble(&common, vec![rope]))
}

/// The second rotation in layers with a window, the first in the others.
fn rotate_by_span(spec: &mut DecoderSpec) {
    for layer in &mut spec.layers {
        layer.rope = Some(u8::from(layer.attention != AttentionSpan::Full));
    }
}

/// A decoder of these dimensions. The stored format is filled in when the weights are known.
fn assemble(common: &Common, ropes: Vec<RopeSpec>) -> DecoderSpec {
    let reach = ropes.iter().filter_map(RopeSpec::reach).max().unwrap_or(0).min(MAX_CONTEXT);
    DecoderSpec {
        architecture: String::new(),
        naming: &Naming::LLAMA,
        vocab_size: common.vocab_size,
        hidden: common.hidden,
        layers: vec![spans::layer(None); common.layers as usize],
        heads: common.heads,
        kv_heads: common.kv_heads,
        head_dim: common.head_dim,
        intermediate: common.intermediate,
        norm: NormSpec { kind: NormKind::Rms, bias: false, weight_offset: 0.0, eps: common.norm_eps },
        block: BlockSpec { pre_norm: true, post_norm: false, flow: Flow::Sequential },
        ropes,
        learned_positions: false,
        qk_norm: None,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        activation: common.activation,
        tied_head: common.tied_head,
        max_context: common.max_context.max(reach),
        attn_scale: f64::from(common.head_dim).powf(-0.5) as f32,
        attn_softcap: None,
        attn_sinks: false,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logit_scale: 1.0,
        logit_softcap: None,
        dtype: Dtype::F32,
        vocabulary_dtype: Dtype::F32,
        stored: HashMap::new(),
        reordered: false,
        activation_bits: None,
    }
}
