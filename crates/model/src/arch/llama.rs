//! Llama: full attention; `attention_bias` covers all four projections, `mlp_bias` all three.

use super::{Extras, assemble, spans};
use crate::config::{Common, HeadDimDefault};
use crate::json::Object;
use crate::{DecoderSpec, ModelError, rope_config};

pub(super) fn read(config: &Object) -> Result<DecoderSpec, ModelError> {
    let common = Common::read(config, HeadDimDefault::Quotient)?;
    let attention_bias = config.flag("attention_bias")?.unwrap_or(false);
    let extras = Extras {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: config.flag("mlp_bias")?.unwrap_or(false),
        qk_norm: false,
    };
    let layers = spans::uniform(config, common.layers, None)?;
    Ok(assemble(&common, rope_config::read(config, &common)?, layers, extras))
}
