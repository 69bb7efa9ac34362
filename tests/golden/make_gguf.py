"""Makes the GGUF files and answers of the folder gguf. See README.md."""

import argparse
import copy
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES
from safetensors import safe_open
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama import LlamaConfig
from transformers.models.gemma import GemmaConfig
from transformers.models.gemma2 import Gemma2Config
from transformers.models.gemma3 import Gemma3TextConfig
from transformers.models.glm4 import Glm4Config
from transformers.models.olmo2 import Olmo2Config
from transformers.models.olmoe import OlmoeConfig
from transformers.models.qwen2_moe import Qwen2MoeConfig
from transformers.models.qwen3_moe import Qwen3MoeConfig
from transformers.models.smollm3 import SmolLM3Config

import make
import moe

# Text on which the tokenizers are trained and tested: several scripts, code, marks, spaces and line ends.
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, doesn't it? It's 12345 times faster; we'll see.",
    "Der Fluss fließt über die Brücke, während die Kühe grüßen.",
    "Быстрая лиса прыгает через ленивую собаку 2024 раза.",
    "素早い茶色の狐が怠け者の犬を飛び越える。東京は2024年に。",
    "다람쥐 헌 쳇바퀴에 타고파. 서울에서 만나요!",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया",
    "def f(x):\n    return {k: v ** 2 for k, v in x.items() if v >= 10}\r\n\tassert f({}) == {}\n\n\n",
    "   leading and   inner    spaces  and trailing   ",
    "emoji 👩‍👩‍👧 🇩🇪 😀! e\u0301 é … “quotes” – dash ½ ² ﬁ",
    "HTTPServer parseXMLDocument CamelCase snake_case kebab-case x=1;y+=22;z<=333",
    "http://example.org/a/b?c=d&e=%20#f user@example.org 1,000,000.00 3.14159 0x1F",
    "\u00a0\u200b\u2028 \x01 \ufffd \U000e0001",
    "",
    " ",
    "\n",
]

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Name in GGUF files, patterns, whether words that are tokens are not merged.
CUTTINGS = {
    "llama-bpe": ([LLAMA3], True),
    "qwen2": ([QWEN2], False),
    "gpt-2": ([GPT2], False),
    "smollm": ([r"\p{N}", GPT2], False),
    "tekken": ([TEKKEN], True),
    "deepseek-coder": (["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"], False),
    "default": ([r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"], False),
}

# Blocks whose contents are random: where their f16 are.
RANDOM = {
    Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,), Type.IQ4_NL: (0,),
    Type.IQ4_XS: (0,),
}


def quantize(values, kind, rng):
    """Rows of blocks, and the weights that they stand for."""
    if kind in (Type.F32, Type.F16, Type.BF16):
        stored = quants.quantize(values, kind)
        return stored, quants.dequantize(stored, kind)
    if kind not in RANDOM:
        stored = quants.quantize(values, kind)
        return stored, quants.dequantize(stored, kind)
    block, size = GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    stored = rng.integers(0, 256, (rows * columns // block, size), dtype=np.uint8)
    for at in RANDOM[kind]:
        scale = (0.2 + 0.8 * rng.random(len(stored))) * np.where(rng.random(len(stored)) < 0.5, -1, 1)
        stored[:, at : at + 2] = scale.astype(np.float16)[:, None].view(np.uint8)
    spread = quants.dequantize(stored, kind).std()
    for at in RANDOM[kind]:
        halves = stored[:, at : at + 2].copy().view(np.float16)
        stored[:, at : at + 2] = (halves * (values.std() / spread)).astype(np.float16).view(np.uint8)
    stored = stored.reshape(rows, -1)
    return stored, quants.dequantize(stored, kind).reshape(values.shape)


def interleave(weights, heads):
    """Rows of queries or keys in the order that llama.cpp rotates: neighbours instead of halves."""
    return weights.reshape(heads, 2, -1, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def bytes_vocabulary(name, size=300):
    """A tokenizer of byte merges, and what its file says of it."""
    patterns, whole = CUTTINGS[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if name == "qwen2":
        from tokenizers import normalizers
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    from tokenizers import AddedToken
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<|begin|>", "<|end|>")])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False, special=False)])
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    assert [id for _, id in vocab] == list(range(len(vocab)))
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    fields = {
        "model": "gpt2", "pre": name, "tokens": [token for token, _ in vocab],
        "types": [3 if token in ("<|begin|>", "<|end|>") else 4 if token == "<tool>" else 1 for token, _ in vocab],
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "bos": tokenizer.token_to_id("<|begin|>"), "eos": tokenizer.token_to_id("<|end|>"),
    }
    first = [fields["bos"]] if name in ("llama-bpe", "tekken") else []
    texts = SENTENCES + ["a<tool>b<|end|>c <tool>"]
    return fields, [{"text": text, "ids": first + tokenizer.encode(text).ids} for text in texts]


def pieces_vocabulary(prefix, size=560):
    """A tokenizer of SentencePiece, and what its file says of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 3), model_prefix=path, vocab_size=size, model_type="bpe",
            byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            add_dummy_prefix=prefix, split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.98,
            max_sentencepiece_length=12, minloglevel=2, num_threads=1,
        )
        model = sentencepiece.SentencePieceProcessor(model_file=path + ".model")
    kind = lambda id: 2 if model.is_unknown(id) else 3 if model.is_control(id) else 6 if model.is_byte(id) else 1
    ids = range(model.vocab_size())
    fields = {
        "model": "llama", "pre": "default", "tokens": [model.id_to_piece(id) for id in ids],
        "scores": [model.get_score(id) for id in ids], "types": [kind(id) for id in ids],
        "bos": 1, "eos": 2, "unk": 0, "prefix": prefix,
    }
    return fields, [{"text": text, "ids": [1] + model.encode(text)} for text in SENTENCES if "\0" not in text]


def write_vocabulary(writer, fields):
    writer.add_tokenizer_model(fields["model"])
    writer.add_tokenizer_pre(fields["pre"])
    writer.add_token_list(fields["tokens"])
    writer.add_token_types(fields["types"])
    if "scores" in fields:
        writer.add_token_scores(fields["scores"])
    if "merges" in fields:
        writer.add_token_merges(fields["merges"])
    writer.add_bos_token_id(fields["bos"])
    writer.add_eos_token_id(fields["eos"])
    if "unk" in fields:
        writer.add_unk_token_id(fields["unk"])
    if "prefix" in fields:
        writer.add_add_space_prefix(fields["prefix"])
    writer.add_chat_template("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")


# Format, hidden size, format of the attention's output (whose inputs are fewer), of values, of up, of the head.
FORMATS = {
    "f32": (Type.F32, 64, None, None, None, None),
    "f16": (Type.F16, 64, None, None, None, None),
    "bf16": (Type.BF16, 64, None, None, None, None),
    "q4_0": (Type.Q4_0, 64, None, None, None, None),
    "q4_1": (Type.Q4_1, 64, None, None, None, None),
    "q5_0": (Type.Q5_0, 64, None, None, None, None),
    "q5_1": (Type.Q5_1, 64, None, None, None, None),
    "q8_0": (Type.Q8_0, 64, None, None, None, None),
    "iq4_nl": (Type.IQ4_NL, 96, None, None, None, Type.Q8_0),
    "q2_k": (Type.Q2_K, 256, Type.Q4_0, None, None, Type.Q6_K),
    "q3_k": (Type.Q3_K, 256, Type.IQ4_NL, Type.Q5_K, None, Type.Q6_K),
    "q4_k": (Type.Q4_K, 256, Type.Q5_0, Type.Q6_K, None, Type.Q6_K),
    "q5_k": (Type.Q5_K, 256, Type.Q5_1, Type.Q6_K, Type.Q8_0, Type.Q6_K),
    "q6_k": (Type.Q6_K, 256, Type.Q8_0, None, Type.Q4_K, None),
    "iq4_xs": (Type.IQ4_XS, 256, Type.IQ4_NL, Type.Q6_K, None, None),
}
VOCABULARIES = [*CUTTINGS, "pieces", "pieces-without-prefix"]


def format_case(folder, name, seed):
    """A Llama whose matrices are in one format, and some in others."""
    kind, hidden, o, v, up, head = FORMATS[name]
    cutting = VOCABULARIES[seed % len(VOCABULARIES)]
    fields, texts = pieces_vocabulary(cutting == "pieces") if cutting.startswith("pieces") else bytes_vocabulary(cutting)
    config = LlamaConfig(
        vocab_size=len(fields["tokens"]), hidden_size=hidden, intermediate_size=256 if hidden == 256 else 96,
        num_hidden_layers=1 if hidden == 256 or kind in (Type.F32, Type.F16, Type.BF16) else 2, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        max_position_embeddings=128, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=head is None, bos_token_id=1, eos_token_id=2,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    make.fill(model, 640 + seed)
    rng = np.random.default_rng(560 + 77 + seed)
    writer = GGUFWriter(folder / f"{name}.gguf", "llama")
    write_llama(writer, config)
    write_vocabulary(writer, fields)
    special = {"o_proj": o, "v_proj": v, "up_proj": up, "lm_head": head}
    for tensor, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if values.ndim == 1:
            writer.add_tensor(llama_name(tensor), values)
            continue
        other = next((other for part, other in special.items() if part in tensor and other), None)
        heads = 2 if "q_proj" in tensor else 1 if "k_proj" in tensor else None
        stored, meant = quantize(values, other or kind, rng)
        parameter.data.copy_(torch.from_numpy(meant.copy()))
        if heads:
            stored = interleave(stored, heads)
        writer.add_tensor(llama_name(tensor), stored, raw_dtype=other or kind)
    finish(writer)
    return {"tokenizer": texts, "cases": [answers(model, length, seed) for length in make.PROMPT_LENGTHS]}


def write_llama(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


# Modules of a layer and of the whole in model folders, and their names in GGUF files.
NAMES = {
    "embed_tokens": "token_embd", "wte": "token_embd", "embed_in": "token_embd", "tok_embeddings": "token_embd",
    "word_embeddings": "token_embd", "wpe": "position_embd", "norm": "output_norm", "ln_f": "output_norm",
    "final_layer_norm": "output_norm", "lm_head": "output", "embed_out": "output", "output": "output",
    "input_layernorm": "attn_norm", "ln_1": "attn_norm", "attention_norm": "attn_norm", "ln_attn": "attn_norm_2",
    "ln_mlp": "attn_norm", "post_attention_layernorm": "ffn_norm", "ln_2": "ffn_norm", "ffn_norm": "ffn_norm",
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm", "qkv_proj": "attn_qkv", "c_attn": "attn_qkv", "query_key_value": "attn_qkv",
    "wqkv": "attn_qkv",
    "attn.c_proj": "attn_output", "dense": "attn_output", "wo": "attn_output", "out_proj": "attn_output",
    "gate_proj": "ffn_gate", "w1": "ffn_gate", "c_fc_0": "ffn_gate", "up_proj": "ffn_up", "w3": "ffn_up", "c_fc_1": "ffn_up",
    "c_fc": "ffn_up", "dense_h_to_4h": "ffn_up", "gate_up_proj": "ffn_up", "down_proj": "ffn_down", "w2": "ffn_down",
    "mlp.c_proj": "ffn_down", "dense_4h_to_h": "ffn_down", "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "router.layer": "ffn_gate_inp", "shared_expert.gate_proj": "ffn_gate_shexp", "shared_expert.up_proj": "ffn_up_shexp",
    "shared_expert.down_proj": "ffn_down_shexp", "shared_expert_gate": "ffn_gate_inp_shexp",
}

# Architecture in GGUF files by the type of model, and whether neighbours of queries and keys are rotated together there.
FAMILIES = {
    "llama": ("llama", True), "mistral": ("llama", True), "qwen2": ("qwen2", False), "qwen3": ("qwen3", False),
    "gemma": ("gemma", False), "gemma2": ("gemma2", False), "gemma3_text": ("gemma3", False), "phi3": ("phi3", False), "smollm3": ("smollm3", True),
    "olmo2": ("olmo2", False), "olmo3": ("olmo2", False), "granite": ("granite", True), "stablelm": ("stablelm", False),
    "cohere": ("command-r", False), "cohere2": ("cohere2", False), "glm": ("chatglm", False), "glm4": ("glm4", False),
    "internlm2": ("internlm2", True), "gpt2": ("gpt2", False), "gpt_neox": ("gptneox", False), "falcon": ("falcon", False),
    "mixtral": ("llama", True), "qwen2_moe": ("qwen2moe", False), "qwen3_moe": ("qwen3moe", False), "olmoe": ("olmoe", False),
    "gpt_oss": ("gpt-oss", False), "granitemoe": ("granitemoe", True), "starcoder2": ("starcoder2", False), "exaone": ("exaone", False), "exaone4": ("exaone4", False),
}

# Where the norm behind attention has the name that others give to the one before the MLP.
POST_NORMS = ("gemma2", "gemma3_text", "olmo2", "olmo3", "exaone4", "gpt_oss")


def llama_name(name, kind="llama"):
    """The name of a tensor in GGUF files."""
    module, suffix = name.rsplit(".", 1)
    parts = module.split(".")
    layer = next((part for part in parts if part.isdigit()), None)
    last = parts[-1] if ".".join(parts[-2:]) not in NAMES else ".".join(parts[-2:])
    own = "post_attention_norm" if last == "post_attention_layernorm" and kind in POST_NORMS else NAMES[last]
    return f"{own}.{suffix}" if layer is None else f"blk.{layer}.{own}.{suffix}"


def first(config, *names):
    return next((config[name] for name in names if config.get(name) is not None), None)


# Bytes of weights from which on matrices are rounded to 8 bits, or to 16 where rows are no whole blocks, to keep files small.
LARGE = 230_000


# Small models of architectures whose model folders are large, or have what GGUF files do not.
COMMON = dict(
    vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
    head_dim=32, max_position_embeddings=128, bos_token_id=None, eos_token_id=4, pad_token_id=None,
)
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
EXPERTS = COMMON | dict(num_experts=5, num_experts_per_tok=2, tie_word_embeddings=False, intermediate_size=48, rope_parameters=PLAIN)
OWN = {
    "llama3": LlamaConfig(**COMMON | dict(tie_word_embeddings=True, rope_parameters={
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    })),
    "gemma": GemmaConfig(**COMMON | dict(hidden_size=32, intermediate_size=64, rope_parameters=PLAIN)),
    "gemma2": Gemma2Config(**COMMON | dict(
        num_hidden_layers=3, query_pre_attn_scalar=32, sliding_window=6, attn_logit_softcapping=5.0, final_logit_softcapping=8.0,
    )),
    "gemma3": Gemma3TextConfig(**COMMON | dict(
        num_hidden_layers=7, hidden_size=32, intermediate_size=48, query_pre_attn_scalar=32, sliding_window=6,
        rope_parameters={
            "sliding_attention": PLAIN, "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 4.0},
        },
    )),
    "smollm3": SmolLM3Config(**COMMON | dict(num_hidden_layers=5, hidden_size=32, intermediate_size=48, rope_parameters=PLAIN)),
    "olmo2": Olmo2Config(**{k: v for k, v in COMMON.items() if k != "head_dim"} | dict(
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False, rope_parameters=PLAIN,
    )),
    "glm4": Glm4Config(**COMMON | dict(tie_word_embeddings=False, attention_bias=True, rope_parameters=PLAIN | {"partial_rotary_factor": 0.5})),
    "qwen2moe": Qwen2MoeConfig(**{k: v for k, v in EXPERTS.items() if k != "head_dim"} | dict(
        num_key_value_heads=2, moe_intermediate_size=32, shared_expert_intermediate_size=40,
    )),
    "qwen3moe": Qwen3MoeConfig(**EXPERTS | dict(
        num_hidden_layers=3, moe_intermediate_size=32, norm_topk_prob=True, mlp_only_layers=[1],
    )),
    "olmoe": OlmoeConfig(**{k: v for k, v in EXPERTS.items() if k != "head_dim"} | dict(num_attention_heads=4, num_key_value_heads=2)),
}


def own_case(folder, name, seed):
    model = AutoModelForCausalLM.from_config(OWN[name], dtype=torch.float32, attn_implementation="eager").eval()
    make.fill(model, seed)
    with tempfile.TemporaryDirectory() as path:
        for parameter in model.parameters():
            parameter.data = parameter.data.half().float()
        copy.deepcopy(model).half().save_pretrained(path)
        made = Folder(Path(path))
        made.large = False
        made.write(folder / f"{name}.gguf")
    return {"tokenizer": [], "cases": [answers(model, length, seed) for length in make.PROMPT_LENGTHS]}


class Folder:
    """A model folder on its way to a GGUF file."""

    def __init__(self, path):
        self.config = config = json.loads((path / "config.json").read_text())
        self.kind = config["model_type"]
        self.name, self.interleaved = FAMILIES[self.kind]
        self.hidden, self.heads = first(config, "hidden_size", "n_embd"), first(config, "num_attention_heads", "n_head")
        self.layers = first(config, "num_hidden_layers", "n_layer", "num_layers")
        self.kv_heads = first(config, "num_key_value_heads", "num_kv_heads") or self.heads
        if self.kind == "falcon" and not config.get("new_decoder_architecture"):
            self.kv_heads = 1 if config.get("multi_query", True) else self.heads
        self.dim = config.get("head_dim") or self.hidden // self.heads
        self.rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
        self.local = self.rope.get("sliding_attention")
        self.rope = dict(self.rope.get("full_attention", self.rope))
        self.tensors = {}
        for file in sorted(path.glob("*.safetensors")):
            with safe_open(file, "pt") as opened:
                self.tensors |= {name: opened.get_tensor(name) for name in opened.keys()}
        self.large = sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values()) > LARGE

    def write(self, file):
        writer = GGUFWriter(file, self.name)
        self.write_sizes(writer)
        self.write_rope(writer)
        fields, _ = bytes_vocabulary("gpt-2", 264)
        vocab = next(t for n, t in self.tensors.items() if NAMES.get(n.split(".")[-2]) == "token_embd").shape[0]
        fields["tokens"], fields["types"] = fields["tokens"][:vocab], fields["types"][:vocab]
        fields |= {"merges": [], "bos": 0, "eos": 1}
        write_vocabulary(writer, fields)
        experts = {}
        rest, own = moe.gguf(self.tensors) if self.kind == "gpt_oss" else (self.tensors, {})
        for name, tensor in own.items():
            kind = Type.MXFP4 if tensor.dtype == torch.uint8 else None
            writer.add_tensor(name, tensor.contiguous().numpy(), raw_dtype=kind)
        for name, tensor in rest.items():
            parts = name.split(".")
            if "experts" in parts:
                # One tensor for those of all experts, in the order of their numbers.
                at = parts.index("experts")
                own = llama_name(".".join(parts[:at] + parts[at + 2 :])).replace(".weight", "_exps.weight")
                experts.setdefault(own, {})[int(parts[at + 1])] = tensor
                continue
            for own, part in self.translate(name, tensor):
                self.add(writer, own, part)
        for own, tensors in experts.items():
            self.add(writer, own, torch.stack([tensors[index] for index in range(len(tensors))]))
        finish(writer)

    def write_sizes(self, writer):
        config = self.config
        writer.add_context_length(first(config, "max_position_embeddings", "n_positions"))
        writer.add_embedding_length(self.hidden)
        writer.add_block_count(self.layers)
        inner = first(config, "intermediate_size", "n_inner", "ffn_hidden_size") or 4 * self.hidden
        writer.add_feed_forward_length(inner)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        if config.get("head_dim"):
            writer.add_key_length(self.dim)
            writer.add_value_length(self.dim)
        layer_norm = ("cohere", "cohere2", "stablelm", "gpt2", "gpt_neox", "falcon", "starcoder2")
        eps = first(config, "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
        (writer.add_layer_norm_eps if self.kind in layer_norm else writer.add_layer_norm_rms_eps)(eps)
        if config.get("sliding_window") and self.kind not in ("mistral", "qwen2", "qwen3", "smollm3"):
            writer.add_sliding_window(config["sliding_window"])
            if self.kind in ("cohere2", "exaone4", "olmo3"):
                writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
        if self.kind == "gemma2":
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        experts = first(config, "num_local_experts", "num_experts")
        if experts:
            writer.add_expert_count(experts)
            writer.add_expert_used_count(config["num_experts_per_tok"])
        if config.get("moe_intermediate_size"):
            writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
        if config.get("shared_expert_intermediate_size"):
            writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
        if self.kind in ("granite", "granitemoe"):
            writer.add_attention_scale(config["attention_multiplier"])
            writer.add_embedding_scale(config["embedding_multiplier"])
            writer.add_residual_scale(config["residual_multiplier"])
            writer.add_logit_scale(config["logits_scaling"])
        if self.kind in ("cohere", "cohere2"):
            writer.add_logit_scale(config["logit_scale"])
        if self.kind in ("stablelm", "gpt_neox"):
            writer.add_parallel_residual(config["use_parallel_residual"])

    def write_rope(self, writer):
        config, rope = self.config, self.rope
        if self.kind == "gpt2":
            return
        theta = first(rope, "rope_theta") or first(config, "rope_theta", "rotary_emb_base") or 10000.0
        writer.add_rope_freq_base(theta)
        part = first(rope, "partial_rotary_factor") or first(config, "partial_rotary_factor", "rotary_pct") or 1.0
        turned = int(self.dim * part)
        writer.add_rope_dimension_count(turned)
        kind = first(rope, "rope_type", "type") or "default"
        original = first(config, "original_max_position_embeddings") or first(rope, "original_max_position_embeddings")
        if kind == "linear":
            from gguf import RopeScalingType
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        if kind == "yarn":
            from gguf import RopeScalingType
            writer.add_rope_scaling_type(RopeScalingType.YARN)
            writer.add_rope_scaling_factor(rope["factor"])
            writer.add_rope_scaling_orig_ctx_len(original)
            if rope.get("attention_factor"):
                writer.add_rope_scaling_attn_factors(rope["attention_factor"])
        if kind == "longrope":
            writer.add_rope_scaling_orig_ctx_len(original)
            stretch = config["max_position_embeddings"] / original
            writer.add_rope_scaling_attn_factors(
                first(rope, "attention_factor") or (1 + np.log(stretch) / np.log(original)) ** 0.5
            )
            writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
            writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))
        if kind == "llama3":
            writer.add_tensor("rope_freqs.weight", self.llama3(theta, original))

    def llama3(self, theta, original):
        """Divisors of the frequencies."""
        rope, factors = self.rope, []
        low, high = original / rope["low_freq_factor"], original / rope["high_freq_factor"]
        for frequency in 1.0 / theta ** (np.arange(0, self.dim, 2) / self.dim):
            length = 2 * np.pi / frequency
            if length < high:
                factors.append(1.0)
            elif length > low:
                factors.append(rope["factor"])
            else:
                smooth = (original / length - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
                factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
        return np.array(factors, np.float32)

    def translate(self, name, tensor):
        """Names and tensors of the GGUF file that a tensor becomes."""
        if name.split(".")[-2] in ("attn", "attention", "rotary_emb"):
            return []  # Masks and frequencies that follow from the configuration.
        if "input_linear" in name or "output_linear" in name:
            layer = name.split(".")[2]
            parts = zip(("gate", "up"), tensor.chunk(2, dim=1)) if "input" in name else [("down", tensor)]
            return [(f"blk.{layer}.ffn_{part}_exps.weight", tensor) for part, tensor in parts]
        own = llama_name(name, self.kind)
        if "ffn_gate_inp" in own:
            return [(own, tensor.float().squeeze(0))]
        if self.kind.startswith("gemma") and tensor.ndim == 1:
            tensor = tensor.float() + 1
        if self.kind == "gpt2" and own.startswith("blk.") and tensor.ndim == 2:
            tensor = tensor.T.contiguous()
        if self.kind == "internlm2" and "wqkv" in name:
            parts = zip("qkv", self.split(tensor))
            return [(f"{own.split('attn')[0]}attn_{part}.weight", self.order(tensor, part)) for part, tensor in parts]
        if self.kind in ("gpt_neox", "falcon") and "query_key_value" in name:
            tensor = torch.cat(self.split(tensor))
        for part in "qk":
            if f".attn_{part}." in own:
                tensor = self.order(tensor, part)
        return [(own, tensor)]

    def split(self, tensor):
        """Queries, keys and values of a tensor that has those of a key/value head together."""
        group = self.heads // self.kv_heads
        each = tensor.reshape(self.kv_heads, group + 2, self.dim, *tensor.shape[1:])
        flat = lambda part: part.reshape(-1, *tensor.shape[1:])
        return flat(each[:, :group]), flat(each[:, group : group + 1]), flat(each[:, group + 1 :])

    def order(self, tensor, part):
        if not self.interleaved or part == "v":
            return tensor
        return torch.from_numpy(interleave(tensor.view(torch.int16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy(), self.heads if part == "q" else self.kv_heads)).view(tensor.dtype)

    def add(self, writer, name, tensor):
        if tensor.ndim == 1 or "norm" in name:
            return writer.add_tensor(name, tensor.float().numpy())
        tensor = tensor.contiguous()
        if self.large and tensor.shape[-1] % 32 == 0 and "ffn_gate_inp" not in name:
            stored = quants.quantize(tensor.float().numpy(), Type.Q8_0)
            return writer.add_tensor(name, stored, raw_dtype=Type.Q8_0)
        if self.large and tensor.dtype == torch.float32:
            tensor = tensor.half()
        if "ffn_gate_inp" in name:
            return writer.add_tensor(name, tensor.float().numpy())
        if tensor.dtype == torch.bfloat16:
            return writer.add_tensor(name, tensor.view(torch.uint8).numpy(), raw_dtype=Type.BF16)
        writer.add_tensor(name, tensor.numpy())


# Model folders that are stored once more as GGUF files; their answers are those of the folder.
FOLDERS = [
    "qwen2-yarn", "qwen3-bias-tied", "phi3-longrope", "granite", "stablelm", "cohere", "cohere2", "glm", "internlm2", "gpt2",
    "gpt-neox", "falcon-groups", "falcon-one-key", "starcoder2", "exaone3", "exaone4", "olmo3", "mixtral-untied",
    "granite-moe-stacked", "gpt-oss-mxfp4",
]


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def answers(model, length, seed):
    prompt = make.choose_prompt(model, length, seed)
    positions = [p for p in make.POSITIONS if p < length]
    return {"prompt": prompt, "positions": positions, "f32": make.answer(model, prompt, positions)}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "gguf")
    parser.add_argument("names", nargs="*", help="files to make; all, if none is named")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    # A single layer soon repeats itself.
    make.MIN_DISTINCT, make.POSITIONS = 3, (0, 15, 36)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in FOLDERS:
        path = Path(__file__).parent / name
        if path.is_dir() and (not options.names or name in options.names):
            Folder(path).write(options.out / f"folder-{name}.gguf")
            print(f"{name:20} {(options.out / f'folder-{name}.gguf').stat().st_size / 1024:6.0f} KiB")
    for seed, name in enumerate(OWN):
        if not options.names or name in options.names:
            make.write_golden(options.out / f"{name}.json", own_case(options.out, name, 800 + seed))
            print(f"{name:20} {(options.out / f'{name}.gguf').stat().st_size / 1024:6.0f} KiB")
    for seed, name in enumerate(FORMATS):
        if options.names and name not in options.names:
            continue
        make.write_golden(options.out / f"{name}.json", format_case(options.out, name, seed))
        print(f"{name:10} {(options.out / f'{name}.gguf').stat().st_size / 1024:6.0f} KiB")


if __name__ == "__main__":
    main()
