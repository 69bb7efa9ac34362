//! Tokenizers of GGUF files against the tokenizers from which they were made: SentencePiece, and byte-level merges with the
//! patterns of the models' own files.

use pagoda_model::{Checkpoint, ModelSource};
use pagoda_text::{ChatInput, Special, Tokenizer, TokenizerFiles};
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Answers {
    tokenizer: Vec<Answer>,
}

#[derive(serde::Deserialize)]
struct Answer {
    text: String,
    ids: Vec<u32>,
}

/// Files with the texts and tokens of the tokenizers from which theirs were made.
fn files() -> Vec<(PathBuf, Vec<Answer>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/gguf"));
    let entries = std::fs::read_dir(folder).expect("tests/golden/gguf").flatten().map(|entry| entry.path());
    let with_answers =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).map(|path| {
            let answers = std::fs::read_to_string(&path).expect("the answers");
            let answers: Answers = serde_json::from_str(&answers).expect("answers as described");
            (path.with_extension("gguf"), answers.tokenizer)
        });
    with_answers.filter(|(_, answers)| !answers.is_empty()).collect()
}

fn tokenizer(path: &Path) -> Tokenizer {
    let model = Checkpoint::open(&ModelSource::at(path)).expect("a good file");
    let file = |name| model.file(name).expect("readable");
    Tokenizer::from_files(&TokenizerFiles {
        origin: &path.display().to_string(),
        tokenizer_json: &file("tokenizer.json").expect("there"),
        tokenizer_config: file("tokenizer_config.json").as_deref(),
        ..TokenizerFiles::default()
    })
    .expect("a tokenizer")
}

#[test]
fn texts_become_the_tokens_of_the_original_and_come_back() {
    let mut kinds = 0;
    for (path, answers) in files() {
        let tokenizer = tokenizer(&path);
        kinds += 1;
        for Answer { text, ids } in answers {
            let encoded = tokenizer.encode(&text, Special::Add).expect("a text");
            assert_eq!(encoded, ids, "{}: {text:?}", path.display());
            let without = tokenizer.encode(&text, Special::Skip).expect("a text");
            let back = tokenizer.decode(&without, false);
            // A tokenizer that composes letters gives the composed ones back.
            assert_eq!(back.replace('é', "e\u{301}"), text.replace('é', "e\u{301}"), "{}", path.display());
        }
    }
    assert!(kinds >= 14, "{kinds} files with answers");
}

#[test]
fn the_template_and_the_special_tokens_are_those_of_the_file() {
    for (path, _) in files() {
        let tokenizer = tokenizer(&path);
        let eos = tokenizer.eos_ids();
        assert_eq!(eos.len(), 1, "{}", path.display());
        let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
        let template = tokenizer.require_chat_template().expect("a template");
        let input = ChatInput::new(&messages);
        let text = template.render(&input).expect("a conversation");
        assert!(text.contains("user: hi"), "{text}");
    }
}
