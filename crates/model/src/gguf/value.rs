//! Values of metadata.

use super::cursor::Cursor;
use crate::ModelError;
use crate::json::clip;
use serde_json::Value as Json;
use std::ops::Range;

/// Lists within lists that are read.
const MAX_DEPTH: usize = 4;

/// Longest list that is shown as JSON.
const MAX_JSON_LIST: usize = 4096;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Kind {
    /// In the order of their numbers in files.
    const ALL: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::Text,
        Kind::List,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    fn read(cursor: &mut Cursor<'_>, what: &str) -> Result<Self, ModelError> {
        let at = cursor.at();
        let number = cursor.u32(what)?;
        let known = usize::try_from(number).ok().and_then(|n| Kind::ALL.get(n));
        known.copied().ok_or_else(|| cursor.error(at, format!("{what} has type {number}, which is unknown")))
    }

    /// Bytes of a value, at least.
    fn least(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::Text | Kind::U64 | Kind::I64 | Kind::F64 => 8,
            Kind::List => 12,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Bool => "true or false",
            Kind::Text => "text",
            Kind::List => "lists",
            Kind::F32 | Kind::F64 => "fractions",
            _ => "whole numbers",
        }
    }
}

/// A value of metadata; lists and texts stay in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Fraction(f64),
    Flag(bool),
    /// Bytes of UTF-8.
    Text(Range<usize>),
    List(List),
}

/// A list in the file, walked through once so that every element is known to lie there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List {
    pub(super) kind: Kind,
    pub(super) len: usize,
    /// Of the elements.
    pub(super) range: Range<usize>,
}

impl Value {
    /// Reads type and value of the field `key`.
    pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, ModelError> {
        let what = format!("the value of {}", Cursor::shown(key));
        let kind = Kind::read(cursor, &what)?;
        Self::read_as(cursor, kind, &what, 0)
    }

    fn read_as(cursor: &mut Cursor<'_>, kind: Kind, what: &str, depth: usize) -> Result<Self, ModelError> {
        Ok(match kind {
            Kind::U8 => Value::Whole(u8::from_le_bytes(cursor.array(what)?).into()),
            Kind::I8 => Value::Whole(i8::from_le_bytes(cursor.array(what)?).into()),
            Kind::U16 => Value::Whole(u16::from_le_bytes(cursor.array(what)?).into()),
            Kind::I16 => Value::Whole(i16::from_le_bytes(cursor.array(what)?).into()),
            Kind::U32 => Value::Whole(u32::from_le_bytes(cursor.array(what)?).into()),
            Kind::I32 => Value::Whole(i32::from_le_bytes(cursor.array(what)?).into()),
            Kind::U64 => Value::Whole(u64::from_le_bytes(cursor.array(what)?).into()),
            Kind::I64 => Value::Whole(i64::from_le_bytes(cursor.array(what)?).into()),
            Kind::F32 => Value::Fraction(f32::from_le_bytes(cursor.array(what)?).into()),
            Kind::F64 => Value::Fraction(f64::from_le_bytes(cursor.array(what)?)),
            Kind::Bool => {
                let at = cursor.at();
                match cursor.array::<1>(what)? {
                    [0] => Value::Flag(false),
                    [1] => Value::Flag(true),
                    [other] => {
                        return Err(cursor.error(at, format!("{what} is {other}, but a flag is 0 or 1")));
                    }
                }
            }
            Kind::Text => Value::Text(cursor.text_range(what)?),
            Kind::List => Value::List(Self::read_list(cursor, what, depth)?),
        })
    }

    fn read_list(cursor: &mut Cursor<'_>, what: &str, depth: usize) -> Result<List, ModelError> {
        if depth == MAX_DEPTH {
            return Err(
                cursor.error(cursor.at(), format!("{what} has lists within lists, over {MAX_DEPTH} deep"))
            );
        }
        let kind = Kind::read(cursor, what)?;
        let len = cursor.count(kind.least(), &format!("the length of {what}"))?;
        let start = cursor.at();
        match kind {
            Kind::Text | Kind::List | Kind::Bool => {
                for _ in 0..len {
                    Self::read_as(cursor, kind, what, depth + 1)?;
                }
            }
            _ => drop(cursor.take(len * kind.least(), what)?),
        }
        Ok(List { kind, len, range: start..cursor.at() })
    }

    /// The value as JSON would have it; `None` for long lists.
    pub(super) fn json(&self, bytes: &[u8]) -> Option<Json> {
        Some(match self {
            Value::Whole(number) => match i64::try_from(*number) {
                Ok(number) => number.into(),
                Err(_) => u64::try_from(*number).ok()?.into(),
            },
            // What is written as a fraction of 32 bits is meant as the short number that it stands for.
            Value::Fraction(number) => shortest(*number).unwrap_or_else(|| clip(&number.to_string()).into()),
            Value::Flag(flag) => (*flag).into(),
            Value::Text(range) => String::from_utf8_lossy(&bytes[range.clone()]).into_owned().into(),
            Value::List(list) if list.len <= MAX_JSON_LIST && list.kind != Kind::List => {
                list.values(bytes).map(|value| value.json(bytes)).collect::<Option<Vec<_>>>()?.into()
            }
            Value::List(_) => return None,
        })
    }
}

/// A number of JSON; `None` for those that JSON does not have.
fn shortest(number: f64) -> Option<Json> {
    let narrow = number as f32;
    let short = if f64::from(narrow) == number { narrow.to_string().parse().ok()? } else { number };
    serde_json::Number::from_f64(short).map(Json::Number)
}

impl List {
    /// The elements in order.
    pub(super) fn values<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = Value> + 'a {
        let (kind, start) = (self.kind, self.range.start);
        let mut cursor = Cursor::new("", &bytes[..self.range.end]);
        let mut read = (0..self.len).map(move |index| {
            if index == 0 {
                cursor.take(start, "").expect("before the list");
            }
            Value::read_as(&mut cursor, kind, "", 0).expect("the list was read before")
        });
        std::iter::from_fn(move || read.next())
    }
}
