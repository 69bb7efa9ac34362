//! Why a parameter is refused, and the ranges that numbers are checked against.

use std::fmt::Display;

/// A parameter that the engine refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// Name of the parameter.
    pub param: &'static str,
    /// What kind of fault it is.
    pub code: InvalidCode,
    /// What was given and what is allowed.
    pub message: String,
}

/// The kinds of refused parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidCode {
    /// A value out of its range.
    InvalidValue,
    /// The prompt leaves no room for output in the context.
    ContextLengthExceeded {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens of the model's context.
        context: u32,
    },
}

impl InvalidCode {
    /// The code as clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidValue => "invalid_value",
            Self::ContextLengthExceeded { .. } => "context_length_exceeded",
        }
    }
}

pub(crate) fn invalid(param: &'static str, message: String) -> InvalidRequest {
    InvalidRequest { param, code: InvalidCode::InvalidValue, message }
}

fn out_of_range(param: &'static str, got: impl Display, allowed: impl Display) -> InvalidRequest {
    invalid(param, format!("{param} is {got}; allowed: {allowed}"))
}

pub(crate) fn integer(param: &'static str, got: u32, low: u32, high: u32) -> Result<u32, InvalidRequest> {
    if (low..=high).contains(&got) {
        Ok(got)
    } else {
        Err(out_of_range(param, got, format!("{low} to {high}")))
    }
}

/// `low..=high`; not-a-number is outside of every range.
pub(crate) fn number(param: &'static str, got: f32, low: f32, high: f32) -> Result<f32, InvalidRequest> {
    if (low..=high).contains(&got) {
        Ok(got)
    } else {
        Err(out_of_range(param, got, format!("{low} to {high}")))
    }
}

pub(crate) fn above_zero(param: &'static str, got: f32, high: f32) -> Result<f32, InvalidRequest> {
    if got > 0.0 && got <= high {
        Ok(got)
    } else {
        Err(out_of_range(param, got, format!("above 0, up to {high}")))
    }
}

pub(crate) fn at_most(
    param: &'static str,
    what: &str,
    got: usize,
    limit: usize,
) -> Result<(), InvalidRequest> {
    if got <= limit {
        Ok(())
    } else {
        Err(invalid(param, format!("{param} has {got} {what}; allowed: at most {limit}")))
    }
}
