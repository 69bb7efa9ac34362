#!/usr/bin/env python3
"""A Hugging Face folder (qwen2 or llama, one file of bf16) to GGUF beside it: bf16, then llama.cpp's own quantiser.

    convert_gguf.py FOLDER [q8_0 q4_0 …]

Runs in the environment of llama-cpp-python, with numpy and gguf.
"""

import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np

from formats import path
from safetensors_files import tensors

TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
IN_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
SPECIAL, PLAIN = 3, 1


def gguf_name(name):
    """`model.layers.3.mlp.up_proj.weight` to `blk.3.ffn_up.weight`."""
    base, kind = name.rsplit(".", 1)
    if base in TOP:
        return f"{TOP[base]}.{kind}"
    _, _, layer, rest = base.split(".", 3)
    return f"blk.{layer}.{IN_LAYER[rest]}.{kind}"


def interleaved(rows, heads):
    """The order in which llama.cpp rotates the heads of this family: pairs beside each other."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_config(writer, folder, config):
    """Sizes and tokenizer."""
    writer.add_name(folder.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    entries = sorted(tokenizer["model"]["vocab"].items(), key=lambda entry: entry[1])
    special = {token["id"] for token in tokenizer["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([text for text, _ in entries])
    writer.add_token_types([SPECIAL if i in special else PLAIN for _, i in entries])
    if merges:
        writer.add_token_merges(merges)
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_add_bos_token(False)


def write(folder, out):
    """The bf16 file."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(out), config["model_type"])
    write_config(writer, folder, config)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, bits in tensors(folder / "model.safetensors"):
        name = gguf_name(name)
        part = name.split(".")[-2]
        if config["model_type"] == "llama" and part in heads:
            bits = interleaved(bits, heads[part])
        if bits.ndim == 1:
            writer.add_tensor(name, (bits.astype(np.uint32) << 16).view(np.float32))
        else:
            raw = np.ascontiguousarray(bits).view(np.uint8)
            writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, out, name):
    """llama.cpp's quantiser; raises when it fails."""
    import llama_cpp as llama

    llama.llama_backend_init()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{name.upper()}")
    parameters.nthread = len(os.sched_getaffinity(0))
    if llama.llama_model_quantize(str(source).encode(), str(out).encode(), parameters) != 0:
        raise SystemExit(f"{out}: llama.cpp did not quantise")


def main():
    folder = Path(sys.argv[1]).absolute()
    source = path("llamacpp", "bf16", folder)
    if not source.exists():
        write(folder, source)
    for name in sys.argv[2:]:
        out = path("llamacpp", name, folder)
        if not out.exists():
            quantize(source, out, name)
        print(f"{out.name}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
