"""Makes the reference models and answers of this folder. See README.md."""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama import LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config

GREEDY_TOKENS = 24
PROMPT_LENGTHS = (1, 37)
POSITIONS = (0, 6, 15, 16, 36)
# Far above the error of f32 and somewhat above that of most bf16 logits.
MIN_MARGIN = 0.03
MIN_DISTINCT = 6

# Name, configuration, stored format, bytes per shard (None: one file), style of config.json.
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
]


def fill(model, seed):
    """Weights of a scale at which attention is far from uniform and logits spread over about fifteen."""
    rng = np.random.default_rng(seed)
    tied = model.config.tie_word_embeddings
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
        fan_in = parameter.shape[-1]
        if name == "model.norm.weight":
            value = 2.5 + 0.5 * noise
        elif name.endswith("norm.weight"):
            value = 1.0 + 0.25 * noise
        elif name.endswith(".bias"):
            value = (0.1 if tied else 0.4) * noise
        elif "embed_tokens" in name:
            # Small beside what the layers add, or else a tied head repeats its input for ever.
            value = noise / fan_in**0.5 if tied else noise
        elif "q_proj" in name or "k_proj" in name:
            value = noise * 1.4 / fan_in**0.5
        elif tied and ("o_proj" in name or "down_proj" in name):
            value = noise * 2.0 / fan_in**0.5
        else:
            value = noise / fan_in**0.5
        parameter.data.copy_(value)


def version_4(config):
    """The same configuration as transformers 4 wrote it."""
    old = dict(config)
    rope = dict(old.pop("rope_parameters"))
    old.pop("layer_types", None)
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.57.0"
    return old


def store(folder, config, dtype, shard, style, seed):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fill(model, seed)
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    new = json.loads((folder / "config.json").read_text())
    old = version_4(new)
    first, second = (new, old) if style == 5 else (old, new)
    write_json(folder / "config.other.json", second)
    for file in folder.iterdir():
        file.chmod(0o644)
    check_same(folder, first, second)


def check_same(folder, first, second):
    """Both styles must mean the same to the reference."""
    read = []
    for config in (first, second):
        write_json(folder / "config.json", config)
        fields = AutoConfig.from_pretrained(folder).to_dict()
        read.append({k: v for k, v in fields.items() if k not in ("transformers_version", "rope_theta", "rope_scaling")})
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
    for attempt in range(200):
        rng = np.random.default_rng((1000 + seed, length, attempt))
        prompt = rng.integers(0, model.config.vocab_size, length).tolist()
        found = greedy(model, prompt)
        if min(found["margins"]) >= MIN_MARGIN and len(set(found["tokens"])) >= MIN_DISTINCT:
            return prompt
    raise SystemExit(f"no prompt of {length} tokens has a clear greedy answer")


def golden(folder, seed):
    models = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        models[name] = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
        assert models[name].dtype == dtype and models[name].model.rotary_emb.inv_freq.dtype == torch.float32
    cases = []
    for length in PROMPT_LENGTHS:
        prompt = choose_prompt(models["f32"], length, seed)
        positions = [p for p in POSITIONS if p < length]
        case = {"prompt": prompt, "positions": positions}
        cases.append(case | {name: answer(model, prompt, positions) for name, model in models.items()})
    return {"inv_freq": numbers(models["f32"].model.rotary_emb.inv_freq), "cases": cases}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_golden(path, value):
    """One line per list, so that the file is small and can still be compared by eye."""
    path.write_text(json.dumps(value, separators=(",", ":")).replace("],", "],\n").replace(":[[", ":[\n[") + "\n")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for seed, (name, config, dtype, shard, style) in enumerate(MODELS):
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        store(folder, config, dtype, shard, style, seed)
        value = golden(folder, seed)
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
