//! The fields of config.json that every supported architecture shares, with limits and defaults.

use crate::ModelError;
use crate::json::Object;

/// Longest config.json or generation_config.json that is read, in bytes.
pub(crate) const MAX_CONFIG_BYTES: u64 = 4 << 20;

const MAX_VOCAB: u32 = 1 << 20;
const MAX_HIDDEN: u32 = 1 << 17;
const MAX_INTERMEDIATE: u32 = 1 << 20;
const MAX_LAYERS: u32 = 1024;
const MAX_HEADS: u32 = 1024;
const MAX_HEAD_DIM: u32 = 1024;
const MAX_CONTEXT: u32 = 1 << 27;

/// Dimensions and constants, checked against each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    pub(crate) vocab_size: u32,
    pub(crate) hidden: u32,
    pub(crate) intermediate: u32,
    pub(crate) layers: u32,
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) head_dim: u32,
    pub(crate) norm_eps: f32,
    pub(crate) max_context: u32,
    pub(crate) tied_head: bool,
}

/// What a missing `head_dim` means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadDimDefault {
    /// `hidden_size / num_attention_heads`.
    Quotient,
    /// A constant of the architecture.
    Fixed(u32),
}

impl Common {
    pub(crate) fn read(config: &Object, default: HeadDimDefault) -> Result<Self, ModelError> {
        refuse_unsupported(config)?;
        let hidden = config.need_count("hidden_size", MAX_HIDDEN)?;
        let heads = config.need_count("num_attention_heads", MAX_HEADS)?;
        let kv_heads = config.count("num_key_value_heads", MAX_HEADS)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}, but should divide num_attention_heads = {heads}");
            return Err(config.error("num_key_value_heads", problem));
        }
        Ok(Self {
            vocab_size: config.need_count("vocab_size", MAX_VOCAB)?,
            hidden,
            intermediate: config.need_count("intermediate_size", MAX_INTERMEDIATE)?,
            layers: config.need_count("num_hidden_layers", MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim: head_dim(config, hidden, heads, default)?,
            norm_eps: config
                .number("rms_norm_eps", "from 0 to 1", |n| (0.0..=1.0).contains(&n))?
                .unwrap_or(1e-6),
            max_context: config.need_count("max_position_embeddings", MAX_CONTEXT)?,
            tied_head: config.flag("tie_word_embeddings")?.unwrap_or(false),
        })
    }
}

fn head_dim(config: &Object, hidden: u32, heads: u32, default: HeadDimDefault) -> Result<u32, ModelError> {
    let given = config.count("head_dim", MAX_HEAD_DIM)?;
    let dim = match (given, default) {
        (Some(dim), _) | (None, HeadDimDefault::Fixed(dim)) => dim,
        (None, HeadDimDefault::Quotient) if hidden.is_multiple_of(heads) => hidden / heads,
        (None, HeadDimDefault::Quotient) => {
            let problem =
                format!("is {hidden}, which num_attention_heads = {heads} does not divide: give head_dim");
            return Err(config.error("hidden_size", problem));
        }
    };
    if !dim.is_multiple_of(2) || dim > MAX_HEAD_DIM {
        let from = if given.is_some() { "" } else { " (hidden_size / num_attention_heads)" };
        let problem = format!("is {dim}{from}, but should be even and at most {MAX_HEAD_DIM}");
        return Err(config.error("head_dim", problem));
    }
    Ok(dim)
}

/// Fields that ask for something the forward pass does not do; absence, `null`, 0 and `false` ask for nothing.
const UNSUPPORTED: [(&str, &str); 7] = [
    ("num_local_experts", "mixtures of experts are not read; use a dense model"),
    ("num_experts", "mixtures of experts are not read; use a dense model"),
    ("n_routed_experts", "mixtures of experts are not read; use a dense model"),
    ("attn_logit_softcapping", "capped logits are not computed; use a model without them"),
    ("final_logit_softcapping", "capped logits are not computed; use a model without them"),
    ("is_encoder_decoder", "only decoder models are read"),
    ("add_cross_attention", "only decoder models are read"),
];

fn refuse_unsupported(config: &Object) -> Result<(), ModelError> {
    for (field, advice) in UNSUPPORTED {
        let asks = config.get(field).is_some_and(|v| v.as_bool() != Some(false) && v.as_f64() != Some(0.0));
        if asks {
            return Err(config.unsupported(field, advice));
        }
    }
    if config.number("partial_rotary_factor", "a number", |_| true)?.is_some_and(|factor| factor != 1.0) {
        return Err(
            config.unsupported("partial_rotary_factor", "only full rotation of each head is computed")
        );
    }
    if let Some(name) = config.text("hidden_act")? {
        // Two names of the same function.
        if name != "silu" && name != "swish" {
            return Err(config.unsupported("hidden_act", "only silu is computed; use a model with silu"));
        }
    }
    Ok(())
}
