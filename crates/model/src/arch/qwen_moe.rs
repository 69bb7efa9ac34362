//! Qwen2-MoE and Qwen3-MoE: Qwen2 and Qwen3 with experts in every `decoder_sparse_step`-th layer that `mlp_only_layers` does not
//! name.

use super::{experts, llama, plain, spans};
use crate::config::{Defaults, MAX_INTERMEDIATE};
use crate::json::Object;
use crate::{DecoderSpec, ExpertSpec, ModelError, QkNorm, SharedExpert};

/// A shared expert with a gate, and windows in every other layer below `max_window_layers`, if `use_sliding_window` says so.
pub(super) fn read_qwen2(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &Defaults::EXPERTS)?;
    spec.qkv_bias = config.flag("qkv_bias")?.unwrap_or(true);
    let below = config.integer("max_window_layers", 0, u32::MAX)?.unwrap_or(28);
    spans::mixed(config, &mut spec, window(config)?, |index| index % 2 == 0 && index < below)?;
    let intermediate = config.count("shared_expert_intermediate_size", MAX_INTERMEDIATE)?.unwrap_or(5632);
    let shared = Some(SharedExpert { intermediate, gated: true });
    let mixture = ExpertSpec { shared, ..read(config)? };
    place(config, &mut spec, mixture)?;
    Ok(spec)
}

/// Norms of query and key heads, and the same window in all layers, if `use_sliding_window` says so.
pub(super) fn read_qwen3(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &Defaults::EXPERTS)?;
    llama::biases(config, &mut spec)?;
    spec.mlp_bias = false;
    spec.qk_norm = Some(QkNorm::Shared);
    spans::uniform(config, &mut spec, window(config)?)?;
    place(config, &mut spec, read(config)?)?;
    Ok(spec)
}

fn read(config: &Object) -> Result<ExpertSpec, ModelError> {
    experts::read(config, "moe_intermediate_size", experts::weights(config)?)
}

fn window(config: &Object) -> Result<Option<u32>, ModelError> {
    let windowed = config.flag("use_sliding_window")?.unwrap_or(false);
    if windowed { spans::window(config) } else { Ok(None) }
}

fn place(config: &Object, spec: &mut DecoderSpec, mixture: ExpertSpec) -> Result<(), ModelError> {
    let step = config.count("decoder_sparse_step", u32::MAX)?.unwrap_or(1);
    let dense = config.indices("mlp_only_layers", spec.layers.len() as u32)?;
    experts::place(spec, mixture, |index| (index + 1).is_multiple_of(step) && !dense.contains(&index));
    Ok(())
}
