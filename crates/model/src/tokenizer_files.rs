//! Tokenizers of folders without tokenizer.json, in the form of that file: tokenizer.model of SentencePiece, or vocab.json and
//! merges.txt.

use serde_json::{Map, Value};

use crate::ModelError;
use crate::gguf::{Vocabulary, tokenizer_json};
use crate::json::clip;
use crate::sentencepiece::SentencePiece;
use crate::source::ModelSource;

const PIECES: &str = "tokenizer.model";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
/// Names of tokenizers that are not read.
const OTHERS: [&str; 4] = ["tekken.json", "tiktoken.model", "qwen.tiktoken", "spiece.model"];
/// Most ids.
const MAX_TOKENS: usize = 1 << 20;
/// Types of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

const ADVICE: &str = "open the folder with AutoTokenizer of transformers and save it with save_pretrained, which writes that file";

/// The tokenizer of `source`, which has no tokenizer.json; `None` when it has no other either.
///
/// # Errors
/// One that contradicts itself, or is of a kind that is not read.
pub(crate) fn stand_in(source: &ModelSource, limit: u64) -> Result<Option<Vec<u8>>, ModelError> {
    let read = |name| source.read(name, limit);
    let config = Config::read(source, limit)?;
    let json = if let Some(bytes) = read(PIECES)? {
        config.of_pieces(&SentencePiece::read(PIECES, &bytes)?)?
    } else if let (Some(vocabulary), Some(merges)) = (read(VOCABULARY)?, read(MERGES)?) {
        config.of_merges(source, &vocabulary, &merges)?
    } else {
        let names = source.names();
        return match OTHERS.iter().find(|name| names.iter().any(|file| file == *name)) {
            Some(other) => Err(missing(source, format!("{other} is not read; {ADVICE}"))),
            None => Ok(None),
        };
    };
    Ok(Some(serde_json::to_vec(&json).expect("a JSON value has a text")))
}

fn missing(source: &ModelSource, advice: String) -> ModelError {
    ModelError::MissingFile { origin: source.to_string(), file: "tokenizer.json".into(), advice }
}

/// What the other files of the folder say of the tokenizer.
struct Config {
    tokenizer: Value,
    map: Value,
    model_type: String,
    /// Ids and descriptions of tokens beyond the vocabulary, or with other texts than there; by id.
    added: Vec<(u32, Value)>,
}

