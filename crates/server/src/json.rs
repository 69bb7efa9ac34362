//! Bodies: reading them within limits, and taking fields out of them with errors that name the field.

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::state::ServerState;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_LENGTH;
use futures_util::StreamExt as _;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Deepest nesting of arrays and objects that a body may have.
const MAX_DEPTH: usize = 64;

/// Most fields that a body may have; a well-meant one has far fewer.
const MAX_FIELDS: usize = 256;

/// Longest time for which the body of a refused request is read.
const LONGEST_DISCARD: Duration = Duration::from_secs(2);

/// Longest excerpt of a refused value in a message, characters.
const MAX_EXCERPT: usize = 40;

/// A body within the size limit, whatever its content type says.
pub(crate) struct JsonBody(pub(crate) Bytes);

impl FromRequest<ServerState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ServerState) -> Result<Self, ApiError> {
        let limits = state.config();
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let reading = read(request.into_body(), announced, limits.body_limit);
        match tokio::time::timeout(limits.body_timeout, reading).await {
            Ok(body) => body.map(Self),
            Err(_) => Err(ApiError::BodyTimeout { limit: limits.body_timeout }),
        }
    }
}

/// Reads a body that nobody wants, within the limits of one that somebody does: a client that is still sending would see
/// a reset instead of the answer.
pub(crate) async fn discard(body: Body, limits: &ServerConfig) {
    let mut left = limits.body_limit;
    let reading = async {
        let mut stream = body.into_data_stream();
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                return;
            }
        }
    };
    // What has not arrived by then is left unread.
    let _ = tokio::time::timeout(limits.body_timeout.min(LONGEST_DISCARD), reading).await;
}

async fn read(body: Body, announced: Option<usize>, limit: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(limit));
    let mut excess = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| ApiError::InvalidJson("the request body ended early".into()))?;
        if excess == 0 && bytes.len() + chunk.len() <= limit {
            bytes.extend_from_slice(&chunk);
            continue;
        }
        // A client that is still sending would see a reset instead of the answer, so some more is read.
        excess += chunk.len();
        if excess > limit {
            break;
        }
    }
    if excess > 0 { Err(ApiError::BodyTooLarge { limit }) } else { Ok(Bytes::from(bytes)) }
}

