//! GPT-2, GPT-NeoX, Falcon and StarCoder 2: layer norms with biases and an MLP without a gate.

use super::{plain, spans};
use crate::config::Defaults;
use crate::json::Object;
use crate::naming::Fusion;
use crate::{Activation, DecoderSpec, Flow, LayerRole, Mlp, ModelError, Naming, NormKind};

const DEFAULTS: Defaults =
    Defaults { norm_eps: 1e-5, activation: Activation::Gelu, tied_head: true, ..Defaults::LLAMA };

/// Learned positions; matrices are stored as `[inputs, outputs]`.
pub(super) fn read_gpt2(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        optional_prefix: "transformer.",
        embedding: "transformer.wte",
        positions: "transformer.wpe",
        final_norm: "transformer.ln_f",
        layers: "transformer.h",
        renamed: &[
            (LayerRole::AttnNorm, "ln_1"),
            (LayerRole::O, "attn.c_proj"),
            (LayerRole::MlpNorm, "ln_2"),
            (LayerRole::Up, "mlp.c_fc"),
            (LayerRole::Down, "mlp.c_proj"),
        ],
        qkv: Some(("attn.c_attn", Fusion::Stacked)),
        transposed: true,
        ..Naming::LLAMA
    };
    let config = &config.aliased(&[
        ("hidden_size", "n_embd"),
        ("num_hidden_layers", "n_layer"),
        ("num_attention_heads", "n_head"),
        ("max_position_embeddings", "n_positions"),
        ("intermediate_size", "n_inner"),
        ("rms_norm_eps", "layer_norm_epsilon"),
        ("hidden_act", "activation_function"),
    ]);
    let defaults = Defaults {
        intermediate: Some(4),
        activation: Activation::GeluTanh,
        refused: &[
            ("scale_attn_by_inverse_layer_idx", "scores have one factor in all layers"),
            ("add_cross_attention", "only decoder models are read"),
        ],
        ..DEFAULTS
    };
    let mut spec = plain(config, &defaults)?;
    spec.naming = &NAMING;
    spec.learned_positions = true;
    spec.ropes.clear();
    spec.layers.iter_mut().for_each(|layer| layer.rope = None);
    if !config.flag("scale_attn_weights")?.unwrap_or(true) {
        spec.attn_scale = 1.0;
    }
    family(&mut spec, [true; 2]);
    Ok(spec)
}

/// GPT-NeoX and Pythia: attention and MLP side by side, each behind a norm of its own.
pub(super) fn read_gpt_neox(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        embedding: "gpt_neox.embed_in",
        final_norm: "gpt_neox.final_layer_norm",
        head: "embed_out",
        other_head: "lm_head",
        layers: "gpt_neox.layers",
        renamed: &[
            (LayerRole::O, "attention.dense"),
            (LayerRole::Up, "mlp.dense_h_to_4h"),
            (LayerRole::Down, "mlp.dense_4h_to_h"),
        ],
        qkv: Some(("attention.query_key_value", Fusion::Grouped)),
        ..Naming::LLAMA
    };
    let config = &config.aliased(&[
        ("rms_norm_eps", "layer_norm_eps"),
        ("partial_rotary_factor", "rotary_pct"),
        ("rope_theta", "rotary_emb_base"),
    ]);
    let mut spec = plain(config, &Defaults { tied_head: false, rotary: 0.25, ..DEFAULTS })?;
    spec.naming = &NAMING;
    family(&mut spec, [config.flag("attention_bias")?.unwrap_or(true), true]);
    if config.flag("use_parallel_residual")?.unwrap_or(true) {
        spec.block.flow = Flow::Parallel;
    }
    Ok(spec)
}

/// One norm for both branches or one for each; one key/value head, or groups, or as many as queries.
pub(super) fn read_falcon(config: &Object) -> Result<DecoderSpec, ModelError> {
    let config = &config.aliased(&[
        ("hidden_size", "n_embed"),
        ("num_hidden_layers", "n_layer"),
        ("num_attention_heads", "n_head"),
        ("num_key_value_heads", "num_kv_heads"),
        ("intermediate_size", "ffn_hidden_size"),
        ("rms_norm_eps", "layer_norm_epsilon"),
        ("hidden_act", "activation"),
    ]);
    let defaults = Defaults {
        intermediate: Some(4),
        context: Some(2048),
        refused: &[("alibi", "ALiBi positions are not computed; use a model with rotary positions")],
        ..DEFAULTS
    };
    let mut spec = plain(config, &defaults)?;
    let grouped = config.flag("new_decoder_architecture")?.unwrap_or(false);
    if !grouped {
        spec.kv_heads = if config.flag("multi_query")?.unwrap_or(true) { 1 } else { spec.heads };
    }
    let norms = config.integer("num_ln_in_parallel_attn", 1, 2)?.unwrap_or(2);
    spec.naming = &FALCON;
    spec.block.flow = match (grouped, config.flag("parallel_attn")?.unwrap_or(true)) {
        (true, _) if norms == 2 => {
            spec.naming = &FALCON_TWO_NORMS;
            Flow::Parallel
        }
        (true, false) => return Err(config.unsupported("parallel_attn", "its branches run side by side")),
        (_, true) => Flow::ParallelShared,
        (false, false) => Flow::Sequential,
    };
    family(&mut spec, [config.flag("bias")?.unwrap_or(false); 2]);
    Ok(spec)
}

const FALCON: Naming = Naming {
    embedding: "transformer.word_embeddings",
    final_norm: "transformer.ln_f",
    layers: "transformer.h",
    renamed: &[
        (LayerRole::O, "self_attention.dense"),
        (LayerRole::Up, "mlp.dense_h_to_4h"),
        (LayerRole::Down, "mlp.dense_4h_to_h"),
    ],
    qkv: Some(("self_attention.query_key_value", Fusion::Grouped)),
    ..Naming::LLAMA
};

const FALCON_TWO_NORMS: Naming = Naming {
    renamed: &[
        (LayerRole::AttnNorm, "ln_attn"),
        (LayerRole::MlpNorm, "ln_mlp"),
        (LayerRole::O, "self_attention.dense"),
        (LayerRole::Up, "mlp.dense_h_to_4h"),
        (LayerRole::Down, "mlp.dense_4h_to_h"),
    ],
    ..FALCON
};

/// StarCoder 2: otherwise a Mistral.
pub(super) fn read_starcoder2(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming =
        Naming { renamed: &[(LayerRole::Up, "mlp.c_fc"), (LayerRole::Down, "mlp.c_proj")], ..Naming::LLAMA };
    let config = &config.aliased(&[("rms_norm_eps", "norm_epsilon")]);
    let mut spec = plain(config, &Defaults { activation: Activation::GeluTanh, ..DEFAULTS })?;
    spec.naming = &NAMING;
    let window = config.count("sliding_window", u32::MAX)?;
    spans::uniform(config, &mut spec, window)?;
    family(&mut spec, [config.flag("use_bias")?.unwrap_or(true); 2]);
    Ok(spec)
}

/// Layer norms with biases, and an MLP without a gate; `biases` of attention and of the MLP.
fn family(spec: &mut DecoderSpec, [attention, mlp]: [bool; 2]) {
    (spec.norm.kind, spec.norm.bias) = (NormKind::Layer, true);
    spec.layers.iter_mut().for_each(|layer| layer.mlp = Mlp::Plain);
    (spec.qkv_bias, spec.o_bias, spec.mlp_bias) = (attention, attention, mlp);
}