impl Config {
    /// Files that are no JSON are found out by those who need them.
    fn read(source: &ModelSource, limit: u64) -> Result<Self, ModelError> {
        let json = |name| {
            let bytes = source.read(name, limit)?;
            Ok::<_, ModelError>(
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null),
            )
        };
        let (tokenizer, more) = (json("tokenizer_config.json")?, json("added_tokens.json")?);
        let mut config = Self {
            model_type: json("config.json")?["model_type"].as_str().unwrap_or_default().to_owned(),
            map: json("special_tokens_map.json")?,
            added: Vec::new(),
            tokenizer,
        };
        config.added = config.added_tokens(&more);
        config.added.sort_by_key(|(id, _)| *id);
        Ok(config)
    }

    fn added_tokens(&self, more: &Value) -> Vec<(u32, Value)> {
        if let Some(listed) = self.tokenizer["added_tokens_decoder"].as_object() {
            let entry = |(id, token): (&String, &Value)| Some((id.parse().ok()?, token.clone()));
            return listed.iter().filter_map(entry).collect();
        }
        let entry = |(text, id): (&String, &Value)| {
            let token = serde_json::json!({"content": text, "special": self.is_special(text)});
            Some((u32::try_from(id.as_u64()?).ok()?, token))
        };
        more.as_object().into_iter().flatten().filter_map(entry).collect()
    }

    fn is_special(&self, text: &str) -> bool {
        let names = |file: &Value| {
            let mut values = file.as_object().into_iter().flat_map(Map::values);
            values.any(|value| {
                text_of(value) == Some(text)
                    || value.as_array().is_some_and(|list| list.iter().any(|v| text_of(v) == Some(text)))
            })
        };
        names(&self.tokenizer) || names(&self.map)
    }

    /// The text of the token with a role.
    fn role(&self, role: &str) -> Option<&str> {
        text_of(&self.tokenizer[role]).or_else(|| text_of(&self.map[role]))
    }

    fn of_pieces(&self, model: &SentencePiece<'_>) -> Result<Value, ModelError> {
        let refused = |field: &str, problem: &str| ModelError::Field {
            file: PIECES.to_owned(),
            field: field.to_owned(),
            problem: format!("{problem}; {ADVICE}"),
        };
        if model.kind != 2 {
            return Err(refused("trainer_spec.model_type", "is not BPE, the only kind that is read"));
        }
        if model.normalizes {
            return Err(refused("normalizer_spec", "changes letters, which is not read"));
        }
        let tokens =
            Tokens { texts: model.pieces.clone(), types: model.types.clone() }.with(&self.added, PIECES)?;
        let mut scores = model.scores.clone();
        scores.resize(tokens.texts.len(), 0.0);
        let place = |role, otherwise| self.role(role).and_then(|text| tokens.find(text)).or(otherwise);
        let vocabulary = Vocabulary {
            scores: Some(scores),
            add_bos: self.tokenizer["add_bos_token"].as_bool().or(Some(true)),
            add_eos: self.tokenizer["add_eos_token"].as_bool(),
            add_space_prefix: Some(model.adds_space),
            bos: place("bos_token", model.bos),
            eos: place("eos_token", model.eos),
            unk: place("unk_token", model.unk),
            pad: place("pad_token", model.pad),
            types: Some(tokens.types.clone()),
            ..Vocabulary::of_folder(PIECES, "llama", tokens.texts.clone())
        };
        Ok(self.flagged(tokenizer_json(vocabulary)?))
    }

    fn of_merges(&self, source: &ModelSource, vocabulary: &[u8], merges: &[u8]) -> Result<Value, ModelError> {
        let cutting = self.cutting().ok_or_else(|| {
            let problem = format!(
                "{VOCABULARY} and {MERGES} do not say how models of kind {:?} cut text",
                clip(&self.model_type)
            );
            missing(source, format!("{problem}; {ADVICE}"))
        })?;
        let invalid = |file: &str, problem: String| ModelError::Json { file: file.to_owned(), problem };
        let ids: std::collections::BTreeMap<String, u32> = serde_json::from_slice(vocabulary)
            .map_err(|error| invalid(VOCABULARY, clip(&error.to_string())))?;
        let merges =
            std::str::from_utf8(merges).map_err(|error| invalid(MERGES, format!("not UTF-8: {error}")))?;
        let tokens = Tokens::numbered(&ids)?.with(&self.added, VOCABULARY)?;
        let mut types = tokens.types.clone();
        let place = |role| self.role(role).and_then(|text| tokens.find(text));
        let (bos, eos, unk, pad) =
            (place("bos_token"), place("eos_token"), place("unk_token"), place("pad_token"));
        for id in [bos, eos, unk, pad].into_iter().flatten() {
            types[id as usize] = CONTROL;
        }
        let lines = merges
            .lines()
            .enumerate()
            .filter(|(number, line)| !(*number == 0 && line.starts_with("#version") || line.is_empty()));
        let vocabulary = Vocabulary {
            pre: Some(cutting),
            merges: Some(lines.map(|(_, line)| line).collect()),
            add_bos: self.tokenizer["add_bos_token"].as_bool().or(Some(false)),
            add_eos: self.tokenizer["add_eos_token"].as_bool(),
            types: Some(types),
            bos,
            eos,
            unk,
            pad,
            ..Vocabulary::of_folder(MERGES, "gpt2", tokens.texts.clone())
        };
        Ok(self.flagged(tokenizer_json(vocabulary)?))
    }

    /// How text is cut before it is merged, by the names that GGUF files have for it.
    fn cutting(&self) -> Option<&'static str> {
        let class = self.tokenizer["tokenizer_class"].as_str().unwrap_or_default();
        match (self.model_type.as_str(), class.strip_suffix("Fast").unwrap_or(class)) {
            ("qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe", _) | (_, "Qwen2Tokenizer") => Some("qwen2"),
            ("gpt2" | "gpt_neo" | "gptj" | "phi" | "opt", _) | (_, "GPT2Tokenizer") => Some("gpt-2"),
            _ => None,
        }
    }

    /// Takes over how the added tokens are looked for.
    fn flagged(&self, mut json: Value) -> Value {
        let Some(listed) = json["added_tokens"].as_array_mut() else { return json };
        for (id, token) in &self.added {
            let Some(entry) = listed.iter_mut().find(|entry| entry["id"] == *id) else { continue };
            for flag in ["single_word", "lstrip", "rstrip", "normalized", "special"] {
                if let Some(set) = token[flag].as_bool() {
                    entry[flag] = set.into();
                }
            }
        }
        json
    }
}

/// A token is written as its text, or as an object with its text.
fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// Texts and types of tokens by id; an id without a token has an empty text.
struct Tokens<'a> {
    texts: Vec<&'a str>,
    types: Vec<i32>,
}

impl<'a> Tokens<'a> {
    fn numbered(ids: &'a std::collections::BTreeMap<String, u32>) -> Result<Self, ModelError> {
        let count = ids.values().max().map_or(0, |id| *id as usize + 1);
        if count == 0 || count > MAX_TOKENS {
            let problem = format!("has ids up to {count}; from 1 to {MAX_TOKENS} are read");
            return Err(ModelError::Json { file: VOCABULARY.to_owned(), problem });
        }
        let mut texts = vec![""; count];
        for (text, &id) in ids {
            texts[id as usize] = text;
        }
        Ok(Self { texts, types: vec![NORMAL; count] })
    }

    /// Puts the added tokens in their places.
    fn with(mut self, added: &'a [(u32, Value)], file: &str) -> Result<Self, ModelError> {
        for (id, token) in added {
            let (Some(text), place) = (text_of(token), *id as usize) else { continue };
            if place > MAX_TOKENS {
                let problem = format!("is {id}; ids up to {MAX_TOKENS} are read");
                return Err(ModelError::Field {
                    file: file.to_owned(),
                    field: "id of an added token".to_owned(),
                    problem,
                });
            }
            if place >= self.texts.len() {
                self.texts.resize(place + 1, "");
                self.types.resize(place + 1, UNUSED);
            }
            self.texts[place] = text;
            if self.types[place] != 2 {
                self.types[place] = if token["special"] == true { CONTROL } else { USER_DEFINED };
            }
        }
        Ok(self)
    }

    fn find(&self, text: &str) -> Option<u32> {
        self.texts.iter().position(|token| *token == text).and_then(|place| u32::try_from(place).ok())
    }
}
