//! gpt-oss: experts with biases whose inputs are clamped, attention with sinks, windows in every other layer.

use super::{experts, plain, spans};
use crate::config::{Defaults, HeadDimDefault};
use crate::expert_naming::{ExpertNaming, Order, Stacked};
use crate::json::Object;
use crate::{Activation, DecoderSpec, ExpertSpec, ExpertWeights, LayerRole, ModelError, Naming};

const NAMING: Naming = Naming {
    renamed: &[(LayerRole::Router, "mlp.router")],
    experts: ExpertNaming {
        stacked: Some(Stacked {
            gate_up: "mlp.experts.gate_up_proj",
            down: "mlp.experts.down_proj",
            order: Order::Turns,
        }),
        ..ExpertNaming::QWEN
    },
    ..Naming::LLAMA
};

pub(super) fn read(config: &Object) -> Result<DecoderSpec, ModelError> {
    let defaults = Defaults {
        head_dim: HeadDimDefault::Fixed(64),
        norm_eps: 1e-5,
        rope_theta: 150_000.0,
        ..Defaults::EXPERTS
    };
    let mut spec = plain(config, &defaults)?;
    spec.naming = &NAMING;
    spec.qkv_bias = config.flag("attention_bias")?.unwrap_or(true);
    spec.o_bias = spec.qkv_bias;
    spec.attn_sinks = true;
    let window = if config.is_written("sliding_window") { spans::window(config)? } else { Some(128) };
    spans::mixed(config, &mut spec, window, |index| index % 2 == 0)?;
    let above_zero = |field, default| {
        Ok::<_, ModelError>(config.number(field, "a number above 0", |n| n > 0.0)?.unwrap_or(default))
    };
    spec.activation = Activation::ClampedSwish {
        alpha: above_zero("swiglu_alpha", 1.702)?,
        limit: above_zero("swiglu_limit", 7.0)?,
    };
    let mixture = experts::read(config, "intermediate_size", ExpertWeights::Renormalised)?;
    experts::place(&mut spec, ExpertSpec { router_bias: true, bias: true, ..mixture }, |_| true);
    Ok(spec)
}
