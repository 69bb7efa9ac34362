"""Makes the quantised folders and answers of the folder quantized. See README.md."""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, Qwen2Config, Qwen3Config, Qwen3MoeConfig

import make
import moe

# First seed of these models.
SEED = 900
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
GPTQ = {"quant_method": "gptq", "damp_percent": 0.01, "true_sequential": True}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "max_position_embeddings": 128}


def words(codes, bits):
    """Codes `[..., m]` below `2**bits` in words of 32 bits `[..., ceil(m / per)]`, the first lowest; lacking ones are 0."""
    per = 32 // bits
    codes = torch.nn.functional.pad(codes.to(torch.int64), (0, -codes.shape[-1] % per)).unflatten(-1, (-1, per))
    return (codes << (torch.arange(per) * bits)).sum(-1)


def signed(values):
    """Words of 32 bits as I32."""
    return torch.where(values >= 1 << 31, values - (1 << 32), values).to(torch.int32)


def round_groups(weight, bits, group, symmetric, dtype, rng):
    """Codes from 0 on `[n, k]`, scales `[n, groups]` in `dtype`, zero points `[n, groups]`."""
    n, k = weight.shape
    group = group or k
    parts = torch.nn.functional.pad(weight, (0, -k % group)).unflatten(-1, (-1, group))
    top = 2**bits - 1
    if symmetric:
        scales = parts.abs().amax(-1) / (top // 2)
        zeros = torch.full_like(scales, top // 2 + 1)
    else:
        low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
        scales = (high - low) / top
        zeros = (-low / scales).round()
        # The ends of the range of zero points, too.
        edge = torch.from_numpy(rng.integers(0, 9, zeros.shape))
        zeros = torch.where(edge == 0, 0.0, torch.where(edge == 1, float(top), zeros)).clamp(0, top)
    scales = scales.to(dtype)
    codes = (parts / scales.float().unsqueeze(-1) + zeros.unsqueeze(-1)).round().clamp(0, top)
    return codes.flatten(-2)[:, :k].to(torch.int64), scales, zeros.to(torch.int64)


def widen(codes, scales, zeros, groups):
    """The weights that codes stand for; `groups` `[k]` has the group of each input."""
    return (codes - zeros[:, groups]).float() * scales.float()[:, groups]


def order(k, group, rng):
    """The group of each input, as sorting by activations leaves it."""
    groups = torch.empty(k, dtype=torch.int64)
    groups[torch.from_numpy(rng.permutation(k))] = torch.arange(k) // group
    return groups


def coded(weight, bits, group, symmetric, dtype, rng, groups=None):
    """Codes, scales, zero points, group of each input and the weights that these stand for."""
    k = weight.shape[1]
    plain = torch.arange(k) // (group or k)
    if groups is None:
        codes, scales, zeros = round_groups(weight, bits, group, symmetric, dtype, rng)
        return codes, scales, zeros, plain, widen(codes, scales, zeros, plain)
    columns = torch.argsort(groups, stable=True)
    sorted_codes, scales, zeros = round_groups(weight[:, columns], bits, group, symmetric, dtype, rng)
    codes = torch.empty_like(sorted_codes)
    codes[:, columns] = sorted_codes
    return codes, scales, zeros, groups, widen(codes, scales, zeros, groups)


class Gptq:
    """As AutoGPTQ writes matrices; `minus_one`: the layout before gptq_v2."""

    def __init__(self, bits=4, group=32, symmetric=True, minus_one=True, act_order=None):
        self.bits, self.group, self.symmetric, self.minus_one = bits, group, symmetric, minus_one
        # Name of the module to what it shares its order with; None: in order.
        self.act_order, self.orders = act_order, {}

    def __call__(self, module, weight, rng):
        groups = None
        if self.act_order:
            key = self.act_order(module)
            groups = self.orders.setdefault(key, order(weight.shape[1], self.group, rng))
        codes, scales, zeros, groups, wide = coded(
            weight, self.bits, self.group, self.symmetric, torch.float16, rng, groups
        )
        packed_zeros = words(zeros.T, self.bits)
        if self.minus_one:
            # One from each number, with borrows: the words as a whole are subtracted.
            ones = int(words(torch.ones(32 // self.bits, dtype=torch.int64), self.bits)[0])
            packed_zeros = (packed_zeros - ones) % (1 << 32)
        return {
            "qweight": signed(words(codes, self.bits).T.contiguous()),
            "qzeros": signed(packed_zeros),
            "scales": scales.T.contiguous(),
            "g_idx": groups.to(torch.int32),
        }, wide


class Awq:
    """As AutoAWQ writes matrices, version gemm."""

    def __init__(self, group):
        self.group = group

    def __call__(self, module, weight, rng):
        codes, scales, zeros, _, wide = coded(weight, 4, self.group, False, torch.float16, rng)
        pack = lambda x: signed(words(x.unflatten(-1, (-1, 8))[..., AWQ_ORDER].flatten(-2), 4))
        return {"qweight": pack(codes.T), "qzeros": pack(zeros.T), "scales": scales.T.contiguous()}, wide


class Packed:
    """pack-quantized of compressed-tensors."""

    def __init__(self, bits, group, symmetric, dtype, act_order=False):
        self.bits, self.group, self.symmetric, self.dtype, self.act_order = bits, group, symmetric, dtype, act_order

    def __call__(self, module, weight, rng):
        groups = order(weight.shape[1], self.group, rng) if self.act_order else None
        codes, scales, zeros, groups, wide = coded(
            weight, self.bits, self.group, self.symmetric, self.dtype, rng, groups
        )
        parts = {
            "weight_packed": signed(words(codes, self.bits)),
            "weight_scale": scales,
            "weight_shape": torch.tensor(weight.shape),
        }
        if not self.symmetric:
            parts["weight_zero_point"] = signed(words(zeros.T, self.bits).T.contiguous())
        if self.act_order:
            parts["weight_g_idx"] = groups.to(torch.int32)
        return parts, wide


class Bytes:
    """int-quantized of compressed-tensors: a scale for each output, or one for all."""

    def __init__(self, dtype, one=False, symmetric=True, static=False):
        self.dtype, self.one, self.symmetric, self.static = dtype, one, symmetric, static

    def __call__(self, module, weight, rng):
        flat = weight.reshape(1, -1) if self.one else weight
        codes, scales, zeros, groups, wide = coded(flat, 8, None, self.symmetric, self.dtype, rng)
        parts = {"weight": (codes - 128).to(torch.int8).reshape(weight.shape), "weight_scale": scales}
        if self.one:
            parts["weight_scale"] = scales.reshape(1)
        if not self.symmetric:
            parts["weight_zero_point"] = (zeros - 128).to(torch.int8)
        if self.static:
            parts["input_scale"] = torch.tensor([0.05], dtype=self.dtype)
        return parts, wide.reshape(weight.shape)


class Fp8:
    """Floats of 8 bits with a scale for each block, output or matrix."""

    def __init__(self, block, name, dtype, shape=None, static=False):
        self.block, self.name, self.dtype, self.shape, self.static = block, name, dtype, shape, static

    def __call__(self, module, weight, rng):
        n, k = weight.shape
        rows, inputs = (size or whole for size, whole in zip(self.block, (n, k)))
        padded = torch.nn.functional.pad(weight, (0, -k % inputs, 0, -n % rows))
        blocks = padded.unflatten(1, (-1, inputs)).unflatten(0, (-1, rows))
        # Scales that leave some codes subnormal.
        scales = (blocks.abs().amax((1, 3)) / 448.0 * 8.0 ** float(rng.integers(0, 4))).to(self.dtype)
        each = scales.float().repeat_interleave(rows, 0)[:n].repeat_interleave(inputs, 1)[:, :k]
        codes = (weight / each).clamp(-448, 448).to(torch.float8_e4m3fn)
        parts = {"weight": codes, self.name: scales.reshape(self.shape) if self.shape is not None else scales}
        if self.static:
            parts["input_scale"] = torch.tensor(0.07, dtype=self.dtype)
        return parts, codes.float() * each


def llama(**fields):
    return LlamaConfig(
        **{"vocab_size": 45, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
           "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": False,
           "bos_token_id": 1, "eos_token_id": 2, **ROPE, **fields}
    )


def qwen3_moe(**fields):
    return Qwen3MoeConfig(
        **{"vocab_size": 45, "hidden_size": 64, "moe_intermediate_size": 32, "intermediate_size": 32,
           "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
           "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True, "tie_word_embeddings": False,
           "bos_token_id": None, "eos_token_id": 4, **ROPE, **fields}
    )


def of_input(module):
    """Queries and keys share their order, as they share their input; all others have their own."""
    return re.sub("[qk]_proj", "qk", module)


def of_expert(module):
    return re.sub("(gate|up)_proj", "gate_up", module)


def ct(groups, **fields):
    return {"quant_method": "compressed-tensors", "quantization_status": "compressed", "config_groups": groups, **fields}


def group(targets, format, activations=None, **weights):
    usual = {"type": "int", "symmetric": True, "dynamic": False, "observer": "minmax", "block_structure": None,
             "group_size": None, "actorder": None}
    return {"targets": targets, "weights": usual | weights, "input_activations": activations,
            "output_activations": None, "format": format}


PER_TOKEN = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True, "symmetric": True}
PER_TENSOR = {"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": False, "symmetric": True}
FLOATS = PER_TENSOR | {"type": "float"}
LINEAR = r".*_proj$"

# Name, configuration, type of the rest, what config.json says of the quantisation, patterns of names of modules with what
# makes their parts, and fields of files beside config.json.
MODELS = [
    (
        "gptq",
        Qwen2Config(
            vocab_size=45, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, head_dim=32, tie_word_embeddings=True, bos_token_id=None, eos_token_id=4, **ROPE,
        ),
        torch.float16, GPTQ | {"bits": 4, "group_size": 32, "sym": True, "desc_act": False},
        {LINEAR: Gptq()},
    ),
    (
        "gptq-act-order",
        llama(hidden_size=96, num_attention_heads=3),
        torch.float16, GPTQ | {"bits": 4, "group_size": 32, "sym": False, "desc_act": True},
        {LINEAR: Gptq(symmetric=False, act_order=of_input)},
    ),
    (
        "gptq-v2-head",
        llama(hidden_size=136, intermediate_size=72, vocab_size=48, attention_bias=True),
        torch.float16,
        GPTQ | {"bits": 8, "group_size": -1, "sym": False, "desc_act": False, "lm_head": True,
                "checkpoint_format": "gptq_v2"},
        {LINEAR + "|lm_head": Gptq(8, None, False, minus_one=False)},
    ),
    (
        # Phi-3 stores queries, keys and values, and gate and up, as one; the rules are of GPTQModel.
        "gptq-fused-rules",
        Phi3Config(
            vocab_size=45, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=False, pad_token_id=None, bos_token_id=1, eos_token_id=2, **ROPE,
        ),
        torch.float16,
        GPTQ | {"bits": 4, "group_size": 64, "sym": True, "desc_act": False,
                "dynamic": {"-:.*\\.o_proj$": {}, "+:.*\\.1\\.(?:mlp)\\..*": {"bits": 8, "group_size": 32}}},
        {r".*\.0\.mlp.*_proj$|.*qkv_proj$": Gptq(group=64), r".*\.1\.mlp\..*": Gptq(8, 32)},
        "quantize_config.json",
    ),
    (
        "awq",
        llama(intermediate_size=128, mlp_bias=True),
        torch.float16,
        {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm",
         "modules_to_not_convert": ["k_proj"]},
        {r".*(?<!k)_proj$": Awq(64)},
    ),
    (
        "compressed-packed",
        llama(intermediate_size=70),
        torch.bfloat16,
        ct({
            "group_0": group(["re:.*self_attn.*"], "pack-quantized", num_bits=4, strategy="group", group_size=32,
                             symmetric=False, actorder="group"),
            "group_1": group(["Linear"], "pack-quantized", num_bits=8, strategy="channel", symmetric=False),
        }, format="pack-quantized", ignore=["lm_head", r"re:model\.layers\.[0-9]+\.mlp\.gate_proj$"]),
        {r".*self_attn.*_proj$": Packed(4, 32, False, torch.bfloat16, act_order=True),
         r".*\.(up|down)_proj$": Packed(8, None, False, torch.bfloat16)},
    ),
    (
        "compressed-int8",
        llama(),
        torch.float16,
        ct({
            "group_0": group(["Linear"], "int-quantized", PER_TOKEN, num_bits=8, strategy="channel"),
            "group_1": group(["re:.*down_proj$"], "int-quantized", PER_TENSOR, num_bits=8, strategy="tensor"),
        }, format="int-quantized", ignore=["lm_head"]),
        {r".*down_proj$": Bytes(torch.float32, one=True, static=True), LINEAR: Bytes(torch.float32)},
    ),
    (
        "compressed-naive",
        llama(),
        torch.float16,
        ct({"group_0": group(["Linear"], "naive-quantized", num_bits=8, strategy="channel", symmetric=False)},
           format="naive-quantized", ignore=["lm_head"]),
        {LINEAR: Bytes(torch.float16, symmetric=False)},
    ),
    (
        "compressed-fp8",
        llama(),
        torch.float16,
        ct({
            "group_0": group(["Linear"], "float-quantized", FLOATS | {"strategy": "token", "dynamic": True}, num_bits=8,
                             type="float", strategy="channel"),
            "group_1": group(["re:.*mlp.*"], "float-quantized", FLOATS, num_bits=8, type="float", strategy="tensor"),
        }, format="float-quantized", ignore=["lm_head"],
           kv_cache_scheme={"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}),
        {r".*mlp.*_proj$": Fp8((None, None), "weight_scale", torch.float32, (1,), static=True),
         LINEAR: Fp8((1, None), "weight_scale", torch.float16)},
    ),
    (
        "fp8-blocks",
        Qwen3Config(
            vocab_size=45, hidden_size=136, intermediate_size=72, num_hidden_layers=1, num_attention_heads=5,
            num_key_value_heads=1, head_dim=32, tie_word_embeddings=True, bos_token_id=None, eos_token_id=4, **ROPE,
        ),
        torch.float16,
        {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
        {LINEAR: Fp8((128, 128), "weight_scale_inv", torch.bfloat16)},
    ),
    (
        "fp8-tensor",
        llama(),
        torch.float16,
        {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]},
        {LINEAR: Fp8((None, None), "weight_scale", torch.float32, (), static=True)},
    ),
    (
        "moe-gptq",
        qwen3_moe(),
        torch.float16, GPTQ | {"bits": 4, "group_size": 32, "sym": False, "desc_act": True},
        {LINEAR: Gptq(symmetric=False, act_order=of_expert)},
    ),
    (
        "moe-awq",
        qwen3_moe(),
        torch.float16,
        {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "GEMM",
         "modules_to_not_convert": ["gate"]},
        {LINEAR: Awq(32)},
    ),
    (
        "moe-fp8",
        qwen3_moe(moe_intermediate_size=40),
        torch.float16,
        {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
         "modules_to_not_convert": ["model.layers.0.mlp.gate", "lm_head"]},
        {LINEAR: Fp8((128, 128), "weight_scale_inv", torch.float32)},
    ),
]


def quantize(weights, dtype, makers, rng):
    """The tensors of the folder, and the weights that they stand for."""
    stored, wide = {}, {}
    for name, weight in sorted(weights.items()):
        module = name.removesuffix(".weight")
        maker = next((maker for pattern, maker in makers.items() if re.fullmatch(pattern, module)), None)
        if maker is None or not name.endswith(".weight"):
            stored[name] = weight.to(dtype)
            wide[name] = stored[name].float()
            continue
        parts, wide[name] = maker(module, weight, rng)
        stored |= {f"{module}.{part}": tensor.contiguous() for part, tensor in parts.items()}
    return stored, wide


def extras(name, stored, config):
    """What tools write beside the matrices, and readers leave out."""
    layers = range(config.num_hidden_layers)
    if name == "gptq":
        for layer in layers:
            for module, n in (("mlp.up_proj", config.intermediate_size), ("mlp.down_proj", config.hidden_size)):
                stored[f"model.layers.{layer}.{module}.bias"] = torch.zeros(n, dtype=torch.float16)
    if name == "compressed-fp8":
        for layer in layers:
            for kind in "kv":
                stored[f"model.layers.{layer}.self_attn.{kind}_scale"] = torch.tensor([0.5], dtype=torch.float32)


def model(folder, seed, name, config, dtype, said, makers, beside=None):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch)
        make.store(reference, config, torch.float32, None, 5, seed)
        weights = load_file(reference / "model.safetensors")
        stored, wide = quantize(weights, dtype, makers, rng)
        extras(name, stored, config)
        save_file(wide, reference / "model.safetensors", metadata={"format": "pt"})
        fields = json.loads((reference / "config.json").read_text()) | {"dtype": str(dtype).removeprefix("torch.")}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if beside:
            make.write_json(folder / beside, {k: v for k, v in said.items() if k != "quant_method"})
        else:
            fields["quantization_config"] = said
        make.write_json(folder / "config.json", fields)
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
        exact = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32, **plain).eval()
        prompt = make.choose_prompt(exact, 21, seed)
        case = {"prompt": prompt, "positions": [0, 20], "f32": make.answer(exact, prompt, [0, 20])}
    make.write_golden(folder / "golden.json", {"cases": [case]})
    for file in folder.iterdir():
        file.chmod(0o644)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "quantized")
    parser.add_argument("names", nargs="*", help="folders to make; all if none are named")
    options = parser.parse_args()
    make.MIN_DISTINCT, make.GREEDY_TOKENS = 3, 10
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for seed, (name, *rest) in enumerate(MODELS, SEED):
        if options.names and name not in options.names:
            continue
        folder = options.out / name
        model(folder, seed, name, *rest)
        print(f"{name:20} {sum(file.stat().st_size for file in folder.iterdir()) / 1024:6.0f} KiB")


if __name__ == "__main__":
    main()
