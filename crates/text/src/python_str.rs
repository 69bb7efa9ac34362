//! Methods of Python's texts and lists that chat templates call and that the template engine lacks or has in part.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Padding beyond this is an error.
const MAX_WIDTH: usize = 1 << 16;
/// Longest text that indents may add, bytes.
const MAX_INDENT: usize = 16 << 20;

/// Looks a method up here first, then among those of `pycompat`.
pub(crate) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.as_str() {
        Some(text) => text_method(text, name, args)?,
        None if name == "index" && value.kind() == ValueKind::Seq => Some(index_of(value, args)?),
        None => None,
    };
    match own {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `None`: no such method here.
fn text_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, name == "rpartition")?
        }
        "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(text, separator, limit)?
        }
        "zfill" => {
            let (width,): (i64,) = from_args(args)?;
            Value::from(zero_filled(text, width)?)
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (i64, Option<&str>) = from_args(args)?;
            Value::from(padded(text, name, width, fill.unwrap_or(" "))?)
        }
        "find" | "rfind" | "index" | "rindex" => find(text, name, args)?,
        "swapcase" => {
            let () = from_args(args)?;
            Value::from(text.chars().map(swapped).collect::<String>())
        }
        "isdecimal" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit()))
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn invalid(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}

/// Position in characters of a text between two positions, which may count from the end.
fn find(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (wanted, asked, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let letters = text.chars().count();
    let clamp = |place: i64| {
        let from_start = if place < 0 { place.saturating_add(letters as i64) } else { place };
        usize::try_from(from_start).unwrap_or(0).min(letters)
    };
    let (start, end) = (clamp(asked.unwrap_or(0)), clamp(end.unwrap_or(i64::MAX)));
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(byte, _)| byte);
    let past_end = asked.is_some_and(|start| start > letters as i64);
    let within = if past_end { None } else { text.get(byte(start)..byte(end)) };
    let found = within.and_then(|within| {
        let place = if method.starts_with('r') { within.rfind(wanted) } else { within.find(wanted) };
        place.map(|place| start + within[..place].chars().count())
    });
    match found {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("index") => Err(invalid("substring not found")),
        None => Ok(Value::from(-1)),
    }
}

fn index_of(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let (wanted,): (&Value,) = from_args(args)?;
    let place = list.try_iter()?.position(|item| item == *wanted);
    place.map(Value::from).ok_or_else(|| invalid("the list has no such item"))
}

fn swapped(letter: char) -> char {
    let other =
        if letter.is_uppercase() { letter.to_lowercase().next() } else { letter.to_uppercase().next() };
    other.unwrap_or(letter)
}

fn partition(text: &str, separator: &str, from_right: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let found = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

fn rsplit(text: &str, separator: Option<&str>, limit: Option<i64>) -> Result<Value, Error> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) => text.rsplitn(limit.saturating_add(1), separator).collect(),
        None => rsplit_whitespace(text, limit),
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words from the right; what is left over when the limit is reached keeps its inner spaces.
fn rsplit_whitespace(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() && parts.len() < limit {
        let (before, word) = match rest.char_indices().rfind(|(_, letter)| letter.is_whitespace()) {
            Some((space, letter)) => (&rest[..space], &rest[space + letter.len_utf8()..]),
            None => ("", rest),
        };
        parts.push(word);
        rest = before.trim_end();
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

/// `text | indent(width=4, first=False, blank=False)`: a width in spaces or a text before each line. As in Jinja2 the end of the
/// last line stays, and lines without letters have no indent unless asked for.
pub(crate) fn indent(text: &str, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let (width, first, blank): (Option<Value>, Option<bool>, Option<bool>) = from_args(&args)?;
    let width = width.or(kwargs.get("width")?);
    let flag = |given: Option<bool>, name: &str| Ok::<_, Error>(given.or(kwargs.get(name)?).unwrap_or(false));
    let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
    kwargs.assert_all_used()?;
    let before = match &width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(before) => before.to_owned(),
            None => " ".repeat(missing("", i64::try_from(width.clone())?)?),
        },
    };
    let lines = split_lines(text);
    if before.len().saturating_mul(lines.len()) > MAX_INDENT {
        return Err(invalid(format!("an indent of {} lines exceeds {MAX_INDENT} bytes", lines.len())));
    }
    let indented = lines.into_iter().enumerate().map(|(index, line)| {
        let plain = if index == 0 { !first } else { !blank && line.is_empty() };
        if plain { line.to_owned() } else { format!("{before}{line}") }
    });
    Ok(indented.collect::<Vec<_>>().join("\n"))
}

/// The lines of a text, the one behind the last line end included, with the line ends of Python.
fn split_lines(text: &str) -> Vec<&str> {
    let ends = |letter| {
        matches!(letter, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(ends) {
        lines.push(&rest[..at]);
        let after = &rest[at..];
        let end = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        rest = &after[end..];
    }
    lines.push(rest);
    lines
}

fn missing(text: &str, width: i64) -> Result<usize, Error> {
    let width = usize::try_from(width).unwrap_or(0);
    if width > MAX_WIDTH {
        return Err(invalid(format!("a width of {width} exceeds {MAX_WIDTH}")));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

fn zero_filled(text: &str, width: i64) -> Result<String, Error> {
    let zeros = "0".repeat(missing(text, width)?);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = &text[..text.len() - digits.len()];
    Ok(format!("{sign}{zeros}{digits}"))
}

/// `ljust`, `rjust` or `center`.
pub(crate) fn padded(text: &str, how: &str, width: i64, fill: &str) -> Result<String, Error> {
    if fill.chars().count() != 1 {
        return Err(invalid("the fill character must be exactly one character long"));
    }
    let missing = missing(text, width)?;
    let left = match how {
        "ljust" => 0,
        "rjust" => missing,
        // Python puts the odd space to the left when the width is odd.
        _ => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}
