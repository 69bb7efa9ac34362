//! The families of tokenizers that `families/make.py` wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pagoda_text::{Tokenizer, TokenizerFiles};
use serde::Deserialize;
use serde_json::{Value, json};

/// What a model's folder has, and what `transformers` makes of the texts with it.
#[derive(Deserialize)]
pub(crate) struct Family {
    /// Names of the models that are tokenized so.
    pub(crate) models: String,
    /// Their kind.
    pub(crate) model_type: String,
    /// The vocabulary that stands for the real one.
    pub(crate) base: String,
    /// Tokens before that.
    pub(crate) front: Vec<String>,
    /// Id, flags and text.
    pub(crate) added: Vec<(u32, String, String)>,
    /// The other parts of tokenizer.json; the model lacks its vocabulary.
    pub(crate) json: Value,
    /// The other files.
    pub(crate) files: BTreeMap<String, Value>,
    /// Ids before and after a text.
    pub(crate) around: [Vec<u32>; 2],
    pub(crate) eos: Option<u32>,
    pub(crate) special: Vec<u32>,
    /// Of each text, without those around it.
    pub(crate) tokens: Vec<String>,
    /// Number of a text whose tokens give another text: with special tokens, and without.
    pub(crate) decoded: Vec<(usize, Option<String>, Option<String>)>,
    /// Ids as a model might give them, their text, and that without special tokens.
    pub(crate) sequences: Vec<(String, String, String)>,
}

#[derive(Deserialize)]
pub(crate) struct Vocabulary {
    pub(crate) tokens: Value,
    #[serde(default)]
    pub(crate) merges: Value,
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families")
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read(path).unwrap();
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn families() -> Vec<(String, Family)> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    paths.sort();
    let stem = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.retain(|path| !["texts", "vocabularies"].contains(&stem(path).as_str()));
    paths.iter().map(|path| (stem(path), read(path))).collect()
}

pub(crate) fn texts() -> Vec<String> {
    read(&folder().join("texts.json"))
}

/// Two of the digits of base 64 are an id.
pub(crate) fn ids(spelled: &str) -> Vec<u32> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    spelled.as_bytes().chunks(2).map(|pair| digit(pair[0]) * 64 + digit(pair[1])).collect()
}

impl Family {
    pub(crate) fn tokenizer_json(&self, vocabularies: &BTreeMap<String, Vocabulary>) -> Value {
        let base = &vocabularies[&self.base];
        let tokens = base.tokens.as_array().unwrap();
        let mut json = self.json.clone();
        let model = &mut json["model"];
        if model["type"] == "Unigram" {
            let front = self.front.iter().map(|token| json!([token, 0.0]));
            model["vocab"] = front.chain(tokens.iter().cloned()).collect();
        } else {
            let all = self.front.iter().map(String::as_str).chain(tokens.iter().filter_map(Value::as_str));
            model["vocab"] = all
                .zip(0u32..)
                .map(|(token, id)| (token.to_owned(), json!(id)))
                .collect::<serde_json::Map<_, _>>()
                .into();
            model["merges"] = base.merges.clone();
        }
        json["added_tokens"] =
            self.added.iter().map(|(id, flags, text)| added_token(*id, flags, text)).collect();
        json
    }

    pub(crate) fn load(&self, name: &str, vocabularies: &BTreeMap<String, Vocabulary>) -> Tokenizer {
        let file = |name: &str| self.files.get(name).map(|content| serde_json::to_vec(content).unwrap());
        let tokenizer = Tokenizer::from_files(&TokenizerFiles {
            origin: name,
            tokenizer_json: &serde_json::to_vec(&self.tokenizer_json(vocabularies)).unwrap(),
            tokenizer_config: file("tokenizer_config.json").as_deref(),
            special_tokens_map: file("special_tokens_map.json").as_deref(),
            model_config: Some(json!({"model_type": self.model_type}).to_string().as_bytes()),
            ..TokenizerFiles::default()
        });
        tokenizer.unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

pub(crate) fn added_token(id: u32, flags: &str, text: &str) -> Value {
    json!({"id": id, "content": text, "single_word": flags.contains('w'), "lstrip": flags.contains('l'),
        "rstrip": flags.contains('r'), "normalized": flags.contains('n'), "special": flags.contains('s')})
}

pub(crate) fn vocabularies() -> BTreeMap<String, Vocabulary> {
    read(&folder().join("vocabularies.json"))
}
