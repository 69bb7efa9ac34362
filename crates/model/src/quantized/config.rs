//! `quantization_config` of config.json.

use super::QuantScheme;
use crate::json::{Object, clip};
use crate::{ModelError, Role};

/// Which matrices are quantised, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quantization {
    pub(crate) layers: Option<QuantScheme>,
    embedding: Option<QuantScheme>,
    head: Option<QuantScheme>,
    /// Bits to which activations are to be rounded.
    pub(crate) activation_bits: Option<u8>,
}

const FIELD: &str = "quantization_config";
const OTHER_METHOD: &str =
    "only compressed-tensors is read; use the checkpoint in bf16, f16 or f32 and give --quantize";

/// Settings that change what the stored numbers mean, and what to do about them.
const UNREAD: [(&str, &str); 3] = [
    ("kv_cache_scheme", "stored scales of keys and values are not read; use a checkpoint without them"),
    ("transform_config", "transformed weights are not read; use a checkpoint without them"),
    ("sparsity_config", "sparse weights are not read; use a dense checkpoint"),
];

impl Quantization {
    /// Reads the field; nothing is quantised without it.
    pub(crate) fn read(config: &Object) -> Result<Self, ModelError> {
        let Some(fields) = config.object(FIELD)? else { return Ok(Self::default()) };
        // Which tensors are MXFP4, their names say.
        if fields.text("quant_method")? == Some("mxfp4") {
            return Ok(Self::default());
        }
        if fields.text("quant_method")?.is_none_or(|method| method != "compressed-tensors") {
            return Err(fields.unsupported("quant_method", OTHER_METHOD));
        }
        for (field, advice) in UNREAD {
            let asks = fields.get(field).is_some_and(|value| value.as_object().is_none_or(|o| !o.is_empty()));
            if asks {
                return Err(fields.unsupported(field, advice));
            }
        }
        let Some(groups) = fields.object("config_groups")? else {
            return Err(fields.error("config_groups", "is missing: it should say what is quantised, and how"));
        };
        let mut quantization = Self::default();
        // Names of modules take precedence over kinds of modules.
        let mut named_head = None;
        for name in groups.names() {
            let Some(group) = groups.object(name)? else { continue };
            let scheme = read_scheme(&group)?;
            for target in group.texts("targets")?.unwrap_or_default() {
                match target {
                    "Linear" => quantization.layers = Some(scheme),
                    "Embedding" => quantization.embedding = Some(scheme),
                    "lm_head" => named_head = Some(scheme),
                    _ => {
                        return Err(
                            group.unsupported("targets", "only Linear, Embedding and lm_head are read")
                        );
                    }
                }
            }
            if let Some(bits) = read_activations(&group)? {
                quantization.activation_bits = Some(bits);
            }
        }
        quantization.head = named_head.or(quantization.layers);
        quantization.ignore(&fields)?;
        quantization.read_own(config)?;
        Ok(quantization)
    }

    fn ignore(&mut self, fields: &Object) -> Result<(), ModelError> {
        for name in fields.texts("ignore")?.unwrap_or_default() {
            if name == "lm_head" {
                self.head = None;
            } else if !is_router(name) {
                let problem = format!("names {:?}, but only lm_head and routers may be left out", clip(name));
                return Err(fields.error("ignore", problem));
            }
        }
        Ok(())
    }

    /// What this engine's own files say beyond compressed-tensors.
    fn read_own(&mut self, config: &Object) -> Result<(), ModelError> {
        let Some(own) = config.object("pagoda")? else { return Ok(()) };
        match own.integer("activation_bits", 8, 16)? {
            None => {}
            Some(bits @ (8 | 16)) => self.activation_bits = Some(bits as u8),
            Some(bits) => {
                return Err(own.error("activation_bits", format!("is {bits}, but should be 8 or 16")));
            }
        }
        Ok(())
    }

    /// How the matrix of `role` is stored; `None` for floats. With a tied head the embedding is both.
    pub(crate) fn of(&self, role: Role) -> Option<QuantScheme> {
        match role {
            Role::Embedding => self.embedding,
            Role::Head => self.head,
            Role::Positions | Role::FinalNorm | Role::FinalNormBias => None,
            Role::Layer(_, role) => self.layers.filter(|_| role.is_quantizable()),
        }
    }
}

/// Whether the name, or the pattern, of a module is that of routers of experts, which are not quantised in any case.
fn is_router(name: &str) -> bool {
    let name = name.strip_suffix('$').unwrap_or(name);
    ["mlp.gate", "block_sparse_moe.gate", "shared_expert_gate", "router", "router.layer"]
        .iter()
        .any(|router| name.ends_with(router))
}

/// What a group says of its weights.
fn read_scheme(group: &Object) -> Result<QuantScheme, ModelError> {
    let Some(weights) = group.object("weights")? else {
        return Err(group.error("weights", "is missing: it should say how weights are quantised"));
    };
    if weights.text("type")?.is_some_and(|kind| kind != "int") {
        return Err(
            weights.unsupported("type", "only integers are read; use the checkpoint in bf16 and --quantize")
        );
    }
    let bits = match weights.count("num_bits", 64)?.unwrap_or(8) {
        bits @ (4 | 8) => bits as u8,
        _ => return Err(weights.unsupported("num_bits", "weights of 4 and 8 bits are read")),
    };
    if weights.text("strategy")?.is_none_or(|strategy| strategy != "group") {
        return Err(
            weights.unsupported("strategy", "only groups along each row are read, strategy \"group\"")
        );
    }
    let group_size = match weights.count("group_size", u32::from(u16::MAX))? {
        Some(size @ (32 | 64 | 128)) => size as u16,
        _ => return Err(weights.unsupported("group_size", "groups of 32, 64 and 128 are read")),
    };
    let zero_point = !weights.flag("symmetric")?.unwrap_or(true);
    if zero_point && bits == 8 {
        return Err(weights.unsupported("symmetric", "8-bit weights are read without zero points"));
    }
    if weights.get("actorder").is_some_and(|order| order.as_str() == Some("group")) {
        return Err(weights.unsupported("actorder", "columns out of order are not read"));
    }
    Ok(QuantScheme { bits, group: group_size, zero_point })
}

/// Bits of activations that are to be rounded as they come.
fn read_activations(group: &Object) -> Result<Option<u8>, ModelError> {
    if group.get("output_activations").is_some() {
        return Err(
            group.unsupported("output_activations", "outputs are not rounded; use another checkpoint")
        );
    }
    let Some(activations) = group.object("input_activations")? else { return Ok(None) };
    if activations.count("num_bits", 64)?.unwrap_or(8) != 8
        || activations.text("type")?.is_some_and(|kind| kind != "int")
    {
        return Err(activations.unsupported("num_bits", "activations are rounded to integers of 8 bits"));
    }
    if !activations.flag("dynamic")?.unwrap_or(false) {
        return Err(activations
            .unsupported("dynamic", "activations are rounded by their own range, not by stored scales"));
    }
    Ok(Some(8))
}
