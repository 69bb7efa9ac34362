//! What a tensor is for, its name in a Hugging Face checkpoint, and the shape that the spec calls for.

use crate::DecoderSpec;
use std::fmt;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding, `[vocab_size, hidden]`.
    Embedding,
    /// Norm before the head, `[hidden]`.
    FinalNorm,
    /// Output head, `[vocab_size, hidden]`; the embedding's bytes when the head is tied.
    Head,
    /// A tensor of one layer, counted from 0.
    Layer(u32, LayerRole),
}

/// What a tensor of a layer is for. Matrices are `[outputs, inputs]`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerRole {
    /// Norm before attention, `[hidden]`.
    AttnNorm,
    /// Queries, `[heads * head_dim, hidden]`.
    Q,
    /// Keys, `[kv_heads * head_dim, hidden]`.
    K,
    /// Values, `[kv_heads * head_dim, hidden]`.
    V,
    /// Attention output, `[hidden, heads * head_dim]`.
    O,
    /// Bias of the queries, `[heads * head_dim]`.
    QBias,
    /// Bias of the keys, `[kv_heads * head_dim]`.
    KBias,
    /// Bias of the values, `[kv_heads * head_dim]`.
    VBias,
    /// Bias of the attention output, `[hidden]`.
    OBias,
    /// Norm of each query head, `[head_dim]`.
    QNorm,
    /// Norm of each key head, `[head_dim]`.
    KNorm,
    /// Norm before the MLP, `[hidden]`.
    MlpNorm,
    /// Gate, `[intermediate, hidden]`.
    Gate,
    /// Up, `[intermediate, hidden]`.
    Up,
    /// Down, `[hidden, intermediate]`.
    Down,
    /// Bias of the gate, `[intermediate]`.
    GateBias,
    /// Bias of up, `[intermediate]`.
    UpBias,
    /// Bias of down, `[hidden]`.
    DownBias,
}

/// A dimension of a shape, as config.json names it.
#[derive(Clone, Copy)]
enum Dim {
    Vocab,
    Hidden,
    Queries,
    Keys,
    Head,
    Intermediate,
}

impl Dim {
    fn size(self, spec: &DecoderSpec) -> u64 {
        u64::from(match self {
            Self::Vocab => spec.vocab_size,
            Self::Hidden => spec.hidden,
            Self::Queries => spec.q_width(),
            Self::Keys => spec.kv_width(),
            Self::Head => spec.head_dim,
            Self::Intermediate => spec.intermediate,
        })
    }

    fn rule(self) -> &'static str {
        match self {
            Self::Vocab => "vocab_size",
            Self::Hidden => "hidden_size",
            Self::Queries => "num_attention_heads * head_dim",
            Self::Keys => "num_key_value_heads * head_dim",
            Self::Head => "head_dim",
            Self::Intermediate => "intermediate_size",
        }
    }
}

impl LayerRole {
    pub(crate) const ALL: [Self; 18] = [
        Self::AttnNorm,
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::QBias,
        Self::KBias,
        Self::VBias,
        Self::OBias,
        Self::QNorm,
        Self::KNorm,
        Self::MlpNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::GateBias,
        Self::UpBias,
        Self::DownBias,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::AttnNorm => "input_layernorm.weight",
            Self::Q => "self_attn.q_proj.weight",
            Self::K => "self_attn.k_proj.weight",
            Self::V => "self_attn.v_proj.weight",
            Self::O => "self_attn.o_proj.weight",
            Self::QBias => "self_attn.q_proj.bias",
            Self::KBias => "self_attn.k_proj.bias",
            Self::VBias => "self_attn.v_proj.bias",
            Self::OBias => "self_attn.o_proj.bias",
            Self::QNorm => "self_attn.q_norm.weight",
            Self::KNorm => "self_attn.k_norm.weight",
            Self::MlpNorm => "post_attention_layernorm.weight",
            Self::Gate => "mlp.gate_proj.weight",
            Self::Up => "mlp.up_proj.weight",
            Self::Down => "mlp.down_proj.weight",
            Self::GateBias => "mlp.gate_proj.bias",
            Self::UpBias => "mlp.up_proj.bias",
            Self::DownBias => "mlp.down_proj.bias",
        }
    }

    fn dims(self) -> &'static [Dim] {
        match self {
            Self::AttnNorm | Self::MlpNorm | Self::OBias | Self::DownBias => &[Dim::Hidden],
            Self::Q => &[Dim::Queries, Dim::Hidden],
            Self::K | Self::V => &[Dim::Keys, Dim::Hidden],
            Self::O => &[Dim::Hidden, Dim::Queries],
            Self::QBias => &[Dim::Queries],
            Self::KBias | Self::VBias => &[Dim::Keys],
            Self::QNorm | Self::KNorm => &[Dim::Head],
            Self::Gate | Self::Up => &[Dim::Intermediate, Dim::Hidden],
            Self::Down => &[Dim::Hidden, Dim::Intermediate],
            Self::GateBias | Self::UpBias => &[Dim::Intermediate],
        }
    }

    /// Whether it is a matrix, and not a norm or a bias.
    pub fn is_matrix(self) -> bool {
        self.dims().len() == 2
    }

    fn needed(self, spec: &DecoderSpec) -> bool {
        match self {
            Self::QBias | Self::KBias | Self::VBias => spec.qkv_bias,
            Self::OBias => spec.o_bias,
            Self::QNorm | Self::KNorm => spec.qk_norm,
            Self::GateBias | Self::UpBias | Self::DownBias => spec.mlp_bias,
            _ => true,
        }
    }
}

impl Role {
    /// Every tensor that a model of this spec stores, each once; a tied head is not stored.
    pub fn all(spec: &DecoderSpec) -> impl Iterator<Item = Role> + '_ {
        let ends =
            [Self::Embedding, Self::FinalNorm].into_iter().chain((!spec.tied_head).then_some(Self::Head));
        let layers = 0..spec.layers.len() as u32;
        let inner = layers.flat_map(move |layer| {
            LayerRole::ALL.into_iter().filter(|r| r.needed(spec)).map(move |role| Self::Layer(layer, role))
        });
        ends.chain(inner)
    }

    /// The shape that `spec` calls for.
    pub fn shape(self, spec: &DecoderSpec) -> Vec<u64> {
        self.dims().iter().map(|dim| dim.size(spec)).collect()
    }

    /// The fields of config.json that make the shape, for messages.
    pub(crate) fn shape_rule(self) -> String {
        let names: Vec<_> = self.dims().iter().map(|dim| dim.rule()).collect();
        format!("[{}]", names.join(", "))
    }

    fn dims(self) -> &'static [Dim] {
        match self {
            Self::Embedding | Self::Head => &[Dim::Vocab, Dim::Hidden],
            Self::FinalNorm => &[Dim::Hidden],
            Self::Layer(_, role) => role.dims(),
        }
    }
}

impl fmt::Display for Role {
    /// The tensor's name in a Hugging Face checkpoint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("model.embed_tokens.weight"),
            Self::FinalNorm => f.write_str("model.norm.weight"),
            Self::Head => f.write_str("lm_head.weight"),
            Self::Layer(layer, role) => write!(f, "model.layers.{layer}.{}", role.name()),
        }
    }
}
