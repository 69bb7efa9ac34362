//! The fields of config.json that every architecture has, with limits and defaults.

use crate::json::Object;
use crate::{Activation, ModelError};

/// Longest config.json or generation_config.json that is read, in bytes.
pub(crate) const MAX_CONFIG_BYTES: u64 = 4 << 20;

const MAX_VOCAB: u32 = 1 << 20;
const MAX_HIDDEN: u32 = 1 << 17;
pub(crate) const MAX_INTERMEDIATE: u32 = 1 << 20;
const MAX_LAYERS: u32 = 1024;
const MAX_HEADS: u32 = 1024;
const MAX_HEAD_DIM: u32 = 1024;
/// Longest context of a model.
pub(crate) const MAX_CONTEXT: u32 = 1 << 27;

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
    pub(crate) activation: Activation,
    pub(crate) max_context: u32,
    pub(crate) tied_head: bool,
}

/// What a family means by a field that is not written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) head_dim: HeadDimDefault,
    /// Width of the MLP as a multiple of the hidden size; `None` where it has to be written.
    pub(crate) intermediate: Option<u32>,
    pub(crate) norm_eps: f32,
    pub(crate) activation: Activation,
    pub(crate) tied_head: bool,
    /// `None` where `max_position_embeddings` has to be written.
    pub(crate) context: Option<u32>,
    pub(crate) rope_theta: f32,
    /// Part of each head that is rotated.
    pub(crate) rotary: f32,
    /// Fields that ask for something that readings of the family leave out, and what to do; absence, `null`, 0 and `false`
    /// ask for nothing.
    pub(crate) refused: &'static [(&'static str, &'static str)],
}

/// What a missing `head_dim` means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadDimDefault {
    /// `hidden_size / num_attention_heads`.
    Quotient,
    /// A constant of the architecture.
    Fixed(u32),
}

impl Defaults {
    pub(crate) const LLAMA: Self = Self {
        head_dim: HeadDimDefault::Quotient,
        intermediate: None,
        norm_eps: 1e-6,
        activation: Activation::Silu,
        tied_head: false,
        context: None,
        rope_theta: 10_000.0,
        rotary: 1.0,
        refused: &[
            ("num_local_experts", EXPERTS),
            ("num_experts", EXPERTS),
            ("n_routed_experts", EXPERTS),
            ("attn_logit_softcapping", CAPPED),
            ("final_logit_softcapping", CAPPED),
            ("is_encoder_decoder", DECODERS),
            ("add_cross_attention", DECODERS),
        ],
    };
}

impl Defaults {
    /// Of architectures with mixtures of experts.
    pub(crate) const EXPERTS: Self = Self {
        refused: &[
            ("n_routed_experts", EXPERTS),
            ("attn_logit_softcapping", CAPPED),
            ("final_logit_softcapping", CAPPED),
            ("is_encoder_decoder", DECODERS),
            ("add_cross_attention", DECODERS),
        ],
        ..Self::LLAMA
    };
}

const EXPERTS: &str = "this architecture has no mixture of experts; correct architectures";
const CAPPED: &str = "this architecture does not cap logits; correct architectures";
const DECODERS: &str = "only decoder models are read";

impl Common {
    pub(crate) fn read(config: &Object, defaults: &Defaults) -> Result<Self, ModelError> {
        for (field, advice) in defaults.refused {
            if config.get(field).is_some_and(|v| v.as_bool() != Some(false) && v.as_f64() != Some(0.0)) {
                return Err(config.unsupported(field, advice));
            }
        }
        let hidden = config.need_count("hidden_size", MAX_HIDDEN)?;
        let heads = config.need_count("num_attention_heads", MAX_HEADS)?;
        let kv_heads = config.count("num_key_value_heads", MAX_HEADS)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}, but should divide num_attention_heads = {heads}");
            return Err(config.error("num_key_value_heads", problem));
        }
        let inner = match (config.count("intermediate_size", MAX_INTERMEDIATE)?, defaults.intermediate) {
            (Some(width), _) => width,
            (None, Some(multiple)) => hidden * multiple,
            (None, None) => config.need_count("intermediate_size", MAX_INTERMEDIATE)?,
        };
        Ok(Self {
            vocab_size: config.need_count("vocab_size", MAX_VOCAB)?,
            hidden,
            intermediate: inner,
            layers: config.need_count("num_hidden_layers", MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim: head_dim(config, hidden, heads, defaults.head_dim)?,
            norm_eps: config
                .number("rms_norm_eps", "from 0 to 1", |n| (0.0..=1.0).contains(&n))?
                .unwrap_or(defaults.norm_eps),
            activation: activation(config)?.unwrap_or(defaults.activation),
            max_context: match (config.count("max_position_embeddings", MAX_CONTEXT)?, defaults.context) {
                (Some(context), _) | (None, Some(context)) => context,
                (None, None) => config.need_count("max_position_embeddings", MAX_CONTEXT)?,
            },
            tied_head: config.flag("tie_word_embeddings")?.unwrap_or(defaults.tied_head),
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

fn activation(config: &Object) -> Result<Option<Activation>, ModelError> {
    let Some(name) = config.text("hidden_act")? else { return Ok(None) };
    match name {
        "silu" | "swish" => Ok(Some(Activation::Silu)),
        "gelu" | "gelu_python" => Ok(Some(Activation::Gelu)),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Ok(Some(Activation::GeluTanh)),
        "relu" => Ok(Some(Activation::Relu)),
        _ => Err(config.unsupported("hidden_act", "the activations read are silu, gelu, gelu_new and relu")),
    }
}
