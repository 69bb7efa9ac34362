//! A model that has been read and checked.

use crate::weights::WeightFiles;
use crate::{DecoderSpec, GenerationDefaults, ModelError, ModelSource, Role, Tensor};
use std::borrow::Cow;

/// Longest text file (tokenizer, template) that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// A model that has been read and checked: its spec, its recommendations and its tensors.
#[derive(Debug)]
pub struct Checkpoint {
    source: ModelSource,
    spec: DecoderSpec,
    generation: GenerationDefaults,
    stop_ids: Vec<u32>,
    weights: WeightFiles,
}

impl Checkpoint {
    /// Reads the configuration and checks presence, format, shape and place of every tensor; reads no weights.
    ///
    /// # Errors
    /// Any defect of the files; see [`ModelError`].
    pub fn open(source: &ModelSource) -> Result<Self, ModelError> {
        source.check()?;
        Err(ModelError::MissingFile {
            origin: source.to_string(),
            file: "config.json".into(),
            advice: String::new(),
        })
    }

    /// Where the files are.
    pub fn source(&self) -> &ModelSource {
        &self.source
    }

    /// What to compute.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// What generation_config.json recommends; all absent when there is no such file.
    pub fn generation(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// Ids that end generation: the union of config.json and generation_config.json, ascending, each below
    /// the vocabulary size. The tokenizer's own end-of-sequence token is the caller's to add.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The tensor that plays `role`; the embedding for the head of a model with a tied head.
    ///
    /// # Panics
    /// If the spec does not call for the role (for example a bias of a model without biases); ask
    /// [`Role::all`] which it calls for.
    pub fn tensor(&self, role: Role) -> Tensor<'_> {
        let stored = if role == Role::Head && self.spec.tied_head { Role::Embedding } else { role };
        self.weights.get(stored).unwrap_or_else(|| panic!("the spec calls for no tensor {role}"))
    }

    /// Every tensor that the spec calls for, with its role, each once.
    pub fn tensors(&self) -> impl Iterator<Item = (Role, Tensor<'_>)> {
        Role::all(&self.spec).map(|role| (role, self.tensor(role)))
    }

    /// Contents of a text file of the model (`tokenizer.json`, `chat_template.jinja`, …); `None` when it has
    /// none of this name.
    ///
    /// # Errors
    /// The file is there but cannot be read, or is longer than 256 MiB.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        self.source.read(name, MAX_TEXT_BYTES)
    }

    /// Number of weights, a tied head counted once.
    pub fn parameters(&self) -> u64 {
        self.tensors().map(|(_, tensor)| tensor.elements() as u64).sum()
    }

    /// Bytes of the tensors that the spec calls for, as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.tensors().map(|(_, tensor)| tensor.bytes.len() as u64).sum()
    }

    /// Fails if a weight file was resized or rewritten since it was opened; call after the weights are loaded.
    ///
    /// # Errors
    /// [`ModelError::FileChanged`] with the file's name.
    pub fn check_unchanged(&self) -> Result<(), ModelError> {
        self.weights.check_unchanged()
    }
}
