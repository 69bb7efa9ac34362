#!/usr/bin/env python3
"""Writes the seeds of all targets into fuzz/seeds: good inputs, and one for each kind of fault that other engines were found to have."""

import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SEEDS = ROOT / "seeds"


def write(target, name, data, kind=None):
    data = data if isinstance(data, bytes) else (data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)).encode()
    if kind is not None:
        data = str(kind).encode() + data if isinstance(kind, int) else kind.encode() + data
    path = SEEDS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def requests():
    def call(name, path, body):
        body = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        write("requests", name, f"{path}\n{body}")

    user = [{"role": "user", "content": "Once upon a time"}]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
    call("completion", "/v1/completions", {"prompt": "Once upon", "max_tokens": 5, "n": 2, "logprobs": 3, "stop": ["x"], "seed": 1, "stream": True})
    call("completion-ids", "/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 2, "echo": True, "logit_bias": {"5": -100}, "stop_token_ids": [7]})
    call("contradiction", "/v1/completions", {"prompt": "x", "min_tokens": 9, "max_tokens": 3, "n": 8, "best_of": 2})
    call("ids-out-of-range", "/v1/completions", {"prompt": [4096, 4294967295, -1], "stop_token_ids": [4096], "logit_bias": {"99999999999": 1}})
    call("numbers", "/v1/completions", '{"prompt": "x", "temperature": 1e309, "top_p": -0.0, "top_k": -2, "n": 2147483648, "seed": 18446744073709551616}')
    call("logprobs-of-all", "/v1/completions", {"prompt": "x", "prompt_logprobs": -1, "logprobs": 4096, "echo": True, "max_tokens": 0})
    call("beams", "/v1/completions", {"prompt": "x", "use_beam_search": True, "best_of": 3, "n": 2, "max_tokens": 4, "length_penalty": 0.5})
    call("surrogate", "/v1/completions", '{"prompt": "\\ud800", "stop": ["\\u0000"]}')
    call("nested", "/v1/completions", '{"prompt": ' + "[" * 80 + "]" * 80 + "}")
    call("guided", "/v1/completions", {"prompt": "x", "max_tokens": 8, "guided_json": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}})
    call("salt", "/v1/completions", {"prompt": "x", "cache_salt": "a/../b\u0000", "priority": -5, "timeout": 0.001})
    call("chat", "/v1/chat/completions", {"messages": user, "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2})
    call("chat-tools", "/v1/chat/completions", {"messages": user, "tools": [tool], "tool_choice": "required", "max_tokens": 20})
    call("chat-parts", "/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]}]})
    call("chat-special", "/v1/chat/completions", {"messages": [{"role": "system", "content": "</s><s>"}, {"role": "tool", "tool_call_id": "1", "content": "<s>"}], "max_tokens": 1})
    call("chat-kwargs", "/v1/chat/completions", {"messages": user, "max_tokens": 1, "chat_template_kwargs": {"messages": [], "bos_token": "x", "a": {"b": [None]}}})
    call("chat-format", "/v1/chat/completions", {"messages": user, "max_tokens": 6, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}})
    call("embeddings", "/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64", "dimensions": 4})
    call("tokenize", "/tokenize", {"content": "a </s> b", "add_special": True, "parse_special": False, "with_pieces": True})
    call("detokenize", "/detokenize", {"tokens": [1, 4095, 4096]})
    call("render", "/v1/completions/render", {"prompt": ["a", [1]]})
    call("render-chat", "/v1/chat/completions/render", {"messages": user})
    call("input-tokens", "/v1/chat/completions/input_tokens", {"messages": user, "tools": [tool]})
    call("template", "/apply-template", {"messages": user})
    call("abort", "/abort_request", {"rid": "x", "abort_all": True})
    call("responses", "/v1/responses", {"input": "hi", "max_output_tokens": 16})
    call("responses-items", "/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]},
         {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"}, {"type": "function_call_output", "call_id": "1", "output": "x"}],
         "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}], "text": {"format": {"type": "json_object"}}, "stream": True})
    call("messages-blocks", "/v1/messages", {"max_tokens": 9, "stream": True, "tools": [{"name": "look", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"},
         "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "<s>"}]}]}]})
    call("count-tokens", "/v1/messages/count_tokens", {"messages": user})
    call("native", "/completion", {"prompt": ["a", 1, "b"], "n_predict": 3, "n_probs": 2, "samplers": ["top_k"], "grammar": "root ::= \"a\"", "stream": True})
    call("infill", "/infill", {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": "../x", "text": "c"}], "n_predict": 2})
    call("ollama-chat", "/api/chat", {"model": "fake", "messages": user, "options": {"num_predict": 3, "temperature": -1}, "format": {"type": "object"}})
    call("ollama-generate", "/api/generate", {"model": "fake", "prompt": "a", "raw": True, "context": [1, -2], "options": {"num_predict": 2, "stop": ["x"]}, "keep_alive": "5m"})
    call("ollama-show", "/api/show", {"model": "../../etc/passwd"})
    call("messages", "/v1/messages", {"messages": user, "max_tokens": 5, "system": "s", "stop_sequences": ["x"]})


def constraints():
    schema = lambda name, value: write("constraints", f"schema-{name}", value, 0)
    schema("object", {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}, "b": {"enum": ["x", "y", None]}}, "required": ["a"]})
    schema("array", {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3})
    schema("loop", {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}})
    schema("tree", {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}, "additionalProperties": False}}, "$ref": "#/$defs/n"})
    schema("pattern", {"type": "string", "pattern": "^(a+)+$", "minLength": 2})
    schema("bad-types", {"type": "objekt", "properties": [], "pattern": "(", "minimum": "1", "enum": {}})
    schema("all-of", {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {"maximum": 5}}, "required": ["a"]}]})
    schema("wide", {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(100)}})
    deep = {"type": "integer"}
    for _ in range(70):
        deep = {"type": "array", "items": deep}
    schema("deep", deep)
    schema("repetition", {"type": "array", "minItems": 1_000_000_000})
    schema("numbers", {"type": "number", "minimum": -1e308, "maximum": 1e308, "multipleOf": 1e-300})
    for name, text in {"plain": "[a-c]{2,5}(x|y)*", "nested": "((((a|b)*)*)*)*c", "bomb": "(a{1000}){1000}", "unicode": r"\p{L}+\w?", "look": "(?=a)(?<!b)a", "open": "(" * 60}.items():
        write("constraints", f"regex-{name}", text, 1)
    write("constraints", "lark", 'start: greeting NAME\ngreeting: "hello " | "hi "\nNAME: /[a-z]+/\n', 2)
    write("constraints", "lark-ambiguous", 'start: a\na: a a | "x" | ""\n', 2)
    write("constraints", "gbnf", 'root ::= "yes" | "no" ws\nws ::= [ \\t]*\n', 2)
    write("constraints", "gbnf-nested", "root ::= " + "(" * 100 + '"a"' + ")" * 100, 2)
    write("constraints", "choices", "yes\nno\nmaybe so\n\n", 3)