/// The fields of a JSON object, each parsed when it is taken. `null` is the same as absent.
pub(crate) struct Fields<'a> {
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Splits a body into its fields.
    ///
    /// # Errors
    /// [`ApiError::InvalidJson`] if it is not one JSON object or is nested too deeply.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        if depth(body) > MAX_DEPTH {
            return Err(ApiError::InvalidJson(format!("the body is nested deeper than {MAX_DEPTH} levels")));
        }
        let fields: Self = serde_json::from_slice(body).map_err(|error| {
            ApiError::InvalidJson(format!(
                "the body is not a valid JSON object: {error} (NaN and Infinity are not JSON)"
            ))
        })?;
        Ok(fields)
    }

    /// Takes a field of any type.
    ///
    /// # Errors
    /// If the value is not what `T` reads; `expected` says what that is, such as "a string".
    pub(crate) fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.take_raw(name) else { return Ok(None) };
        match serde_json::from_str(raw) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(mistyped(name, expected, raw)),
        }
    }

    /// Takes a finite number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f32>, ApiError> {
        let Some(raw) = self.take_raw(name) else { return Ok(None) };
        // A JSON number may be too large for f64, which the parser reports as an error of its own.
        match serde_json::from_str::<f64>(raw) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a value out of range becomes infinite and is refused"
            )]
            Ok(value) if (value as f32).is_finite() => Ok(Some(value as f32)),
            _ => Err(mistyped(name, "a finite number", raw)),
        }
    }

    /// Takes a whole number; one outside `i64` becomes the nearest bound.
    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(raw) = self.take_raw(name) else { return Ok(None) };
        let number = serde_json::from_str::<Number>(raw).ok();
        match number.as_ref().and_then(whole) {
            Some(value) => Ok(Some(value)),
            None => Err(mistyped(name, "an integer", raw)),
        }
    }

    /// Takes a whole number from 0; one beyond `u32` becomes `u32::MAX`, for limits that are clamped later.
    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u32>, ApiError> {
        match self.integer(name)? {
            None => Ok(None),
            Some(value) if value < 0 => {
                Err(ApiError::invalid(name, format!("{name} must be 0 or more, got {value}")))
            }
            Some(value) => Ok(Some(u32::try_from(value).unwrap_or(u32::MAX))),
        }
    }

    /// Takes a time in seconds, whole or not, above 0 and at most `longest`.
    pub(crate) fn seconds(&mut self, name: &str, longest: Duration) -> Result<Option<Duration>, ApiError> {
        let Some(raw) = self.take_raw(name) else { return Ok(None) };
        let Ok(seconds) = serde_json::from_str::<f64>(raw) else {
            return Err(mistyped(name, "a number of seconds", raw));
        };
        let longest = longest.as_secs_f64();
        if seconds > 0.0 && seconds <= longest {
            // A time below one nanosecond is one, so that no limit becomes none.
            return Ok(Some(Duration::from_secs_f64(seconds).max(Duration::from_nanos(1))));
        }
        let message = format!("{name} is {}; allowed: above 0, up to {longest} seconds", excerpt(raw));
        Err(ApiError::invalid(name, message))
    }

    /// Takes a truth value.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.take(name, "true or false")
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.take(name, "a string")
    }

    /// Takes a field as a parsed value.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<Value>, ApiError> {
        self.take(name, "valid JSON")
    }

    /// Whether a field is there and not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        let last = self.entries.iter().rev().find(|(key, _)| key == name);
        last.is_some_and(|(_, raw)| raw.get() != "null")
    }

    /// Takes the text of a field. The last one wins where a name occurs twice.
    pub(crate) fn take_raw(&mut self, name: &str) -> Option<&'a str> {
        let mut found = None;
        self.entries.retain(|(key, raw)| {
            let is_it = key == name;
            if is_it {
                found = Some(raw.get());
            }
            !is_it
        });
        found.filter(|raw| *raw != "null")
    }

    /// Names of the fields that nobody took.
    pub(crate) fn left(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_ref())
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some((BorrowedName(name), raw)) = map.next_entry::<BorrowedName<'de>, &'de RawValue>()? {
            if entries.len() == MAX_FIELDS {
                return Err(serde::de::Error::custom(format_args!("more than {MAX_FIELDS} fields")));
            }
            entries.push((name, raw));
        }
        Ok(Fields { entries })
    }
}

/// A name that is copied only when it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct BorrowedName<'a>(#[serde(borrow)] Cow<'a, str>);

/// `param` has a value of the wrong type.
pub(crate) fn mistyped(param: &str, expected: &str, raw: &str) -> ApiError {
    ApiError::invalid(param, format!("{param} must be {expected}, got {}", excerpt(raw)))
}

/// The beginning of a value, for a message.
pub(crate) fn excerpt(raw: &str) -> Cow<'_, str> {
    match raw.char_indices().nth(MAX_EXCERPT) {
        None => Cow::Borrowed(raw),
        Some((end, _)) => Cow::Owned(format!("{}…", &raw[..end])),
    }
}

