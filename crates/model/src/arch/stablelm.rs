//! StableLM: layer norms; a quarter of each head rotates.

use super::plain;
use crate::config::Defaults;
use crate::json::Object;
use crate::{DecoderSpec, Flow, ModelError, NormKind};

pub(super) fn read_stablelm(config: &Object) -> Result<DecoderSpec, ModelError> {
    let config =
        &config.aliased(&[("rms_norm_eps", "layer_norm_eps"), ("partial_rotary_factor", "rope_pct")]);
    let defaults = Defaults {
        norm_eps: 1e-5,
        rotary: 0.25,
        refused: &[("qk_layernorm", "norms of queries and keys in a tensor for each head are not read")],
        ..Defaults::LLAMA
    };
    let mut spec = plain(config, &defaults)?;
    (spec.norm.kind, spec.norm.bias) = (NormKind::Layer, true);
    spec.qkv_bias = config.flag("use_qkv_bias")?.unwrap_or(false);
    if config.flag("use_parallel_residual")?.unwrap_or(false) {
        spec.block.flow = Flow::ParallelShared;
    }
    Ok(spec)
}
