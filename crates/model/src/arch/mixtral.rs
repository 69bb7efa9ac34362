//! Mixtral and its near relatives: experts in every layer, whose weights sum to 1 or not.

use super::{experts, llama, plain, spans};
use crate::config::Defaults;
use crate::expert_naming::{ExpertNaming, Order, Stacked};
use crate::json::Object;
use crate::{DecoderSpec, ExpertRole, ExpertWeights, LayerRole, ModelError, Naming, QkNorm};

/// Mistral with experts.
pub(super) fn read_mixtral(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        renamed: &[(LayerRole::Router, "block_sparse_moe.gate")],
        experts: ExpertNaming {
            prefix: "block_sparse_moe.experts",
            renamed: &[(ExpertRole::Gate, "w1"), (ExpertRole::Up, "w3"), (ExpertRole::Down, "w2")],
            stacked: None,
        },
        ..Naming::LLAMA
    };
    let defaults = Defaults { norm_eps: 1e-5, rope_theta: 1e6, ..Defaults::EXPERTS };
    let mut spec = plain(config, &defaults)?;
    spec.naming = &NAMING;
    spans::uniform(config, &mut spec, config.count("sliding_window", u32::MAX)?)?;
    let mixture = experts::read(config, "intermediate_size", ExpertWeights::Renormalised)?;
    experts::place(&mut spec, mixture, |_| true);
    Ok(spec)
}

/// OLMoE: all query heads of a token, and all key heads, are normalised as one row.
pub(super) fn read_olmoe(config: &Object) -> Result<DecoderSpec, ModelError> {
    if config.get("clip_qkv").is_some() {
        return Err(config.unsupported("clip_qkv", "clipped queries, keys and values are not computed"));
    }
    let mut spec = plain(config, &Defaults { norm_eps: 1e-5, ..Defaults::EXPERTS })?;
    llama::biases(config, &mut spec)?;
    spec.mlp_bias = false;
    spec.qk_norm = Some(QkNorm::Row);
    spans::uniform(config, &mut spec, None)?;
    let mixture = experts::read(config, "intermediate_size", experts::weights(config)?)?;
    experts::place(&mut spec, mixture, |_| true);
    Ok(spec)
}

/// Granite with experts, which are stored as one.
pub(super) fn read_granite(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        renamed: &[(LayerRole::Router, "block_sparse_moe.router.layer")],
        experts: ExpertNaming {
            prefix: "block_sparse_moe.experts",
            renamed: &[],
            stacked: Some(Stacked {
                gate_up: "block_sparse_moe.input_linear.weight",
                down: "block_sparse_moe.output_linear.weight",
                order: Order::Halves,
            }),
        },
        ..Naming::LLAMA
    };
    let mut spec = plain(config, &Defaults::EXPERTS)?;
    spec.naming = &NAMING;
    llama::granite(config, &mut spec)?;
    spec.mlp_bias = false;
    let mixture = experts::read(config, "intermediate_size", ExpertWeights::Renormalised)?;
    experts::place(&mut spec, mixture, |_| true);
    Ok(spec)
}
