//! How the process ends: exit codes, so that scripts can tell what went wrong, and the one translation of errors to them.

use pagoda::client::ClientError;
use pagoda::{BuildError, EngineError};
use std::process::ExitCode;

/// What went wrong, as a process exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Failure {
    /// The work itself failed.
    Runtime = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// The model is missing, unreadable or unsupported.
    Model = 3,
    /// It does not fit into memory.
    Memory = 4,
    /// The address cannot be bound.
    Bind = 5,
    /// The device that was asked for cannot be used.
    Device = 6,
    /// A server cannot be reached or does not let us in, or a download failed.
    Network = 7,
    /// A defect of the program.
    Internal = 70,
    /// Ended in order by SIGINT.
    Interrupted = 130,
    /// Ended in order by SIGTERM.
    Terminated = 143,
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

    /// The cause in one line; what a terminal would obey is escaped.
    pub(crate) fn line(&self) -> String {
        let told = one_line(&format!("{:#}", self.error));
        match self.failure {
            Failure::Interrupted | Failure::Terminated => told,
            _ => format!("error: {told}"),
        }
    }
}

/// `text` in one line: breaks become spaces, other control characters are escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        for character in part.chars() {
            match character.is_control() {
                true => line.extend(character.escape_default()),
                false => line.push(character),
            }
        }
    }
    line
}

impl From<BuildError> for CliError {
    fn from(error: BuildError) -> Self {
        let failure = match &error {
            BuildError::NoModel => Failure::Usage,
            BuildError::Model(_)
            | BuildError::Adapter { .. }
            | BuildError::Text(_)
            | BuildError::MissingTokenizer { .. } => Failure::Model,
            BuildError::KvSize(_) => Failure::Memory,
            BuildError::Executor(_)
            | BuildError::Engine(EngineError::Config(_) | EngineError::ItlTarget { .. }) => Failure::Usage,
            BuildError::Engine(_) => Failure::Runtime,
        };
        Self::new(failure, error)
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let failure = match &error {
            ClientError::Connect { .. } | ClientError::Status { status: 401 | 403, .. } => Failure::Network,
            _ => Failure::Runtime,
        };
        Self::new(failure, super::server::refusal(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_one_line_that_no_terminal_obeys() {
        let error = CliError::new(Failure::Usage, anyhow::anyhow!("a\n  b\u{1b}[2J\n\n c\u{7}"));
        assert_eq!(error.line(), "error: a b\\u{1b}[2J c\\u{7}");
    }

    #[test]
    fn codes_are_those_that_are_documented() {
        let codes = [
            (Failure::Runtime, 1),
            (Failure::Usage, 2),
            (Failure::Model, 3),
            (Failure::Memory, 4),
            (Failure::Bind, 5),
            (Failure::Device, 6),
            (Failure::Network, 7),
            (Failure::Internal, 70),
            (Failure::Interrupted, 130),
            (Failure::Terminated, 143),
        ];
        for (failure, code) in codes {
            assert_eq!(failure as u8, code, "{failure:?}");
        }
    }
}
