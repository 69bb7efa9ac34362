//! Constraints on generated text: JSON schemas, regular expressions, choices and grammars, as masks over a vocabulary.
//!
//! Invariants: whatever a client asks for is compiled within fixed bounds or refused with an error that names keyword and
//! place, never a panic. No thread outlives a call, nothing is kept of a constraint but what its owner holds. Knows no
//! request, tokenizer or HTTP.
#![forbid(unsafe_code)]

mod compiler;
mod constraint;
mod error;
mod gbnf;
mod grammar;
mod keyword;
mod lark;
mod limits;
mod matcher;
mod reach;
mod regex;
mod schema;
mod vocabulary;

pub use compiler::GrammarCompiler;
pub use constraint::Constraint;
pub use error::GrammarError;
pub use grammar::Grammar;
pub use limits::GrammarLimits;
pub use matcher::{MatchError, Matcher};
pub use vocabulary::Vocabulary;
