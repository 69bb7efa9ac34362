//! Mistral: one sliding window for all layers, unless `sliding_window` is `null`.

use super::{Extras, assemble, spans};
use crate::config::{Common, HeadDimDefault};
use crate::json::Object;
use crate::{DecoderSpec, ModelError, rope_config};

pub(super) fn read(config: &Object) -> Result<DecoderSpec, ModelError> {
    let common = Common::read(config, HeadDimDefault::Quotient)?;
    let window = spans::window(config)?;
    let layers = spans::uniform(config, common.layers, window)?;
    Ok(assemble(&common, rope_config::read(config, &common)?, layers, Extras::default()))
}
