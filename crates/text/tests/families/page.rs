//! The page of the families.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::family::{Family, families, texts};

const ABOUT: &str = "# Tokenizers that are compared

A test makes this page from the list of tokenizers that it runs. Each row stands for the files of a model's folder, with a small
vocabulary in place of the real one; [`crates/text/tests/families`](../crates/text/tests/families) has them. For each, the tokens of
TEXTS texts are those that `transformers` makes: sentences in some thirty scripts, emoji, code, numbers, addresses, runs of spaces,
control characters and whatever is unassigned, letters that normalisation changes, and texts that look like special tokens. So
are the texts that the tokens become again, whole and token by token, with special tokens and without.

Where a class of `transformers` 5 has a pipeline of its own that departs from tokenizer.json, as for Llama 2, Yi, SmolLM, StarCoder 2
and EXAONE, the file decides; for Llama 2 it agrees with SentencePiece, with which that was trained, and the class does not.
Tokens before and after a text are those of `post_processor`, whatever `add_bos_token` says, as in `transformers` 5. Special tokens
that the normalizer changes are left out of answers like all others.

Of folders without tokenizer.json, `tokenizer.model` of SentencePiece (merges) is read, and `vocab.json` with `merges.txt` of GPT-2
and Qwen; compared are Llama 2, InternLM 2, Phi-3, Qwen2, Qwen3 and GPT-2. Others are refused by name.

| models | text is changed by | cut by | model | before and after | added tokens |
|---|---|---|---|---|---|
";

/// `docs/tokenizers.md` is made from the families that are tested: `PAGODA_WRITE_DOCS=1` writes it.
#[test]
fn the_page_lists_the_families() {
    let mut page = ABOUT.replace("TEXTS", &texts().len().to_string());
    for (_, family) in families() {
        row(&mut page, &family);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tokenizers.md");
    if std::env::var_os("PAGODA_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let advice = "docs/tokenizers.md is stale: PAGODA_WRITE_DOCS=1 cargo test -p pagoda-text --test families";
    assert!(written == page, "{advice}");
}

fn row(page: &mut String, family: &Family) {
    let json = &family.json;
    let [before, after] = &family.around;
    let around = match (before.is_empty(), after.is_empty()) {
        (true, true) => "–".to_owned(),
        _ => format!("{} · text · {}", named(family, before), named(family, after))
            .trim_matches([' ', '·'])
            .to_owned(),
    };
    let special = family.added.iter().filter(|(_, flags, _)| flags.contains('s')).count();
    let plain = family.added.len() - special;
    let flags = [("l", "strip before"), ("r", "strip behind"), ("n", "normalized"), ("w", "whole words")];
    let has = |letter: &str| family.added.iter().any(|(_, flags, _)| flags.contains(letter));
    let flags: Vec<&str> = flags.iter().filter(|(letter, _)| has(letter)).map(|(_, name)| *name).collect();
    let flags = if flags.is_empty() { String::new() } else { format!(": {}", flags.join(", ")) };
    let kinds = [kinds(&json["normalizer"]), kinds(&json["pre_tokenizer"])];
    let [normalizer, cutting] =
        kinds.map(|kinds| if kinds.is_empty() { "–".to_owned() } else { kinds.join(", ") });
    let model = model(&json["model"]);
    let models = &family.models;
    writeln!(page, "| {models} | {normalizer} | {cutting} | {model} | {around} | {special} special, {plain} others{flags} |").unwrap();
}

fn named(family: &Family, ids: &[u32]) -> String {
    let text = |id: &u32| {
        family.added.iter().find(|(added, ..)| added == id).map(|(_, _, text)| format!("`{text}`"))
    };
    ids.iter().filter_map(text).collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The types of the steps.
fn kinds(part: &Value) -> Vec<String> {
    let steps = part["normalizers"].as_array().or(part["pretokenizers"].as_array());
    match (steps, part["type"].as_str()) {
        (Some(steps), _) => steps.iter().flat_map(kinds).collect(),
        (None, Some("ByteLevel")) if part["use_regex"] == false => vec!["ByteLevel without words".to_owned()],
        (None, kind) => kind.map(str::to_owned).into_iter().collect(),
    }
}

fn model(model: &Value) -> String {
    let kind = model["type"].as_str().unwrap_or_default();
    let fallback = if model["byte_fallback"] == true { " with bytes for other letters" } else { "" };
    let whole = if model["ignore_merges"] == true { ", whole words first" } else { "" };
    format!("{kind}{fallback}{whole}")
}
