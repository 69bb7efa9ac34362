#!/usr/bin/env python3
"""A bf16 folder to the 8-bit form that vLLM computes in integers on a CPU: layers with one scale per output channel, rounded to
nearest, activations quantised per token at run time (`compressed-tensors`, int-quantized). Embedding and head stay bf16.

    quantize_w8a8.py FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from formats import path
from safetensors_files import tensors, write

LARGEST = 127
ACTIVATIONS = {"dynamic": True, "num_bits": 8, "strategy": "token", "symmetric": True, "type": "int"}
WEIGHTS = {"dynamic": False, "num_bits": 8, "strategy": "channel", "symmetric": True, "type": "int"}
QUANTIZATION = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "kv_cache_scheme": None,
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": WEIGHTS,
            "input_activations": ACTIVATIONS,
            "output_activations": None,
        }
    },
}


def quantised(bits):
    """Codes [n, k] of i8 and scales [n, 1] of f32."""
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    scale = np.abs(values).max(axis=1, keepdims=True) / LARGEST
    codes = np.rint(values / np.where(scale == 0, 1, scale)).astype(np.int8)
    return codes, scale.astype(np.float32)


def converted(file):
    """Name, type and array of every tensor of the result."""
    for name, bits in tensors(file):
        if name.endswith("_proj.weight"):
            codes, scale = quantised(bits)
            yield name, "I8", codes
            yield name.replace(".weight", ".weight_scale"), "F32", scale
        else:
            yield name, "BF16", bits


def main():
    folder = Path(sys.argv[1]).absolute()
    out = path("vllm", "w8a8", folder)
    weights = out / "model.safetensors"
    if weights.exists():
        return
    out.mkdir(exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"quantization_config": QUANTIZATION}, indent=1))
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, out / name)
    write(weights, converted(folder / "model.safetensors"))
    print(f"{out.name}: {weights.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
