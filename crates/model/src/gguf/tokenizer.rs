//! The tokenizer of a GGUF file in the form of tokenizer.json and tokenizer_config.json.

use super::pieces;
use super::pretokenizer::{self, Pretokenizer};
use super::set::GgufSet;
use super::vocabulary::Vocabulary;
use crate::ModelError;
use crate::json::clip;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Types of tokens.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// SentencePiece's space.
const SPACE: &str = "▁";

impl GgufSet {
    /// The contents that a model folder would have in the file `name`; `None` for other files.
    ///
    /// # Errors
    /// A tokenizer of another kind than those that are read, or one that contradicts itself.
    pub(crate) fn text_file(&self, name: &str) -> Result<Option<Vec<u8>>, ModelError> {
        let json = match name {
            "tokenizer.json" => tokenizer_json(self.vocabulary()?)?,
            "tokenizer_config.json" => Translator::new(self.vocabulary()?)?.config(),
            _ => return Ok(None),
        };
        Ok(Some(serde_json::to_vec(&json).expect("a JSON value has a text")))
    }
}

/// What tokenizer.json would say of `vocabulary`.
///
/// # Errors
/// A tokenizer of another kind than those that are read, or one that contradicts itself.
pub(crate) fn tokenizer_json(vocabulary: Vocabulary<'_>) -> Result<Value, ModelError> {
    Translator::new(vocabulary)?.tokenizer()
}

/// A vocabulary on its way to JSON.
struct Translator<'a> {
    vocabulary: Vocabulary<'a>,
    kind: Kind,
}

/// How text becomes tokens.
enum Kind {
    /// Merges of bytes, after cutting.
    Bytes(&'static Pretokenizer),
    /// SentencePiece with byte fallback.
    Pieces,
}

impl<'a> Translator<'a> {
    fn new(vocabulary: Vocabulary<'a>) -> Result<Self, ModelError> {
        let kind = match vocabulary.model {
            "gpt2" => {
                let name = vocabulary.pre.unwrap_or("default");
                let known = pretokenizer::named(name).ok_or_else(|| {
                    let problem = format!(
                        "is {:?}, a way of cutting text that is not read; known are {}",
                        clip(name),
                        pretokenizer::names()
                    );
                    error(&vocabulary, "pre", problem)
                })?;
                Kind::Bytes(known)
            }
            "llama" => Kind::Pieces,
            other => {
                let problem = format!(
                    "is {:?}, but the kinds read are gpt2 (merges of bytes) and llama (SentencePiece with scores); use the \
                     model's safetensors files",
                    clip(other)
                );
                return Err(error(&vocabulary, "model", problem));
            }
        };
        Ok(Self { vocabulary, kind })
    }

