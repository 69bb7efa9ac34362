//! Tokenizer families for the tests: the two fixtures and what can be derived from them.

use pagoda_text::{Tokenizer, TokenizerFiles};
use serde_json::{Value, json};

pub(crate) const BYTE_LEVEL: &[u8] = include_bytes!("../fixtures/byte_level.json");
pub(crate) const SENTENCEPIECE: &[u8] = include_bytes!("../fixtures/sentencepiece.json");

/// A tokenizer.json under a name for messages.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) json: Vec<u8>,
}

impl Family {
    fn derived(name: &'static str, base: &[u8], change: impl FnOnce(&mut Value)) -> Self {
        let mut json: Value = serde_json::from_slice(base).unwrap();
        change(&mut json);
        Self { name, json: serde_json::to_vec(&json).unwrap() }
    }

    pub(crate) fn load(&self) -> Tokenizer {
        load(&self.json)
    }

    /// The same file in the library that serves as the oracle.
    pub(crate) fn library(&self) -> tokenizers::Tokenizer {
        tokenizers::Tokenizer::from_bytes(&self.json).unwrap()
    }
}

pub(crate) fn load(json: &[u8]) -> Tokenizer {
    Tokenizer::from_files(&TokenizerFiles { tokenizer_json: json, ..TokenizerFiles::default() }).unwrap()
}

/// Every family whose decoding is bytes and positions.
pub(crate) fn families() -> Vec<Family> {
    let mut families = vec![
        Family { name: "byte level", json: BYTE_LEVEL.to_vec() },
        Family { name: "sentencepiece, Llama 2", json: SENTENCEPIECE.to_vec() },
        llama3(),
        Family::derived("sentencepiece, Gemma", SENTENCEPIECE, |json| {
            json["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
            json["decoder"]["decoders"].as_array_mut().unwrap().pop();
        }),
        Family::derived("sentencepiece, strip of each piece", SENTENCEPIECE, |json| {
            let strip = json!({"type": "Strip", "content": "e", "start": 2, "stop": 0});
            json["decoder"]["decoders"].as_array_mut().unwrap().insert(1, strip);
        }),
        Family::derived("sentencepiece, added tokens are normalized", SENTENCEPIECE, |json| {
            for token in json["added_tokens"].as_array_mut().unwrap() {
                token["normalized"] = json!(true);
            }
        }),
        Family::derived("sentencepiece, Llama 2, marker replaced last", SENTENCEPIECE, |json| {
            let decoders = json["decoder"]["decoders"].as_array_mut().unwrap();
            decoders.pop();
            decoders.rotate_left(1);
        }),
        Family::derived("wordpiece", SENTENCEPIECE, |json| {
            json["decoder"] = json!({"type": "WordPiece", "prefix": "▁", "cleanup": true});
        }),
        Family::derived("no decoder", SENTENCEPIECE, |json| json["decoder"] = Value::Null),
    ];
    for scheme in ["always", "first", "never"] {
        families.push(metaspace(scheme));
    }
    families
}

fn llama3() -> Family {
    Family::derived("byte level, Llama 3", BYTE_LEVEL, |json| {
        let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]});
        json["model"]["ignore_merges"] = json!(true);
    })
}

fn metaspace(scheme: &'static str) -> Family {
    let name = match scheme {
        "always" => "metaspace always",
        "first" => "metaspace first",
        _ => "metaspace never",
    };
    Family::derived(name, SENTENCEPIECE, |json| {
        let metaspace =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = metaspace.clone();
        json["decoder"] = json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, metaspace]});
    })
}
