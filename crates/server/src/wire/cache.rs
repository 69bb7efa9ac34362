//! `/v1/cache/reset`: the response as written.

use serde::Serialize;

/// What a reset did.
#[derive(Serialize)]
pub(crate) struct CacheReset {
    pub(crate) object: &'static str,
    /// KV blocks whose content was forgotten.
    pub(crate) forgotten_blocks: u32,
}
