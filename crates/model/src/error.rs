//! Why a model could not be opened.

use std::path::PathBuf;
use thiserror::Error;

/// Why a model could not be opened. The message names the file, tensor or field, the value, and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The path does not lead to a folder with one model.
    #[error("folder {path:?} {problem}")]
    Folder {
        /// As given.
        path: PathBuf,
        /// "does not exist", "is a file", …, and what to do.
        problem: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// Path or name of the file.
        file: String,
        /// "open", "read", "map".
        action: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
    /// A file that every model has is not there.
    #[error("{origin} has no {file}: {advice}")]
    MissingFile {
        /// Folder or name of the model.
        origin: String,
        /// The missing file.
        file: String,
        /// What to do.
        advice: String,
    },
    /// A file is longer than any honest one of its kind.
    #[error("{file} is {bytes} bytes long; the limit for this kind of file is {limit} bytes")]
    FileTooLarge {
        /// Name.
        file: String,
        /// Its length.
        bytes: u64,
        /// The longest accepted.
        limit: u64,
    },
    /// The file changed while it was in use, so that what was read may be a mixture.
    #[error(
        "{file} was replaced or resized while it was being read: load the model again when the copy is complete"
    )]
    FileChanged {
        /// Name.
        file: String,
    },
    /// Text that is not the JSON it should be.
    #[error("{file} is not valid: {problem}")]
    Json {
        /// Name.
        file: String,
        /// With line and column.
        problem: String,
    },
    /// A field is missing or its value makes no sense.
    #[error("{file}: {field}: {problem}")]
    Field {
        /// Name.
        file: String,
        /// The field's name.
        field: String,
        /// The value, what is expected instead, and why.
        problem: String,
    },
    /// No reading of config.json exists for this architecture.
    #[error(
        "architecture {name:?} is not supported{}{}; supported: {}",
        missing_clause(.missing),
        nearest_clause(.nearest),
        .supported.join(", ")
    )]
    UnknownArchitecture {
        /// As config.json names it.
        name: String,
        /// What it would need that the forward pass lacks, where that is known.
        missing: Option<&'static str>,
        /// All that can be read.
        supported: &'static [&'static str],
        /// A supported one of nearly the same name or structure.
        nearest: Option<&'static str>,
    },
    /// No reading exists for the architecture that a GGUF file names.
    #[error(
        "{file}: architecture {name:?} is not supported{}; supported: {}. (The file is a valid GGUF v{version} of {layers} layers.)",
        nearest_clause(.nearest),
        .supported.join(", ")
    )]
    UnknownGguf {
        /// Name of the file.
        file: String,
        /// As `general.architecture` names it.
        name: String,
        /// Version of the format.
        version: u32,
        /// Number of layers, as the file says.
        layers: u32,
        /// All that can be read.
        supported: &'static [&'static str],
        /// A supported one of nearly the same name.
        nearest: Option<&'static str>,
    },
    /// The architecture is known, but this model asks for something that the forward pass does not do.
    #[error("{file}: {field} = {value} is not supported: {advice}")]
    Unsupported {
        /// Name.
        file: String,
        /// The field that asks for it.
        field: String,
        /// Its value.
        value: String,
        /// What to do.
        advice: &'static str,
    },
    /// The weight file's own frame is broken.
    #[error("{file}: byte {offset}: {problem}")]
    Frame {
        /// Name.
        file: String,
        /// Where, from the start of the file.
        offset: u64,
        /// What is wrong, with the numbers.
        problem: String,
    },
    /// A tensor's entry in the header contradicts itself or the file.
    #[error("{file}: tensor {tensor:?}: {problem}")]
    TensorEntry {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong, with the numbers.
        problem: String,
    },
    /// The shard index is wrong.
    #[error("{file}: {problem}")]
    Index {
        /// Name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// Two files hold a tensor of the same name.
    #[error(
        "tensor {tensor:?} is in both {first} and {second}: delete the file that does not belong to the model"
    )]
    DuplicateTensor {
        /// Name of the tensor.
        tensor: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// The config calls for a tensor that no file holds.
    #[error("tensor \"{tensor}\" is missing from {searched}: {advice}")]
    MissingTensor {
        /// Its name.
        tensor: String,
        /// The files that were searched.
        searched: String,
        /// What to do.
        advice: String,
    },
    /// A file holds a tensor that the config does not call for; computing without it would give wrong text.
    #[error("{file}: tensor {tensor:?} is not part of a {architecture} with this config.json: {advice}")]
    UnexpectedTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// The reading in force.
        architecture: String,
        /// What to do.
        advice: String,
    },
    /// A needed tensor is stored in a format that the engine cannot compute with.
    #[error("{file}: tensor {tensor:?} is stored as {dtype}, which is not read: {advice}")]
    Dtype {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// The format's name in the file.
        dtype: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A needed tensor has another shape than the config calls for.
    #[error(
        "{file}: tensor {tensor:?} has shape {found:?}, but the configuration calls for {expected:?} = {rule}"
    )]
    Shape {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// As stored.
        found: Vec<u64>,
        /// As computed from the configuration.
        expected: Vec<u64>,
        /// The fields that make `expected`.
        rule: String,
    },
}

fn missing_clause(missing: &Option<&str>) -> String {
    missing.map(|missing| format!(": it needs {missing}")).unwrap_or_default()
}

fn nearest_clause(nearest: &Option<&str>) -> String {
    nearest.map(|name| format!(" (nearest: {name:?})")).unwrap_or_default()
}
