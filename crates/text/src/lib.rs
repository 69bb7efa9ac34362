//! Text in, tokens out, and back: tokenizer, chat template, incremental detokenizer, stop-string matcher.
//!
//! Invariants: no I/O, no clock, no thread of its own. A fault in a file or a request is a [`TextError`], never a
//! panic of the caller. What is streamed is what decoding the whole sequence would give, byte for byte, however
//! it is cut into pieces.
#![forbid(unsafe_code)]

mod chat_messages;
mod decode_state;
mod detokenizer;
mod error;
mod marks;
mod pieces;
mod python_json;
mod python_repr;
mod python_str;
mod quote;
mod special;
mod stop;
mod strftime;
mod template;
mod template_env;
mod template_source;
mod tokenizer;
mod tokenizer_class;
mod tokenizer_file;
mod utf8;

pub use detokenizer::{Detokenizer, TextStart};
pub use error::TextError;
pub use marks::{FimMarks, ReasoningMarks};
pub use quote::unquote;
pub use special::SpecialTokens;
pub use stop::{StopMatch, StopMatcher};
pub use strftime::utc;
pub use template::{ChatInput, ChatTemplate, TemplateLimits};
pub use tokenizer::{Special, Tokenizer, TokenizerFiles};
