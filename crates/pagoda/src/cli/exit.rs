//! Exit codes, so that scripts can tell what went wrong.

use pagoda::{BuildError, EngineError};
use std::process::ExitCode;

/// What went wrong, as a process exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Failure {
    /// The work itself failed.
    Runtime = 1,
    /// Wrong arguments.
    Usage = 2,
    /// The model is missing, unreadable or unsupported.
    Model = 3,
    /// It does not fit into memory.
    Memory = 4,
    /// The address cannot be bound.
    Bind = 5,
    /// A defect of the program.
    Internal = 70,
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure as u8)
    }
}

/// An error together with the code that the process exits with.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) failure: Failure,
    pub(crate) error: anyhow::Error,
}

impl CliError {
    pub(crate) fn new(failure: Failure, error: impl Into<anyhow::Error>) -> Self {
        Self { failure, error: error.into() }
    }
}

impl From<BuildError> for CliError {
    fn from(error: BuildError) -> Self {
        let failure = match &error {
            BuildError::Model(_)
            | BuildError::Text(_)
            | BuildError::NoModel
            | BuildError::MissingTokenizer { .. } => Failure::Model,
            BuildError::KvSize(_) => Failure::Memory,
            BuildError::Executor(_)
            | BuildError::Engine(EngineError::Config(_) | EngineError::ItlTarget { .. }) => Failure::Usage,
            BuildError::Engine(_) => Failure::Runtime,
        };
        Self::new(failure, error)
    }
}
