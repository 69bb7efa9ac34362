//! The API keys that a request presents.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};

/// Where clients of Anthropic's and Azure's interfaces put their key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Headers that can carry a key, the one that counts first at the front.
pub(crate) const CARRIERS: [HeaderName; 3] = [AUTHORIZATION, X_API_KEY, API_KEY];

/// The keys in `headers`, in the order in which they count. A header that is there more than once carries none: what
/// stands before the server may have looked at another of them.
pub(crate) fn presented(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    CARRIERS.into_iter().filter_map(|name| {
        let mut values = headers.get_all(&name).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        key_of(&name, value.as_bytes())
    })
}

/// The key in the value of a header; `None` for other schemes and for no key at all, which some clients send.
pub(crate) fn key_of<'v>(name: &HeaderName, value: &'v [u8]) -> Option<&'v [u8]> {
    let key = if name == AUTHORIZATION { bearer(value)? } else { value.trim_ascii() };
    (!key.is_empty()).then_some(key)
}

/// What stands after `Bearer`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer");
    let key = rest.trim_ascii();
    (is_bearer && rest.first().is_some_and(u8::is_ascii_whitespace)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn keys(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(pair) {
            headers.append(name, value);
        }
        presented(&headers).map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn three_headers_carry_keys() {
        assert_eq!(
            keys(&[("api-key", "c"), ("x-api-key", " b "), ("authorization", "bearer  a ")]),
            ["a", "b", "c"]
        );
        for none in ["", "Bearer", "Bearer ", "Bearera", "Basic YTpi", "a"] {
            assert!(keys(&[("authorization", none)]).is_empty(), "{none:?}");
        }
        assert!(keys(&[("x-api-key", "")]).is_empty());
    }

    #[test]
    fn a_header_that_is_there_twice_carries_none() {
        assert!(keys(&[("x-api-key", "a"), ("x-api-key", "b")]).is_empty());
        assert_eq!(
            keys(&[("authorization", "Bearer a"), ("authorization", "Bearer b"), ("api-key", "c")]),
            ["c"]
        );
    }
}
