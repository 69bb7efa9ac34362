"""Reference models with mixtures of experts: part of make.py."""

import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors
from transformers.models.gpt_oss import GptOssConfig
from transformers.models.granitemoe import GraniteMoeConfig
from transformers.models.mixtral import MixtralConfig
from transformers.models.olmoe import OlmoeConfig
from transformers.models.qwen2_moe import Qwen2MoeConfig
from transformers.models.qwen3_moe import Qwen3MoeConfig

# Above the error of scores in bf16 and int8: a near tie that falls the other way would tell nothing about anybody's arithmetic.
MIN_LEADS = {"mixtral": 0.08, "qwen2_moe": 0.08, "qwen3_moe": 0.06, "granitemoe": 0.06}
MIN_LEAD = 0.04
# First seed of these models.
SEED = 500

# As in make.py.
MODELS = [
    (
        "mixtral-untied",
        MixtralConfig(
            vocab_size=139, hidden_size=64, intermediate_size=40, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            num_local_experts=5, num_experts_per_tok=2, sliding_window=None,
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "mixtral-window-tied",
        MixtralConfig(
            vocab_size=101, hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            num_local_experts=3, num_experts_per_tok=1, sliding_window=9,
            tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        ),
        torch.float32, "96KB", 5,
    ),
    (
        "qwen2-moe-sparse",
        Qwen2MoeConfig(
            vocab_size=151, hidden_size=56, intermediate_size=88, moe_intermediate_size=24,
            shared_expert_intermediate_size=40, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
            head_dim=80, max_position_embeddings=128, rms_norm_eps=1e-6, num_experts=6, num_experts_per_tok=2,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, decoder_sparse_step=2,
            use_sliding_window=True, sliding_window=6, max_window_layers=3,
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=4,
        ),
        torch.float16, None, 5,
    ),
    (
        "qwen3-moe-mixed",
        Qwen3MoeConfig(
            vocab_size=113, hidden_size=64, intermediate_size=72, moe_intermediate_size=28, num_hidden_layers=3,
            num_attention_heads=7, num_key_value_heads=1, head_dim=32, max_position_embeddings=128,
            rms_norm_eps=1e-6, num_experts=7, num_experts_per_tok=3, norm_topk_prob=True, mlp_only_layers=[1],
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=[4, 6],
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "olmoe-gqa3",
        OlmoeConfig(
            vocab_size=127, hidden_size=72, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-5, num_experts=8,
            num_experts_per_tok=3, norm_topk_prob=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=False, pad_token_id=None, bos_token_id=None, eos_token_id=5,
        ),
        torch.float16, None, 5,
    ),
    (
        "granite-moe-stacked",
        GraniteMoeConfig(
            vocab_size=103, hidden_size=64, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-6, num_local_experts=6,
            num_experts_per_tok=3, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            embedding_multiplier=2.0, attention_multiplier=0.2, residual_multiplier=0.7, logits_scaling=1.2,
            tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        ),
        torch.bfloat16, None, 4,
    ),
    (
        "gpt-oss-floats",
        GptOssConfig(
            vocab_size=119, hidden_size=48, intermediate_size=20, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=256, rms_norm_eps=1e-5, sliding_window=7,
            num_local_experts=5, num_experts_per_tok=2, swiglu_limit=1.5,
            rope_parameters={
                "rope_type": "yarn", "rope_theta": 150000.0, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "truncate": False, "original_max_position_embeddings": 32,
            },
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=2, pad_token_id=None,
        ),
        torch.float32, None, 5,
    ),
    (
        "gpt-oss-mxfp4",
        GptOssConfig(
            vocab_size=107, hidden_size=96, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=64, max_position_embeddings=256, rms_norm_eps=1e-5, sliding_window=5,
            num_local_experts=4, num_experts_per_tok=2,
            rope_parameters={
                "rope_type": "yarn", "rope_theta": 150000.0, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "truncate": False, "original_max_position_embeddings": 64,
            },
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=2, pad_token_id=None,
        ),
        torch.bfloat16, None, 5, "mxfp4",
    ),
]

# Values of the codes of MXFP4.
LEVELS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])


