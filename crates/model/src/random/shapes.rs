//! The values of the public config.json files.

/// What the shapes of one family have in common.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) architecture: &'static str,
    pub(super) model_type: &'static str,
    /// Name of the field that counts experts.
    pub(super) expert_count: &'static str,
    /// Further fields of config.json, an object.
    pub(super) more: &'static str,
}

/// Experts of every layer of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Experts {
    pub(super) count: u32,
    pub(super) per_token: u32,
    pub(super) intermediate: u32,
}

const LLAMA: Family =
    Family { architecture: "LlamaForCausalLM", model_type: "llama", expert_count: "num_experts", more: "{}" };
const MISTRAL: Family = Family { architecture: "MistralForCausalLM", model_type: "mistral", ..LLAMA };
const QWEN2: Family = Family { architecture: "Qwen2ForCausalLM", model_type: "qwen2", ..LLAMA };
const QWEN3_FAMILY: Family = Family { architecture: "Qwen3ForCausalLM", model_type: "qwen3", ..LLAMA };
const QWEN3_MOE: Family = Family { architecture: "Qwen3MoeForCausalLM", model_type: "qwen3_moe", ..LLAMA };
const MIXTRAL: Family = Family {
    architecture: "MixtralForCausalLM",
    model_type: "mixtral",
    expert_count: "num_local_experts",
    ..LLAMA
};
const GEMMA2: Family = Family {
    architecture: "Gemma2ForCausalLM",
    model_type: "gemma2",
    more: r#"{"hidden_act": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "sliding_window": 4096}"#,
    ..LLAMA
};
const GEMMA3: Family = Family {
    architecture: "Gemma3ForCausalLM",
    model_type: "gemma3_text",
    more: r#"{"hidden_act": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "sliding_window": 512}"#,
    ..LLAMA
};
const PHI3: Family = Family {
    architecture: "Phi3ForCausalLM",
    model_type: "phi3",
    more: r#"{"sliding_window": 2047}"#,
    ..LLAMA
};
const SMOLLM3: Family = Family { architecture: "SmolLM3ForCausalLM", model_type: "smollm3", ..LLAMA };
const OLMO2: Family = Family { architecture: "Olmo2ForCausalLM", model_type: "olmo2", ..LLAMA };
const GPT2: Family = Family {
    architecture: "GPT2LMHeadModel",
    model_type: "gpt2",
    more: r#"{"hidden_act": "gelu_new"}"#,
    ..LLAMA
};
const GPT_NEOX: Family = Family {
    architecture: "GPTNeoXForCausalLM",
    model_type: "gpt_neox",
    more: r#"{"hidden_act": "gelu"}"#,
    ..LLAMA
};
const STARCODER2: Family = Family {
    architecture: "Starcoder2ForCausalLM",
    model_type: "starcoder2",
    more: r#"{"hidden_act": "gelu_pytorch_tanh", "sliding_window": 4096}"#,
    ..LLAMA
};

/// What differs between the shapes.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) family: &'static Family,
    pub(super) vocab_size: u32,
    pub(super) hidden: u32,
    pub(super) intermediate: u32,
    /// In place of a dense MLP.
    pub(super) experts: Option<Experts>,
    pub(super) layers: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) head_dim: u32,
    pub(super) max_context: u32,
    pub(super) norm_eps: f64,
    pub(super) rope_theta: f64,
    /// Factor of the stretch of Llama 3.
    pub(super) rope_factor: Option<f32>,
    pub(super) tied_head: bool,
    pub(super) eos: u32,
}

const QWEN2_5: Shape = Shape {
    name: "qwen2.5-0.5b",
    family: &QWEN2,
    vocab_size: 151_936,
    hidden: 896,
    intermediate: 4_864,
    experts: None,
    layers: 24,
    heads: 14,
    kv_heads: 2,
    head_dim: 64,
    max_context: 32_768,
    norm_eps: 1e-6,
    rope_theta: 1e6,
    rope_factor: None,
    tied_head: true,
    eos: 151_645,
};

const LLAMA_3: Shape = Shape {
    name: "llama-3.2-1b",
    family: &LLAMA,
    vocab_size: 128_256,
    hidden: 2_048,
    intermediate: 8_192,
    experts: None,
    layers: 16,
    heads: 32,
    kv_heads: 8,
    head_dim: 64,
    max_context: 131_072,
    norm_eps: 1e-5,
    rope_theta: 500_000.0,
    rope_factor: Some(32.0),
    tied_head: true,
    eos: 128_001,
};

const QWEN3: Shape = Shape {
    name: "qwen3-0.6b",
    family: &QWEN3_FAMILY,
    vocab_size: 151_936,
    hidden: 1_024,
    intermediate: 3_072,
    experts: None,
    layers: 28,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    max_context: 40_960,
    norm_eps: 1e-6,
    rope_theta: 1e6,
    rope_factor: None,
    tied_head: true,
    eos: 151_645,
};

