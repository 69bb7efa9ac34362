//! The server that requests are sent to.

use hyper::Uri;

/// Address of a server and paths on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What stands before every path; empty or starting with `/`.
    pub prefix: String,
}

/// Why a URL is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Encryption is not offered.
    #[error("{url} asks for TLS, which is not spoken here; give an http:// address")]
    Tls {
        /// As given.
        url: String,
    },
    /// Not a URL of a server.
    #[error("{url:?} is no server address; write for instance http://127.0.0.1:8000")]
    Invalid {
        /// As given.
        url: String,
    },
}

impl Target {
    /// Reads `http://host[:port][/prefix]`; the port is 80 if absent, and a last `/v1` is dropped, because every
    /// path begins with it.
    ///
    /// # Errors
    /// [`TargetError`] with the URL and what is expected.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let invalid = || TargetError::Invalid { url: url.to_owned() };
        let uri: Uri = url.trim().parse().map_err(|_| invalid())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(TargetError::Tls { url: url.to_owned() }),
            _ => return Err(invalid()),
        }
        if uri.query().is_some() {
            return Err(invalid());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let prefix = uri.path().trim_end_matches('/');
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            prefix: prefix.strip_suffix("/v1").unwrap_or(prefix).to_owned(),
        })
    }

    /// Host and port, as the `Host` header and a resolver take them.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The path that leads to `endpoint`, which starts with `/`.
    pub fn path(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_read() {
        for (url, authority, path) in [
            ("http://127.0.0.1:8000", "127.0.0.1:8000", "/v1/models"),
            ("http://localhost:8000/v1/", "localhost:8000", "/v1/models"),
            ("http://gateway/llm/v1", "gateway:80", "/llm/v1/models"),
            ("http://[::1]:9", "[::1]:9", "/v1/models"),
        ] {
            let target = Target::parse(url).expect(url);
            assert_eq!((target.authority().as_str(), target.path("/v1/models").as_str()), (authority, path));
        }
    }

    #[test]
    fn tls_and_nonsense_are_refused_with_what_to_write() {
        let message = Target::parse("https://x:1").unwrap_err().to_string();
        assert!(message.contains("TLS") && message.contains("http://"), "{message}");
        for url in ["", "localhost:8000", "ftp://x", "http://", "http://x/?a=1", "/v1", "http://x y"] {
            let error = Target::parse(url).unwrap_err();
            assert!(matches!(error, TargetError::Invalid { .. }), "{url}: {error}");
        }
    }
}