def blocks(matrix):
    """Codes and exponents of `[..., outputs, inputs]` in blocks of 32 inputs: the nearest under the scale that just covers."""
    parts = matrix.float().unflatten(-1, (-1, 32))
    exponents = torch.ceil(torch.log2(parts.abs().amax(-1, keepdim=True) / 6.0))
    codes = ((parts / 2.0**exponents).unsqueeze(-1) - LEVELS).abs().argmin(-1).to(torch.uint8)
    return codes[..., ::2] | codes[..., 1::2] << 4, (exponents.squeeze(-1) + 127).to(torch.uint8)


def mxfp4(weights, config):
    """The experts of gpt-oss, which are representable, as they are published."""
    config["quantization_config"] = {
        "quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router"],
    }
    for name in [name for name in weights if name.endswith(("gate_up_proj", "down_proj"))]:
        matrix = weights.pop(name)
        packed, scales = blocks(matrix.transpose(-1, -2))
        assert torch.equal(convert_moe_packed_tensors(packed, scales), matrix), name
        weights[f"{name}_blocks"], weights[f"{name}_scales"] = packed, scales
    return weights, config


def gguf(tensors):
    """The tensors of gpt-oss that GGUF files name otherwise, as floats or as bytes of MXFP4, and the rest under their names."""
    rest, own = {}, {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        block, last = ".".join(("blk", *parts[2:3])), parts[-1]
        if last == "sinks":
            own[f"{block}.attn_sinks.weight"] = tensor.float()
        elif "mlp.router" in name:
            own[f"{block}.ffn_gate_inp.{last}"] = tensor.float()
        elif last.endswith("_bias"):
            for part, module in halves(last, tensor):
                own[f"{block}.ffn_{module}_exps.bias"] = part.float()
        elif last.endswith("_blocks"):
            packed, scales = tensor, tensors[name.replace("_blocks", "_scales")]
            codes = torch.stack((packed & 15, packed >> 4), -1).flatten(-2)
            # The scale, then the first 16 elements in the lower halves.
            whole = torch.cat((scales.unsqueeze(-1), codes[..., :16] | codes[..., 16:] << 4), -1).flatten(-2)
            for part, module in halves(last, whole):
                own[f"{block}.ffn_{module}_exps.weight"] = part
        elif not last.endswith("_scales"):
            rest[name] = tensor
    return rest, own


def halves(name, tensor):
    """Gate and up, whose outputs take turns, or down."""
    if name.startswith("down"):
        return [(tensor, "down")]
    return [(tensor[:, ::2], "gate"), (tensor[:, 1::2], "up")]


def weight(model, name, parameter, noise):
    """Weights of routers, and of experts that store inputs before outputs; None of anything else."""
    if name.endswith(("mlp.gate.weight", "router.weight")):
        # Scores far apart, so that few tokens are near a tie.
        return noise * 4.0 / parameter.shape[-1] ** 0.5
    if model.config.model_type == "gpt_oss" and name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        inputs = parameter.shape[-2]
        value = noise / inputs**0.5
        # What MXFP4 represents, where there are whole blocks.
        return value if inputs % 32 else convert_moe_packed_tensors(*blocks(value.transpose(-1, -2)))
    return None


@torch.no_grad()
def is_clear(model, tokens):
    """Whether every chosen expert has a lead over those that were not, in all layers and for all tokens."""
    leads = [float("inf")]

    def note(module, _, output):
        best = torch.topk(output[0].float().reshape(-1, output[0].shape[-1]), module.top_k + 1).values
        leads.append((best[:, -2] - best[:, -1]).min().item())

    routers = [module for module in model.modules() if type(module).__name__.endswith("Router")]
    hooks = [router.register_forward_hook(note) for router in routers if router.top_k < router.num_experts]
    model(torch.tensor([tokens]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return min(leads) >= MIN_LEADS.get(model.config.model_type, MIN_LEAD)
