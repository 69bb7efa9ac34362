#!/usr/bin/env python3
"""Writes a Hugging Face folder of random weights with the shape of a public model.

    make_model.py qwen2.5-0.5b FOLDER

Weights are bf16, N(0, 0.02), those that end a residual branch scaled down by sqrt(2 x layers), so that activations stay
finite; norm weights are 1. The tokenizer is a byte-level BPE whose first entries are words of up to three letters, filled up
so that every id is valid and decodes to ASCII. Needs numpy.
"""

import argparse
import json
import string
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DEVIATION = 0.02
CHUNK = 1 << 24
LONGEST_WORD = 3
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a model whose embedding is tied to its head."""

    family: str
    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    theta: float
    epsilon: float
    bias: bool
    context: int
    end: int


SHAPES = {
    "qwen2.5-0.5b": Shape(
        "qwen2", "Qwen2ForCausalLM", 896, 24, 14, 2, 64, 4864, 151936, 1e6, 1e-6, True, 32768, 151643
    ),
    "llama-3.2-1b": Shape(
        "llama", "LlamaForCausalLM", 2048, 16, 32, 8, 64, 8192, 128256, 5e5, 1e-5, False, 131072, 128001
    ),
    # A quarter of the layers of the 8B model, so that disk and memory of a small machine hold it.
    "llama-3.1-8b/4": Shape(
        "llama", "LlamaForCausalLM", 4096, 8, 32, 8, 128, 14336, 128256, 5e5, 1e-5, False, 131072, 128001
    ),
    "tiny": Shape("qwen2", "Qwen2ForCausalLM", 128, 2, 2, 1, 64, 256, 4096, 1e6, 1e-6, True, 4096, 4000),
}


def bf16(values):
    """f32 to the bits of bf16, rounded to nearest even."""
    bits = values.astype(np.float32, copy=False).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def tensors(s):
    """Name, shape and standard deviation (0: all ones) of each tensor, in the order of the file."""
    query, key = s.heads * s.head_dim, s.kv_heads * s.head_dim
    ending = DEVIATION / (2 * s.layers) ** 0.5
    yield "model.embed_tokens.weight", (s.vocabulary, s.hidden), DEVIATION
    for layer in range(s.layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (s.hidden,), 0
        for name, rows in (("q", query), ("k", key), ("v", key)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, s.hidden), DEVIATION
            if s.bias:
                yield f"{prefix}self_attn.{name}_proj.bias", (rows,), DEVIATION
        yield prefix + "self_attn.o_proj.weight", (s.hidden, query), ending
        yield prefix + "post_attention_layernorm.weight", (s.hidden,), 0
        for name in ("gate", "up"):
            yield f"{prefix}mlp.{name}_proj.weight", (s.intermediate, s.hidden), DEVIATION
        yield prefix + "mlp.down_proj.weight", (s.hidden, s.intermediate), ending
    yield "model.norm.weight", (s.hidden,), 0


def write_weights(file, shape, seed):
    """One safetensors file; returns the bytes of its tensors."""
    rng, plan, header, end = np.random.default_rng(seed), list(tensors(shape)), {}, 0
    for name, size, _ in plan:
        start, end = end, end + 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [start, end]}
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, size, deviation in plan:
            count = int(np.prod(size))
            for start in range(0, count, CHUNK):
                part = min(CHUNK, count - start)
                normal = rng.standard_normal(part, dtype=np.float32) if deviation else np.ones(part, np.float32)
                out.write(bf16(normal * (deviation or 1)).tobytes())
    return end


def byte_alphabet():
    """The characters that a byte-level tokenizer writes for the bytes 0 to 255."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (b for b in range(256) if b not in set(plain))
    return [chr(b) for b in plain] + [chr(256 + i) for i, _ in enumerate(others)]


def words(room):
    """Entries and merges of the words " a" to " zzz", as many as fit: each is one token, so that a text of them comes back as
    the tokens it was written from."""
    known, merges = ["\u0120"], []
    for stem in known:
        if len(stem) > LONGEST_WORD or len(merges) + len(string.ascii_lowercase) > room:
            break
        merges += [f"{stem} {letter}" for letter in string.ascii_lowercase]
        known += [stem + letter for letter in string.ascii_lowercase]
    return known[1:], merges


def tokenizer(shape):
    """The contents of tokenizer.json."""
    special = {shape.end: "<|endoftext|>", shape.end + 1: "<|im_start|>", shape.end + 2: "<|im_end|>"}
    entries = byte_alphabet()
    texts, merges = words(min(special) - len(entries))
    entries += texts
    # Valid text that no merge leads to.
    entries += [f"\u0120{i}" for i in range(len(entries), shape.vocabulary)]
    for token, text in special.items():
        entries[token] = text
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": c} | flags for i, c in special.items()],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": model | {"vocab": {text: i for i, text in enumerate(entries)}, "merges": merges},
    }


def config(s):
    """The contents of config.json."""
    common = {
        "architectures": [s.architecture], "model_type": s.family, "hidden_size": s.hidden,
        "num_hidden_layers": s.layers, "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads,
        "head_dim": s.head_dim, "intermediate_size": s.intermediate, "vocab_size": s.vocabulary,
        "tie_word_embeddings": True, "rope_theta": s.theta, "rms_norm_eps": s.epsilon, "hidden_act": "silu",
        "max_position_embeddings": s.context, "initializer_range": DEVIATION, "torch_dtype": "bfloat16",
        "bos_token_id": s.end, "eos_token_id": s.end, "use_cache": True, "attention_dropout": 0.0,
    }  # fmt: skip
    if s.family == "qwen2":
        return common | {"use_sliding_window": False, "sliding_window": s.context, "max_window_layers": s.layers}
    return common | {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}


def main():
    parser = argparse.ArgumentParser(description="random weights in the shape of a public model")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    shape, folder = SHAPES[options.shape], options.folder
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": config(shape),
        "generation_config.json": {"bos_token_id": shape.end, "eos_token_id": shape.end, "do_sample": False},
        "tokenizer.json": tokenizer(shape),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
            "bos_token": None, "model_max_length": shape.context, "clean_up_tokenization_spaces": False,
            "add_bos_token": False, "chat_template": CHAT_TEMPLATE,
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=None if name == "tokenizer.json" else 1))
    print(f"{folder}: {write_weights(folder / 'model.safetensors', shape, options.seed) / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
