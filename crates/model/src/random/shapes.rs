//! The values of the public config.json files.

/// Which reading a shape has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Mixtral,
    Qwen3Moe,
}

/// Experts of every layer of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Experts {
    pub(super) count: u32,
    pub(super) per_token: u32,
    pub(super) intermediate: u32,
}

/// What differs between the shapes.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) family: Family,
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
    family: Family::Qwen2,
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
    family: Family::Llama,
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
    family: Family::Qwen3,
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
        family: Family::Mistral,
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
        family: Family::Qwen3Moe,
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
        family: Family::Mixtral,
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
        name: "tiny-moe",
        family: Family::Qwen3Moe,
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
