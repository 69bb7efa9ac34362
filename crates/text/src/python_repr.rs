//! Values as Python prints them: what `{{ message }}` and `tool | string` show of lists and dictionaries.

use std::fmt::Write;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::python_json::float_text;

/// Nesting beyond this is an error rather than a deep recursion.
const MAX_DEPTH: usize = 200;
/// A printed value stays below this.
const MAX_BYTES: usize = 16 << 20;

/// Ranges of letters that Python escapes: formats, spaces other than the usual one, separators, private use and noncharacters.
/// Those without a meaning in Unicode yet are not among them.
const UNPRINTABLE: [(u32, u32); 27] = [
    (0x7F, 0xA0),
    (0xAD, 0xAD),
    (0x600, 0x605),
    (0x61C, 0x61C),
    (0x6DD, 0x6DD),
    (0x70F, 0x70F),
    (0x890, 0x891),
    (0x8E2, 0x8E2),
    (0x1680, 0x1680),
    (0x180E, 0x180E),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x3000, 0x3000),
    (0xE000, 0xF8FF),
    (0xFDD0, 0xFDEF),
    (0xFEFF, 0xFEFF),
    (0xFFF0, 0xFFFB),
    (0xFFFE, 0xFFFF),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0x1FFFE, 0x1FFFF),
    (0xE0000, 0xE00FF),
    (0xF0000, 0x10_FFFF),
];

/// `str(value)`.
pub(crate) fn str_of(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    write_value(&mut out, value, 0)?;
    Ok(out)
}

/// `repr(value)`.
fn write_value(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH || out.len() > MAX_BYTES {
        let problem = format!(
            "a value nested deeper than {MAX_DEPTH} or longer than {MAX_BYTES} bytes cannot be printed"
        );
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    match value.kind() {
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => out.push_str(&plain_float(f64::try_from(value.clone())?)),
        ValueKind::Seq => {
            let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
            out.push(if is_tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                out.push_str(if count > 0 { ", " } else { "" });
                write_value(out, &item, depth + 1)?;
                count += 1;
            }
            out.push_str(match (is_tuple, count) {
                (true, 1) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            });
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_value(out, &key, depth + 1)?;
                out.push_str(": ");
                write_value(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
    Ok(())
}

/// A float outside JSON.
pub(crate) fn plain_float(value: f64) -> String {
    float_text(value).replace("Infinity", "inf").replace("NaN", "nan")
}

/// A text in quotes: double ones where it has single ones alone.
fn write_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for letter in text.chars() {
        let code = u32::from(letter);
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if letter == quote => out.extend(['\\', letter]),
            _ if code < 0x20 || code > 0x7E && is_unprintable(code) => {
                let _ = match code {
                    0..=0xFF => write!(out, "\\x{code:02x}"),
                    0x100..=0xFFFF => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            _ => out.push(letter),
        }
    }
    out.push(quote);
}

fn is_unprintable(code: u32) -> bool {
    let place = UNPRINTABLE.partition_point(|(_, last)| *last < code);
    UNPRINTABLE.get(place).is_some_and(|(first, _)| *first <= code)
}
