//! Limits of a request's head.

use crate::error::ApiError;
use axum::http::request::Parts;

/// Most that the head of a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HeadLimits {
    /// Bytes in all, line ends included. Default: 16 KiB.
    pub bytes: usize,
    /// Header fields. Default: 64.
    pub fields: usize,
    /// Bytes of path and query. Default: 8 KiB.
    pub uri: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 16 << 10, fields: 64, uri: 8 << 10 }
    }
}

impl HeadLimits {
    /// Checks a head that has been read.
    ///
    /// # Errors
    /// [`ApiError::UriTooLong`] and [`ApiError::HeadTooLarge`].
    pub(crate) fn check(&self, head: &Parts) -> Result<(), ApiError> {
        let uri = head.uri.path_and_query().map_or(1, |path| path.as_str().len());
        if uri > self.uri {
            return Err(ApiError::UriTooLong { limit: self.uri });
        }
        if head.headers.len() > self.fields {
            return Err(ApiError::HeadTooLarge { limit: self.fields, unit: "header fields" });
        }
        // As `METHOD URI HTTP/1.1`, `name: value` and an empty line are sent.
        let line = head.method.as_str().len() + uri + " ".len() * 2 + "HTTP/1.1\r\n".len();
        let fields =
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
        if line + fields.sum::<usize>() + "\r\n".len() > self.bytes {
            return Err(ApiError::HeadTooLarge { limit: self.bytes, unit: "bytes" });
        }
        Ok(())
    }
}
