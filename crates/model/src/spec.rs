//! A decoder as data: what a forward pass has to do, with every default resolved.

use crate::{Dtype, Naming, Role, RopeSpec};
use std::collections::HashMap;

/// One decoder-only transformer.
///
/// A layer has two branches, attention and an MLP, whose outputs join the residual stream `x`:
///
/// ```text
/// attention(y) = post(O(softmax(cap(turn(norm(Q y)) · turn(norm(K y)) · attn_scale)) · V y))
/// mlp(y)       = post(Down(activation(Gate y) * Up y))         or  post(Down(activation(Up y)))
/// sequential:  x += residual_scale * attention(pre(x));  x += residual_scale * mlp(pre(x))
/// parallel:    x += residual_scale * (attention(pre(x)) + mlp(pre(x)))
/// ```
///
/// It starts from `x = embedding_scale * embedding(token)`, plus a learned vector of the position where there are any, and the
/// logits are `cap(logit_scale * Head(norm(x)))`. All counts are at least 1, and products of two dimensions fit in `u32`.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Name under which the reading was chosen, for example `LlamaForCausalLM`.
    pub architecture: String,
    /// Names of its tensors in a Hugging Face checkpoint.
    pub naming: &'static Naming,
    /// Rows of the embedding and of the head.
    pub vocab_size: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// What differs from layer to layer; its length is the number of layers.
    pub layers: Vec<LayerSpec>,
    /// Query heads per layer.
    pub heads: u32,
    /// Key/value heads per layer; divides `heads`.
    pub kv_heads: u32,
    /// Elements per head; even, and not always `hidden / heads`.
    pub head_dim: u32,
    /// Width between the two halves of the MLP.
    pub intermediate: u32,
    /// The norms of the residual stream and of the branches.
    pub norm: NormSpec,
    /// Where a layer normalises, and how its branches join.
    pub block: BlockSpec,
    /// Kinds of rotary positions, to which the layers refer.
    pub ropes: Vec<RopeSpec>,
    /// A learned vector for each of `max_context` positions is added to the embedding.
    pub learned_positions: bool,
    /// Norm of queries and keys, before the rotation: of the kind of [`norm`](Self::norm), without bias.
    pub qk_norm: Option<QkNorm>,
    /// Q, K and V have biases.
    pub qkv_bias: bool,
    /// The attention's output projection has a bias.
    pub o_bias: bool,
    /// Gate, up and down have biases.
    pub mlp_bias: bool,
    /// Nonlinearity of the MLP.
    pub activation: Activation,
    /// The head is the embedding.
    pub tied_head: bool,
    /// Tokens of prompt and output together for which the model was made.
    pub max_context: u32,
    /// Factor on `q . k` before the softmax; above 0.
    pub attn_scale: f32,
    /// Scores `s` become `cap * tanh(s / cap)` before the softmax.
    pub attn_softcap: Option<f32>,
    /// Each query head has a score of its own that takes part in the softmax and has no value.
    pub attn_sinks: bool,
    /// Factor on the embedding.
    pub embedding_scale: f32,
    /// Factor on what a branch adds to the residual stream.
    pub residual_scale: f32,
    /// Factor on the logits.
    pub logit_scale: f32,
    /// Logits `x` become `cap * tanh(x / cap)`, after the factor.
    pub logit_softcap: Option<f32>,
    /// Format in which the matrices of the layers are stored; of floats, the most frequent one.
    pub dtype: Dtype,
    /// Format in which embedding and head are stored; [`dtype`](Self::dtype) where nothing is quantised.
    pub vocabulary_dtype: Dtype,
    /// Matrices that are stored in another format than [`dtype`](Self::dtype) and
    /// [`vocabulary_dtype`](Self::vocabulary_dtype) say.
    pub stored: HashMap<Role, Dtype>,
    /// Whether the inputs of some quantised matrices are in an order of their own.
    pub reordered: bool,
    /// Bits, 8 or 16, to which activations are to be rounded before they meet quantised weights; `None` leaves it open.
    pub activation_bits: Option<u8>,
}

