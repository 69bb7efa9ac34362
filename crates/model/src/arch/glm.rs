//! GLM-4: half of each head rotates, neighbours together; gate and up in one matrix; biases on Q, K and V alone.

use super::plain;
use crate::config::{Defaults, HeadDimDefault};
use crate::json::Object;
use crate::{DecoderSpec, ModelError, Naming};

/// The first GLM-4.
pub(super) fn read_glm(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming { gate_up: Some("mlp.gate_up_proj"), ..Naming::LLAMA };
    let defaults = Defaults {
        head_dim: HeadDimDefault::Fixed(128),
        norm_eps: 1.5625e-7,
        rotary: 0.5,
        ..Defaults::LLAMA
    };
    let mut spec = plain(config, &defaults)?;
    spec.naming = &NAMING;
    spec.ropes.iter_mut().for_each(|rope| rope.interleaved = true);
    spec.qkv_bias = config.flag("attention_bias")?.unwrap_or(true);
    Ok(spec)
}

/// GLM-4-0414 and later: norms after the branches too.
pub(super) fn read_glm4(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = read_glm(config)?;
    spec.block.post_norm = true;
    Ok(spec)
}