def templates():
    plain = "{% for message in messages %}<|{{ message.role }}|>{{ message.content | trim }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    write("templates", "plain", plain)
    write("templates", "messages", plain.encode() + b"\0" + json.dumps([{"role": "user", "content": [{"type": "text", "text": "é"}]}, {}, 3]).encode())
    write("templates", "macro", "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}")
    write("templates", "nested", "{% if a %}" * 600 + "{% endif %}" * 600)
    write("templates", "range", "{% for i in range(1000000000) %}{{ i }}{% endfor %}")
    write("templates", "output", "{% for i in range(100000) %}{{ messages }}{{ messages }}{% endfor %}")
    write("templates", "repeat", "{{ 'a' * 1000000000 }}{{ [1] * 1000000000 }}")
    write("templates", "escape", "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages.__init__.__globals__ }}{% include '/etc/passwd' %}")
    write("templates", "raise", "{{ raise_exception('no ' ~ messages[0].role) }}")
    write("templates", "namespace", "{% set ns = namespace(found=false) %}{% for m in messages if m.role == 'user' %}{% set ns.found = loop.first %}{% endfor %}{{ ns.found }}{{ tools | tojson(indent=2) }}")
    write("templates", "strings", "{{ messages[-1].content.split('u')[-1].strip().upper()[::-1] }}{{ '%s-%d' % ('a', 3) }}{{ 'x'.center(99999999) }}")


