//! JSON objects with typed getters, so that a message can name the file, the field and the value.

use crate::ModelError;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Longest piece of a value that a message repeats, in characters.
const CLIP: usize = 200;

/// An object of a JSON file. A field whose value is `null` counts as absent.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    file: String,
    /// Where the object lies in the file, for example `rope_parameters.`.
    path: String,
    fields: Map<String, Value>,
    /// Usual name of a field and the name that this file has for it.
    aliases: &'static [(&'static str, &'static str)],
}

impl Object {
    /// Parses the whole of `bytes`; a field that occurs twice is an error, because readers disagree on it.
    pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        let invalid = |problem: String| ModelError::Json { file: file.into(), problem };
        match serde_json::from_slice::<Strict>(bytes) {
            Ok(Strict(Value::Object(fields))) => {
                Ok(Self { file: file.into(), path: String::new(), fields, aliases: &[] })
            }
            Ok(Strict(other)) => {
                Err(invalid(format!("it should be a JSON object, but it is {}", shown(&other))))
            }
            Err(e) => Err(invalid(format!("not JSON: {}", clip(&e.to_string())))),
        }
    }

    /// An object that stands for part of `file`.
    pub(crate) fn new(file: &str, fields: Map<String, Value>) -> Self {
        Self { file: file.into(), path: String::new(), fields, aliases: &[] }
    }

    /// A copy in which fields are found under other names too, where those are written: pairs of the usual name, which is
    /// asked for, and the other.
    pub(crate) fn aliased(&self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        Self { aliases, ..self.clone() }
    }

    /// A copy in which these numbers stand where a field is not written.
    pub(crate) fn with_defaults(&self, defaults: &[(&str, u32)]) -> Self {
        let mut copy = self.clone();
        for &(field, number) in defaults {
            if self.get(field).is_none() {
                copy.fields.insert(field.to_owned(), number.into());
            }
        }
        copy
    }

    /// The name under which a field is written.
    fn written<'a>(&self, field: &'a str) -> &'a str {
        let names = self.aliases.iter().filter(|(usual, _)| *usual == field).map(|(_, other)| *other);
        names.into_iter().find(|name| self.fields.contains_key(*name)).unwrap_or(field)
    }

    /// The value of a field that is there and not `null`.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(self.written(field)).filter(|value| !value.is_null())
    }

    /// Whether the field is written, be it as `null`.
    pub(crate) fn is_written(&self, field: &str) -> bool {
        self.fields.contains_key(self.written(field))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// All fields, in order.
    pub(crate) fn into_fields(self) -> Map<String, Value> {
        self.fields
    }

    /// An error about `field`.
    pub(crate) fn error(&self, field: &str, problem: impl Into<String>) -> ModelError {
        ModelError::Field {
            file: self.file.clone(),
            field: format!("{}{}", self.path, self.written(field)),
            problem: problem.into(),
        }
    }

    /// The refusal of a field's value.
    pub(crate) fn unsupported(&self, field: &str, advice: &'static str) -> ModelError {
        let field = self.written(field);
        ModelError::Unsupported {
            file: self.file.clone(),
            field: format!("{}{field}", self.path),
            value: shown(self.fields.get(field).unwrap_or(&Value::Null)),
            advice,
        }
    }

    /// A whole number in `1..=max`.
    pub(crate) fn count(&self, field: &str, max: u32) -> Result<Option<u32>, ModelError> {
        self.integer(field, 1, max)
    }

    /// A whole number in `1..=max` that must be given.
    pub(crate) fn need_count(&self, field: &str, max: u32) -> Result<u32, ModelError> {
        self.count(field, max)?
            .ok_or_else(|| self.error(field, format!("is missing: give a whole number from 1 to {max}")))
    }

    /// A whole number in `min..=max`; `4.0` counts as whole.
    pub(crate) fn integer(&self, field: &str, min: u32, max: u32) -> Result<Option<u32>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = whole(value).filter(|n| (min..=max).contains(n));
        let wrong = || {
            self.error(
                field,
                format!("is {}, but should be a whole number from {min} to {max}", shown(value)),
            )
        };
        number.map(Some).ok_or_else(wrong)
    }

    /// A number for which `accept` holds; `wanted` says which those are.
    pub(crate) fn number(
        &self,
        field: &str,
        wanted: &str,
        accept: impl Fn(f32) -> bool,
    ) -> Result<Option<f32>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_f64().map(|n| n as f32).filter(|n| n.is_finite() && accept(*n));
        let wrong = || self.error(field, format!("is {}, but should be {wanted}", shown(value)));
        number.map(Some).ok_or_else(wrong)
    }

    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let wrong = || self.error(field, format!("is {}, but should be true or false", shown(value)));
        value.as_bool().map(Some).ok_or_else(wrong)
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<&str>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let wrong = || self.error(field, format!("is {}, but should be a text", shown(value)));
        value.as_str().map(Some).ok_or_else(wrong)
    }

    /// A list of numbers for all of which `accept` holds; `wanted` says which those are.
    pub(crate) fn numbers(
        &self,
        field: &str,
        wanted: &str,
        accept: impl Fn(f32) -> bool,
    ) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = |value: &Value| value.as_f64().map(|n| n as f32).filter(|n| n.is_finite() && accept(*n));
        let numbers = value.as_array().and_then(|list| list.iter().map(number).collect::<Option<Vec<_>>>());
        let wrong = || self.error(field, format!("is {}, but should be a list of {wanted}", shown(value)));
        numbers.map(Some).ok_or_else(wrong)
    }

    /// A list of texts.
    pub(crate) fn texts(&self, field: &str) -> Result<Option<Vec<&str>>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let wrong = || self.error(field, format!("is {}, but should be a list of texts", shown(value)));
        let list = value.as_array().ok_or_else(wrong)?;
        list.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(Some).ok_or_else(wrong)
    }

    /// Token ids below `vocab`: one number or a list of numbers; none when the field is absent.
    pub(crate) fn token_ids(&self, field: &str, vocab: u32) -> Result<Vec<u32>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let ids = match value {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let id = |value| whole(value).filter(|id| *id < vocab);
        let wrong = || {
            let expected = format!("should be a token id, or a list of ids, from 0 to {}", vocab - 1);
            self.error(field, format!("is {}, but {expected} (vocab_size is {vocab})", shown(value)))
        };
        ids.iter().map(id).collect::<Option<Vec<_>>>().ok_or_else(wrong)
    }

    /// A list of whole numbers below `end`; empty when the field is absent.
    pub(crate) fn indices(&self, field: &str, end: u32) -> Result<Vec<u32>, ModelError> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let wrong = || {
            let expected = format!("should be a list of whole numbers from 0 to {}", end.saturating_sub(1));
            self.error(field, format!("is {}, but {expected}", shown(value)))
        };
        let index = |value| whole(value).filter(|index| *index < end);
        let list = value.as_array().ok_or_else(wrong)?;
        list.iter().map(index).collect::<Option<Vec<_>>>().ok_or_else(wrong)
    }

    /// A nested object, without the rest.
    pub(crate) fn into_object(mut self, field: &str) -> Result<Option<Object>, ModelError> {
        if let Some(Value::Object(fields)) = self.fields.get_mut(field) {
            let fields = std::mem::take(fields);
            let path = format!("{}{field}.", self.path);
            return Ok(Some(Self { path, file: self.file, fields, aliases: &[] }));
        }
        self.object(field)
    }

    /// A copy of a nested object.
    pub(crate) fn object(&self, field: &str) -> Result<Option<Object>, ModelError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self {
                file: self.file.clone(),
                path: format!("{}{field}.", self.path),
                fields: fields.clone(),
                aliases: &[],
            })),
            Some(other) => Err(self.error(field, format!("is {}, but should be an object", shown(other)))),
        }
    }
}

/// A non-negative whole number, also when written as `4.0`.
fn whole(value: &Value) -> Option<u32> {
    if let Some(n) = value.as_u64() {
        return u32::try_from(n).ok();
    }
    let n = value.as_f64()?;
    (n >= 0.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0).then_some(n as u32)
}

/// A value as a message repeats it.
pub(crate) fn shown(value: &Value) -> String {
    clip(&value.to_string())
}

/// The beginning of a text from an untrusted file.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(CLIP) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON value in which no object has a field twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(Strict(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("field {:?} occurs twice", clip(&name))));
            }
            let Strict(value) = map.next_value()?;
            fields.insert(name, value);
        }
        Ok(Strict(Value::Object(fields)))
    }
}
