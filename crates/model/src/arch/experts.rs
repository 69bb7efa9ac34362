//! Mixtures of experts: what the families have in common.

use crate::config::MAX_INTERMEDIATE;
use crate::json::Object;
use crate::{DecoderSpec, ExpertSpec, ExpertWeights, Mlp, ModelError};

/// Most experts of a layer.
const MAX_EXPERTS: u32 = 4096;

/// Experts without biases or a shared one, whose width is in the field `width`.
pub(super) fn read(config: &Object, width: &str, weights: ExpertWeights) -> Result<ExpertSpec, ModelError> {
    // Two names of the same number.
    const NAMES: [&str; 2] = ["num_experts", "num_local_experts"];
    let name = NAMES.into_iter().find(|name| config.get(name).is_some()).unwrap_or(NAMES[0]);
    let count = config.need_count(name, MAX_EXPERTS)?;
    let per_token = config.need_count("num_experts_per_tok", MAX_EXPERTS)?;
    if per_token > count {
        let problem = format!("is {per_token}, but there are only {count} experts");
        return Err(config.error("num_experts_per_tok", problem));
    }
    let intermediate = config.need_count(width, MAX_INTERMEDIATE)?;
    let (router_bias, bias, shared) = (false, false, None);
    Ok(ExpertSpec { count, per_token, intermediate, weights, router_bias, bias, shared })
}

/// `norm_topk_prob`, off by default.
pub(super) fn weights(config: &Object) -> Result<ExpertWeights, ModelError> {
    let renormalised = config.flag("norm_topk_prob")?.unwrap_or(false);
    Ok(if renormalised { ExpertWeights::Renormalised } else { ExpertWeights::Softmax })
}

/// Gives experts to the layers in which `has` them.
pub(super) fn place(spec: &mut DecoderSpec, experts: ExpertSpec, has: impl Fn(u32) -> bool) {
    for (index, layer) in (0..).zip(&mut spec.layers) {
        if has(index) {
            layer.mlp = Mlp::Experts(experts);
        }
    }
}