def tokenizers():
    def bpe(vocab, merges, **more):
        model = {"type": "BPE", "vocab": {token: at for at, token in enumerate(vocab)}, "merges": merges}
        model.update(more.pop("model", {}))
        return {"version": "1.0", "model": model, **more}

    def file(name, value, text="a text\u0000 with é and 🦀 aaab"):
        write("tokenizers", name, json.dumps(value, ensure_ascii=False).encode() + b"\0" + text.encode())

    letters = list("abc Ġxt")
    added = lambda content, at, **more: {"id": at, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **more}
    file("bpe", bpe([*letters, "ab", "abc"], ["a b", "ab c"]))
    file("byte-level", bpe(letters, [], pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, decoder={"type": "ByteLevel"}))
    file("byte-fallback", bpe([*letters, "<unk>", *[f"<0x{byte:02X}>" for byte in range(256)]], [], model={"byte_fallback": True, "unk_token": "<unk>"},
                              decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}))
    file("bad-byte", bpe(["<0x-1>", "<0xZZ>", "<0x100>", "a"], [], model={"byte_fallback": True}, decoder={"type": "ByteFallback"}))
    file("long-merge", bpe(["a", "b"], ["a b", "ab zzzzzzzz"]))
    file("empty-added", bpe(letters, [], added_tokens=[added("", 99), added("a", 1), added("</s>", 4294967295)]))
    file("added", bpe(letters, [], added_tokens=[added("<s>", 7), added(" x", 8, special=False, lstrip=True, normalized=True)]), "<s> x</s> x  x<s>")
    file("ids-twice", {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 0, "c": 4294967295}, "merges": []}})
    file("metaspace", bpe(["▁", "a", "▁a"], [], pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                          decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}))
    file("regex", bpe(letters, [], pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+b|(?=x)"}, "behavior": "Isolated", "invert": False}), "a" * 30)
    file("strip", bpe(letters, [], decoder={"type": "Sequence", "decoders": [{"type": "Strip", "content": " ", "start": 999999999, "stop": 1}, {"type": "Replace", "pattern": {"String": ""}, "content": "xx"}]}))
    file("unigram", {"version": "1.0", "model": {"type": "Unigram", "unk_id": 9, "vocab": [["a", -1.0], ["b", None]]}})
    file("run", bpe(letters, []), "a" * 5000 + " " * 5000 + "_" * 5000)
    file("holes", bpe(["a", "b"], [], pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}))
    file("words", {"version": "1.0", "model": {"type": "WordPiece", "unk_token": "[U]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 0, "vocab": {"a": 0}}})


def outputs():
    say = lambda name, text: write("outputs", name, text, 0)
    call = '{"name": "look", "arguments": {"n": 1}}'
    say("text", "There was once a king.")
    say("call", f"<tool_call>\n{call}\n</tool_call>")
    say("calls", f"Well. <tool_call>{call}</tool_call><tool_call>{call.replace('look', 'find')}</tool_call> and more")
    say("bare", call)
    say("list", f"[{call}, {call}]")
    say("open", f"<tool_call>{call}")
    say("closed", f"{call}</tool_call></tool_call><tool_call>")
    say("unknown", call.replace("look", "none"))
    say("mark", f"<|python_tag|>{call}")
    say("broken", "<tool_call>{\"name\": \"look\", \"arguments\": \"{\\\"n\\\": }\"}</tool_call>")
    say("order", "</tool_call>{<tool_call>}[TOOL_CALLS]" + "[" * 60)
    say("reasoning", f"<think>I should <tool_call>{call}</tool_call></think>{call}")
    write("outputs", "ids", bytes(range(64)), 1)


def configs():
    good = ROOT.parent / "tests/golden/mistral-full"
    config = json.loads((good / "config.json").read_text())
    put = lambda name, changes: write("configs", name, {**config, **changes}, 0)
    put("good", {})
    put("zeros", {"hidden_size": 0, "num_hidden_layers": 0, "num_attention_heads": 0, "vocab_size": 0})
    put("products", {"hidden_size": 2**31, "vocab_size": 2**33, "num_hidden_layers": 2**40, "intermediate_size": 2**63})
    put("negative", {"num_key_value_heads": -1, "head_dim": -64, "max_position_embeddings": -1})
    put("types", {"hidden_size": "64", "rope_theta": [], "eos_token_id": {}, "architectures": 3, "torch_dtype": None})
    put("rope", {"rope_theta": 1e300, "rope_scaling": {"rope_type": "yarn", "factor": 0, "original_max_position_embeddings": 0}})
    put("window", {"sliding_window": 0, "layer_types": ["full_attention", "no_attention"]})
    put("quantization", {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}})
    quantized = lambda name, **fields: put(name, {"quantization_config": fields})
    rules = {"-:.*o_proj$": {}, "+:(a|b)*[^x-z]{2,3}?(?!k)": {"bits": 8, "group_size": -1}}
    quantized("gptq", quant_method="gptq", bits=4, group_size=128, sym=False, desc_act=True, dynamic=rules)
    quantized("awq", quant_method="awq", bits=4, group_size=64, zero_point=True, version="GEMM")
    quantized("fp8", quant_method="fp8", fmt="e4m3", weight_block_size=[128, 128], activation_scheme="dynamic")
    group = {
        "targets": ["re:.*self_attn.*", "Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
        "input_activations": {"num_bits": 8, "type": "float", "dynamic": True},
    }
    ignore = ["lm_head", r"re:model\.layers\.\d+\.mlp\.(gate|up)_proj$"]
    quantized("compressed", quant_method="compressed-tensors", config_groups={"group_0": group}, ignore=ignore)
    put("remote-code", {"auto_map": {"AutoModel": "a.B"}, "model_type": "../../x"})
    write("configs", "generation-good", {"temperature": 0.7, "top_p": 0.9, "eos_token_id": [1, 2]}, 1)
    write("configs", "generation-bad", '{"temperature": -1, "top_p": 2, "top_k": -5, "eos_token_id": [4294967296]}', 1)


def safetensors():
    raw = (ROOT.parent / "tests/golden/mistral-full/model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + length])
    first = next(name for name in header if name != "__metadata__")

    def tensors(name, change):
        changed = json.loads(json.dumps(header))
        change(changed, changed[first])
        write("safetensors", f"header-{name}", json.dumps(changed, separators=(",", ":")), 2)

    tensors("good", lambda all_, one: None)
    tensors("inverted", lambda all_, one: one.update(data_offsets=one["data_offsets"][::-1]))
    tensors("overlap", lambda all_, one: one.update(data_offsets=[0, 8]))
    tensors("product", lambda all_, one: one.update(shape=[2**32, 2**32]))
    tensors("negative", lambda all_, one: one.update(shape=[-1, 4], data_offsets=[-8, 0]))
    tensors("beyond", lambda all_, one: one.update(data_offsets=[2**63, 2**64 - 1]))
    tensors("type", lambda all_, one: one.update(dtype="F8_E8M0"))
    tensors("missing", lambda all_, one: all_.pop(first))
    tensors("hole", lambda all_, one: all_.pop(first) and all_.update({"unused": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}))
    tensors("shared", lambda all_, one: all_.update({"empty": {"dtype": "F32", "shape": [0], "data_offsets": one["data_offsets"][:1] * 2}}))
    for name, data in {"short": b"\1", "length": (2**64 - 1).to_bytes(8, "little") + b"{}", "empty": b"\2\0\0\0\0\0\0\0{}", "depth": (4000).to_bytes(8, "little") + b"[" * 4000,
                       "twice": b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}}   ', "cut": raw[:length + 100], "pickle": b"\x80\x02}q\0.", "zip": b"PK\3\4" + bytes(26) + b"archive/data.pkl"}.items():
        write("safetensors", f"raw-{name}", data, 0)
    shard = "model-00001-of-00001.safetensors"
    index = lambda name, files: write("safetensors", f"index-{name}", {"metadata": {"total_size": 1}, "weight_map": files}, 3)
    index("good", {name: shard for name in header if name != "__metadata__"})
    index("outside", {first: "../../etc/passwd.safetensors"})
    index("types", {first: 1, "b": [], "c": shard})


def gguf():
    """A GGUF file of one layer, and what is wrong with others."""
    number = lambda value, size=4: (value % 2 ** (8 * size)).to_bytes(size, "little")
    text = lambda value: number(len(value.encode()), 8) + value.encode()
    u32 = lambda value: number(4) + number(value)
    texts = lambda values: number(9) + number(8) + number(len(values), 8) + b"".join(map(text, values))
    sizes = {"embedding_length": 32, "block_count": 1, "feed_forward_length": 32, "attention.head_count": 2, "context_length": 16}
    fields = {"general.architecture": number(8) + text("llama"), **{f"llama.{name}": u32(value) for name, value in sizes.items()}}
    tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab"]
    fields |= {
        "tokenizer.ggml.model": number(8) + text("llama"), "tokenizer.ggml.tokens": texts(tokens), "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.ggml.scores": number(9) + number(6) + number(8, 8) + bytes(24) + number(0x3F800000) + number(0x40000000),
        "tokenizer.ggml.eos_token_id": u32(2), "tokenizer.ggml.unknown_token_id": u32(0),
    }
    matrices = {"token_embd": 8, "blk.0.attn_q": 32, "blk.0.attn_k": 32, "blk.0.attn_v": 32, "blk.0.attn_output": 32, "blk.0.ffn_gate": 32,
                "blk.0.ffn_up": 32, "blk.0.ffn_down": 32}
    tensors = {f"{name}.weight": ([32, rows], 2, 18 * rows) for name, rows in matrices.items()}
    tensors |= {f"{name}.weight": ([32], 0, 128) for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")}

    def put(name, fields=fields, tensors=tensors, counts=None, version=3, offset=0, cut=None):
        head, data = b"", b""
        for key, value in fields.items():
            head += text(key) + value
        for key, (shape, kind, size) in tensors.items():
            head += text(key) + number(len(shape)) + b"".join(number(n, 8) for n in shape) + number(kind) + number(len(data) + offset, 8)
            data += bytes(size + -size % 32)
        count, field_count = counts or (len(tensors), len(fields))
        head = b"GGUF" + number(version) + number(count, 8) + number(field_count, 8) + head
        write("gguf", name, (head + bytes(-len(head) % 32) + data)[:cut])

    put("good")
    put("version", version=2**31)
    put("counts", counts=(2**63, 2**64 - 1))
    put("text", fields | {"x": number(8) + number(2**64 - 1, 8)})
    put("list", fields | {"x": number(9) + number(10) + number(2**61, 8)})
    put("lists", fields | {"x": (number(9) + number(1, 8)) * 40})
    put("product", tensors=tensors | {"output_norm.weight": ([2**32, 2**32], 0, 0)})
    put("rows", tensors=tensors | {"blk.0.attn_q.weight": ([33, 32], 2, 0)})
    put("alignment", fields | {"general.alignment": u32(0)})
    put("split", fields | {"split.count": u32(2**32 - 1)})
    put("types", {key: number(7) + b"\1" for key in fields})
    put("offset", offset=2**64 - 2**11)
    put("beyond", tensors=tensors | {"output_norm.weight": ([2**20], 0, 128)})
    put("cut", cut=-200)
    put("cut-head", cut=500)
    put("elements", fields | {"tokenizer.ggml.tokens": number(9) + number(4) + number(8, 8) + bytes(32), "tokenizer.ggml.scores": texts(tokens)})
    put("bytes", fields | {"tokenizer.ggml.tokens": texts(["<unk>", "<s>", "</s>", "<0x-1>", "<0xZZ>", "<0x100>", "", "a"])})
    put("template", fields | {"tokenizer.chat_template": number(8) + text("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}")})
    write("gguf", "pickle", b"\x80\x02}q\0.")
    put("pieces", fields | {"tokenizer.ggml.tokens": texts(["a" * n for n in range(8)])})


if __name__ == "__main__":
    shutil.rmtree(SEEDS, ignore_errors=True)
    for target in (requests, constraints, templates, tokenizers, outputs, configs, safetensors, gguf):
        target()
    print(sum(1 for path in SEEDS.rglob("*") if path.is_file()), "seeds")
