//! Llama and its near relatives: a gated MLP, root mean square norms before the branches.

use super::{plain, spans};
use crate::config::Defaults;
use crate::json::Object;
use crate::naming::Fusion;
use crate::{DecoderSpec, LayerRole, ModelError, Naming};

/// Full attention; `attention_bias` covers all four projections, `mlp_bias` all three.
pub(super) fn read_llama(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &Defaults::LLAMA)?;
    biases(config, &mut spec)?;
    spans::uniform(config, &mut spec, None)?;
    Ok(spec)
}

/// One sliding window for all layers, unless `sliding_window` is `null`.
pub(super) fn read_mistral(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &Defaults::LLAMA)?;
    spans::uniform(config, &mut spec, spans::window(config)?)?;
    Ok(spec)
}

/// SmolLM 3: some layers do not rotate queries and keys. `no_rope_layers` has a 1 for each that does.
pub(super) fn read_smollm3(config: &Object) -> Result<DecoderSpec, ModelError> {
    let defaults = Defaults { rope_theta: 2e6, tied_head: true, ..Defaults::LLAMA };
    let mut spec = plain(config, &defaults)?;
    biases(config, &mut spec)?;
    let rotated = config.numbers("no_rope_layers", "0 or 1 for each layer", |n| n == 0.0 || n == 1.0)?;
    let every = config.count("no_rope_layer_interval", u32::MAX)?.unwrap_or(4);
    let layers = spec.layers.len();
    let rotated = rotated.unwrap_or_else(|| {
        (1..=layers as u32).map(|n| if n.is_multiple_of(every) { 0.0 } else { 1.0 }).collect()
    });
    if rotated.len() != layers {
        let problem = format!("lists {} layers, but num_hidden_layers is {layers}", rotated.len());
        return Err(config.error("no_rope_layers", problem));
    }
    for (layer, rotated) in spec.layers.iter_mut().zip(&rotated) {
        layer.rope = (*rotated != 0.0).then_some(0);
    }
    let windowed = config.flag("use_sliding_window")?.unwrap_or(false);
    let window = if windowed { config.count("sliding_window", u32::MAX)? } else { None };
    spans::mixed(config, &mut spec, window, |index| rotated[index as usize] == 0.0)?;
    Ok(spec)
}

/// Granite: factors on the embedding, on the scores, on what a branch adds and on the logits.
pub(super) fn read_granite(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &Defaults::LLAMA)?;
    granite(config, &mut spec)?;
    Ok(spec)
}

/// What all models of the family have.
pub(super) fn granite(config: &Object, spec: &mut DecoderSpec) -> Result<(), ModelError> {
    biases(config, spec)?;
    spans::uniform(config, spec, None)?;
    let factor = |field| Ok(config.number(field, "a number above 0", |n| n > 0.0)?.unwrap_or(1.0));
    spec.attn_scale = factor("attention_multiplier")?;
    spec.embedding_scale = factor("embedding_multiplier")?;
    spec.residual_scale = factor("residual_multiplier")?;
    spec.logit_scale = 1.0 / factor("logits_scaling")?;
    Ok(())
}

/// InternLM 2: queries, keys and values in one matrix, by key/value head.
pub(super) fn read_internlm2(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        embedding: "model.tok_embeddings",
        head: "output",
        renamed: &[
            (LayerRole::AttnNorm, "attention_norm"),
            (LayerRole::O, "attention.wo"),
            (LayerRole::MlpNorm, "ffn_norm"),
            (LayerRole::Gate, "feed_forward.w1"),
            (LayerRole::Up, "feed_forward.w3"),
            (LayerRole::Down, "feed_forward.w2"),
        ],
        qkv: Some(("attention.wqkv", Fusion::Grouped)),
        ..Naming::LLAMA
    };
    let mut spec = plain(config, &Defaults::LLAMA)?;
    spec.naming = &NAMING;
    spec.qkv_bias = config.flag("bias")?.unwrap_or(true);
    spec.o_bias = spec.qkv_bias;
    Ok(spec)
}

/// EXAONE 3: a Llama with names of its own.
pub(super) fn read_exaone(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        embedding: "transformer.wte",
        final_norm: "transformer.ln_f",
        layers: "transformer.h",
        renamed: &[
            (LayerRole::AttnNorm, "ln_1"),
            (LayerRole::Q, "attn.attention.q_proj"),
            (LayerRole::K, "attn.attention.k_proj"),
            (LayerRole::V, "attn.attention.v_proj"),
            (LayerRole::O, "attn.attention.out_proj"),
            (LayerRole::MlpNorm, "ln_2"),
            (LayerRole::Gate, "mlp.c_fc_0"),
            (LayerRole::Up, "mlp.c_fc_1"),
            (LayerRole::Down, "mlp.c_proj"),
        ],
        ..Naming::LLAMA
    };
    let config = config.aliased(&[
        ("num_hidden_layers", "num_layers"),
        ("rms_norm_eps", "layer_norm_epsilon"),
        ("hidden_act", "activation_function"),
    ]);
    let mut spec = plain(&config, &Defaults { norm_eps: 1e-5, ..Defaults::LLAMA })?;
    spec.naming = &NAMING;
    Ok(spec)
}

/// `attention_bias` for all four projections, `mlp_bias` for all three.
pub(super) fn biases(config: &Object, spec: &mut DecoderSpec) -> Result<(), ModelError> {
    spec.qkv_bias = config.flag("attention_bias")?.unwrap_or(false);
    spec.o_bias = spec.qkv_bias;
    spec.mlp_bias = config.flag("mlp_bias")?.unwrap_or(false);
    Ok(())
}
