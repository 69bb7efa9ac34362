//! Objects inside a request, read with errors that name the path. `null` is the same as absent.

use crate::error::ApiError;
use crate::json::mistyped;
use serde_json::{Map, Value};

/// An object and where it is.
pub(crate) struct Nested<'v> {
    path: String,
    entries: &'v Map<String, Value>,
}

impl<'v> Nested<'v> {
    /// # Errors
    /// If `value` is no object.
    pub(crate) fn of(value: &'v Value, path: impl Into<String>) -> Result<Self, ApiError> {
        let path = path.into();
        match value {
            Value::Object(entries) => Ok(Self { path, entries }),
            other => Err(mistyped(&path, "an object", &other.to_string())),
        }
    }

    /// Path of one of its fields.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'v Value> {
        self.entries.get(name).filter(|value| !value.is_null())
    }

    /// # Errors
    /// If it is not there.
    pub(crate) fn need(&self, name: &str) -> Result<&'v Value, ApiError> {
        self.get(name).ok_or_else(|| ApiError::missing(&self.at(name)))
    }

    /// # Errors
    /// If it is no string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'v str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(mistyped(&self.at(name), "a string", &other.to_string())),
        }
    }

    /// # Errors
    /// If it is not there or no string.
    pub(crate) fn need_text(&self, name: &str) -> Result<&'v str, ApiError> {
        self.text(name)?.ok_or_else(|| ApiError::missing(&self.at(name)))
    }

    /// # Errors
    /// If it is no truth value.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(mistyped(&self.at(name), "true or false", &other.to_string())),
        }
    }

    /// The error for a field whose text is none of those `allowed`.
    pub(crate) fn unexpected(&self, name: &str, allowed: &str) -> ApiError {
        let got = self.get(name).map_or_else(|| "null".to_owned(), Value::to_string);
        mistyped(&self.at(name), &format!("one of {allowed}"), &got)
    }
}

/// The entries of a list with their paths.
///
/// # Errors
/// If `value` is no list.
pub(crate) fn list<'v>(value: &'v Value, path: &str) -> Result<Vec<(String, &'v Value)>, ApiError> {
    match value {
        Value::Array(items) => {
            Ok(items.iter().enumerate().map(|(at, item)| (format!("{path}[{at}]"), item)).collect())
        }
        other => Err(mistyped(path, "a list", &other.to_string())),
    }
}
