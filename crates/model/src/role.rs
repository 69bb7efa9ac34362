//! What a tensor is for, its usual name, and the shape that the spec calls for.

use crate::{DecoderSpec, Flow, LayerSpec, Mlp, QkNorm};
use std::fmt;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding, `[vocab_size, hidden]`.
    Embedding,
    /// Vectors of the positions, `[max_context, hidden]`.
    Positions,
    /// Norm before the head, `[hidden]`.
    FinalNorm,
    /// Bias of the norm before the head, `[hidden]`.
    FinalNormBias,
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
    /// Bias of the norm before attention, `[hidden]`.
    AttnNormBias,
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
    /// Norm of the queries: `[head_dim]` or `[heads * head_dim]`.
    QNorm,
    /// Norm of the keys: `[head_dim]` or `[kv_heads * head_dim]`.
    KNorm,
    /// Norm of what attention gives, `[hidden]`.
    PostAttnNorm,
    /// Norm before the MLP, `[hidden]`.
    MlpNorm,
    /// Bias of the norm before the MLP, `[hidden]`.
    MlpNormBias,
    /// Norm of what the MLP gives, `[hidden]`.
    PostMlpNorm,
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
    Context,
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
            Self::Context => spec.max_context,
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
            Self::Context => "max_position_embeddings",
        }
    }
}

impl LayerRole {
    pub(crate) const ALL: [Self; 22] = [
        Self::AttnNorm,
        Self::AttnNormBias,
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
        Self::PostAttnNorm,
        Self::MlpNorm,
        Self::MlpNormBias,
        Self::PostMlpNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::GateBias,
        Self::UpBias,
        Self::DownBias,
    ];

    /// What it is the bias of; itself, if it is no bias.
    pub(crate) fn module(self) -> Self {
        match self {
            Self::AttnNormBias => Self::AttnNorm,
            Self::QBias => Self::Q,
            Self::KBias => Self::K,
            Self::VBias => Self::V,
            Self::OBias => Self::O,
            Self::MlpNormBias => Self::MlpNorm,
            Self::GateBias => Self::Gate,
            Self::UpBias => Self::Up,
            Self::DownBias => Self::Down,
            other => other,
        }
    }

    /// The usual name, in the layer, of [`module`](Self::module).
    pub(crate) fn module_name(self) -> &'static str {
        match self.module() {
            Self::AttnNorm => "input_layernorm",
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::QNorm => "self_attn.q_norm",
            Self::KNorm => "self_attn.k_norm",
            Self::PostAttnNorm => "post_self_attn_layernorm",
            Self::MlpNorm => "post_attention_layernorm",
            Self::PostMlpNorm => "post_mlp_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            other => unreachable!("{other:?} is the bias of something"),
        }
    }

    /// What a name ends with.
    pub(crate) fn suffix(self) -> &'static str {
        if self.module() == self { "weight" } else { "bias" }
    }

    fn dims(self, spec: &DecoderSpec) -> &'static [Dim] {
        let each = spec.qk_norm == Some(QkNorm::Shared);
        match self {
            Self::AttnNorm | Self::AttnNormBias | Self::PostAttnNorm | Self::OBias => &[Dim::Hidden],
            Self::MlpNorm | Self::MlpNormBias | Self::PostMlpNorm | Self::DownBias => &[Dim::Hidden],
            Self::Q => &[Dim::Queries, Dim::Hidden],
            Self::K | Self::V => &[Dim::Keys, Dim::Hidden],
            Self::O => &[Dim::Hidden, Dim::Queries],
            Self::QBias => &[Dim::Queries],
            Self::KBias | Self::VBias => &[Dim::Keys],
            Self::QNorm | Self::KNorm if each => &[Dim::Head],
            Self::QNorm => &[Dim::Queries],
            Self::KNorm => &[Dim::Keys],
            Self::Gate | Self::Up => &[Dim::Intermediate, Dim::Hidden],
            Self::Down => &[Dim::Hidden, Dim::Intermediate],
            Self::GateBias | Self::UpBias => &[Dim::Intermediate],
        }
    }

    /// Whether it is a matrix, and not a norm or a bias.
    pub fn is_matrix(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V | Self::O | Self::Gate | Self::Up | Self::Down)
    }

    fn needed(self, spec: &DecoderSpec, layer: &LayerSpec) -> bool {
        let (block, gated) = (spec.block, layer.mlp == Mlp::Gated);
        let mlp_norm = block.pre_norm && block.flow != Flow::ParallelShared;
        match self {
            Self::AttnNorm => block.pre_norm,
            Self::AttnNormBias => block.pre_norm && spec.norm.bias,
            Self::MlpNorm => mlp_norm,
            Self::MlpNormBias => mlp_norm && spec.norm.bias,
            Self::PostAttnNorm | Self::PostMlpNorm => block.post_norm,
            Self::QBias | Self::KBias | Self::VBias => spec.qkv_bias,
            Self::OBias => spec.o_bias,
            Self::QNorm | Self::KNorm => spec.qk_norm.is_some(),
            Self::Gate => gated,
            Self::GateBias => gated && spec.mlp_bias,
            Self::UpBias | Self::DownBias => spec.mlp_bias,
            _ => true,
        }
    }
}

impl Role {
    /// Every tensor that a model of this spec stores, each once; a tied head is not stored.
    pub fn all(spec: &DecoderSpec) -> impl Iterator<Item = Role> + '_ {
        let ends = [
            (Self::Embedding, true),
            (Self::Positions, spec.learned_positions),
            (Self::FinalNorm, true),
            (Self::FinalNormBias, spec.norm.bias),
            (Self::Head, !spec.tied_head),
        ];
        let ends = ends.into_iter().filter_map(|(role, needed)| needed.then_some(role));
        let inner = spec.layers.iter().zip(0..).flat_map(move |(layer, index)| {
            let needed = LayerRole::ALL.into_iter().filter(|role| role.needed(spec, layer));
            needed.map(move |role| Self::Layer(index, role))
        });
        ends.chain(inner)
    }

    /// The shape that `spec` calls for.
    pub fn shape(self, spec: &DecoderSpec) -> Vec<u64> {
        self.dims(spec).iter().map(|dim| dim.size(spec)).collect()
    }

    /// The fields of config.json that make the shape, for messages.
    pub(crate) fn shape_rule(self, spec: &DecoderSpec) -> String {
        let names: Vec<_> = self.dims(spec).iter().map(|dim| dim.rule()).collect();
        format!("[{}]", names.join(", "))
    }

    fn dims(self, spec: &DecoderSpec) -> &'static [Dim] {
        match self {
            Self::Embedding | Self::Head => &[Dim::Vocab, Dim::Hidden],
            Self::Positions => &[Dim::Context, Dim::Hidden],
            Self::FinalNorm | Self::FinalNormBias => &[Dim::Hidden],
            Self::Layer(_, role) => role.dims(spec),
        }
    }
}

impl fmt::Display for Role {
    /// The usual name of the tensor, that of a Llama; [`Naming`](crate::Naming) has those of other families.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::Naming::LLAMA.name(*self))
    }
}
