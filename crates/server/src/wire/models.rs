//! `/v1/models`.

use serde::Serialize;

/// The list.
#[derive(Serialize)]
pub(crate) struct ModelList {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<ModelCard>,
}

/// One entry of the list.
#[derive(Serialize)]
pub(crate) struct ModelCard {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) owned_by: &'static str,
    pub(crate) root: String,
    pub(crate) parent: Option<String>,
    pub(crate) max_model_len: u32,
    pub(crate) meta: ModelMeta,
}

/// What the model is.
#[derive(Serialize)]
pub(crate) struct ModelMeta {
    pub(crate) n_params: u64,
    pub(crate) size: u64,
    pub(crate) n_vocab: u32,
    pub(crate) n_ctx_train: u32,
    pub(crate) n_embd: u32,
    /// As stored.
    pub(crate) dtype: Option<String>,
    /// Where the weights were quantised while they were loaded.
    pub(crate) quantization: Option<String>,
}
