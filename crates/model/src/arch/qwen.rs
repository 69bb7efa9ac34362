//! Qwen2: biases on Q, K and V always. Qwen3: biases by `attention_bias`, and a norm per query and key head.
//! In both the layers from `max_window_layers` on have a window, if `use_sliding_window` says so.

use super::{Extras, assemble, spans};
use crate::config::{Common, HeadDimDefault};
use crate::json::Object;
use crate::{DecoderSpec, ModelError, rope_config};

pub(super) fn read_qwen2(config: &Object) -> Result<DecoderSpec, ModelError> {
    let common = Common::read(config, HeadDimDefault::Quotient)?;
    read(config, &common, Extras { qkv_bias: true, ..Extras::default() })
}

pub(super) fn read_qwen3(config: &Object) -> Result<DecoderSpec, ModelError> {
    let common = Common::read(config, HeadDimDefault::Fixed(128))?;
    let bias = config.flag("attention_bias")?.unwrap_or(false);
    read(config, &common, Extras { qkv_bias: bias, o_bias: bias, mlp_bias: false, qk_norm: true })
}

fn read(config: &Object, common: &Common, extras: Extras) -> Result<DecoderSpec, ModelError> {
    let windowed = config.flag("use_sliding_window")?.unwrap_or(false);
    let window = if windowed { spans::window(config)? } else { None };
    let layers = spans::mixed(config, common.layers, window)?;
    Ok(assemble(common, rope_config::read(config, common)?, layers, extras))
}
