#!/usr/bin/env python3
"""Writes a folder of make_model.py (llama or qwen2) as a GGUF file of random blocks, to measure loading without a quantiser.

    make_gguf.py FOLDER FILE.gguf q8_0|q4_k_m

The blocks have the sizes and the mixture of formats of real files; what they say is noise of a small scale. Needs numpy and gguf.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from convert_gguf import gguf_name, write_config
from make_model import SHAPES, tensors

SCALE = np.float16(0.001).tobytes()
# Where the two bytes of a block's factors are.
FACTORS = {Kind.Q8_0: [0], Kind.Q4_K: [0, 2], Kind.Q6_K: [208]}


def kind(name, layer, layers, choice):
    """The format that llama.cpp gives a matrix in that mixture."""
    if choice == "q8_0":
        return Kind.Q8_0
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    large = name.startswith("token_embd") or more and ("attn_v" in name or "ffn_down" in name)
    return Kind.Q6_K if large else Kind.Q4_K


def blocks(rng, shape, kind):
    """The bytes of a matrix of random blocks."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (shape[0], shape[1] // elements, size), dtype=np.uint8)
    for at in FACTORS[kind]:
        data[:, :, at : at + 2] = np.frombuffer(SCALE, np.uint8)
    return data.reshape(shape[0], -1)


def main():
    parser = argparse.ArgumentParser(description="a GGUF file of random blocks")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("choice", choices=["q8_0", "q4_k_m"])
    options = parser.parse_args()
    config = json.loads((options.folder / "config.json").read_text())
    shape = next(s for s in SHAPES.values() if s.hidden == config["hidden_size"] and s.layers == config["num_hidden_layers"])
    writer = gguf.GGUFWriter(options.file, config["model_type"], use_temp_file=True)
    write_config(writer, options.folder, config)
    rng = np.random.default_rng(1)
    for name, size, deviation in tensors(shape):
        name = gguf_name(name)
        if len(size) == 1:
            writer.add_tensor(name, np.ones(size, np.float32) if not deviation else rng.standard_normal(size, np.float32))
            continue
        layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
        of = kind(name, layer, shape.layers, options.choice)
        writer.add_tensor(name, blocks(rng, size, of), raw_dtype=of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
