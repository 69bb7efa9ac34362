//! The story model inside the binary (feature `embedded-model`); see `models/folktale/README.md`.

use crate::BuildError;
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_text::Tokenizer;

/// Name under which the embedded model is served.
pub const NAME: &str = "folktale";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../models/folktale/", $name)) as &[u8])),*]
    };
}

/// The embedded model; its files are part of the binary.
pub const SOURCE: ModelSource = ModelSource::Memory {
    name: NAME,
    files: files![
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
};

/// The tokenizer of the embedded model.
///
/// # Errors
/// None with the files as they are; the signature is that of any model's tokenizer.
pub fn tokenizer() -> Result<Tokenizer, BuildError> {
    crate::served::tokenizer(&Checkpoint::open(&SOURCE)?, None)
}
