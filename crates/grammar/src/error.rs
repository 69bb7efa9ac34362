//! Why a constraint is refused.

use std::fmt::Display;

/// Longest part of a client's own text in a message, in characters.
const MAX_EXCERPT: usize = 120;

/// Why a constraint is refused. The message names the keyword and its place, or the limit, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// A count is above its limit.
    #[error("{place} has {got} {unit}; allowed: at most {limit}")]
    TooMany {
        /// What is counted in.
        place: String,
        /// What is counted.
        unit: &'static str,
        /// How many there are.
        got: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A keyword that cannot be enforced.
    #[error("keyword {keyword:?} at {path} is not supported; {advice}")]
    Unsupported {
        /// The keyword.
        keyword: String,
        /// JSON pointer of the schema that has it, from `#`.
        path: String,
        /// What to do instead.
        advice: String,
    },
    /// A keyword with a value that it cannot have.
    #[error("keyword {keyword:?} at {path} {problem}")]
    Invalid {
        /// The keyword.
        keyword: String,
        /// JSON pointer of the schema that has it, from `#`.
        path: String,
        /// What is wrong with its value, and what is allowed.
        problem: String,
    },
    /// A regular expression, choice or grammar that cannot be read.
    #[error("{0}")]
    Syntax(String),
    /// Nothing can satisfy the constraint.
    #[error("no text satisfies the constraint: {0}")]
    Unsatisfiable(String),
    /// Compiling, or the first mask, takes more than the limits allow.
    #[error("the constraint is too complex ({0}); make it smaller")]
    TooComplex(String),
    /// The model's vocabulary cannot be constrained.
    #[error("this model cannot be constrained: {0}")]
    Vocabulary(String),
}

impl GrammarError {
    pub(crate) fn too_many(place: impl Display, unit: &'static str, got: u64, limit: u64) -> Self {
        Self::TooMany { place: excerpt(&place.to_string()), unit, got, limit }
    }

    pub(crate) fn unsupported(keyword: &str, path: &str, advice: impl Display) -> Self {
        let advice = advice.to_string();
        Self::Unsupported { keyword: excerpt(keyword), path: excerpt(path), advice }
    }

    pub(crate) fn invalid(keyword: &str, path: &str, problem: impl Display) -> Self {
        let problem = problem.to_string();
        Self::Invalid { keyword: excerpt(keyword), path: excerpt(path), problem }
    }
}

/// The count, if it is within its limit.
pub(crate) fn at_most(
    place: impl Display,
    unit: &'static str,
    got: usize,
    limit: usize,
) -> Result<(), GrammarError> {
    if got <= limit {
        return Ok(());
    }
    Err(GrammarError::too_many(place, unit, got as u64, limit as u64))
}

/// The beginning of a client's text, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
