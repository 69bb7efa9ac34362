//! GGUF files: a reader of their head, and their metadata, names and tokenizer as the rest of the engine knows them.
//!
//! Nothing is computed here and nothing is believed: whatever a file holds, the answer is a model or an error that names
//! the file and the field, tensor or byte. Lists and texts stay in the mapped file until they are asked for, so that memory is
//! bounded by it.

mod arch;
mod config;
mod cursor;
mod format;
mod header;
mod naming;
mod pieces;
mod pretokenizer;
mod set;
mod tokenizer;
mod value;
mod vocabulary;

pub use set::{GgufPart, gguf_part, is_gguf};
pub(crate) use set::{GgufSet, in_folder};
pub(crate) use tokenizer::tokenizer_json;
pub(crate) use vocabulary::Vocabulary;
