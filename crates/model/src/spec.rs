//! A decoder as data: what a forward pass has to do, with every default resolved.

use crate::{Dtype, RopeSpec};

/// One decoder-only transformer with pre-normalisation (RMSNorm), rotary positions and a gated MLP.
///
/// Each layer computes `x += O(attention(qkv(norm(x))))` and then `x += Down(act(Gate(n)) * Up(n))` with
/// `n = norm(x)`; the logits are `Head(norm(x))`. All counts are at least 1, and products of two dimensions
/// fit in `u32`.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Name under which the reading was chosen, for example `LlamaForCausalLM`.
    pub architecture: String,
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
    /// Added to the mean square in every RMSNorm.
    pub norm_eps: f32,
    /// Rotary positions, the same in every layer.
    pub rope: RopeSpec,
    /// Queries and keys pass an RMSNorm per head, with one weight of `head_dim` elements for all heads of a
    /// layer, before the rotation.
    pub qk_norm: bool,
    /// Q, K and V have biases.
    pub qkv_bias: bool,
    /// The attention's output projection has a bias.
    pub o_bias: bool,
    /// Gate, up and down have biases.
    pub mlp_bias: bool,
    /// The gate's nonlinearity.
    pub activation: Activation,
    /// The head is the embedding.
    pub tied_head: bool,
    /// Tokens of prompt and output together for which the model was made.
    pub max_context: u32,
    /// Factor on `q . k` before the softmax.
    pub attn_scale: f32,
    /// Format in which the matrices of the layers are stored; of floats, the most frequent one.
    pub dtype: Dtype,
    /// Format in which embedding and head are stored; [`dtype`](Self::dtype) where nothing is quantised.
    pub vocabulary_dtype: Dtype,
    /// Bits, 8 or 16, to which activations are to be rounded before they meet quantised weights; `None` leaves it open.
    pub activation_bits: Option<u8>,
}

impl DecoderSpec {
    /// Query rows of the fused projection: `heads * head_dim`.
    pub fn q_width(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Key (or value) rows of the fused projection: `kv_heads * head_dim`.
    pub fn kv_width(&self) -> u32 {
        self.kv_heads * self.head_dim
    }
}

/// What may differ between the layers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// How far back a token sees.
    pub attention: AttentionSpan,
}

/// How far back a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionSpan {
    /// Every earlier token and itself.
    Full,
    /// The last `n` tokens, itself included: position `p` sees `j` with `p - n < j <= p`.
    Window(u32),
}

/// Nonlinearity of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
}
