//! What a tensor is for, its usual name, and the shape that the spec calls for.

use crate::{DecoderSpec, ExpertRole, Flow, LayerSpec, Mlp, QkNorm};
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
    /// Norm of the queries: `[head_dim]`, `[heads, head_dim]` or `[heads * head_dim]`, see [`QkNorm`].
    QNorm,
    /// Norm of the keys: as that of the queries.
    KNorm,
    /// Sinks of attention, `[heads]`.
    Sinks,
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
    /// Scores of the experts, `[experts, hidden]`.
    Router,
    /// Bias of the scores, `[experts]`.
    RouterBias,
    /// What the shared expert is gated by, `[1, hidden]`.
    SharedRouter,
    /// Gate of the shared expert, `[shared intermediate, hidden]`.
    SharedGate,
    /// Up of the shared expert, `[shared intermediate, hidden]`.
    SharedUp,
    /// Down of the shared expert, `[hidden, shared intermediate]`.
    SharedDown,
    /// A tensor of one expert, counted from 0.
    Expert(u32, ExpertRole),
}

/// A dimension of a shape, as config.json names it.
#[derive(Clone, Copy)]
enum Dim {
    Vocab,
    Hidden,
    Queries,
    Keys,
    QueryHeads,
    KeyHeads,
    Head,
    Heads,
    Intermediate,
    Context,
    Experts,
    ExpertIntermediate,
    SharedIntermediate,
    One,
}

impl Dim {
    /// Its size; those of experts are those of `layer`.
    fn size(self, spec: &DecoderSpec, layer: Option<&LayerSpec>) -> u64 {
        let experts =
            || layer.and_then(|layer| layer.mlp.experts()).expect("a tensor of a layer with experts");
        u64::from(match self {
            Self::Experts => experts().count,
            Self::ExpertIntermediate => experts().intermediate,
            Self::SharedIntermediate => experts().shared.map_or(0, |shared| shared.intermediate),
            Self::One => 1,
            Self::Vocab => spec.vocab_size,
            Self::Hidden => spec.hidden,
            Self::Queries => spec.q_width(),
            Self::Keys => spec.kv_width(),
            Self::QueryHeads => spec.heads,
            Self::KeyHeads => spec.kv_heads,
            Self::Head => spec.head_dim,
            Self::Heads => spec.heads,
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
            Self::QueryHeads => "num_attention_heads",
            Self::KeyHeads => "num_key_value_heads",
            Self::Head => "head_dim",
            Self::Heads => "num_attention_heads",
            Self::Intermediate => "intermediate_size",
            Self::Context => "max_position_embeddings",
            Self::Experts => "experts",
            Self::ExpertIntermediate => "intermediate size of experts",
            Self::SharedIntermediate => "intermediate size of the shared expert",
            Self::One => "1",
        }
    }
}

impl LayerRole {
    /// Every role of a layer but those of single experts.
    pub(crate) const ALL: [Self; 29] = [
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
        Self::Sinks,
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
        Self::Router,
        Self::RouterBias,
        Self::SharedRouter,
        Self::SharedGate,
        Self::SharedUp,
        Self::SharedDown,
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
            Self::RouterBias => Self::Router,
            Self::Expert(expert, role) => Self::Expert(expert, role.module()),
            other => other,
        }
    }

