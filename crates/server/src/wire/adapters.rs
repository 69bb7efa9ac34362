//! `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`: the requests as they are read, the response as written.

use crate::error::{ApiError, FieldFault};
use crate::json::Fields;
use serde::Serialize;

/// What is to be loaded.
pub(crate) struct LoadAdapter {
    pub(crate) name: String,
    /// A folder of the server's machine.
    pub(crate) path: String,
}

impl LoadAdapter {
    /// Takes its fields out of a body.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        for name in ["load_inplace", "is_3d_lora_weight"] {
            if fields.flag(name)?.unwrap_or(false) {
                let message = format!("{name} is not offered: unload the adapter, then load it");
                let fault = FieldFault::UnsupportedField;
                return Err(ApiError::Field { param: name.to_owned(), fault, message });
            }
        }
        Ok(Self { name: need(fields, "lora_name")?, path: need(fields, "lora_path")? })
    }
}

/// Takes the name of the adapter that is to go out of a body.
pub(crate) fn take_unload(fields: &mut Fields<'_>) -> Result<String, ApiError> {
    // The name says which one; the number is vLLM's own.
    fields.value("lora_int_id")?;
    need(fields, "lora_name")
}

fn need(fields: &mut Fields<'_>, name: &str) -> Result<String, ApiError> {
    fields.string(name)?.filter(|text| !text.is_empty()).ok_or_else(|| ApiError::Field {
        param: name.to_owned(),
        fault: FieldFault::MissingField,
        message: format!("{name} is missing: give a text"),
    })
}

/// An adapter that is gone.
#[derive(Serialize)]
pub(crate) struct AdapterUnloaded {
    pub(crate) object: &'static str,
    pub(crate) id: String,
}