    fn tokenizer(&self) -> Result<Value, ModelError> {
        let (model, outer) = match &self.kind {
            Kind::Bytes(cutting) => (self.byte_model(cutting)?, byte_outer(cutting)),
            Kind::Pieces => (self.piece_model()?, self.piece_outer()),
        };
        let [normalizer, pre_tokenizer, decoder] = outer;
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": self.post_processor(),
            "decoder": decoder,
            "model": model,
        }))
    }

    fn byte_model(&self, cutting: &Pretokenizer) -> Result<Value, ModelError> {
        const MERGES: &str = "merges";
        let Some(merges) = &self.vocabulary.merges else {
            let problem = "is missing: the tokenizer cannot be used without it; use another conversion";
            return Err(error(&self.vocabulary, MERGES, problem));
        };
        let ids = self.ids();
        let mut pairs = Vec::with_capacity(merges.len());
        for (index, merge) in merges.iter().enumerate() {
            // The first space separates, unless a part begins with one.
            let first = merge.chars().next().map_or(0, char::len_utf8);
            let cut =
                merge[first..].split_once(' ').map(|(rest, right)| (&merge[..first + rest.len()], right));
            let known = cut.filter(|(left, right)| {
                let whole = format!("{left}{right}");
                [left, right, whole.as_str()].iter().all(|part| ids.contains_key(*part))
            });
            let Some((left, right)) = known else {
                let problem = format!(
                    "element {index}, {:?}, is not two tokens with a space between that make a third one",
                    clip(merge)
                );
                return Err(error(&self.vocabulary, MERGES, problem));
            };
            pairs.push([left, right]);
        }
        Ok(json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": cutting.whole_words,
            "vocab": self.vocab(),
            "merges": pairs,
        }))
    }

    fn piece_model(&self) -> Result<Value, ModelError> {
        const SCORES: &str = "scores";
        let missing =
            || error(&self.vocabulary, SCORES, "is missing: SentencePiece merges in the order of scores");
        let scores = self.vocabulary.scores.as_ref().ok_or_else(missing)?;
        let merges = pieces::merges(&self.vocabulary, scores)
            .map_err(|problem| error(&self.vocabulary, "tokens", problem))?;
        Ok(json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": self.vocabulary.unk.map(|id| self.vocabulary.tokens[id as usize]),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": self.vocab(),
            "merges": merges,
        }))
    }

    /// Normaliser, cutting and decoder of pieces.
    fn piece_outer(&self) -> [Value; 3] {
        let prefix = self.vocabulary.add_space_prefix.unwrap_or(true);
        let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
        let mut normalizers = vec![spaces];
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let sequence = |name: &str, parts| json!({"type": "Sequence", name: parts});
        [sequence("normalizers", normalizers), Value::Null, sequence("decoders", decoders)]
    }

    /// Ids by token; of equal tokens the first counts.
    fn ids(&self) -> HashMap<&'a str, usize> {
        let tokens = self.vocabulary.tokens.iter().enumerate().rev();
        tokens.filter(|(_, token)| !token.is_empty()).map(|(id, token)| (*token, id)).collect()
    }

    fn vocab(&self) -> Map<String, Value> {
        let ids = self.ids();
        let tokens = self.vocabulary.tokens.iter().enumerate();
        let first = tokens.filter(|(id, token)| ids.get(*token) == Some(id));
        first.map(|(id, token)| ((*token).to_owned(), id.into())).collect()
    }

    /// Type of a token; without types, those with a role are control tokens.
    fn kind_of(&self, id: usize) -> i32 {
        let Vocabulary { types, bos, eos, unk, pad, .. } = &self.vocabulary;
        let has_role = [bos, eos, unk, pad].iter().any(|role| role.is_some_and(|role| role as usize == id));
        match types {
            Some(types) => types[id],
            None if has_role => CONTROL,
            None => 1,
        }
    }

    fn added_tokens(&self) -> Vec<Value> {
        let ids = self.ids();
        let mut added = Vec::new();
        for (id, token) in self.vocabulary.tokens.iter().enumerate() {
            let kind = self.kind_of(id);
            if !matches!(kind, UNKNOWN | CONTROL | USER_DEFINED) || ids.get(token) != Some(&id) {
                continue;
            }
            // What a user defined in a SentencePiece model is looked for where spaces are replaced already.
            let normalized = kind == USER_DEFINED && matches!(self.kind, Kind::Pieces);
            added.push(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": normalized,
                "special": kind != USER_DEFINED,
            }));
        }
        added
    }

    /// What is put around a text.
    fn post_processor(&self) -> Value {
        let Vocabulary { add_bos, add_eos, bos, eos, tokens, .. } = &self.vocabulary;
        let usual = match self.kind {
            Kind::Bytes(cutting) => cutting.add_bos,
            Kind::Pieces => true,
        };
        let bos = bos.filter(|_| add_bos.unwrap_or(usual));
        let eos = eos.filter(|_| add_eos.unwrap_or(false));
        let mut special = Map::new();
        let mut place = |id: Option<u32>| {
            let id = id?;
            let token = tokens[id as usize];
            special.insert(token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}));
            Some(json!({"SpecialToken": {"id": token, "type_id": 0}}))
        };
        let (before, after) = (place(bos), place(eos));
        if before.is_none() && after.is_none() {
            return Value::Null;
        }
        let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
        let around = |inner: Vec<Value>| -> Vec<Value> {
            before.iter().cloned().chain(inner).chain(after.iter().cloned()).collect()
        };
        json!({
            "type": "TemplateProcessing",
            "single": around(vec![text("A")]),
            "pair": around(vec![text("A"), text("B")]),
            "special_tokens": special,
        })
    }

    fn config(&self) -> Value {
        let Vocabulary { bos, eos, unk, pad, templates, tokens, .. } = &self.vocabulary;
        let mut config = Map::new();
        for (role, id) in [("bos_token", bos), ("eos_token", eos), ("unk_token", unk), ("pad_token", pad)] {
            if let Some(token) = id.map(|id| tokens[id as usize]).filter(|token| !token.is_empty()) {
                config.insert(role.to_owned(), token.into());
            }
        }
        match templates.as_slice() {
            [] => {}
            [("default", source)] => drop(config.insert("chat_template".to_owned(), (*source).into())),
            several => {
                let list: Vec<Value> =
                    several.iter().map(|(name, source)| json!({"name": name, "template": source})).collect();
                config.insert("chat_template".to_owned(), list.into());
            }
        }
        Value::Object(config)
    }
}

/// Normaliser, cutting and decoder of bytes.
fn byte_outer(cutting: &Pretokenizer) -> [Value; 3] {
    let mut steps: Vec<Value> = cutting
        .patterns
        .iter()
        .map(|pattern| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}))
        .collect();
    let bytes = |use_regex| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    steps.push(bytes(false));
    let normalizer = if cutting.nfc { json!({"type": "NFC"}) } else { Value::Null };
    [normalizer, json!({"type": "Sequence", "pretokenizers": steps}), bytes(true)]
}

fn error(vocabulary: &Vocabulary<'_>, field: &str, problem: impl Into<String>) -> ModelError {
    let field = format!("{}{field}", vocabulary.prefix);
    ModelError::Field { file: vocabulary.file.to_owned(), field, problem: problem.into() }
}
