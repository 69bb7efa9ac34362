"""Makes the reference models and answers of this folder. See README.md."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import moe
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig, AutoModelForCausalLM, Cohere2Config, CohereConfig, Exaone4Config, FalconConfig, Gemma2Config,
    Gemma3TextConfig, GemmaConfig, Glm4Config, GlmConfig, GPT2Config, GPTNeoXConfig, GraniteConfig, LlamaConfig,
    MistralConfig, Olmo2Config, Olmo3Config, Phi3Config, Qwen2Config, Qwen3Config, SmolLM3Config, StableLmConfig,
    Starcoder2Config,
)

GREEDY_TOKENS = 24
PROMPT_LENGTHS = (1, 37)
POSITIONS = (0, 6, 15, 16, 36)
# Far above the error of f32 and somewhat above that of most bf16 logits.
MIN_MARGIN = 0.03
MIN_DISTINCT = 6

# Name, configuration, stored format, bytes per shard (None: one file), style of config.json, and what is done to the
# files of the reference afterwards: those of another family, or of an older release.
MODELS = [
    (
        "llama-gqa3-untied",
        LlamaConfig(
            vocab_size=259, hidden_size=48, intermediate_size=88, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.float32, None, 5,
    ),
    (
        "llama-llama3-tied",
        LlamaConfig(
            vocab_size=301, hidden_size=72, intermediate_size=112, num_hidden_layers=3, num_attention_heads=3,
            num_key_value_heads=1, head_dim=64, max_position_embeddings=256, rms_norm_eps=1e-5,
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
            },
            tie_word_embeddings=True, bos_token_id=1, eos_token_id=[2, 5, 7],
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "llama-bias-linear",
        LlamaConfig(
            vocab_size=130, hidden_size=64, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, head_dim=80, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
            attention_bias=True, mlp_bias=True, tie_word_embeddings=False, bos_token_id=None, eos_token_id=3,
        ),
        torch.float16, None, 5,
    ),
    (
        "llama-mqa-sharded",
        LlamaConfig(
            vocab_size=200, hidden_size=80, intermediate_size=60, num_hidden_layers=2, num_attention_heads=5,
            num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        ),
        torch.float32, "96KB", 4,
    ),
    (
        "mistral-window",
        MistralConfig(
            vocab_size=131, hidden_size=64, intermediate_size=104, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=96, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            sliding_window=7, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "mistral-full",
        MistralConfig(
            vocab_size=97, hidden_size=40, intermediate_size=56, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=128, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            sliding_window=None, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.float16, None, 5,
    ),
    (
        "qwen2-tied",
        Qwen2Config(
            vocab_size=275, hidden_size=96, intermediate_size=136, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=4,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "qwen2-mixed-window",
        Qwen2Config(
            vocab_size=150, hidden_size=64, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            use_sliding_window=True, sliding_window=5, max_window_layers=2,
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=[4],
        ),
        torch.float16, None, 4,
    ),
    (
        "qwen3-sharded",
        Qwen3Config(
            vocab_size=173, hidden_size=56, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=128, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=[4, 6],
        ),
        torch.bfloat16, "150KB", 5,
    ),
    (
        "qwen3-bias-tied",
        Qwen3Config(
            vocab_size=111, hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=3, head_dim=32, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            attention_bias=True, tie_word_embeddings=True, bos_token_id=None, eos_token_id=4,
        ),
        torch.float32, None, 4,
    ),
    (
        "llama-dynamic",
        LlamaConfig(
            vocab_size=101, hidden_size=56, intermediate_size=40, num_hidden_layers=2, num_attention_heads=7,
            num_key_value_heads=1, head_dim=32, max_position_embeddings=64, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "qwen2-yarn",
        Qwen2Config(
            vocab_size=105, hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, head_dim=64, max_position_embeddings=64, rms_norm_eps=1e-6,
            rope_parameters={
                "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16,
            },
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=4,
        ),
        torch.float32, None, 5,
    ),
    (
        "gemma2",
        Gemma2Config(
            vocab_size=115, hidden_size=60, intermediate_size=72, num_hidden_layers=3, num_attention_heads=3,
            num_key_value_heads=1, head_dim=256, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, query_pre_attn_scalar=144,
            sliding_window=6, attn_logit_softcapping=5.0, final_logit_softcapping=20.0,
            tie_word_embeddings=True, bos_token_id=2, eos_token_id=1, pad_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "gemma3",
        Gemma3TextConfig(
            vocab_size=121, hidden_size=48, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
            query_pre_attn_scalar=48, sliding_window=5, sliding_window_pattern=3,
            tie_word_embeddings=True, bos_token_id=2, eos_token_id=[1, 106], pad_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "phi3-partial",
        Phi3Config(
            vocab_size=103, hidden_size=96, intermediate_size=72, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, max_position_embeddings=128, original_max_position_embeddings=128,
            rope_parameters={
                "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                "short_factor": [1.0 + 0.05 * i for i in range(12)], "long_factor": [1.0 + i for i in range(12)],
            },
            rms_norm_eps=1e-5, sliding_window=9, tie_word_embeddings=True, bos_token_id=1, eos_token_id=[2, 7],
            pad_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "phi3-longrope",
        Phi3Config(
            vocab_size=99, hidden_size=96, intermediate_size=48, num_hidden_layers=2, num_attention_heads=1,
            num_key_value_heads=1, max_position_embeddings=128, original_max_position_embeddings=2,
            rope_parameters={
                "rope_type": "longrope", "rope_theta": 10000.0, "attention_factor": 1.19,
                "short_factor": [1.0] * 48, "long_factor": [1.0 + 0.7 * i for i in range(48)],
            },
            rms_norm_eps=1e-5, sliding_window=None, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
            pad_token_id=0,
        ),
        torch.float16, None, 5,
    ),
    (
        "smollm3",
        SmolLM3Config(
            vocab_size=119, hidden_size=60, intermediate_size=52, num_hidden_layers=4, num_attention_heads=3,
            num_key_value_heads=3, head_dim=64, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 2000000.0}, no_rope_layer_interval=2,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=5, pad_token_id=0,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "olmo2",
        Olmo2Config(
            vocab_size=127, hidden_size=72, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=3, pad_token_id=1,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "olmo3",
        Olmo3Config(
            vocab_size=109, hidden_size=64, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2,
            num_key_value_heads=2, head_dim=80, max_position_embeddings=128, rms_norm_eps=1e-6, sliding_window=6,
            rope_parameters={
                "full_attention": {
                    "rope_type": "yarn", "rope_theta": 500000.0, "factor": 8.0, "attention_factor": 1.2,
                    "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 16,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
            },
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=3, pad_token_id=1,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "granite",
        GraniteConfig(
            vocab_size=113, hidden_size=64, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attention_bias=True,
            attention_multiplier=0.2, embedding_multiplier=0.6, residual_multiplier=0.8, logits_scaling=0.8,
            tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "stablelm",
        StableLmConfig(
            vocab_size=107, hidden_size=80, intermediate_size=56, num_hidden_layers=2, num_attention_heads=5,
            num_key_value_heads=1, max_position_embeddings=128, layer_norm_eps=1e-5, use_qkv_bias=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "stablelm-parallel",
        StableLmConfig(
            vocab_size=95, hidden_size=64, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=128, layer_norm_eps=1e-5, use_parallel_residual=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        ),
        torch.float32, None, 5,
    ),
    (
        "cohere",
        CohereConfig(
            vocab_size=117, hidden_size=96, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, max_position_embeddings=128, layer_norm_eps=1e-5, logit_scale=0.75,
            use_qk_norm=True, rope_parameters={"rope_type": "default", "rope_theta": 75000.0},
            tie_word_embeddings=True, bos_token_id=5, eos_token_id=3, pad_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "cohere2",
        Cohere2Config(
            vocab_size=97, hidden_size=64, intermediate_size=72, num_hidden_layers=4, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=128, layer_norm_eps=1e-5, logit_scale=0.75,
            sliding_window=6, layer_types=["sliding_attention", "full_attention"] * 2,
            rope_parameters={"rope_type": "default", "rope_theta": 50000.0},
            tie_word_embeddings=True, bos_token_id=5, eos_token_id=3, pad_token_id=0,
        ),
        torch.float16, None, 5,
    ),
    (
        "glm",
        GlmConfig(
            vocab_size=111, hidden_size=56, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=128, rms_norm_eps=1.5625e-7,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            attention_bias=True, tie_word_embeddings=False, eos_token_id=[4, 9], pad_token_id=0,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "glm4",
        Glm4Config(
            vocab_size=123, hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, head_dim=128, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            attention_bias=False, tie_word_embeddings=False, eos_token_id=[4, 9], pad_token_id=0,
        ),
        torch.float32, None, 5,
    ),
    (
        "internlm2",
        LlamaConfig(
            vocab_size=129, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "dynamic", "rope_theta": 1000000.0, "factor": 2.0},
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.bfloat16, None, 4, "internlm2",
    ),
    (
        "gpt2",
        GPT2Config(
            vocab_size=131, n_embd=48, n_layer=2, n_head=3, n_positions=64, n_inner=None, layer_norm_epsilon=1e-5,
            bos_token_id=7, eos_token_id=7,
        ),
        torch.float32, None, 5, "gpt2",
    ),
    (
        "gpt2-inner",
        GPT2Config(
            vocab_size=89, n_embd=64, n_layer=2, n_head=2, n_positions=64, n_inner=40, layer_norm_epsilon=1e-5,
            activation_function="gelu", scale_attn_weights=False, bos_token_id=7, eos_token_id=7,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "gpt-neox",
        GPTNeoXConfig(
            vocab_size=133, hidden_size=96, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3,
            max_position_embeddings=128, layer_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "gpt-neox-sequential",
        GPTNeoXConfig(
            vocab_size=87, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=128, layer_norm_eps=1e-5, use_parallel_residual=False, hidden_act="gelu_new",
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
            tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        ),
        torch.float32, None, 5,
    ),
    (
        "falcon-one-key",
        FalconConfig(
            vocab_size=137, hidden_size=96, num_hidden_layers=2, num_attention_heads=3, ffn_hidden_size=88,
            max_position_embeddings=128, layer_norm_epsilon=1e-5, multi_query=True, parallel_attn=True,
            new_decoder_architecture=False, bias=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=1, eos_token_id=1,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "falcon-groups",
        FalconConfig(
            vocab_size=91, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
            ffn_hidden_size=72, max_position_embeddings=128, layer_norm_epsilon=1e-5, new_decoder_architecture=True,
            bias=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=1,
            eos_token_id=1,
        ),
        torch.bfloat16, None, 5,
    ),
    (
        "falcon-sequential",
        FalconConfig(
            vocab_size=85, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, multi_query=False,
            max_position_embeddings=128, layer_norm_epsilon=1e-5, new_decoder_architecture=False,
            parallel_attn=False, bias=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=1,
        ),
        torch.float32, None, 5,
    ),
    (
        "starcoder2",
        Starcoder2Config(
            vocab_size=139, hidden_size=64, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, norm_epsilon=1e-5, sliding_window=8, use_bias=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
            tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "exaone3",
        LlamaConfig(
            vocab_size=141, hidden_size=80, intermediate_size=48, num_hidden_layers=2, num_attention_heads=5,
            num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 1000000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
            },
            tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        ),
        torch.float16, None, 4, "exaone",
    ),
    (
        "exaone4",
        Exaone4Config(
            vocab_size=143, hidden_size=64, intermediate_size=56, num_hidden_layers=4, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-5, sliding_window=6,
            sliding_window_pattern=2, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "gemma3-images",
        Gemma3TextConfig(
            vocab_size=93, hidden_size=48, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=1, head_dim=96, max_position_embeddings=128, rms_norm_eps=1e-6,
            rope_parameters={
                "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
            query_pre_attn_scalar=96, sliding_window=5, sliding_window_pattern=2,
            tie_word_embeddings=True, bos_token_id=2, eos_token_id=1, pad_token_id=0,
        ),
        torch.bfloat16, None, 5, "gemma3_images",
    ),
    (
        "gemma1",
        GemmaConfig(
            vocab_size=83, hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, head_dim=64, max_position_embeddings=128, rms_norm_eps=1e-6, hidden_act="gelu",
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=True, bos_token_id=2, eos_token_id=1, pad_token_id=0,
        ),
        torch.bfloat16, None, 4, "gemma1",
    ),
    (
        "falcon-one-norm",
        FalconConfig(
            vocab_size=81, hidden_size=96, num_hidden_layers=2, num_attention_heads=6, num_kv_heads=2,
            ffn_hidden_size=64, max_position_embeddings=128, layer_norm_epsilon=1e-5, new_decoder_architecture=True,
            num_ln_in_parallel_attn=1, bias=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=1,
        ),
        torch.float16, None, 5,
    ),
]

# Prompts long enough that the reference uses the factors of long contexts from the first token on.
LONG_PROMPT_LENGTHS = {"phi3-longrope": (3, 37)}


def fill(model, seed):
    """Weights of a scale at which attention is far from uniform and logits spread over about fifteen."""
    rng = np.random.default_rng(seed)
    tied = model.config.tie_word_embeddings
    # Norms of Gemma multiply by one more than their weights.
    offset = 1.0 if model.config.model_type.startswith("gemma") else 0.0
    conv = {f"{name}.weight" for name, module in model.named_modules() if type(module).__name__ == "Conv1D"}
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
        fan_in = parameter.shape[0 if name in conv else -1]
        has = lambda *parts: any(part in name for part in parts)
        routed = moe.weight(model, name, parameter, noise)
        if routed is not None:
            value = routed
        elif name.endswith(("model.norm.weight", "ln_f.weight", "final_layer_norm.weight")):
            value = 2.5 + 0.5 * noise - offset
        elif offset and has("post_attention_layernorm", "post_feedforward_layernorm"):
            # Large beside the embedding, which these models multiply, or else the head repeats its input for ever.
            value = 3.0 + 0.5 * noise - offset
        elif name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_attn.weight", "ln_mlp.weight")):
            value = 1.0 + 0.25 * noise - offset
        elif name.endswith((".bias", "_bias", "sinks")):
            value = (0.1 if tied else 0.4) * noise
        elif has("wpe"):
            value = 0.5 * noise
        elif has("embed_tokens", "wte", "embed_in", "word_embeddings"):
            # Small beside what the layers add, or else a tied head repeats its input for ever.
            value = noise / fan_in**0.5 if tied else noise
        elif has("q_proj", "k_proj", "qkv_proj", "c_attn", "query_key_value"):
            value = noise * 1.4 / fan_in**0.5
        elif tied and has("o_proj", "down_proj", "c_proj", "dense.weight", "dense_4h_to_h"):
            value = noise * 2.0 / fan_in**0.5
        else:
            value = noise / fan_in**0.5
        parameter.data.copy_(value)


def version_4(config):
    """The same configuration as transformers 4 wrote it; None where it wrote no other."""
    old = dict(config)
    rope = old.pop("rope_parameters", None)
    if rope is None:
        return None
    if "full_attention" in rope:
        if old["model_type"] == "olmo3":
            return None
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    rope = dict(rope)
    if old["model_type"] in ("llama", "mistral", "qwen2", "qwen3"):
        old.pop("layer_types", None)
    theta, rotary = "rope_theta", "partial_rotary_factor"
    if old["model_type"] == "gpt_neox":
        theta, rotary = "rotary_emb_base", "rotary_pct"
    old[theta] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        old[rotary] = rope.pop("partial_rotary_factor")
    if old["model_type"] == "phi3":
        rope.pop("original_max_position_embeddings", None)
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.57.0"
    return old


def internlm2(weights, config):
    """A Llama in the files of InternLM 2: each key/value head behind its queries, and before its values."""
    config |= {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False}
    renamed = {
        "embed_tokens": "tok_embeddings", "lm_head": "output", "input_layernorm": "attention_norm",
        "self_attn.o_proj": "attention.wo", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
    }
    groups, width = config["num_key_value_heads"], config["hidden_size"]
    for layer in range(config["num_hidden_layers"]):
        attention = f"model.layers.{layer}.self_attn"
        parts = [weights.pop(f"{attention}.{name}_proj.weight").view(groups, -1, width) for name in "qkv"]
        weights[f"model.layers.{layer}.attention.wqkv.weight"] = torch.cat(parts, 1).reshape(-1, width).contiguous()
    return rename(weights, renamed), config


def exaone(weights, config):
    """A Llama in the files of EXAONE 3."""
    config |= {"architectures": ["ExaoneForCausalLM"], "model_type": "exaone"}
    for usual, own in (("num_hidden_layers", "num_layers"), ("rms_norm_eps", "layer_norm_epsilon")):
        config[own] = config.pop(usual)
    config["activation_function"] = config.pop("hidden_act")
    renamed = {
        "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f", "model.layers": "transformer.h",
        "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn.o_proj": "attn.attention.out_proj",
        "self_attn": "attn.attention", "gate_proj": "c_fc_0", "up_proj": "c_fc_1", "down_proj": "c_proj",
    }
    return rename(weights, renamed), config


def gemma3_images(weights, config):
    """The text part of a Gemma 3 that sees, beside a tensor of the other part."""
    weights = {f"language_model.{name}": tensor for name, tensor in weights.items()}
    weights["vision_tower.embeddings.patch_embedding.bias"] = torch.zeros(4)
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "tie_word_embeddings": True}
    return weights, outer | {"eos_token_id": config["eos_token_id"], "text_config": config}


def gemma1(weights, config):
    """As the first release named the activation."""
    return weights, config | {"hidden_act": "gelu"}


def gpt2(weights, config):
    """As the first release was stored: without a prefix, and with the masks of attention."""
    weights = rename(weights, {"transformer.": ""})
    size = config["n_positions"]
    for layer in range(config["n_layer"]):
        weights[f"h.{layer}.attn.bias"] = torch.ones(size, size).tril().view(1, 1, size, size)
    return weights, config


def rename(weights, names):
    def other(name):
        for usual, own in names.items():
            name = name.replace(usual, own)
        return name

    return {other(name): tensor for name, tensor in weights.items()}


REWRITES = {
    "internlm2": internlm2, "exaone": exaone, "gemma1": gemma1, "gemma3_images": gemma3_images,
    "gpt2": gpt2, "mxfp4": moe.mxfp4,
}


def rewrite(reference, folder, how):
    """Copies the files of the reference to `folder` as another family, or an older release, has them."""
    folder.mkdir(parents=True)
    weights = load_file(reference / "model.safetensors")
    for name in ("config.json", "config.other.json"):
        if (reference / name).is_file():
            changed, config = REWRITES[how](dict(weights), json.loads((reference / name).read_text()))
            write_json(folder / name, config)
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(reference / "generation_config.json", folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def store(folder, config, dtype, shard, style, seed):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fill(model, seed)
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    new = json.loads((folder / "config.json").read_text())
    old = version_4(new)
    first, second = (old, new) if old and style == 4 else (new, old)
    if second:
        write_json(folder / "config.other.json", second)
        check_same(folder, first, second)
    for file in folder.iterdir():
        file.chmod(0o644)


def check_same(folder, first, second):
    """Both styles must mean the same to the reference."""
    read = []
    for config in (first, second):
        write_json(folder / "config.json", config)
        fields = AutoConfig.from_pretrained(folder).to_dict()
        ignored = ("transformers_version", "rope_theta", "rope_scaling", "partial_rotary_factor", "dtype")
        read.append({k: v for k, v in fields.items() if k not in ignored})
    write_json(folder / "config.json", first)
    assert read[0] == read[1], [k for k in read[0] if read[0][k] != read[1].get(k)]


def greedy(model, prompt):
    """Tokens, the lead of each over the runner-up, and the logits that chose the last one."""
    tokens, margins = list(prompt), []
    for _ in range(GREEDY_TOKENS):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].float()
        best = torch.topk(logits, 2).values
        margins.append((best[0] - best[1]).item())
        tokens.append(int(torch.argmax(logits)))
    return {"tokens": tokens[len(prompt):], "margins": numbers(margins), "last_logits": numbers(logits)}


def numbers(values):
    return [float(f"{float(value):.8g}") for value in values]


def answer(model, prompt, positions):
    logits = model(torch.tensor([prompt]), use_cache=False).logits[0].float()
    return {"logits": [numbers(logits[p]) for p in positions], "greedy": greedy(model, prompt)}


def choose_prompt(model, length, seed):
    """The first random prompt whose greedy answer is clear at every step and not one token for ever."""
    for attempt in range(2000):
        rng = np.random.default_rng((1000 + seed, length, attempt))
        prompt = rng.integers(0, model.config.vocab_size, length).tolist()
        if not moe.is_clear(model, prompt):
            continue
        found = greedy(model, prompt)
        clear = moe.is_clear(model, prompt + found["tokens"])
        if clear and min(found["margins"]) >= MIN_MARGIN and len(set(found["tokens"])) >= MIN_DISTINCT:
            return prompt
    raise SystemExit(f"no prompt of {length} tokens has a clear greedy answer")


def golden(folder, seed, lengths):
    models = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
        models[name] = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **plain).eval()
        assert models[name].dtype == dtype
    cases = []
    for length in lengths:
        prompt = choose_prompt(models["f32"], length, seed)
        positions = [p for p in POSITIONS if p < length]
        case = {"prompt": prompt, "positions": positions}
        cases.append(case | {name: answer(model, prompt, positions) for name, model in models.items()})
    return {"inv_freq": frequencies(models["f32"]), "cases": cases}


def frequencies(model):
    """Of the rotation, or of each kind of layer; None without one. After a prompt, so that they are those it needed."""
    for module in model.modules():
        if hasattr(module, "full_attention_inv_freq"):
            return {kind: numbers(getattr(module, f"{kind}_inv_freq")) for kind in module.layer_types}
        if hasattr(module, "inv_freq"):
            assert module.inv_freq.dtype == torch.float32
            return numbers(module.inv_freq)
    return None


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_golden(path, value):
    """One line per list, so that the file is small and can still be compared by eye."""
    path.write_text(json.dumps(value, separators=(",", ":")).replace("],", "],\n").replace(":[[", ":[\n[") + "\n")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("names", nargs="*", help="models to make; all if none are named")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    models = [*enumerate(MODELS), *enumerate(moe.MODELS, moe.SEED)]
    for seed, (name, config, dtype, shard, style, *how) in models:
        if options.names and name not in options.names:
            continue
        folder = options.out / name
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as scratch:
            reference = Path(scratch) / "model" if how else folder
            reference.mkdir(parents=True)
            store(reference, config, dtype, shard, style, seed)
            if how:
                rewrite(reference, folder, *how)
            value = golden(reference, seed, LONG_PROMPT_LENGTHS.get(name, PROMPT_LENGTHS))
        write_golden(folder / "golden.json", value)
        report(name, folder, value)


def report(name, folder, value):
    size = sum(file.stat().st_size for file in folder.iterdir())
    case = value["cases"][-1]
    f32, bf16 = (np.array(case[kind]["logits"]) for kind in ("f32", "bf16"))
    spread = f32.max() - f32.min()
    margins = sorted(case["f32"]["greedy"]["margins"])
    distinct = len(set(case["f32"]["greedy"]["tokens"]))
    print(
        f"{name:20} {size / 1024:6.0f} KiB  logit range {spread:5.1f}  bf16 error {np.abs(f32 - bf16).max():.3f}"
        f"  margins {margins[0]:.3f} {margins[len(margins) // 2]:.3f}  distinct tokens {distinct}"
    )


if __name__ == "__main__":
    main()
