//! Names under which a server may be asked for.
//!
//! A page that is open in a browser can let a name of its own point to this machine (DNS rebinding), and so reach a
//! server that listens on the loopback interface alone. The name is in the header `host`, which pages cannot choose.

use crate::error::ApiError;
use axum::http::header::HOST;
use axum::http::{HeaderMap, Uri};
use std::net::IpAddr;

/// Longest name, as DNS has it.
const MAX_NAME: usize = 253;

/// The loopback interface's own names and addresses, and further names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    /// In lower case, without port and without a dot at the end.
    names: Vec<String>,
}

impl AllowedHosts {
    /// `localhost`, 127.0.0.0/8 and ::1.
    pub fn loopback() -> Self {
        Self::default()
    }

    /// Adds a name or an address, without a port. Returns `false` and changes nothing if it is none.
    #[must_use]
    pub fn add(&mut self, name: &str) -> bool {
        let is_address = name.parse::<IpAddr>().is_ok();
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let good = is_address || ((1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letters));
        if good {
            self.names.push(normal(name));
        }
        good
    }

    /// The further names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Checks the name that a request was sent to. One without a name did not come from a browser.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
        let mut given = headers.get_all(HOST).iter().map(|host| host.as_bytes()).chain(authority);
        match given.find(|host| !self.admits(host)) {
            None => Ok(()),
            Some(host) => {
                let host = String::from_utf8_lossy(host);
                Err(ApiError::HostNotAllowed { host: crate::json::excerpt(&host).into_owned() })
            }
        }
    }

    fn admits(&self, host: &[u8]) -> bool {
        let Some(name) = std::str::from_utf8(host).ok().and_then(without_port) else { return false };
        let name = normal(name);
        name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.names.contains(&name)
    }
}

/// The name or address before `:port`; an address of IPv6 without its brackets.
fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> AllowedHosts {
        let mut hosts = AllowedHosts::loopback();
        assert!(hosts.add("Models.example.org") && hosts.add("192.0.2.7") && hosts.add("2001:db8::1"));
        hosts
    }

    #[test]
    fn loopback_and_listed_names_are_admitted_with_any_port() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]",
            "[::1]:8000",
            "models.example.org:443",
            "MODELS.example.org",
            "192.0.2.7:80",
            "[2001:db8::1]:80",
        ] {
            assert!(hosts().admits(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:8000",
            "localhost:8000:1",
            "localhost@evil.example",
            "[::1",
            "[::1]x",
            "::1",
            "192.0.2.8",
            "0.0.0.0",
            "models.example.org.evil",
            "localhost:80x",
            "localhost\u{e9}",
        ] {
            assert!(!hosts().admits(host.as_bytes()), "{host}");
        }
        assert!(!hosts().admits(b"localhost\xff"));
    }

    #[test]
    fn names_with_ports_or_paths_are_no_names() {
        for name in ["", "a:80", "http://a", "a/b", "*", "a b", &"x".repeat(254)] {
            assert!(!AllowedHosts::loopback().add(name), "{name}");
        }
    }

    #[test]
    fn every_place_that_names_a_host_counts() {
        let check = |uri: &str, fields: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in fields {
                headers.append(HOST, host.parse().unwrap());
            }
            hosts().check(&uri.parse().unwrap(), &headers)
        };
        assert_eq!(check("/health", &[]), Ok(()));
        assert_eq!(check("http://localhost/health", &["localhost"]), Ok(()));
        let refused = Err(ApiError::HostNotAllowed { host: "evil.example".into() });
        assert_eq!(check("/health", &["evil.example"]), refused);
        assert_eq!(check("/health", &["localhost", "evil.example"]), refused);
        assert_eq!(check("http://evil.example/health", &["localhost"]), refused);
    }
}
