//! Names of tensors in GGUF files.

use crate::expert_naming::{ExpertNaming, Order, Stacked};
use crate::naming::Fusion;
use crate::{LayerRole, Naming};

/// The names that nearly all architectures have.
pub(super) const USUAL: Naming = Naming {
    embedding: "token_embd",
    positions: "position_embd",
    final_norm: "output_norm",
    head: "output",
    layers: "blk",
    renamed: &[
        (LayerRole::AttnNorm, "attn_norm"),
        (LayerRole::Q, "attn_q"),
        (LayerRole::K, "attn_k"),
        (LayerRole::V, "attn_v"),
        (LayerRole::O, "attn_output"),
        (LayerRole::QNorm, "attn_q_norm"),
        (LayerRole::KNorm, "attn_k_norm"),
        (LayerRole::PostAttnNorm, "post_attention_norm"),
        (LayerRole::MlpNorm, "ffn_norm"),
        (LayerRole::PostMlpNorm, "post_ffw_norm"),
        (LayerRole::Gate, "ffn_gate"),
        (LayerRole::Up, "ffn_up"),
        (LayerRole::Down, "ffn_down"),
        (LayerRole::Router, "ffn_gate_inp"),
        (LayerRole::SharedRouter, "ffn_gate_inp_shexp"),
        (LayerRole::SharedGate, "ffn_gate_shexp"),
        (LayerRole::SharedUp, "ffn_up_shexp"),
        (LayerRole::SharedDown, "ffn_down_shexp"),
    ],
    experts: ExpertNaming {
        prefix: "experts",
        renamed: &[],
        stacked: Some(Stacked {
            gate_up: "ffn_gate_exps.weight",
            down: "ffn_down_exps.weight",
            order: Order::Apart { up: "ffn_up_exps.weight" },
        }),
    },
    qkv: Some(("attn_qkv", Fusion::Stacked)),
    ..Naming::LLAMA
};

/// The norm before the MLP has the name that others give to the one after attention.
pub(super) const GPT_OSS: Naming = Naming {
    renamed: &[
        (LayerRole::AttnNorm, "attn_norm"),
        (LayerRole::Q, "attn_q"),
        (LayerRole::K, "attn_k"),
        (LayerRole::V, "attn_v"),
        (LayerRole::O, "attn_output"),
        (LayerRole::Sinks, "attn_sinks.weight"),
        (LayerRole::MlpNorm, "post_attention_norm"),
        (LayerRole::Router, "ffn_gate_inp"),
    ],
    ..USUAL
};

/// `ffn_up` holds the gate and then up, neither of which has a name of its own.
pub(super) const GATE_IN_UP: Naming = Naming {
    renamed: &[
        (LayerRole::AttnNorm, "attn_norm"),
        (LayerRole::Q, "attn_q"),
        (LayerRole::K, "attn_k"),
        (LayerRole::V, "attn_v"),
        (LayerRole::O, "attn_output"),
        (LayerRole::PostAttnNorm, "post_attention_norm"),
        (LayerRole::MlpNorm, "ffn_norm"),
        (LayerRole::PostMlpNorm, "post_ffw_norm"),
        (LayerRole::Gate, "ffn_gate"),
        (LayerRole::Up, "ffn_up_alone"),
        (LayerRole::Down, "ffn_down"),
    ],
    gate_up: Some("ffn_up"),
    ..USUAL
};

/// Both branches have a norm, of which that of the MLP has the name that others give to that of attention.
pub(super) const TWO_NORMS: Naming = Naming {
    renamed: &[
        (LayerRole::AttnNorm, "attn_norm_2"),
        (LayerRole::MlpNorm, "attn_norm"),
        (LayerRole::O, "attn_output"),
        (LayerRole::Up, "ffn_up"),
        (LayerRole::Down, "ffn_down"),
    ],
    ..USUAL
};
