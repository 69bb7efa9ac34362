//! Tokenizers of folders without tokenizer.json against those of the families that have it.

use std::fs;
use std::path::PathBuf;

use crate::family::{self, Family, Vocabulary, families, ids, texts, vocabularies};
use pagoda_model::{ModelError, ModelSource};
use pagoda_text::{Special, Tokenizer, TokenizerFiles};
use serde_json::{Value, json};

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let path = std::env::temp_dir().join(format!("pagoda-text-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for (name, contents) in files {
            fs::write(path.join(name), contents).unwrap();
        }
        Self(path)
    }

    fn tokenizer_json(&self) -> Result<Option<Vec<u8>>, ModelError> {
        Ok(ModelSource::at(&self.0).file("tokenizer.json")?.map(std::borrow::Cow::into_owned))
    }

    fn tokenizer(&self) -> Tokenizer {
        let config = fs::read(self.0.join("tokenizer_config.json")).ok();
        Tokenizer::from_files(&TokenizerFiles {
            origin: "folder",
            tokenizer_json: &self.tokenizer_json().unwrap().unwrap(),
            tokenizer_config: config.as_deref(),
            ..TokenizerFiles::default()
        })
        .unwrap()
    }

    fn refusal(&self) -> String {
        self.tokenizer_json().unwrap_err().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn family(name: &str) -> Family {
    families().into_iter().find(|(known, _)| known == name).unwrap().1
}

fn pieces() -> Vec<u8> {
    fs::read(family::folder().join("pieces.model")).unwrap()
}

/// The family's files apart from tokenizer.json; added tokens are listed where transformers has them.
fn files(family: &Family, more: Vec<(&'static str, Vec<u8>)>) -> Vec<(&'static str, Vec<u8>)> {
    let mut config = family.files["tokenizer_config.json"].clone();
    let added =
        family.added.iter().map(|(id, flags, text)| (id.to_string(), family::added_token(*id, flags, text)));
    config["added_tokens_decoder"] = Value::Object(added.collect());
    let model = json!({"model_type": family.model_type});
    let mut files =
        vec![("tokenizer_config.json", config.to_string().into()), ("config.json", model.to_string().into())];
    files.extend(more);
    files
}

fn check(name: &str, family: &Family, folder: &Folder) {
    let tokenizer = folder.tokenizer();
    for (text, spelled) in texts().iter().zip(&family.tokens) {
        let bare = ids(spelled);
        assert_eq!(tokenizer.encode(text, Special::Skip).unwrap(), bare, "{name}: {text:?}");
        let whole = [family.around[0].as_slice(), &bare, &family.around[1]].concat();
        assert_eq!(tokenizer.encode(text, Special::Add).unwrap(), whole, "{name}: {text:?}");
    }
    for (spelled, shown, skipped) in &family.sequences {
        assert_eq!(&tokenizer.decode(&ids(spelled), false), shown, "{name}");
        assert_eq!(&tokenizer.decode(&ids(spelled), true), skipped, "{name}");
    }
    assert_eq!(tokenizer.eos_ids().first().copied(), family.eos, "{name}");
}

#[test]
fn a_sentencepiece_model_is_read_as_the_file_that_transformers_makes_of_it() {
    for name in ["llama2", "internlm2", "phi3"] {
        let family = family(name);
        let folder = Folder::new(name, &files(&family, vec![("tokenizer.model", pieces())]));
        check(name, &family, &folder);
    }
}

#[test]
fn a_vocabulary_with_merges_is_read_as_the_file_that_transformers_makes_of_it() {
    let vocabularies = vocabularies();
    for name in ["qwen2", "qwen3", "gpt2"] {
        let family = family(name);
        let Vocabulary { merges, .. } = &vocabularies[&family.base];
        let mut vocab = family.tokenizer_json(&vocabularies)["model"]["vocab"].clone();
        if name == "gpt2" {
            // The end is part of the vocabulary there.
            let (id, _, text) = &family.added[0];
            vocab[text] = json!(id);
        }
        let lines = merges.as_array().unwrap().iter().map(|merge| merge.as_str().unwrap());
        let merges: String =
            ["#version: 0.2"].into_iter().chain(lines).map(|line| format!("{line}\n")).collect();
        let mut own =
            files(&family, vec![("vocab.json", vocab.to_string().into()), ("merges.txt", merges.into())]);
        if name == "gpt2" {
            own[0].1 = json!({"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}).to_string().into();
        }
        check(name, &family, &Folder::new(name, &own));
    }
}

#[test]
fn files_of_one_kind_in_a_folder_within_are_found_by_name() {
    let folder = Folder::new("templates", &[]);
    let source = ModelSource::at(&folder.0);
    assert_eq!(source.files_in("more", ".jinja").unwrap(), []);
    let inner = folder.0.join("more");
    fs::create_dir_all(inner.join("folder.jinja")).unwrap();
    for (name, contents) in [("rag.jinja", "r"), ("a.jinja.jinja", "a"), ("note.txt", "n")] {
        fs::write(inner.join(name), contents).unwrap();
    }
    assert!(source.files_in("more", ".jinja").unwrap_err().to_string().contains("folder.jinja"));
    fs::remove_dir(inner.join("folder.jinja")).unwrap();
    let expected = [("a.jinja".to_owned(), b"a".to_vec()), ("rag".to_owned(), b"r".to_vec())];
    assert_eq!(source.files_in("more", ".jinja").unwrap(), expected);
    for number in 0..64 {
        fs::write(inner.join(format!("{number}.jinja")), "").unwrap();
    }
    assert!(source.files_in("more", ".jinja").unwrap_err().to_string().contains("at most 64"));
}

#[test]
fn what_is_not_read_says_what_to_do() {
    let told = |name: &str, files: &[(&str, &[u8])], words: &[&str]| {
        let files: Vec<_> = files.iter().map(|(file, contents)| (*file, contents.to_vec())).collect();
        let refusal = Folder::new(name, &files).refusal();
        for word in words {
            assert!(refusal.contains(word), "{name}: {refusal}");
        }
    };
    let save = "save_pretrained";
    told("tekken", &[("tekken.json", b"{}")], &["tekken.json is not read", save]);
    told(
        "tiktoken",
        &[("tokenizer.model", b"IQ== 0\nIg== 1\n")],
        &["tokenizer.model", "no SentencePiece model", "tokenizer.json"],
    );
    told(
        "whisper",
        &[
            ("vocab.json", b"{\"a\": 0}"),
            ("merges.txt", b""),
            ("config.json", b"{\"model_type\": \"whisper\"}"),
        ],
        &["\"whisper\"", save],
    );
    let gpt2 = ("config.json", b"{\"model_type\": \"gpt2\"}".as_slice());
    told("list", &[("vocab.json", b"[]"), ("merges.txt", b""), gpt2], &["vocab.json"]);
    told(
        "far",
        &[("vocab.json", b"{\"a\": 4000000000}"), ("merges.txt", b""), gpt2],
        &["vocab.json", "1048576"],
    );
    told(
        "odd",
        &[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"a b\n"), gpt2],
        &["merges.txt", "element 0", "a b"],
    );
    told("bytes", &[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"\xFF"), gpt2], &["merges.txt", "UTF-8"]);
    assert!(Folder::new("empty", &[]).tokenizer_json().unwrap().is_none());
    assert!(Folder::new("half", &[("vocab.json", b"{}".to_vec())]).tokenizer_json().unwrap().is_none());
}
