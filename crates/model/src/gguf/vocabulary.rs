//! The tokenizer of a GGUF file, as the file stores it.

use super::set::GgufSet;
use super::value::{Kind, List, Value};
use crate::ModelError;
use crate::json::clip;

/// Most tokens of a vocabulary.
const MAX_TOKENS: usize = 1 << 20;
/// Longest token, in bytes; runs of spaces take some.
const MAX_TOKEN_BYTES: usize = 2048;

/// Control tokens with which families of models end a turn, whatever the file calls the end.
const ENDS: [&str; 12] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "<|return|>",
    "<|call|>",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_utterance>",
];
/// Where there is the first, the second ends a message, not the answer.
const NO_END: [&str; 2] = ["<|return|>", "<|end|>"];

/// A tokenizer as a GGUF file stores it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vocabulary<'a> {
    /// Name of the file, for messages.
    pub(crate) file: &'a str,
    /// What stands before the names of fields in messages.
    pub(crate) prefix: &'static str,
    /// Kind of tokenizer: `gpt2`, `llama`, …
    pub(crate) model: &'a str,
    /// How text is cut before merging: `llama-bpe`, `qwen2`, …
    pub(crate) pre: Option<&'a str>,
    /// Every token, in the alphabet of the kind; its place is its id.
    pub(crate) tokens: Vec<&'a str>,
    /// Of each token, where merges are made in order of scores.
    pub(crate) scores: Option<Vec<f32>>,
    /// Of each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub(crate) types: Option<Vec<i32>>,
    /// Pairs of tokens with a space between, the first merged first.
    pub(crate) merges: Option<Vec<&'a str>>,
    /// Whether a text begins with the beginning-of-sequence token.
    pub(crate) add_bos: Option<bool>,
    /// Whether a text ends with the end-of-sequence token.
    pub(crate) add_eos: Option<bool>,
    /// Whether a text is given a space in front.
    pub(crate) add_space_prefix: Option<bool>,
    /// Ids of tokens by role, each below the number of tokens.
    pub(crate) bos: Option<u32>,
    /// End of sequence.
    pub(crate) eos: Option<u32>,
    /// Unknown text.
    pub(crate) unk: Option<u32>,
    /// Padding.
    pub(crate) pad: Option<u32>,
    /// Names and sources of chat templates; the usual one is called `default`.
    pub(crate) templates: Vec<(&'a str, &'a str)>,
}

impl<'a> Vocabulary<'a> {
    /// Of a file in a model's folder: nothing but tokens.
    pub(crate) fn of_folder(file: &'a str, model: &'a str, tokens: Vec<&'a str>) -> Self {
        Self {
            file,
            prefix: "",
            model,
            pre: None,
            tokens,
            scores: None,
            types: None,
            merges: None,
            add_bos: None,
            add_eos: None,
            add_space_prefix: None,
            bos: None,
            eos: None,
            unk: None,
            pad: None,
            templates: Vec::new(),
        }
    }
}

