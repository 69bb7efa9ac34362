//! Command R: attention and MLP read one norm, without bias; neighbours are turned together; logits have a factor.

use super::{llama, plain, spans};
use crate::config::Defaults;
use crate::json::Object;
use crate::{AttentionSpan, DecoderSpec, Flow, ModelError, NormKind, QkNorm};

/// Command R and R+, the latter with a norm of its own for each head.
pub(super) fn read_cohere(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = family(config)?;
    spans::uniform(config, &mut spec, None)?;
    spec.qk_norm = config.flag("use_qk_norm")?.unwrap_or(false).then_some(QkNorm::PerHead);
    Ok(spec)
}

/// Command R7B and A: windows in three of four layers, which alone rotate.
pub(super) fn read_cohere2(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = family(config)?;
    spans::all_but_every(config, &mut spec, spans::window(config)?, ("sliding_window_pattern", 4))?;
    for layer in &mut spec.layers {
        layer.rope = (layer.attention != AttentionSpan::Full).then_some(0);
    }
    Ok(spec)
}

fn family(config: &Object) -> Result<DecoderSpec, ModelError> {
    let config = &config.aliased(&[("rms_norm_eps", "layer_norm_eps")]);
    let defaults = Defaults { norm_eps: 1e-5, tied_head: true, ..Defaults::LLAMA };
    let mut spec = plain(config, &defaults)?;
    spec.norm.kind = NormKind::Layer;
    spec.block.flow = Flow::ParallelShared;
    spec.ropes.iter_mut().for_each(|rope| rope.interleaved = true);
    spec.logit_scale = config.number("logit_scale", "a number above 0", |n| n > 0.0)?.unwrap_or(0.0625);
    llama::biases(config, &mut spec)?;
    spec.mlp_bias = false;
    Ok(spec)
}
