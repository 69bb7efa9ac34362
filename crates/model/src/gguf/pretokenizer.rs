//! How text is cut into words before tokens are merged, by the names that GGUF files use.
//!
//! The patterns are those of the models' own tokenizer.json files; patterns of a list cut one after the other.

/// One way of cutting text.
pub(super) struct Pretokenizer {
    names: &'static [&'static str],
    /// Each match is a piece, and so is what lies between matches.
    pub(super) patterns: &'static [&'static str],
    /// A word that is a token is that token, whatever the merges say.
    pub(super) whole_words: bool,
    /// Whether texts begin with the beginning-of-sequence token where the file does not say.
    pub(super) add_bos: bool,
    /// Text is brought into Unicode normalisation form C.
    pub(super) nfc: bool,
}

/// GPT-2's words.
const CLASSIC: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Words with one letter of something else in front, runs of digits, and line ends apart.
macro_rules! modern {
    ($digits:literal) => {
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

/// Words cut where a small letter is followed by a capital.
macro_rules! cased {
    ($contraction:literal, $digits:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $contraction,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $contraction,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

/// Marks of the simplest kind of words.
const MARKS: &str = r"[\p{P}\$\+<=>\^~\|`]+";

const PLAIN: Pretokenizer =
    Pretokenizer { names: &[], patterns: &[CLASSIC], whole_words: false, add_bos: false, nfc: false };

const ALL: [Pretokenizer; 15] = [
    Pretokenizer {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", CLASSIC, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    Pretokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[modern!(r"\p{N}{1,3}")],
        whole_words: true,
        add_bos: true,
        ..PLAIN
    },
    Pretokenizer {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        patterns: &[modern!(r"\p{N}{1,3}")],
        ..PLAIN
    },
    Pretokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "megrez", "kormo"],
        patterns: &[modern!(r"\p{N}")],
        nfc: true,
        ..PLAIN
    },
    Pretokenizer {
        names: &["stablelm2", "hunyuan", "solar-open", "grok-2"],
        patterns: &[modern!(r"\p{N}")],
        ..PLAIN
    },
    Pretokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
            "granite-docling",
        ],
        ..PLAIN
    },
    Pretokenizer {
        names: &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        patterns: &[r"\p{N}", CLASSIC],
        ..PLAIN
    },
    Pretokenizer { names: &["falcon"], patterns: &[MARKS, CLASSIC, "[0-9][0-9][0-9]"], ..PLAIN },
    Pretokenizer {
        names: &["tekken"],
        patterns: &[cased!("", r"\p{N}")],
        whole_words: true,
        add_bos: true,
        ..PLAIN
    },
    Pretokenizer {
        names: &["gpt-4o", "llama4", "kanana2"],
        patterns: &[cased!("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}")],
        ..PLAIN
    },
    Pretokenizer {
        names: &["deepseek-coder"],
        patterns: &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", r"\p{N}"],
        ..PLAIN
    },
    Pretokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        patterns: &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            concat!(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
        ],
        ..PLAIN
    },
    Pretokenizer {
        names: &["seed-coder"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+",
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ..PLAIN
    },
    Pretokenizer {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        patterns: &[r" ?[^(\s|.,!?…。，、।۔،)]+"],
        ..PLAIN
    },
    Pretokenizer {
        names: &["viking"], patterns: &[r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"], ..PLAIN
    },
];

/// The way of cutting that files call `name`.
pub(super) fn named(name: &str) -> Option<&'static Pretokenizer> {
    ALL.iter().find(|known| known.names.contains(&name))
}

/// All names, for messages.
pub(super) fn names() -> String {
    ALL.iter().flat_map(|known| known.names).copied().collect::<Vec<_>>().join(", ")
}
