//! Gemma: norms whose weights are stored as a difference from 1, and an embedding that is multiplied. From the second on
//! there are norms after the branches too, and windows in most layers.

use super::{assemble, llama, plain, spans};
use crate::config::{Common, Defaults, HeadDimDefault};
use crate::json::Object;
use crate::{Activation, BlockSpec, DecoderSpec, Flow, LayerRole, ModelError, Naming, QkNorm, rope_config};

const NAMING: Naming = Naming {
    renamed: &[
        (LayerRole::PostAttnNorm, "post_attention_layernorm"),
        (LayerRole::MlpNorm, "pre_feedforward_layernorm"),
        (LayerRole::PostMlpNorm, "post_feedforward_layernorm"),
    ],
    ..Naming::LLAMA
};

const DEFAULTS: Defaults = Defaults {
    head_dim: HeadDimDefault::Fixed(256),
    activation: Activation::GeluTanh,
    tied_head: true,
    refused: &[
        ("use_bidirectional_attention", "only attention to earlier tokens is computed"),
        ("is_encoder_decoder", "only decoder models are read"),
    ],
    ..Defaults::LLAMA
};

const ALIASES: &[(&str, &str)] = &[("hidden_act", "hidden_activation")];

/// The first one: otherwise a Llama.
pub(super) fn read_gemma(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &DEFAULTS)?;
    scaled(config, &mut spec)?;
    if spec.activation == Activation::Gelu {
        // So the first releases call the form with the tangent, for which they were trained.
        spec.activation = Activation::GeluTanh;
    }
    Ok(spec)
}

/// One rotation; scores and logits are capped.
pub(super) fn read_gemma2(config: &Object) -> Result<DecoderSpec, ModelError> {
    let config = &config.aliased(ALIASES);
    let common = Common::read(config, &DEFAULTS)?;
    let mut spec = assemble(&common, vec![rope_config::read(config, &common, &DEFAULTS)?]);
    family(config, &mut spec, (2, [Some(50.0), Some(30.0)]))?;
    Ok(spec)
}

/// Layers with a window rotate in a way of their own; queries and keys are normalised.
pub(super) fn read_gemma3(config: &Object) -> Result<DecoderSpec, ModelError> {
    let config = &config.aliased(ALIASES);
    let common = Common::read(config, &DEFAULTS)?;
    let defaults = Defaults { rope_theta: 1e6, ..DEFAULTS };
    let ropes = rope_config::read_both(config, &common, &defaults, Some(10_000.0))?;
    let mut spec = assemble(&common, ropes.into());
    spec.qk_norm = Some(QkNorm::Shared);
    family(config, &mut spec, (6, [None, None]))?;
    super::rotate_by_span(&mut spec);
    Ok(spec)
}

/// Gemma 3 with eyes, of which the text part is read: its config is one of several, and may leave out the defaults.
pub(super) fn read_gemma3_images(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        embedding: "language_model.model.embed_tokens",
        final_norm: "language_model.model.norm",
        head: "language_model.lm_head",
        layers: "language_model.model.layers",
        ignored: &["vision_tower.", "multi_modal_projector."],
        ..self::NAMING
    };
    let Some(text) = config.object("text_config")? else {
        return Err(config.error("text_config", "is missing: it describes the part that is read"));
    };
    let text = text.with_defaults(&[
        ("vocab_size", 262_208),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("max_position_embeddings", 131_072),
    ]);
    let mut spec = read_gemma3(&text)?;
    spec.naming = &NAMING;
    spec.tied_head = config.flag("tie_word_embeddings")?.unwrap_or(spec.tied_head);
    Ok(spec)
}

/// What all have in common.
fn scaled(config: &Object, spec: &mut DecoderSpec) -> Result<(), ModelError> {
    spec.norm.weight_offset = 1.0;
    spec.embedding_scale = (spec.hidden as f32).sqrt();
    llama::biases(config, spec)?;
    spec.mlp_bias = false;
    Ok(())
}

/// What the later ones have in common; `every` so many layers one sees everything, and `caps` of scores and logits, where config.json
/// does not say.
fn family(
    config: &Object,
    spec: &mut DecoderSpec,
    (every, caps): (u32, [Option<f32>; 2]),
) -> Result<(), ModelError> {
    scaled(config, spec)?;
    spec.naming = &NAMING;
    spec.block = BlockSpec { pre_norm: true, post_norm: true, flow: Flow::Sequential };
    let positive = |field| config.number(field, "a number above 0", |n| n > 0.0);
    let scalar = positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    spec.attn_scale = f64::from(scalar).powf(-0.5) as f32;
    let cap = |field, default| if config.is_written(field) { positive(field) } else { Ok(default) };
    spec.attn_softcap = cap("attn_logit_softcapping", caps[0])?;
    spec.logit_softcap = cap("final_logit_softcapping", caps[1])?;
    spans::all_but_every(config, spec, spans::window(config)?, ("sliding_window_pattern", every))
}
