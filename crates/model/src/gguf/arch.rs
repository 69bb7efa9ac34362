//! Which reading of config.json an architecture of a GGUF file goes through, and how its files differ from a model folder.

use super::naming::{GATE_IN_UP, GPT_OSS, TWO_NORMS, USUAL};
use crate::Naming;

/// An architecture by its name in GGUF files.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// As config.json names it.
    pub(super) architecture: &'static str,
    pub(super) naming: &'static Naming,
    /// Rows of queries and keys are stored in the order in which neighbours are rotated together.
    pub(super) interleaved: bool,
    /// Whether its layers may have experts.
    pub(super) experts: bool,
    /// Fields beyond those of all: the name in config.json and the end of the name in the file.
    pub(super) fields: &'static [(&'static str, &'static str)],
}

const PLAIN: Family =
    Family { name: "", architecture: "", naming: &USUAL, interleaved: false, experts: false, fields: &[] };

/// Every architecture that is read. Where one name stands for several, the first one is the usual one; see
/// [`super::config`].
pub(super) const FAMILIES: &[Family] = &[
    Family { name: "llama", architecture: "LlamaForCausalLM", interleaved: true, ..PLAIN },
    Family { name: "qwen2", architecture: "Qwen2ForCausalLM", ..PLAIN },
    Family { name: "qwen3", architecture: "Qwen3ForCausalLM", ..PLAIN },
    Family { name: "gemma", architecture: "GemmaForCausalLM", ..PLAIN },
    Family { name: "gemma2", architecture: "Gemma2ForCausalLM", fields: CAPS, ..PLAIN },
    Family {
        name: "gemma3",
        architecture: "Gemma3ForCausalLM",
        fields: &[
            ("final_logit_softcapping", "final_logit_softcapping"),
            ("sliding_window", "attention.sliding_window"),
            ("rope_local_base_freq", "rope.freq_base_swa"),
        ],
        ..PLAIN
    },
    Family { name: "phi3", architecture: "Phi3ForCausalLM", naming: &GATE_IN_UP, fields: WINDOW, ..PLAIN },
    Family { name: "smollm3", architecture: "SmolLM3ForCausalLM", interleaved: true, ..PLAIN },
    Family { name: "olmo2", architecture: "Olmo2ForCausalLM", fields: WINDOW, ..PLAIN },
    Family {
        name: "granite",
        architecture: "GraniteForCausalLM",
        interleaved: true,
        fields: &[
            ("attention_multiplier", "attention.scale"),
            ("embedding_multiplier", "embedding_scale"),
            ("residual_multiplier", "residual_scale"),
            ("logits_scaling", "logit_scale"),
        ],
        ..PLAIN
    },
    Family {
        name: "stablelm",
        architecture: "StableLmForCausalLM",
        fields: &[("use_parallel_residual", "use_parallel_residual")],
        ..PLAIN
    },
    Family {
        name: "command-r",
        architecture: "CohereForCausalLM",
        fields: &[("logit_scale", "logit_scale")],
        ..PLAIN
    },
    Family {
        name: "cohere2",
        architecture: "Cohere2ForCausalLM",
        fields: &[("logit_scale", "logit_scale"), ("sliding_window", "attention.sliding_window")],
        ..PLAIN
    },
    Family { name: "chatglm", architecture: "GlmForCausalLM", naming: &GATE_IN_UP, ..PLAIN },
    Family { name: "glm4", architecture: "Glm4ForCausalLM", naming: &GATE_IN_UP, ..PLAIN },
    Family { name: "internlm2", architecture: "InternLM2ForCausalLM", interleaved: true, ..PLAIN },
    Family { name: "gpt2", architecture: "GPT2LMHeadModel", ..PLAIN },
    Family {
        name: "gptneox",
        architecture: "GPTNeoXForCausalLM",
        fields: &[("use_parallel_residual", "use_parallel_residual")],
        ..PLAIN
    },
    Family { name: "falcon", architecture: "FalconForCausalLM", ..PLAIN },
    Family { name: "starcoder2", architecture: "Starcoder2ForCausalLM", fields: WINDOW, ..PLAIN },
    Family { name: "qwen2moe", architecture: "Qwen2MoeForCausalLM", experts: true, fields: EXPERTS, ..PLAIN },
    Family { name: "qwen3moe", architecture: "Qwen3MoeForCausalLM", experts: true, fields: EXPERTS, ..PLAIN },
    Family { name: "olmoe", architecture: "OlmoeForCausalLM", experts: true, fields: EXPERTS, ..PLAIN },
    Family {
        name: "granitemoe",
        architecture: "GraniteMoeForCausalLM",
        interleaved: true,
        experts: true,
        fields: &[
            ("num_experts", "expert_count"),
            ("num_experts_per_tok", "expert_used_count"),
            ("attention_multiplier", "attention.scale"),
            ("embedding_multiplier", "embedding_scale"),
            ("residual_multiplier", "residual_scale"),
            ("logits_scaling", "logit_scale"),
        ],
        ..PLAIN
    },
    Family {
        name: "gpt-oss",
        architecture: "GptOssForCausalLM",
        naming: &GPT_OSS,
        experts: true,
        fields: &[
            ("num_experts", "expert_count"),
            ("num_experts_per_tok", "expert_used_count"),
            ("sliding_window", "attention.sliding_window"),
        ],
        ..PLAIN
    },
    Family { name: "exaone", architecture: "ExaoneForCausalLM", ..PLAIN },
    Family { name: "exaone4", architecture: "Exaone4ForCausalLM", fields: WINDOW, ..PLAIN },
];

/// What families of experts have beyond their dense kin.
const EXPERTS: &[(&str, &str)] = &[
    ("num_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("shared_expert_intermediate_size", "expert_shared_feed_forward_length"),
];

/// Llama with experts.
pub(super) const MIXTRAL: Family = Family {
    name: "llama",
    architecture: "MixtralForCausalLM",
    interleaved: true,
    fields: EXPERTS,
    experts: true,
    ..PLAIN
};

/// Falcon with a norm for each branch.
pub(super) const FALCON_TWO_NORMS: Family =
    Family { name: "falcon", architecture: "FalconForCausalLM", naming: &TWO_NORMS, ..PLAIN };

const WINDOW: &[(&str, &str)] = &[("sliding_window", "attention.sliding_window")];

const CAPS: &[(&str, &str)] = &[
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("sliding_window", "attention.sliding_window"),
];

/// Names of [`FAMILIES`], for messages.
pub(super) const NAMES: &[&str] = &{
    let mut names = [""; FAMILIES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = FAMILIES[index].name;
        index += 1;
    }
    names
};

/// Kinds of files that hold no language model, by the architecture that they name, and what they are.
pub(super) const OTHER_KINDS: &[(&str, &str)] = &[
    ("clip", "a vision projector (mmproj)"),
    ("bert", "an encoder for embeddings"),
    ("nomic-bert", "an encoder for embeddings"),
    ("jina-bert-v2", "an encoder for embeddings"),
    ("modern-bert", "an encoder for embeddings"),
    ("t5", "a model with an encoder"),
    ("t5encoder", "an encoder"),
    ("whisper", "a model for speech"),
    ("wavtokenizer-dec", "a decoder of sound"),
    ("flux", "a model that makes pictures"),
    ("sd1", "a model that makes pictures"),
    ("sdxl", "a model that makes pictures"),
    ("imatrix", "statistics for quantisation"),
    ("controlvector", "a control vector"),
];