fn whole(number: &Number) -> Option<i64> {
    if let Some(value) = number.as_i64() {
        return Some(value);
    }
    if number.is_u64() {
        return Some(i64::MAX);
    }
    let value = number.as_f64().filter(|value| value.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is what is wanted")]
    Some(value as i64)
}

/// Deepest nesting of brackets outside strings. Brackets need not match; the parser checks that.
fn depth(body: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(body: &str) -> Fields<'_> {
        Fields::parse(body.as_bytes()).unwrap()
    }

    fn message<T: fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn null_is_absent() {
        let mut body = fields(r#"{"a": null, "b": 2, "a2":null}"#);
        assert_eq!(body.number("a").unwrap(), None);
        assert_eq!(body.count("b").unwrap(), Some(2));
        assert_eq!(body.string("c").unwrap(), None);
        assert_eq!(body.left().collect::<Vec<_>>(), ["a2"]);
    }

    #[test]
    fn numbers_must_be_finite() {
        for text in ["1e309", "-1e309", "1e39", "\"NaN\"", "[1]", "true"] {
            let body = format!(r#"{{"temperature": {text}}}"#);
            let error = fields(&body).number("temperature").unwrap_err();
            assert_eq!(error.to_string(), format!("temperature must be a finite number, got {text}"));
        }
        assert_eq!(fields(r#"{"t": 1e-50}"#).number("t").unwrap(), Some(0.0));
    }

    #[test]
    fn nan_is_no_json() {
        let error = Fields::parse(br#"{"temperature": NaN}"#).err().unwrap();
        assert!(matches!(&error, ApiError::InvalidJson(_)), "{error:?}");
        assert!(error.to_string().contains("NaN and Infinity are not JSON"), "{error}");
    }

    #[test]
    fn counts_saturate_and_refuse_negatives() {
        assert_eq!(fields(r#"{"n": 99999999999999999999999}"#).count("n").unwrap(), Some(u32::MAX));
        assert_eq!(fields(r#"{"n": 18446744073709551615}"#).count("n").unwrap(), Some(u32::MAX));
        assert_eq!(fields(r#"{"n": 4.0}"#).count("n").unwrap(), Some(4));
        assert_eq!(message(fields(r#"{"n": -1}"#).count("n")), "n must be 0 or more, got -1");
        assert_eq!(message(fields(r#"{"n": 4.5}"#).count("n")), "n must be an integer, got 4.5");
        assert_eq!(message(fields(r#"{"n": "4"}"#).count("n")), "n must be an integer, got \"4\"");
    }

    #[test]
    fn times_are_positive_and_bounded() {
        let seconds = |text: &str| {
            fields(&format!(r#"{{"timeout": {text}}}"#)).seconds("timeout", Duration::from_secs(100))
        };
        assert_eq!(seconds("2.5"), Ok(Some(Duration::from_millis(2_500))));
        assert_eq!(seconds("100"), Ok(Some(Duration::from_secs(100))));
        assert_eq!(seconds("1e-300"), Ok(Some(Duration::from_nanos(1))));
        assert_eq!(seconds("null"), Ok(None));
        for text in ["0", "-1", "-0.0", "100.1", "1e300"] {
            let expected = format!("timeout is {text}; allowed: above 0, up to 100 seconds");
            assert_eq!(message(seconds(text)), expected);
        }
        for text in ["\"2\"", "true", "1e309", "[1]"] {
            assert_eq!(message(seconds(text)), format!("timeout must be a number of seconds, got {text}"));
        }
    }

    #[test]
    fn the_last_of_two_equal_names_wins() {
        let mut body = fields(r#"{"n": 1, "n": 2}"#);
        assert_eq!(body.count("n").unwrap(), Some(2));
        assert_eq!(body.left().count(), 0);
    }

    #[test]
    fn names_may_have_escapes() {
        assert_eq!(fields(r#"{"\u006e": 3}"#).count("n").unwrap(), Some(3));
    }

    #[test]
    fn only_objects_are_bodies() {
        for body in ["", "[]", "3", "\"x\"", "{", "{\"a\":}", "{} {}", "{\"a\":1,}"] {
            assert!(matches!(Fields::parse(body.as_bytes()), Err(ApiError::InvalidJson(_))), "{body}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nest = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(Fields::parse(nest(MAX_DEPTH).as_bytes()).is_ok());
        assert!(Fields::parse(nest(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(Fields::parse(nest(200_000).as_bytes()).is_err());
        // Brackets in strings do not count, and an escaped quote does not end one.
        let text = format!(r#"{{"a": "\"{}"}}"#, "[".repeat(500));
        assert!(Fields::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let body = format!(r#"{{"n": "{}"}}"#, "é".repeat(500));
        let text = message(fields(&body).count("n"));
        assert!(text.len() < 120 && text.ends_with('…'), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_panic(body: Vec<u8>) {
            if let Ok(mut fields) = Fields::parse(&body) {
                let _ = fields.number("a");
                let _ = fields.value("b");
            }
        }
    }
}
