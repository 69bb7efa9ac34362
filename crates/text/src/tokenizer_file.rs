//! Reading tokenizer.json: through the library, but with every surprise turned into a typed error.

use std::collections::HashMap;
use std::panic::catch_unwind;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Model, Tokenizer as Library};

use crate::TextError;
use crate::pieces::{PieceDecoder, PieceTable};
use crate::tokenizer::panic_message;

/// Ids up to here fit; a larger one is a broken file and would only reserve memory.
const MAX_IDS: u32 = 1 << 20;

/// The parts of the file that the library does not check.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    added_tokens: Option<Vec<AddedEntry>>,
    model: Option<ModelOutline>,
}

/// An entry of `added_tokens`.
#[derive(Deserialize)]
pub(crate) struct AddedEntry {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct ModelOutline {
    #[serde(default)]
    dropout: Option<f64>,
}

/// Parses the file and switches off what does not belong to serving: truncation, padding, threads. Also answers the
/// added tokens as the file numbers them.
pub(crate) fn load(file: &str, bytes: &[u8]) -> Result<(Library, Vec<AddedEntry>), TextError> {
    let outline: Outline = serde_json::from_slice(bytes)
        .map_err(|error| TextError::file(file, "whole file", format!("is not a tokenizer.json: {error}")))?;
    let model = outline.model.ok_or_else(|| {
        TextError::file(file, "model", "is missing; save the tokenizer with a current library")
    })?;
    if model.dropout.is_some_and(|dropout| dropout > 0.0) {
        let problem = "is above 0, which makes tokenization random; set it to null";
        return Err(TextError::file(file, "model.dropout", problem));
    }
    tokenizers::parallelism::set_parallelism(false);
    let mut library = match catch_unwind(|| Library::from_bytes(bytes)) {
        Ok(Ok(library)) => library,
        Ok(Err(error)) => return Err(diagnose(file, bytes, &error.to_string())),
        Err(panic) => return Err(diagnose(file, bytes, panic_message(panic.as_ref()))),
    };
    library.with_padding(None);
    library.with_truncation(None).map_err(|error| TextError::file(file, "truncation", error))?;
    Ok((library, outline.added_tokens.unwrap_or_default()))
}

/// The library numbers added tokens itself and only warns when the file disagrees.
pub(crate) fn check_added(file: &str, library: &Library, entries: &[AddedEntry]) -> Result<(), TextError> {
    for (index, entry) in entries.iter().enumerate() {
        let field = format!("added_tokens[{index}]");
        if entry.content.is_empty() {
            return Err(TextError::file(file, field, "has an empty `content`; remove it"));
        }
        let id = library.token_to_id(&entry.content);
        if id != Some(entry.id) {
            let problem = format!(
                "`{}` says id {}, but its place in the vocabulary is {}; added tokens must continue the \
                 vocabulary without a gap",
                entry.content,
                entry.id,
                id.map_or("none".to_owned(), |id| id.to_string()),
            );
            return Err(TextError::file(file, field, problem));
        }
    }
    Ok(())
}

/// Decodes every entry of the vocabulary once.
pub(crate) fn piece_table(
    file: &str,
    library: &Library,
    decoder: &PieceDecoder,
) -> Result<PieceTable, TextError> {
    let vocabulary = library.get_vocab(false);
    let added = library.get_added_tokens_decoder();
    let largest = vocabulary.values().chain(added.keys()).copied().max();
    let Some(largest) = largest else {
        return Err(TextError::file(file, "model.vocab", "is empty"));
    };
    if largest >= MAX_IDS {
        let problem = format!("has id {largest}; ids must be below {MAX_IDS}");
        return Err(TextError::file(file, "model.vocab", problem));
    }
    let entries = by_id(file, &vocabulary, largest)?;
    let pieces = (0..=largest).zip(entries).map(|(id, entry)| {
        match entry {
            // The library has its own spelling of an added token, whether or not the model has it too.
            _ if added.contains_key(&id) => {
                library.id_to_token(id).map(|text| decoder.bytes(&text, entry.is_none(), false))
            }
            Some(text) => Some(decoder.bytes(text, false, false)),
            None => None,
        }
    });
    PieceTable::new(pieces).map_err(|id| {
        let problem = format!("makes of token {id} a text that is too long, or of all tokens up to it");
        TextError::file(file, "decoder", problem)
    })
}

/// Sorts the model's vocabulary by id and refuses an id that two tokens share.
fn by_id<'a>(
    file: &str,
    vocabulary: &'a HashMap<String, u32>,
    largest: u32,
) -> Result<Vec<Option<&'a str>>, TextError> {
    let mut entries = vec![None; largest as usize + 1];
    for (token, &id) in vocabulary {
        if let Some(other) = entries[id as usize].replace(token.as_str()) {
            let (a, b) =
                if other < token.as_str() { (other, token.as_str()) } else { (token.as_str(), other) };
            let problem = format!("tokens `{a}` and `{b}` share id {id}; every token needs its own");
            return Err(TextError::file(file, "model.vocab", problem));
        }
    }
    Ok(entries)
}