impl DecoderSpec {
    /// Format in which the matrix of `role` is stored.
    pub fn stored_as(&self, role: Role) -> Dtype {
        let usual = if matches!(role, Role::Layer(..)) { self.dtype } else { self.vocabulary_dtype };
        self.stored.get(&role).copied().unwrap_or(usual)
    }

    /// Query rows of the fused projection: `heads * head_dim`.
    pub fn q_width(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Key (or value) rows of the fused projection: `kv_heads * head_dim`.
    pub fn kv_width(&self) -> u32 {
        self.kv_heads * self.head_dim
    }
}

/// The norms of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// What is made 1.
    pub kind: NormKind,
    /// The norms before the branches and before the head have biases.
    pub bias: bool,
    /// Added to the stored weights of every norm: 1 where they are stored as a difference from 1.
    pub weight_offset: f32,
    /// Added to the mean square.
    pub eps: f32,
}

/// What a norm makes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The mean square.
    Rms,
    /// The variance, around a mean of 0.
    Layer,
}

/// Where a layer normalises, and how its branches join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSpec {
    /// A branch reads a norm of the residual stream, not the stream itself.
    pub pre_norm: bool,
    /// What a branch gives is normalised before it is added.
    pub post_norm: bool,
    /// Order of the branches.
    pub flow: Flow,
}

/// Order of the branches of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The MLP reads what attention has been added to.
    Sequential,
    /// Both read the same stream, each through a norm of its own.
    Parallel,
    /// Both read the same stream through the norm of attention.
    ParallelShared,
}

/// Norm of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself, with `head_dim` weights that all heads of a layer share.
    Shared,
    /// Each head by itself, with weights of its own: `[heads, head_dim]`.
    PerHead,
    /// All heads of a token as one row: `[heads * head_dim]`.
    Row,
}

/// What may differ between the layers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// How far back a token sees.
    pub attention: AttentionSpan,
    /// Index into [`DecoderSpec::ropes`]; `None`: queries and keys are not rotated.
    pub rope: Option<u8>,
    /// The second branch.
    pub mlp: Mlp,
}

/// How far back a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionSpan {
    /// Every earlier token and itself.
    Full,
    /// The last `n` tokens, itself included: position `p` sees `j` with `p - n < j <= p`.
    Window(u32),
}

/// The second branch of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `Down(activation(Gate y) * Up y)`.
    Gated,
    /// `Down(activation(Up y))`.
    Plain,
    /// Gated units of which each token passes some.
    Experts(ExpertSpec),
}

/// A mixture of experts: `Σ weight_e · Down_e(activation(Gate_e y) * Up_e y)` over the experts `e` with the largest scores, which
/// a linear router makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertSpec {
    /// Experts of the layer.
    pub count: u32,
    /// Experts that a token passes; at most `count`.
    pub per_token: u32,
    /// Width between the two halves of each.
    pub intermediate: u32,
    /// How scores become weights.
    pub weights: ExpertWeights,
    /// The router has a bias.
    pub router_bias: bool,
    /// Gate, up and down of each expert have biases.
    pub bias: bool,
    /// An expert that all tokens pass besides.
    pub shared: Option<SharedExpert>,
}

/// What the weights of the experts of a token are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertWeights {
    /// The softmax of the scores of all experts.
    Softmax,
    /// The softmax of the scores of the chosen experts, so that they sum to 1.
    Renormalised,
}

/// An expert that all tokens pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedExpert {
    /// Width between its two halves.
    pub intermediate: u32,
    /// What it adds is multiplied by the sigmoid of a linear function of its input.
    pub gated: bool,
}

impl Mlp {
    /// The experts, if it has any.
    pub fn experts(&self) -> Option<&ExpertSpec> {
        match self {
            Self::Experts(experts) => Some(experts),
            Self::Gated | Self::Plain => None,
        }
    }
}

/// Nonlinearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    Gelu,
    /// GELU with the hyperbolic tangent in place of the error function.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(alpha x)` of a gate `x` of at most `limit`; up is held between `-limit` and `limit`, and 1 is added to it.
    ClampedSwish {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// Bound of both, above 0.
        limit: f32,
    },
}
