//! OLMo 2 and 3 and EXAONE 4: norms after the branches and none before them; queries and keys are normalised.

use super::{assemble, llama, plain, spans};
use crate::config::{Common, Defaults};
use crate::json::Object;
use crate::{
    AttentionSpan, BlockSpec, DecoderSpec, Flow, LayerRole, ModelError, Naming, QkNorm, rope_config,
};

const NAMING: Naming = Naming {
    renamed: &[
        (LayerRole::PostAttnNorm, "post_attention_layernorm"),
        (LayerRole::PostMlpNorm, "post_feedforward_layernorm"),
    ],
    ..Naming::LLAMA
};

const DEFAULTS: Defaults = Defaults { norm_eps: 1e-5, ..Defaults::LLAMA };

/// All heads of a token are normalised as one row.
pub(super) fn read_olmo2(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &DEFAULTS)?;
    family(config, &mut spec, QkNorm::Row)?;
    spans::uniform(config, &mut spec, None)?;
    Ok(spec)
}

/// Windows in three of four layers, and a rotation for each kind of layer.
pub(super) fn read_olmo3(config: &Object) -> Result<DecoderSpec, ModelError> {
    let defaults = Defaults { rope_theta: 500_000.0, ..DEFAULTS };
    let common = Common::read(config, &defaults)?;
    let ropes = rope_config::read_both(config, &common, &defaults, None)?;
    let mut spec = assemble(&common, ropes.into());
    family(config, &mut spec, QkNorm::Row)?;
    spans::mixed(config, &mut spec, spans::window(config)?, |index| !(index + 1).is_multiple_of(4))?;
    super::rotate_by_span(&mut spec);
    Ok(spec)
}

/// Each head is normalised; where there are windows, only the layers that have one rotate.
pub(super) fn read_exaone4(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &DEFAULTS)?;
    family(config, &mut spec, QkNorm::Shared)?;
    (spec.qkv_bias, spec.o_bias) = (false, false);
    let window = spans::window(config)?;
    spans::all_but_every(config, &mut spec, window, ("sliding_window_pattern", 4))?;
    if window.is_some() {
        let full = spec.layers.iter_mut().filter(|layer| layer.attention == AttentionSpan::Full);
        full.for_each(|layer| layer.rope = None);
    }
    Ok(spec)
}

fn family(config: &Object, spec: &mut DecoderSpec, qk_norm: QkNorm) -> Result<(), ModelError> {
    spec.naming = &NAMING;
    spec.block = BlockSpec { pre_norm: false, post_norm: true, flow: Flow::Sequential };
    spec.qk_norm = Some(qk_norm);
    llama::biases(config, spec)?;
    spec.mlp_bias = false;
    Ok(())
}
