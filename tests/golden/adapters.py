#!/usr/bin/env python3
"""Low-rank adapters by PEFT for models that make.py stored: writes `adapters/*/`, with answers of the merged models.

Needs `peft` beside what make.py needs.
"""

import argparse
import shutil
from pathlib import Path

import make
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Name, model, number format of the files, settings.
ADAPTERS = [
    ("llama-all", "llama-gqa3-untied", torch.float32, dict(r=4, lora_alpha=8, target_modules=LLAMA)),
    (
        "llama-root", "llama-gqa3-untied", torch.bfloat16,
        dict(r=8, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"]),
    ),
    (
        "qwen2-patterns", "qwen2-tied", torch.float16,
        dict(
            r=5, lora_alpha=10, target_modules=LLAMA, rank_pattern={"q_proj": 3, "model.layers.1.mlp.up_proj": 7},
            alpha_pattern={"down_proj": 15},
        ),
    ),
    (
        "phi3-fused", "phi3-partial", torch.float32,
        dict(r=8, lora_alpha=16, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    ),
    (
        "gpt2-transposed", "gpt2", torch.float32,
        dict(r=3, lora_alpha=6, fan_in_fan_out=True, target_modules=["c_attn", "c_proj", "c_fc"]),
    ),
    ("falcon-groups", "falcon-groups", torch.float32, dict(r=4, lora_alpha=8, target_modules=["query_key_value"])),
]
LENGTH = make.PROMPT_LENGTHS[-1]


def adapted(folder, dtype, stored, settings, seed):
    """The model with an adapter whose numbers are those of the format in which they are stored."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings), autocast_adapter_dtype=False)
    rng = np.random.default_rng(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
            size = 1 / parameter.shape[1] ** 0.5 if "lora_A" in name else 0.15
            parameter.data = (noise * size).to(stored).to(dtype)
    return model


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="adapters to make; all if none are named")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(__file__).parent
    for seed, (name, model, stored, settings) in enumerate(ADAPTERS, 500):
        if options.names and name not in options.names:
            continue
        folder = root / "adapters" / name
        shutil.rmtree(folder, ignore_errors=True)
        exact = adapted(root / model, torch.float32, stored, settings, seed)
        kept = adapted(root / model, torch.float32, stored, settings, seed)
        kept.to(stored).save_pretrained(folder, safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)
        config = (folder / "adapter_config.json").read_text()
        (folder / "adapter_config.json").write_text(config.replace(str(root / model), model))
        plain = exact.merge_and_unload()
        narrow = adapted(root / model, torch.bfloat16, stored, settings, seed).merge_and_unload()
        prompt = make.choose_prompt(plain, LENGTH, seed)
        positions = [p for p in make.POSITIONS if p < LENGTH]
        case = {"prompt": prompt, "positions": positions}
        case |= {kind: make.answer(made, prompt, positions) for kind, made in (("f32", plain), ("bf16", narrow))}
        value = {"model": model, "cases": [case]}
        make.write_golden(folder / "golden.json", value)
        make.report(name, folder, value)
        for file in folder.iterdir():
            file.chmod(0o644)


if __name__ == "__main__":
    main()