impl GgufSet {
    /// Reads the tokenizer.
    ///
    /// # Errors
    /// No tokenizer, fields of other types, lists of other lengths, ids beyond the vocabulary, text that is not UTF-8.
    pub(super) fn vocabulary(&self) -> Result<Vocabulary<'_>, ModelError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let (metadata, bytes) = (&self.metadata, self.bytes());
        let missing =
            |key| metadata.error(key, "is missing: the file has no tokenizer; use another conversion");
        let model =
            metadata.text("tokenizer.ggml.model", bytes)?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
        let tokens = self.texts(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            let problem = format!("has {} tokens; from 1 to {MAX_TOKENS} are read", tokens.len());
            return Err(metadata.error(TOKENS, problem));
        }
        if let Some(long) = tokens.iter().position(|token| token.len() > MAX_TOKEN_BYTES) {
            let problem =
                format!("token {long} has {} bytes; the limit is {MAX_TOKEN_BYTES}", tokens[long].len());
            return Err(metadata.error(TOKENS, problem));
        }
        let id = |name: &str| self.token_id(name, tokens.len());
        let flag = |name: &str| metadata.flag(&format!("tokenizer.ggml.{name}"));
        Ok(Vocabulary {
            file: self.file(),
            prefix: "tokenizer.ggml.",
            model,
            pre: metadata.text("tokenizer.ggml.pre", bytes)?,
            scores: self.numbers("tokenizer.ggml.scores", tokens.len(), Kind::F32, |value| match value {
                Value::Fraction(number) => Some(number as f32),
                _ => None,
            })?,
            types: self.numbers(
                "tokenizer.ggml.token_type",
                tokens.len(),
                Kind::I32,
                |value| match value {
                    Value::Whole(number) => i32::try_from(number).ok(),
                    _ => None,
                },
            )?,
            merges: self.texts("tokenizer.ggml.merges")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            unk: id("unknown_token_id")?,
            pad: id("padding_token_id")?,
            templates: self.templates()?,
            tokens,
        })
    }

    /// Ids that end an answer: those that the file calls ends of a sequence, a turn or a message, and [`ENDS`].
    pub(super) fn stop_ids(&self, vocab: usize) -> Result<Vec<u32>, ModelError> {
        let names = ["eos_token_id", "eot_token_id", "eom_token_id"];
        let ids = names.map(|name| self.token_id(name, vocab));
        let mut ids: Vec<u32> = ids.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let is_control = |types: &Option<Vec<i32>>, id: usize| {
            types.as_ref().is_none_or(|types| types.get(id).is_some_and(|kind| matches!(kind, 3 | 4)))
        };
        let vocabulary = self.vocabulary()?;
        let tokens = &vocabulary.tokens;
        if tokens.len() > vocab {
            let problem = format!("has {} tokens, but token_embd.weight has {vocab} rows", tokens.len());
            return Err(self.metadata.error("tokenizer.ggml.tokens", problem));
        }
        let known = ENDS.iter().filter_map(|end| tokens.iter().position(|token| token == end));
        let skip = tokens.contains(&NO_END[0]).then_some(NO_END[1]);
        let known = known.filter(|&id| is_control(&vocabulary.types, id) && Some(tokens[id]) != skip);
        ids.extend(known.map(|id| id as u32));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn token_id(&self, name: &str, vocab: usize) -> Result<Option<u32>, ModelError> {
        let key = format!("tokenizer.ggml.{name}");
        let Some(id) = self.metadata.whole(&key)? else { return Ok(None) };
        // Minus 1, and the largest number of 32 bits, stand for none.
        if id == -1 || id == i128::from(u32::MAX) {
            return Ok(None);
        }
        match u32::try_from(id) {
            Ok(id) if (id as usize) < vocab => Ok(Some(id)),
            _ => Err(self.metadata.error(&key, format!("is {id}, but the vocabulary has {vocab} tokens"))),
        }
    }

    /// Texts of a list.
    fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        let Some(list) = self.metadata.list(key)? else { return Ok(None) };
        self.check_kind(key, list, Kind::Text)?;
        let bytes = self.bytes();
        let texts = list.values(bytes).enumerate().map(|(index, value)| match value {
            Value::Text(range) => std::str::from_utf8(&bytes[range])
                .map_err(|error| self.metadata.error(key, format!("element {index} is not UTF-8: {error}"))),
            _ => unreachable!("the elements have the type of the list"),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// Numbers of a list with one for each token.
    fn numbers<T>(
        &self,
        key: &str,
        len: usize,
        kind: Kind,
        number: impl Fn(Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ModelError> {
        let Some(list) = self.metadata.list(key)? else { return Ok(None) };
        self.check_kind(key, list, kind)?;
        if list.len != len {
            let problem = format!("has {} elements, but there are {len} tokens", list.len);
            return Err(self.metadata.error(key, problem));
        }
        let numbers = list.values(self.bytes()).map(number);
        let wrong = || self.metadata.error(key, "has a number that is too large");
        numbers.collect::<Option<_>>().map(Some).ok_or_else(wrong)
    }

    fn check_kind(&self, key: &str, list: &List, kind: Kind) -> Result<(), ModelError> {
        if list.kind == kind || list.kind == Kind::U32 && kind == Kind::I32 {
            return Ok(());
        }
        Err(self
            .metadata
            .error(key, format!("is a list of {}, but should be one of {}", list.kind.name(), kind.name())))
    }

    fn templates(&self) -> Result<Vec<(&str, &str)>, ModelError> {
        const KEY: &str = "tokenizer.chat_template";
        let mut found = Vec::new();
        for (key, value) in self.metadata.fields() {
            let Some(name) = key.strip_prefix(KEY) else { continue };
            let name = match name.strip_prefix('.') {
                Some(name) => name,
                None if name.is_empty() => "default",
                None => continue,
            };
            let Value::Text(range) = value else {
                return Err(self.metadata.error(&clip(key), "should be a text"));
            };
            let text = std::str::from_utf8(&self.bytes()[range.clone()]);
            let text =
                text.map_err(|error| self.metadata.error(&clip(key), format!("is not UTF-8: {error}")))?;
            found.push((name, text));
        }
        found.sort_unstable();
        Ok(found)
    }
}
