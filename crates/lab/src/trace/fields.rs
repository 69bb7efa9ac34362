//! The fields of one line, as text.

use super::Problem;
use std::borrow::Cow;

/// What a line may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Arrival,
    Prompt,
    Output,
    MaxTokens,
    Class,
    Tenant,
    Group,
    Prefix,
}

impl Field {
    pub(super) const ALL: [Self; 8] = [
        Self::Arrival,
        Self::Prompt,
        Self::Output,
        Self::MaxTokens,
        Self::Class,
        Self::Tenant,
        Self::Group,
        Self::Prefix,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival_s",
            Self::Prompt => "prompt_tokens",
            Self::Output => "output_tokens",
            Self::MaxTokens => "max_tokens",
            Self::Class => "class",
            Self::Tenant => "tenant",
            Self::Group => "prefix_group",
            Self::Prefix => "prefix_tokens",
        }
    }

    /// The field with this name.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|field| field.name() == name)
            .ok_or_else(|| format!("unknown field {name:?}; known are: {}", known()))
    }
}

/// The fields of one line; empty text is no value.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>([Option<Cow<'a, str>>; Field::ALL.len()]);

impl<'a> Fields<'a> {
    pub(super) fn set(&mut self, field: Field, text: Cow<'a, str>) {
        self.0[field as usize] = Some(text).filter(|text| !text.trim().is_empty());
    }

    pub(super) fn get(&self, field: Field) -> Option<&str> {
        self.0[field as usize].as_deref().map(str::trim)
    }

    /// A number from `least` to `most`; `None` if there is none.
    pub(super) fn number(&self, field: Field, (least, most): (f64, f64)) -> Result<Option<f64>, Problem> {
        let Some(text) = self.get(field) else { return Ok(None) };
        let value: f64 = text.parse().map_err(|_| Problem::NoNumber(text.to_owned()))?;
        let range = || Problem::Range { value: text.to_owned(), least, most };
        // NaN lies in no range.
        if (least..=most).contains(&value) { Ok(Some(value)) } else { Err(range()) }
    }

    /// A whole number of tokens from 1 to `most`.
    pub(super) fn tokens(&self, field: Field, most: u32) -> Result<Option<u32>, Problem> {
        let Some(value) = self.number(field, (1.0, f64::from(most)))? else { return Ok(None) };
        let whole = value.fract() == 0.0;
        let text = || self.get(field).unwrap_or_default().to_owned();
        if whole { Ok(Some(value as u32)) } else { Err(Problem::NoNumber(text())) }
    }
}
