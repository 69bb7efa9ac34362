//! `/v1/reload`: the response as written.

use serde::Serialize;

/// What a reload did.
#[derive(Serialize)]
pub(crate) struct ModelReload {
    pub(crate) object: &'static str,
    /// The model that calls meet from here on.
    pub(crate) model: String,
}
