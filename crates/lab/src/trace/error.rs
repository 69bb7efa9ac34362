//! Why a trace cannot be used.

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Its name does not tell what is in it.
    #[error("{path} is no trace that can be read; end its name with .csv or .jsonl")]
    Name {
        /// The file.
        path: String,
    },
    /// A line is not as the format has it.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A field is missing or holds what it must not.
    #[error("{path}, line {line}, {field}: {problem}")]
    Field {
        /// The file.
        path: String,
        /// Number of the line, from 1.
        line: u64,
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// It is no number.
    #[error("{0:?} is no number")]
    NoNumber(String),
    /// It is outside of what makes sense.
    #[error("{value} is outside of {least} to {most}")]
    Range {
        /// As written.
        value: String,
        /// The smallest allowed.
        least: f64,
        /// The largest allowed.
        most: f64,
    },
    /// It comes before the line above.
    #[error("{value} is before {before} of the line above; sort the trace by time")]
    Unsorted {
        /// This time.
        value: f64,
        /// The time above.
        before: f64,
    },
    /// It is no class.
    #[error("{0:?} is no class; write low, normal, high or urgent")]
    Class(String),
    /// It is larger than another field allows.
    #[error("{value} is more than {field}, which is {limit}")]
    Above {
        /// The value.
        value: u32,
        /// The field that limits it.
        field: &'static str,
        /// The limit.
        limit: u32,
    },
    /// It means nothing without another field.
    #[error("given without {0}")]
    Without(&'static str),
    /// There are more different values than are told apart.
    #[error("more than {0} different ones")]
    TooMany(usize),
}
