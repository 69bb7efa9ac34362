//! Which web pages may call the server from a browser.

use crate::error::ApiError;
use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

/// What pages may read besides the body.
const EXPOSED: &str = "x-request-id, retry-after, retry-after-ms, x-pagoda-queue-position, \
                       x-pagoda-expected-start-ms, x-pagoda-expected-finish-ms";

/// Origins of pages that may call. Credentials of the browser are never asked for. Default: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsOrigins {
    any: bool,
    /// In lower case, such as `https://chat.example.org`.
    listed: Vec<String>,
}

impl CorsOrigins {
    /// Adds an origin: scheme, host and, unless it is the usual one, port, such as `http://localhost:3000`; or `*` for
    /// all. Returns `false` and changes nothing if it is none.
    #[must_use]
    pub fn add(&mut self, origin: &str) -> bool {
        if origin == "*" {
            self.any = true;
            return true;
        }
        let good = origin.split_once("://").is_some_and(|(scheme, host)| {
            let letters = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*,".contains(&byte);
            !scheme.is_empty() && !host.is_empty() && host.bytes().all(letters)
        });
        if good {
            self.listed.push(origin.to_ascii_lowercase());
        }
        good
    }

    /// Whether no page may call.
    pub fn is_empty(&self) -> bool {
        !self.any && self.listed.is_empty()
    }

    /// The origins as they were added.
    pub fn names(&self) -> Vec<&str> {
        let any = self.any.then_some("*");
        any.into_iter().chain(self.listed.iter().map(String::as_str)).collect()
    }

    /// Refuses what a page of another origin asks for and could change something: a browser sends some such requests
    /// without asking first, and only keeps the answer from the page.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        if method.is_safe() || self.admits(origin) || is_same(origin, headers) {
            return Ok(());
        }
        let origin = String::from_utf8_lossy(origin.as_bytes());
        Err(ApiError::OriginNotAllowed { origin: crate::json::excerpt(&origin).into_owned() })
    }

    /// The answer to a browser that asks whether a page may call; `None` for anything else.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || !headers.get(ORIGIN).is_some_and(|origin| self.admits(origin)) {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        // A wildcard would not cover `authorization`.
        if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        Some(response)
    }

    /// Lets the page that asked read the response.
    pub(crate) fn write(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        response.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin.filter(|origin| self.admits(origin)) {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }

    fn admits(&self, origin: &HeaderValue) -> bool {
        let listed = |origin: &str| self.listed.iter().any(|known| known.eq_ignore_ascii_case(origin));
        self.any || origin.to_str().is_ok_and(listed)
    }
}

/// Whether the page was served under the name that the request was sent to.
fn is_same(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let of = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    host.zip(of).is_some_and(|(host, (scheme, of))| {
        matches!(scheme, "http" | "https") && of.eq_ignore_ascii_case(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        fields.iter().map(pair).collect()
    }

    fn listed(origins: &[&str]) -> CorsOrigins {
        let mut cors = CorsOrigins::default();
        assert!(origins.iter().all(|origin| cors.add(origin)));
        cors
    }

    #[test]
    fn foreign_pages_change_nothing() {
        let cors = listed(&["https://chat.example.org"]);
        let check = |method: Method, origin| {
            cors.check(&method, &headers(&[("host", "localhost:8000"), ("origin", origin)])).is_ok()
        };
        for own in ["https://chat.example.org", "http://localhost:8000", "https://LOCALHOST:8000"] {
            assert!(check(Method::POST, own), "{own}");
        }
        for foreign in [
            "https://evil.example",
            "http://chat.example.org",
            "https://chat.example.org.evil",
            "null",
            "http://localhost:3000",
            "app://localhost:8000",
            "",
        ] {
            assert!(!check(Method::POST, foreign) && !check(Method::DELETE, foreign), "{foreign}");
            assert!(check(Method::GET, foreign), "a page cannot read what it may not");
        }
        assert_eq!(cors.check(&Method::POST, &headers(&[("host", "localhost")])), Ok(()));
    }

    #[test]
    fn a_preflight_is_answered_for_listed_pages_only() {
        let asked = |origin| {
            headers(&[
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization, content-type"),
            ])
        };
        let cors = listed(&["http://localhost:3000"]);
        let answer = cors.preflight(&Method::OPTIONS, &asked("http://localhost:3000")).unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()["access-control-allow-headers"], "authorization, content-type");
        assert!(cors.preflight(&Method::OPTIONS, &asked("http://localhost:3001")).is_none());
        assert!(cors.preflight(&Method::POST, &asked("http://localhost:3000")).is_none());
        let none = CorsOrigins::default();
        assert!(none.preflight(&Method::OPTIONS, &asked("http://localhost:3000")).is_none());
        assert!(listed(&["*"]).preflight(&Method::OPTIONS, &asked("null")).is_some());
    }

    #[test]
    fn credentials_are_never_allowed() {
        let mut response = HeaderMap::new();
        listed(&["*"]).write(Some(HeaderValue::from_static("https://a")), &mut response);
        assert_eq!(response["access-control-allow-origin"], "https://a");
        assert!(!response.contains_key("access-control-allow-credentials"));
        assert_eq!(response["vary"], "origin");
        let mut none = HeaderMap::new();
        CorsOrigins::default().write(Some(HeaderValue::from_static("https://a")), &mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn only_origins_can_be_listed() {
        for bad in [
            "",
            "localhost",
            "http://",
            "://a",
            "http://a/",
            "http://a/b",
            "http://*.a",
            "http://a, http://b",
        ] {
            assert!(!CorsOrigins::default().add(bad), "{bad}");
        }
        assert_eq!(listed(&["*", "APP://obsidian.md"]).names(), ["*", "app://obsidian.md"]);
    }
}
