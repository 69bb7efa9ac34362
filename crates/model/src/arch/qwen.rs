//! Qwen2: biases on Q, K and V always. Qwen3: biases by `attention_bias`, and a norm per query and key head.
//! In both the layers from `max_window_layers` on have a window, if `use_sliding_window` says so.

use super::{llama, plain, spans};
use crate::config::{Defaults, HeadDimDefault};
use crate::json::Object;
use crate::{DecoderSpec, ModelError, QkNorm};

const DEFAULT_MAX_WINDOW_LAYERS: u32 = 28;

pub(super) fn read_qwen2(config: &Object) -> Result<DecoderSpec, ModelError> {
    let mut spec = plain(config, &Defaults::LLAMA)?;
    spec.qkv_bias = true;
    windows(config, &mut spec)?;
    Ok(spec)
}

pub(super) fn read_qwen3(config: &Object) -> Result<DecoderSpec, ModelError> {
    let defaults = Defaults { head_dim: HeadDimDefault::Fixed(128), ..Defaults::LLAMA };
    let mut spec = plain(config, &defaults)?;
    llama::biases(config, &mut spec)?;
    spec.mlp_bias = false;
    spec.qk_norm = Some(QkNorm::Shared);
    windows(config, &mut spec)?;
    Ok(spec)
}

fn windows(config: &Object, spec: &mut DecoderSpec) -> Result<(), ModelError> {
    let windowed = config.flag("use_sliding_window")?.unwrap_or(false);
    let window = if windowed { spans::window(config)? } else { None };
    let full = config.integer("max_window_layers", 0, u32::MAX)?.unwrap_or(DEFAULT_MAX_WINDOW_LAYERS);
    spans::mixed(config, spec, window, |index| index >= full)
}
