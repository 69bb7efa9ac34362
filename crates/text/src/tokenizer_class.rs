//! The tokens that a class of `transformers` gives to roles which the files leave open.

use crate::special::JsonFile;

/// A class with tokens of its own; the others have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenizerClass {
    Gpt2,
    GptNeoX,
    Qwen2,
    Llama,
    Gemma,
    Cohere,
}

const END: &str = "<|endoftext|>";

impl TokenizerClass {
    /// The class of a model by config.json; of models without one of their own, by tokenizer_config.json.
    pub(crate) fn of(model: Option<&JsonFile>, config: Option<&JsonFile>) -> Option<Self> {
        match model?.choice("model_type")? {
            "gpt2" | "gptj" | "gpt_neo" | "phi" | "starcoder2" | "opt" => Some(Self::Gpt2),
            "gpt_neox" | "olmo" | "olmoe" => Some(Self::GptNeoX),
            "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe" => Some(Self::Qwen2),
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" => Some(Self::Gemma),
            "cohere" | "cohere2" => Some(Self::Cohere),
            "llama" => config?.choice("tokenizer_class").and_then(Self::named),
            _ => None,
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name.strip_suffix("Fast").unwrap_or(name) {
            "GPT2Tokenizer" => Some(Self::Gpt2),
            "GPTNeoXTokenizer" => Some(Self::GptNeoX),
            "Qwen2Tokenizer" => Some(Self::Qwen2),
            "LlamaTokenizer" => Some(Self::Llama),
            "GemmaTokenizer" => Some(Self::Gemma),
            "CohereTokenizer" => Some(Self::Cohere),
            _ => None,
        }
    }

    /// Roles and their tokens.
    pub(crate) fn roles(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gpt2 => &[("unk_token", END), ("bos_token", END), ("eos_token", END)],
            Self::GptNeoX => {
                &[("unk_token", END), ("bos_token", END), ("eos_token", END), ("pad_token", "<|padding|>")]
            }
            Self::Qwen2 => &[("unk_token", END), ("eos_token", END), ("pad_token", END)],
            Self::Llama => &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
            Self::Gemma => &[
                ("unk_token", "<unk>"),
                ("bos_token", "<bos>"),
                ("eos_token", "<eos>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Self::Cohere => &[
                ("unk_token", "<UNK>"),
                ("bos_token", "<BOS_TOKEN>"),
                ("eos_token", "<|END_OF_TURN_TOKEN|>"),
                ("pad_token", "<PAD>"),
                ("cls_token", "<CLS>"),
                ("sep_token", "<SEP>"),
                ("mask_token", "<MASK_TOKEN>"),
            ],
        }
    }
}