/// All shapes, in the order in which messages list them.
pub(super) const SHAPES: &[Shape] = &[
    QWEN2_5,
    Shape {
        name: "qwen2.5-1.5b",
        hidden: 1_536,
        intermediate: 8_960,
        layers: 28,
        heads: 12,
        head_dim: 128,
        ..QWEN2_5
    },
    Shape {
        name: "qwen2.5-7b",
        vocab_size: 152_064,
        hidden: 3_584,
        intermediate: 18_944,
        layers: 28,
        heads: 28,
        kv_heads: 4,
        head_dim: 128,
        tied_head: false,
        ..QWEN2_5
    },
    LLAMA_3,
    Shape { name: "llama-3.2-3b", hidden: 3_072, layers: 28, heads: 24, head_dim: 128, ..LLAMA_3 },
    Shape {
        name: "llama-3.1-8b",
        hidden: 4_096,
        intermediate: 14_336,
        layers: 32,
        head_dim: 128,
        rope_factor: Some(8.0),
        tied_head: false,
        ..LLAMA_3
    },
    QWEN3,
    Shape { name: "qwen3-1.7b", hidden: 2_048, intermediate: 6_144, ..QWEN3 },
    Shape { name: "qwen3-4b", hidden: 2_560, intermediate: 9_728, layers: 36, heads: 32, ..QWEN3 },
    Shape {
        name: "qwen3-8b",
        hidden: 4_096,
        intermediate: 12_288,
        layers: 36,
        heads: 32,
        tied_head: false,
        ..QWEN3
    },
    Shape {
        name: "mistral-7b",
        family: &MISTRAL,
        vocab_size: 32_768,
        hidden: 4_096,
        intermediate: 14_336,
        layers: 32,
        head_dim: 128,
        max_context: 32_768,
        rope_theta: 1e6,
        rope_factor: None,
        tied_head: false,
        eos: 2,
        ..LLAMA_3
    },
    Shape {
        name: "qwen3-30b-a3b",
        family: &QWEN3_MOE,
        hidden: 2_048,
        intermediate: 6_144,
        experts: Some(Experts { count: 128, per_token: 8, intermediate: 768 }),
        layers: 48,
        heads: 32,
        kv_heads: 4,
        tied_head: false,
        ..QWEN3
    },
    Shape {
        name: "mixtral-8x7b",
        family: &MIXTRAL,
        vocab_size: 32_000,
        hidden: 4_096,
        intermediate: 14_336,
        experts: Some(Experts { count: 8, per_token: 2, intermediate: 14_336 }),
        layers: 32,
        head_dim: 128,
        max_context: 32_768,
        rope_theta: 1e6,
        rope_factor: None,
        tied_head: false,
        eos: 2,
        ..LLAMA_3
    },
    Shape {
        name: "gemma-2-2b",
        family: &GEMMA2,
        vocab_size: 256_000,
        hidden: 2_304,
        intermediate: 9_216,
        experts: None,
        layers: 26,
        heads: 8,
        kv_heads: 4,
        head_dim: 256,
        max_context: 8_192,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_factor: None,
        tied_head: true,
        eos: 1,
    },
    Shape {
        name: "gemma-3-1b",
        family: &GEMMA3,
        vocab_size: 262_144,
        hidden: 1_152,
        intermediate: 6_912,
        experts: None,
        layers: 26,
        heads: 4,
        kv_heads: 1,
        head_dim: 256,
        max_context: 32_768,
        norm_eps: 1e-6,
        rope_theta: 1e6,
        rope_factor: None,
        tied_head: true,
        eos: 1,
    },
    Shape {
        name: "phi-3-mini",
        family: &PHI3,
        vocab_size: 32_064,
        hidden: 3_072,
        intermediate: 8_192,
        layers: 32,
        kv_heads: 32,
        head_dim: 96,
        max_context: 4_096,
        rope_theta: 10_000.0,
        rope_factor: None,
        tied_head: false,
        eos: 32_000,
        ..LLAMA_3
    },
    Shape {
        name: "smollm3-3b",
        family: &SMOLLM3,
        intermediate: 11_008,
        layers: 36,
        heads: 16,
        kv_heads: 4,
        head_dim: 128,
        max_context: 65_536,
        norm_eps: 1e-6,
        rope_theta: 5e6,
        rope_factor: None,
        eos: 128_012,
        ..LLAMA_3
    },
    Shape {
        name: "olmo-2-1b",
        family: &OLMO2,
        vocab_size: 100_352,
        heads: 16,
        kv_heads: 16,
        head_dim: 128,
        max_context: 4_096,
        norm_eps: 1e-6,
        rope_factor: None,
        tied_head: false,
        eos: 100_257,
        ..LLAMA_3
    },
    Shape {
        name: "gpt2",
        family: &GPT2,
        vocab_size: 50_257,
        hidden: 768,
        intermediate: 3_072,
        layers: 12,
        heads: 12,
        kv_heads: 12,
        max_context: 1_024,
        rope_factor: None,
        eos: 50_256,
        ..LLAMA_3
    },
    Shape {
        name: "pythia-1.4b",
        family: &GPT_NEOX,
        vocab_size: 50_304,
        layers: 24,
        heads: 16,
        kv_heads: 16,
        head_dim: 128,
        max_context: 2_048,
        rope_theta: 10_000.0,
        rope_factor: None,
        tied_head: false,
        eos: 0,
        ..LLAMA_3
    },
    Shape {
        name: "starcoder2-3b",
        family: &STARCODER2,
        vocab_size: 49_152,
        hidden: 3_072,
        intermediate: 12_288,
        layers: 30,
        heads: 24,
        kv_heads: 2,
        head_dim: 128,
        max_context: 16_384,
        rope_theta: 999_999.44,
        rope_factor: None,
        eos: 0,
        ..LLAMA_3
    },
    Shape {
        name: "tiny-moe",
        family: &QWEN3_MOE,
        vocab_size: 1_024,
        hidden: 128,
        intermediate: 320,
        experts: Some(Experts { count: 12, per_token: 3, intermediate: 96 }),
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        max_context: 4_096,
        eos: 1_023,
        ..QWEN3
    },
    Shape {
        name: "tiny",
        vocab_size: 1_024,
        hidden: 128,
        intermediate: 320,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        max_context: 4_096,
        eos: 1_023,
        ..QWEN2_5
    },
];