    /// The usual name, in the layer, of [`module`](Self::module); in the expert, if it is of one.
    pub(crate) fn module_name(self) -> &'static str {
        match self.module() {
            Self::AttnNorm => "input_layernorm",
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::QNorm => "self_attn.q_norm",
            Self::KNorm => "self_attn.k_norm",
            Self::Sinks => "self_attn.sinks",
            Self::PostAttnNorm => "post_self_attn_layernorm",
            Self::MlpNorm => "post_attention_layernorm",
            Self::PostMlpNorm => "post_mlp_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            Self::Router => "mlp.gate",
            Self::SharedRouter => "mlp.shared_expert_gate",
            Self::SharedGate => "mlp.shared_expert.gate_proj",
            Self::SharedUp => "mlp.shared_expert.up_proj",
            Self::SharedDown => "mlp.shared_expert.down_proj",
            Self::Expert(_, role) => role.module_name(),
            other => unreachable!("{other:?} is the bias of something"),
        }
    }

    /// What a name ends with, after a dot.
    pub(crate) fn suffix(self) -> &'static str {
        if self == Self::Sinks {
            return "";
        }
        if self.module() == self { "weight" } else { "bias" }
    }

    fn dims(self, spec: &DecoderSpec) -> &'static [Dim] {
        match self {
            Self::AttnNorm | Self::AttnNormBias | Self::PostAttnNorm | Self::OBias => &[Dim::Hidden],
            Self::MlpNorm | Self::MlpNormBias | Self::PostMlpNorm | Self::DownBias => &[Dim::Hidden],
            Self::Q => &[Dim::Queries, Dim::Hidden],
            Self::K | Self::V => &[Dim::Keys, Dim::Hidden],
            Self::O => &[Dim::Hidden, Dim::Queries],
            Self::QBias => &[Dim::Queries],
            Self::Sinks => &[Dim::Heads],
            Self::KBias | Self::VBias => &[Dim::Keys],
            Self::QNorm => match spec.qk_norm {
                Some(QkNorm::Row) => &[Dim::Queries],
                Some(QkNorm::PerHead) => &[Dim::QueryHeads, Dim::Head],
                Some(QkNorm::Shared) | None => &[Dim::Head],
            },
            Self::KNorm => match spec.qk_norm {
                Some(QkNorm::Row) => &[Dim::Keys],
                Some(QkNorm::PerHead) => &[Dim::KeyHeads, Dim::Head],
                Some(QkNorm::Shared) | None => &[Dim::Head],
            },
            Self::Gate | Self::Up => &[Dim::Intermediate, Dim::Hidden],
            Self::Down => &[Dim::Hidden, Dim::Intermediate],
            Self::GateBias | Self::UpBias => &[Dim::Intermediate],
            Self::Router => &[Dim::Experts, Dim::Hidden],
            Self::RouterBias => &[Dim::Experts],
            Self::SharedRouter => &[Dim::One, Dim::Hidden],
            Self::SharedGate | Self::SharedUp => &[Dim::SharedIntermediate, Dim::Hidden],
            Self::SharedDown => &[Dim::Hidden, Dim::SharedIntermediate],
            Self::Expert(_, ExpertRole::Gate | ExpertRole::Up) => &[Dim::ExpertIntermediate, Dim::Hidden],
            Self::Expert(_, ExpertRole::Down) => &[Dim::Hidden, Dim::ExpertIntermediate],
            Self::Expert(_, ExpertRole::GateBias | ExpertRole::UpBias) => &[Dim::ExpertIntermediate],
            Self::Expert(_, ExpertRole::DownBias) => &[Dim::Hidden],
        }
    }

    /// Whether it is a matrix, and not a norm or a bias.
    pub fn is_matrix(self) -> bool {
        let dense =
            matches!(self, Self::Q | Self::K | Self::V | Self::O | Self::Gate | Self::Up | Self::Down);
        let shared = matches!(self, Self::SharedGate | Self::SharedUp | Self::SharedDown);
        let expert = matches!(self, Self::Expert(_, role) if role.module() == role);
        dense || shared || expert || self.is_router()
    }

    /// Whether it is a matrix that chooses or weighs experts: a small one, whose rounding would send tokens elsewhere.
    pub fn is_router(self) -> bool {
        matches!(self, Self::Router | Self::SharedRouter)
    }

    /// Whether it is a matrix that is quantised where the layers are.
    pub fn is_quantizable(self) -> bool {
        self.is_matrix() && !self.is_router()
    }

    pub(crate) fn needed(self, spec: &DecoderSpec, layer: &LayerSpec) -> bool {
        let (block, gated, experts) = (spec.block, layer.mlp == Mlp::Gated, layer.mlp.experts());
        let shared = experts.and_then(|experts| experts.shared);
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
            Self::Sinks => spec.attn_sinks,
            Self::Gate => gated,
            Self::GateBias => gated && spec.mlp_bias,
            Self::Up | Self::Down => experts.is_none(),
            Self::UpBias | Self::DownBias => experts.is_none() && spec.mlp_bias,
            Self::Router => experts.is_some(),
            Self::RouterBias => experts.is_some_and(|experts| experts.router_bias),
            Self::SharedRouter => shared.is_some_and(|shared| shared.gated),
            Self::SharedGate | Self::SharedUp | Self::SharedDown => shared.is_some(),
            _ => true,
        }
    }

    /// The roles of the experts of a layer.
    fn experts(layer: &LayerSpec) -> impl Iterator<Item = Self> {
        layer.mlp.experts().into_iter().flat_map(|experts| {
            let roles =
                move || ExpertRole::ALL.into_iter().filter(|role| experts.bias || role.module() == *role);
            (0..experts.count).flat_map(move |expert| roles().map(move |role| Self::Expert(expert, role)))
        })
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
            needed.chain(LayerRole::experts(layer)).map(move |role| Self::Layer(index, role))
        });
        ends.chain(inner)
    }

    /// The shape that `spec` calls for.
    ///
    /// # Panics
    /// For a tensor of experts in a layer that has none.
    pub fn shape(self, spec: &DecoderSpec) -> Vec<u64> {
        let layer = match self {
            Self::Layer(layer, _) => spec.layers.get(layer as usize),
            _ => None,
        };
        self.dims(spec).iter().map(|dim| dim.size(spec, layer)).collect()
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
