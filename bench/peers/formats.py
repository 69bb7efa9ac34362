"""The weight formats of each engine: the class in which it is compared, and where convert.sh puts it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """`bits` of a weight, and what is appended to the name of the model folder."""

    bits: int
    suffix: str


FORMATS = {
    "pagoda": {
        "bf16": Format(16, ""),
        "int8": Format(8, ""),
        "w8a8": Format(8, ""),
        "int4": Format(4, ""),
        "w4a8": Format(4, ""),
        # The files of llama.cpp.
        "q4_0": Format(4, ".q4_0.gguf"),
        "q4_k_m": Format(4, ".q4_k_m.gguf"),
        "q8_0": Format(8, ".q8_0.gguf"),
    },
    "llamacpp": {
        "q4_0": Format(4, ".q4_0.gguf"),
        "q4_k_m": Format(4, ".q4_k_m.gguf"),
        "q8_0": Format(8, ".q8_0.gguf"),
        "bf16": Format(16, ".bf16.gguf"),
    },
    # The plugin converts the weights of an fp16 export to its precision, bf16, at load.
    "openvino": {
        "bf16": Format(16, ".openvino-fp16"),
        "int8": Format(8, ".openvino-int8"),
        "int4": Format(4, ".openvino-int4"),
    },
    "vllm": {"bf16": Format(16, ""), "w8a8": Format(8, ".w8a8")},
    "transformers": {"bf16": Format(16, "")},
}


def path(engine, name, model):
    """Where the weights of a format lie: beside the model folder, or the folder itself."""
    return model.with_name(model.name + FORMATS[engine][name].suffix)
