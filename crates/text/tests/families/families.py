"""What the folders of the models say, family by family."""


def bytes_families(m):
    Family, cut, split, byte_level, digits, around, steps = (m[n] for n in ("Family", "cut", "split", "byte_level", "digits", "around", "steps"))
    BYTES, GPT2, BACK = m["BPE_BYTES"], m["GPT2_BYTES"], m["BYTES_BACK"]
    LLAMA3, QWEN2, TEKKEN, O200K, NFC = (m[n] for n in ("LLAMA3", "QWEN2", "TEKKEN", "O200K", "NFC"))
    own = byte_level(regex=False, trim=False)
    llama3 = cut(split(LLAMA3), own)
    reserved = lambda first, count: [f"<|reserved_special_token_{n}|>" for n in range(first, first + count)]

    f = Family("llama3", "Llama 3.x", "llama", "bytes", pre_tokenizer=llama3, decoder=BACK, model=BYTES | {"ignore_merges": True})
    f.add("s", "<|begin_of_text|>", "<|end_of_text|>", *reserved(0, 2), "<|finetune_right_pad_id|>", *reserved(2, 1), "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", *reserved(3, 245))
    f.json["post_processor"] = steps(byte_level(prefix=True, trim=False), around([("<|begin_of_text|>", f.id("<|begin_of_text|>"))]))
    f.config(added_tokens_decoder={str(id): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for id, _, t in f.added[:12]},
             bos_token="<|begin_of_text|>", clean_up_tokenization_spaces=True, eos_token="<|eot_id|>", model_input_names=["input_ids", "attention_mask"], model_max_length=131072, tokenizer_class="PreTrainedTokenizerFast")
    f.file("special_tokens_map.json", {"bos_token": {"content": "<|begin_of_text|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}, "eos_token": {"content": "<|eot_id|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}})
    yield f

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"]
    f = Family("smollm2", "SmolLM 1, 2", "llama", "bytes", front=names, pre_tokenizer=cut(digits(), byte_level()), decoder=BACK, model=GPT2 | {"byte_fallback": False})
    f.add("s", *names)
    f.config(add_prefix_space=False, additional_special_tokens=["<|im_start|>", "<|im_end|>"], bos_token="<|im_start|>", clean_up_tokenization_spaces=False, eos_token="<|im_end|>", model_max_length=8192, pad_token="<|im_end|>", tokenizer_class="GPT2Tokenizer", unk_token="<|endoftext|>", vocab_size=49152)
    yield f

    f = Family("falcon3", "Falcon 3", "llama", "bytes", front=[">>UNUSED_0<<", ">>TITLE<<", ">>ABSTRACT<<"], pre_tokenizer=cut(m["PUNCTUATION"], byte_level(), digits()), decoder=BACK, model=BYTES)
    f.add("s", ">>UNUSED_0<<", ">>TITLE<<", ">>ABSTRACT<<", "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>")
    f.config(add_prefix_space=False, eos_token="<|endoftext|>", pad_token="<|pad|>", model_input_names=["input_ids", "attention_mask"], tokenizer_class="PreTrainedTokenizerFast", clean_up_tokenization_spaces=True)
    yield f

    control = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "<pad>", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", *(f"<SPECIAL_{n}>" for n in range(14, 40))]
    f = Family("mistral-nemo", "Mistral Nemo, Small 3", "mistral", "bytes", front=control, pre_tokenizer=cut(split(TEKKEN), own), decoder=byte_level(trim=True, prefix=True), model=BYTES | {"ignore_merges": True})
    f.add("s", *control)
    f.json["post_processor"] = around([("<s>", 1)])
    f.config(add_bos_token=True, add_eos_token=False, add_prefix_space=True, bos_token="<s>", clean_up_tokenization_spaces=False, eos_token="</s>", tokenizer_class="PreTrainedTokenizerFast", unk_token="<unk>")
    yield f

    qwen = dict(normalizer=NFC, pre_tokenizer=cut(split(QWEN2), own), post_processor=byte_level(regex=False, trim=False), decoder=byte_level(regex=False, trim=False))
    f = Family("qwen2", "Qwen2, Qwen1.5-MoE, Qwen2-MoE", "qwen2", "bytes", **qwen, model=GPT2 | {"byte_fallback": False})
    f.add("s", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
    f.config(add_prefix_space=False, additional_special_tokens=["<|im_start|>", "<|im_end|>"], bos_token=None, clean_up_tokenization_spaces=False, eos_token="<|im_end|>", errors="replace", model_max_length=32768, pad_token="<|endoftext|>", split_special_tokens=False, tokenizer_class="Qwen2Tokenizer", unk_token=None)
    yield f

    vision = ["<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    plain = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
    f = Family("qwen2.5", "Qwen2.5, QwQ", "qwen2", "bytes", **qwen, model=GPT2 | {"byte_fallback": False, "ignore_merges": False})
    f.add("s", "<|endoftext|>", "<|im_start|>", "<|im_end|>", *vision).add("", *plain)
    f.config(add_bos_token=False, add_prefix_space=False, additional_special_tokens=["<|im_start|>", "<|im_end|>", *vision], bos_token=None, clean_up_tokenization_spaces=False, eos_token="<|im_end|>", pad_token="<|endoftext|>", tokenizer_class="Qwen2Tokenizer", unk_token=None)
    yield f

    f = Family("qwen3", "Qwen3, Qwen3-MoE", "qwen3", "bytes", **qwen, model=GPT2 | {"byte_fallback": False, "ignore_merges": False})
    f.add("s", "<|endoftext|>", "<|im_start|>", "<|im_end|>", *vision).add("", *plain, "<tool_response>", "</tool_response>", "<think>", "</think>")
    f.config(add_bos_token=False, add_prefix_space=False, extra_special_tokens=["<|im_start|>", "<|im_end|>", *vision], bos_token=None, backend="tokenizers", clean_up_tokenization_spaces=False, eos_token="<|im_end|>", errors="replace", is_local=False, pad_token="<|endoftext|>", tokenizer_class="Qwen2Tokenizer", unk_token=None)
    yield f

    f = Family("deepseek-r1-qwen", "DeepSeek-R1 distilled to Qwen", "qwen2", "bytes", normalizer=NFC, pre_tokenizer=cut(split(QWEN2), own), decoder=byte_level(regex=False, trim=False), model=GPT2 | {"byte_fallback": False})
    f.add("s", "<｜end▁of▁sentence｜>").add("", "<｜User｜>", "<｜Assistant｜>").add("s", "<｜begin▁of▁sentence｜>").add("", "<|EOT|>", "<think>", "</think>").add("n", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
    f.json["post_processor"] = around([("<｜begin▁of▁sentence｜>", f.id("<｜begin▁of▁sentence｜>"))])
    token = lambda text: {"__type": "AddedToken", "content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    f.config(add_bos_token=True, add_eos_token=False, bos_token=token("<｜begin▁of▁sentence｜>"), clean_up_tokenization_spaces=False, eos_token=token("<｜end▁of▁sentence｜>"), legacy=True, model_max_length=16384, pad_token=token("<｜end▁of▁sentence｜>"), sp_model_kwargs={}, unk_token=None, tokenizer_class="LlamaTokenizerFast")
    yield f

    f = Family("deepseek-coder", "DeepSeek Coder", "llama", "bytes", normalizer={"type": "Sequence", "normalizers": []}, pre_tokenizer=cut(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-\ud7ff]+"), digits(), byte_level(regex=False)), decoder=BACK, model=BYTES)
    f.add("s", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>").add("", "<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>").add("n", "<|User|>", "<|EOT|>")
    f.json["post_processor"] = around([("<｜begin▁of▁sentence｜>", f.id("<｜begin▁of▁sentence｜>"))])
    f.config(add_bos_token=True, add_eos_token=False, bos_token=token("<｜begin▁of▁sentence｜>"), clean_up_tokenization_spaces=False, eos_token=token("<|EOT|>"), legacy=True, tokenizer_class="LlamaTokenizerFast", use_default_system_prompt=False)
    yield f

    dummies = [f"<|dummy_{n}|>" for n in range(4, 30)]
    f = Family("phi4", "Phi-4", "phi3", "bytes", pre_tokenizer=cut(split(LLAMA3), own), post_processor=byte_level(trim=False, prefix=True), decoder=BACK, model=GPT2 | {"byte_fallback": False, "ignore_merges": False})
    f.add("slr", "<|dummy_0|>", "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|dummy_1|>", "<|dummy_2|>", "<|dummy_3|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", *dummies, "<|endofprompt|>")
    f.config(add_prefix_space=False, bos_token="<|endoftext|>", clean_up_tokenization_spaces=False, eos_token="<|im_end|>", pad_token="<|dummy_5|>", tokenizer_class="GPT2Tokenizer", unk_token="<|endoftext|>")
    yield f

    f = Family("smollm3", "SmolLM 3", "smollm3", "bytes", pre_tokenizer=llama3, decoder=BACK, post_processor=around(), model=BYTES | {"ignore_merges": True})
    f.add("s", "<|begin_of_text|>", "<|end_of_text|>").add("", "<think>", "</think>").add("s", *reserved(2, 1), "<|im_start|>", "<|im_end|>").add("", "<tool_response>", "</tool_response>", "<code>", "</code>").add("s", *reserved(8, 30))
    f.config(bos_token=None, clean_up_tokenization_spaces=True, eos_token="<|im_end|>", extra_special_tokens={}, fast=False, model_input_names=["input_ids", "attention_mask"], pad_token="<|im_end|>", tokenizer_class="PreTrainedTokenizerFast")
    yield f

    olmo = dict(pre_tokenizer=cut(split(LLAMA3), own), decoder=BACK)
    f = Family("olmo2", "OLMo 2, OLMo 3", "olmo2", "bytes", **olmo, model=GPT2 | {"byte_fallback": False, "ignore_merges": False})
    f.add("", "|||IP_ADDRESS|||", "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||").add("s", "<|endoftext|>").add("", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|im_start|>", "<|im_end|>").add("s", "<|endofprompt|>").add("s", *(f"<|extra_id_{n}|>" for n in range(12)), "<|pad|>")
    f.json["post_processor"] = byte_level(trim=False, prefix=True)
    f.config(add_prefix_space=False, bos_token="<|endoftext|>", clean_up_tokenization_spaces=False, eos_token="<|endoftext|>", pad_token="<|pad|>", tokenizer_class="GPT2Tokenizer", unk_token="<|endoftext|>")
    yield f

    neox_runs = [" " * n for n in range(24, 1, -1)]
    f = Family("olmoe", "OLMoE, OLMo 1", "olmoe", "bytes", front=["|||IP_ADDRESS|||", "<|padding|>"], normalizer=NFC, pre_tokenizer=byte_level(), post_processor=byte_level(trim=False, prefix=True), decoder=BACK, model=BYTES)
    f.add("", "|||IP_ADDRESS|||").add("s", "<|padding|>").add("n", *neox_runs).add("n", "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||").add("s", "<|endoftext|>")
    f.config(add_bos_token=False, add_eos_token=False, add_prefix_space=False, bos_token=None, clean_up_tokenization_spaces=True, eos_token="<|endoftext|>", pad_token="<|padding|>", tokenizer_class="GPTNeoXTokenizer", unk_token=None)
    yield f

    names = ["<|end_of_text|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<empty_output>", "<commit_before>", "<commit_msg>", "<commit_after>", "<reponame>"]
    f = Family("granite", "Granite 3, dense and MoE", "granite", "bytes", front=names, pre_tokenizer=cut(digits(), byte_level()), post_processor=byte_level(trim=False, prefix=True), decoder=BACK, model=GPT2)
    f.add("s", *names, "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")
    f.config(add_bos_token=False, add_prefix_space=False, additional_special_tokens=["<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"], bos_token="<|end_of_text|>", clean_up_tokenization_spaces=True, eos_token="<|end_of_text|>", errors="replace", pad_token="<|end_of_text|>", padding_side="left", tokenizer_class="GPT2Tokenizer", unk_token="<|end_of_text|>", vocab_size=49152)
    yield f

    f = Family("starcoder2", "StarCoder 2", "starcoder2", "bytes", front=["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<repo_name>", "<file_sep>", "<issue_start>", "<jupyter_code>", "<pr>", "<NAME>", "<EMAIL>", "<KEY>", "<PASSWORD>"], pre_tokenizer=cut(digits(), byte_level()), decoder=BACK, post_processor=byte_level(trim=False, prefix=True), model=GPT2)
    f.add("s", *f.front)
    f.config(add_prefix_space=False, bos_token="<|endoftext|>", clean_up_tokenization_spaces=True, eos_token="<|endoftext|>", tokenizer_class="GPT2Tokenizer", unk_token="<|endoftext|>", vocab_size=49152)
    yield f

    f = Family("stablelm2", "StableLM 2 1.6B", "stablelm", "bytes", pre_tokenizer=cut(split(QWEN2), own), post_processor=byte_level(trim=False, prefix=True), decoder=BACK, model=GPT2 | {"byte_fallback": False})
    f.add("s", "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<gh_stars>", "<filename>", "<issue_start>", "<|pause|>", "<|reg0|>", "<|reg1|>", "<|extra0|>", "<|im_start|>", "<|im_end|>", "<|endofprompt|>")
    f.config(add_prefix_space=False, additional_special_tokens=["<|reg_extra|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"][1:], bos_token="<|endoftext|>", clean_up_tokenization_spaces=False, eos_token="<|im_end|>", pad_token="<|endoftext|>", tokenizer_class="GPT2Tokenizer", unk_token="<|endoftext|>")
    yield f

    names = ["<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>", "<EOP_TOKEN>"]
    turns = ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|YES_TOKEN|>", "<|NO_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>", *(f"<|USER_{n}_TOKEN|>" for n in range(10)), *(f"<|EXTRA_{n}_TOKEN|>" for n in range(9))]
    for name, models, kind, further in (("cohere", "Command R, R+", "cohere", []), ("cohere2", "Command R7B, Command A", "cohere2", ["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_ACTION|>", "<|END_ACTION|>", "<|START_TOOL_RESULT|>", "<|END_TOOL_RESULT|>", "<|START_THINKING|>", "<|END_THINKING|>"])):
        f = Family(name, models, kind, "bytes", front=names, normalizer=NFC, pre_tokenizer=cut(digits(), byte_level()), decoder=byte_level(prefix=True), model=BYTES | {"ignore_merges": False})
        f.add("s", *names).add("" if kind == "cohere" else "s", *turns, *further)
        bos = around([("<BOS_TOKEN>", 5)])
        f.json["post_processor"] = bos
        f.config(add_bos_token=True, add_eos_token=False, add_prefix_space=False, bos_token="<BOS_TOKEN>", clean_up_tokenization_spaces=False, eos_token="<|END_OF_TURN_TOKEN|>", legacy=True, merges_file=None, pad_token="<PAD>", sp_model_kwargs={}, spaces_between_special_tokens=False, tokenizer_class="CohereTokenizerFast", unk_token=None if kind == "cohere" else "<UNK>", use_default_system_prompt=False, vocab_file=None)
        yield f

    f = Family("glm4", "GLM-4-9B, GLM-4-0414", "glm4", "bytes", pre_tokenizer=cut(split(LLAMA3), own), decoder=BACK, model=BYTES | {"ignore_merges": False})
    f.add("s", "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>")
    f.json["post_processor"] = steps(byte_level(trim=False, prefix=True), around([(t, f.id(t)) for t in ("[gMASK]", "<sop>")]))
    f.config(added_tokens_decoder={str(id): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for id, _, t in f.added}, additional_special_tokens=[t for _, _, t in f.added], clean_up_tokenization_spaces=False, do_lower_case=False, eos_token="<|endoftext|>", extra_special_tokens={}, model_input_names=["input_ids", "attention_mask"], model_max_length=128000, pad_token="<|endoftext|>", padding_side="left", remove_space=False, tokenizer_class="PreTrainedTokenizerFast")
    yield f

    f = Family("gpt2", "GPT-2", "gpt2", "bytes", pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}, post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}, decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}, model={"dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False, "type": "BPE"})
    f.add("ns", "<|endoftext|>")
    f.config(model_max_length=1024)
    yield f

    neox = dict(normalizer=NFC, pre_tokenizer=byte_level(), post_processor=byte_level(), decoder=BACK)
    f = Family("gpt-neox", "GPT-NeoX, Pythia, StableLM 3B", "gpt_neox", "bytes", front=["<|endoftext|>", "<|padding|>"], **neox, model=BYTES)
    f.add("s", "<|endoftext|>", "<|padding|>").add("n", *neox_runs)
    f.config(add_prefix_space=False, bos_token="<|endoftext|>", clean_up_tokenization_spaces=True, eos_token="<|endoftext|>", tokenizer_class="GPTNeoXTokenizer", unk_token="<|endoftext|>")
    f.file("special_tokens_map.json", {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"})
    yield f

    names = [">>TITLE<<", ">>ABSTRACT<<", ">>INTRODUCTION<<", ">>SUMMARY<<", ">>COMMENT<<", ">>ANSWER<<", ">>QUESTION<<", ">>DOMAIN<<", ">>PREFIX<<", ">>SUFFIX<<", ">>MIDDLE<<"]
    f = Family("falcon", "Falcon 7B, 40B, 180B", "falcon", "bytes", front=names, pre_tokenizer=cut(m["PUNCTUATION"], byte_level(), digits(False), split("[0-9][0-9][0-9]")), decoder=BACK, model=BYTES)
    f.add("s", *names, "<|endoftext|>")
    f.config(add_prefix_space=False, eos_token="<|endoftext|>", model_input_names=["input_ids", "attention_mask"], model_max_length=2048, special_tokens_map_file=None, tokenizer_class="PreTrainedTokenizerFast")
    f.file("special_tokens_map.json", {"additional_special_tokens": names, "eos_token": "<|endoftext|>"})
    yield f

    names = ["[PAD]", "[BOS]", "[EOS]", "[UNK]"]
    f = Family("exaone", "EXAONE 3, 3.5, 4", "exaone", "bytes", front=names, pre_tokenizer=cut(digits(), byte_level()), normalizer=NFC, decoder=BACK, model=BYTES | {"unk_token": "[UNK]"})
    f.add("s", *names, "[|system|]", "[|tool|]", "[|assistant|]", "[|user|]", "[|endofturn|]").add("", "PI:URL", "PI:EMAIL", "<thought>", "</thought>")
    f.config(add_prefix_space=False, bos_token="[BOS]", clean_up_tokenization_spaces=True, eos_token="[|endofturn|]", pad_token="[PAD]", tokenizer_class="GPT2Tokenizer", unk_token="[UNK]")
    yield f

    f = Family("gpt-oss", "gpt-oss-20b, gpt-oss-120b", "gpt_oss", "bytes", pre_tokenizer=cut(split(O200K), own), post_processor=byte_level(trim=False, prefix=True), decoder=BACK, model=BYTES | {"ignore_merges": True})
    f.add("s", "<|startoftext|>", "<|endoftext|>", "<|reserved_200000|>", "<|reserved_200001|>", "<|return|>", "<|constrain|>", "<|reserved_200004|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", *(f"<|reserved_{n}|>" for n in range(200009, 200012)), "<|call|>", *(f"<|reserved_{n}|>" for n in range(200013, 200018)), "<|endofprompt|>")
    f.config(added_tokens_decoder={str(id): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for id, _, t in f.added}, bos_token="<|startoftext|>", clean_up_tokenization_spaces=False, eos_token="<|return|>", extra_special_tokens={}, model_input_names=["input_ids", "attention_mask"], pad_token="<|endoftext|>", tokenizer_class="PreTrainedTokenizerFast")
    yield f


def piece_families(m):
    Family, around = m["Family"], m["around"]
    PIECES, LLAMA, PREFIXED, STRIPPED, UNSTRIPPED = (m[n] for n in ("BPE_PIECES", "LLAMA", "PREFIXED", "STRIPPED", "UNSTRIPPED"))
    bos = around([("<s>", 1)])
    token = lambda text, **flags: {"__type": "AddedToken", "content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False} | flags

    llama = dict(normalizer=PREFIXED, post_processor=bos, decoder=STRIPPED)
    f = Family("llama2", "Llama 2, TinyLlama, Code Llama", "llama", "pieces", front=LLAMA, **llama, model=PIECES)
    f.add("s", *LLAMA)
    f.config(add_bos_token=True, add_eos_token=False, bos_token=token("<s>"), clean_up_tokenization_spaces=False, eos_token=token("</s>"), legacy=False, model_max_length=1000000000000000019884624838656, pad_token=None, padding_side="right", sp_model_kwargs={}, tokenizer_class="LlamaTokenizer", unk_token=token("<unk>"))
    f.file("special_tokens_map.json", {"bos_token": {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}, "eos_token": "</s>", "unk_token": "<unk>"})
    yield f

    f = Family("llama2-normalized", "Llama 2 as first published", "llama", "pieces", front=LLAMA, **llama, model=PIECES)
    f.add("sn", *LLAMA)
    f.config(bos_token=token("<s>", normalized=True), clean_up_tokenization_spaces=False, eos_token=token("</s>", normalized=True), legacy=True, tokenizer_class="LlamaTokenizerFast", unk_token=token("<unk>", normalized=True))
    yield f

    f = Family("mistral", "Mistral 7B 0.1, 0.2; Mixtral", "mixtral", "pieces", front=LLAMA, pre_tokenizer=m["METASPACE"], post_processor=bos, decoder=STRIPPED, model=PIECES | {"ignore_merges": False})
    f.add("s", *LLAMA)
    f.config(add_bos_token=True, add_eos_token=False, add_prefix_space=None, additional_special_tokens=[], bos_token="<s>", clean_up_tokenization_spaces=False, eos_token="</s>", extra_special_tokens={}, legacy=False, pad_token=None, sp_model_kwargs={}, spaces_between_special_tokens=False, tokenizer_class="LlamaTokenizer", unk_token="<unk>", use_default_system_prompt=False)
    yield f

    control = [*LLAMA, "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", *(f"[control_{n}]" for n in range(8, 60))]
    f = Family("mistral-v3", "Mistral 7B 0.3, Mixtral 8x22B", "mistral", "pieces", front=control, pre_tokenizer=m["METASPACE"], post_processor=bos, decoder=STRIPPED, model=PIECES | {"ignore_merges": False})
    f.add("s", *control)
    f.config(add_bos_token=True, add_eos_token=False, add_prefix_space=True, bos_token="<s>", clean_up_tokenization_spaces=False, eos_token="</s>", legacy=False, pad_token=None, sp_model_kwargs={}, spaces_between_special_tokens=False, tokenizer_class="LlamaTokenizer", unk_token="<unk>", use_default_system_prompt=False)
    yield f

    f = Family("phi3", "Phi-3, Phi-3.5-mini", "phi3", "pieces", front=LLAMA, normalizer=PREFIXED, post_processor=around(), decoder=STRIPPED, model=PIECES)
    f.add("s", "<unk>", "<s>").add("r", "</s>").add("s", "<|endoftext|>").add("sr", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>", "<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>")
    f.config(add_bos_token=False, add_eos_token=False, added_tokens_decoder={str(id): {"content": t, "lstrip": False, "normalized": False, "rstrip": "r" in flags, "single_word": False, "special": "s" in flags} for id, flags, t in f.added}, bos_token="<s>", clean_up_tokenization_spaces=False, eos_token="<|endoftext|>", legacy=False, model_max_length=4096, pad_token="<|endoftext|>", padding_side="left", sp_model_kwargs={}, tokenizer_class="LlamaTokenizer", unk_token="<unk>", use_default_system_prompt=False)
    yield f

    f = Family("internlm2", "InternLM 2, 2.5", "internlm2", "pieces", front=LLAMA, **llama, model=PIECES)
    f.add("s", *LLAMA, "<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
    f.config(added_tokens_decoder={str(id): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for id, _, t in f.added}, additional_special_tokens=[t for _, _, t in f.added[3:]], bos_token="<s>", clean_up_tokenization_spaces=False, decode_with_prefix_space=False, eos_token="</s>", pad_token="</s>", sp_model_kwargs=None, tokenizer_class="InternLM2Tokenizer", unk_token="<unk>")
    yield f

    front = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]", *(f"<unused{n}>" for n in range(30)), "<start_of_turn>", "<end_of_turn>", *("\n" * n for n in range(1, 12)), *("▁" * n for n in range(2, 12)), "<table>", "<h1>", "</h1>", "<strong>"]
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    for name, models, kind, pre, runs in (("gemma", "Gemma 1, CodeGemma", "gemma", None, []), ("gemma2", "Gemma 2", "gemma2", split, []), ("gemma3", "Gemma 3", "gemma3_text", split, ["\t" * n for n in range(1, 8)])):
        own = front + runs
        known = {t for t in m["BASES"]["pieces"]["tokens"]}
        own = [t for t in own if t not in known]
        f = Family(name, models, kind, "pieces", front=own, normalizer=m["SPACES"], pre_tokenizer=pre, decoder=UNSTRIPPED, model=PIECES)
        specials = {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"}
        for t in own:
            if t not in ("\n", "\t"):
                f.add("s" if t in specials else "", t)
        if kind == "gemma3_text":
            f.add("s", "<image_soft_token>")
        f.json["post_processor"] = around([("<bos>", own.index("<bos>"))])
        f.config(add_bos_token=True, add_eos_token=False, added_tokens_decoder={str(id): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": "s" in flags} for id, flags, t in f.added}, additional_special_tokens=["<start_of_turn>", "<end_of_turn>"] if kind != "gemma3_text" else None, bos_token="<bos>", clean_up_tokenization_spaces=False, eos_token="<eos>", pad_token="<pad>", sp_model_kwargs={} if kind != "gemma3_text" else None, spaces_between_special_tokens=False, tokenizer_class="GemmaTokenizer" if kind != "gemma3_text" else "GemmaTokenizerFast", unk_token="<unk>", use_default_system_prompt=False)
        yield f

    f = Family("yi", "Yi", "llama", "pieces", front=["<unk>", "<|startoftext|>", "<|endoftext|>", "<|Human|>", "<|im_start|>", "<|im_end|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"], normalizer={"type": "Sequence", "normalizers": [m["SPACES"]]}, decoder=STRIPPED, model=PIECES)
    f.add("s", *f.front)
    f.config(add_bos_token=False, add_eos_token=False, bos_token="<|startoftext|>", clean_up_tokenization_spaces=False, eos_token="<|endoftext|>", legacy=True, pad_token="<unk>", sp_model_kwargs={}, tokenizer_class="LlamaTokenizer", unk_token="<unk>")
    yield f

    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    f = Family("unigram", "SentencePiece unigram, as T5 and Japanese GPT-NeoX have it", "gpt_bigcode", "unigram", pre_tokenizer=meta, decoder=meta, post_processor=around(after=[("</s>", 2)]), model={"type": "Unigram", "unk_id": 0, "byte_fallback": True})
    f.add("s", *LLAMA, "[INST]").add("n", "[TOOL]").add("w", "<word>")
    f.config(bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False, tokenizer_class="PreTrainedTokenizerFast")
    yield f


def families(m):
    yield from bytes_families(m)
    yield from piece_families(m)