/// Whether `id` lies outside the model's own vocabulary.
pub(crate) fn is_added(library: &Library, id: u32) -> bool {
    library.get_model().id_to_token(id).is_none()
}

/// The library says what is wrong, not where: looks for the field.
fn diagnose(file: &str, bytes: &[u8], problem: &str) -> TextError {
    let whole =
        || TextError::file(file, "whole file", format!("the tokenizer library refuses it: {problem}"));
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return whole() };
    if let Some(error) = diagnose_merges(file, &json["model"]) {
        return error;
    }
    let Value::Object(parts) = &json else { return whole() };
    for field in ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "added_tokens"] {
        let Some(part) = parts.get(field).filter(|part| !part.is_null()) else { continue };
        if let Some(problem) = part_problem(field, part.clone()) {
            let kind = part["type"].as_str().map_or(String::new(), |kind| format!(" (type `{kind}`)"));
            let problem = format!("the tokenizer library refuses it{kind}: {problem}");
            return TextError::file(file, field, problem);
        }
    }
    whole()
}

/// Parses one part alone; what the library says about it, if it refuses it.
fn part_problem(field: &str, part: Value) -> Option<String> {
    fn problem<T: serde::de::DeserializeOwned>(part: Value) -> Option<String> {
        serde_json::from_value::<T>(part).err().map(|error| error.to_string())
    }
    let parsed = catch_unwind(|| match field {
        "normalizer" => problem::<tokenizers::NormalizerWrapper>(part),
        "pre_tokenizer" => problem::<tokenizers::PreTokenizerWrapper>(part),
        "post_processor" => problem::<tokenizers::PostProcessorWrapper>(part),
        "decoder" => problem::<tokenizers::DecoderWrapper>(part),
        "model" => problem::<tokenizers::ModelWrapper>(part),
        _ => problem::<Vec<tokenizers::AddedToken>>(part),
    });
    parsed.unwrap_or_else(|panic| Some(panic_message(panic.as_ref()).to_owned()))
}

/// A merge needs both parts and its result in the vocabulary.
fn diagnose_merges(file: &str, model: &Value) -> Option<TextError> {
    let vocabulary = model["vocab"].as_object()?;
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    for (index, merge) in model["merges"].as_array()?.iter().enumerate() {
        let wrong = |problem: String| Some(TextError::file(file, format!("model.merges[{index}]"), problem));
        let parts = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let Some((left, right)) = parts else {
            return wrong("must be two tokens".to_owned());
        };
        let Some(rest) = right.strip_prefix(prefix) else {
            return wrong(format!("`{right}` lacks the prefix `{prefix}` of continuing subwords"));
        };
        let result = format!("{left}{rest}");
        for token in [left, right, &result] {
            if !vocabulary.contains_key(token) {
                return wrong(format!("`{token}` is not in model.vocab; add it or remove the merge"));
            }
        }
    }
    None
}
