//! Phi-3 and Phi-4: queries, keys and values in one matrix, gate and up in another.

use super::{plain, spans};
use crate::config::Defaults;
use crate::json::Object;
use crate::naming::Fusion;
use crate::{DecoderSpec, ModelError, Naming};

pub(super) fn read_phi3(config: &Object) -> Result<DecoderSpec, ModelError> {
    const NAMING: Naming = Naming {
        qkv: Some(("self_attn.qkv_proj", Fusion::Stacked)),
        gate_up: Some("mlp.gate_up_proj"),
        ..Naming::LLAMA
    };
    let mut spec = plain(config, &Defaults { norm_eps: 1e-5, ..Defaults::LLAMA })?;
    spec.naming = &NAMING;
    let window = config.count("sliding_window", u32::MAX)?;
    spans::uniform(config, &mut spec, window)?;
    Ok(spec)
}
