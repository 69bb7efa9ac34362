//! Writing a model folder: tensor by tensor, under another name until it is whole.

use crate::ModelError;
use crate::source::is_plain_name;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Name in the file.
    pub name: String,
    /// Number format as safetensors names it.
    pub format: &'static str,
    /// Dimensions, slowest first.
    pub shape: Vec<u64>,
}

impl StoredTensor {
    /// Bytes of its elements.
    pub fn byte_len(&self) -> u64 {
        let size = match self.format {
            "I8" => 1,
            "BF16" | "F16" => 2,
            "I64" => 8,
            _ => 4,
        };
        self.shape.iter().product::<u64>() * size
    }
}

/// Why a model folder could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is something at the place already.
    #[error("{path:?} {problem}: give a folder that does not exist or is empty")]
    Occupied {
        /// As given.
        path: PathBuf,
        /// "is not empty", "is a file".
        problem: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// "create", "write", "rename".
        action: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// The source is quantised already.
    #[error(
        "{origin} is quantised already: quantise the checkpoint in bf16, f16 or f32 from which it was made"
    )]
    Quantized {
        /// Folder or name of the model.
        origin: String,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A model folder in the making. It has its name once [`finish`](Self::finish) has returned; dropped before, it leaves
/// nothing.
#[derive(Debug)]
pub struct FolderWriter {
    target: PathBuf,
    /// Beside the target, so that it can be renamed; `None` once it has been.
    temporary: Option<PathBuf>,
    weights: BufWriter<File>,
    /// Bytes of the tensors that are yet to be written, in order.
    expected: std::vec::IntoIter<StoredTensor>,
}

const WEIGHTS: &str = "model.safetensors";

impl FolderWriter {
    /// Starts a folder at `target` whose weights are `tensors`, in this order.
    ///
    /// # Errors
    /// Something other than an empty folder is at `target`; the operating system's refusals.
    pub fn create(target: &Path, tensors: Vec<StoredTensor>) -> Result<Self, WriteError> {
        check_free(target)?;
        let temporary = temporary_name(target);
        // What an interrupted process of this number left.
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary).map_err(|e| failed(&temporary, "create", e))?;
        let path = temporary.join(WEIGHTS);
        let file = File::create(&path).map_err(|e| failed(&path, "create", e));
        let mut writer = Self {
            target: target.to_owned(),
            weights: BufWriter::with_capacity(1 << 20, file?),
            expected: tensors.into_iter(),
            temporary: Some(temporary),
        };
        let header = header(writer.expected.as_slice());
        let length = (header.len() as u64).to_le_bytes();
        writer.put(&length)?;
        writer.put(header.as_bytes())?;
        Ok(writer)
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// The operating system's refusals.
    ///
    /// # Panics
    /// When all tensors are written, or the next one has another length.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let tensor = self.expected.next().expect("no more tensors than were announced");
        assert_eq!(bytes.len() as u64, tensor.byte_len(), "bytes of {}", tensor.name);
        self.put(bytes)
    }

    /// Writes a small file beside the weights.
    ///
    /// # Errors
    /// The operating system's refusals.
    ///
    /// # Panics
    /// When `name` is not that of a file in the folder.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        assert!(is_plain_name(name), "{name:?} leads out of the folder");
        let path = self.folder().join(name);
        fs::write(&path, bytes).map_err(|e| failed(&path, "write", e))
    }

    /// Brings everything to the disk and gives the folder its name.
    ///
    /// # Errors
    /// Something is at the target by now; the operating system's refusals.
    ///
    /// # Panics
    /// When tensors are lacking.
    pub fn finish(mut self) -> Result<(), WriteError> {
        assert!(self.expected.len() == 0, "all tensors are written");
        let path = self.folder().join(WEIGHTS);
        let flushed = self.weights.flush().and_then(|()| self.weights.get_ref().sync_all());
        flushed.map_err(|e| failed(&path, "write", e))?;
        check_free(&self.target)?;
        let folder = self.temporary.take().expect("it is taken once");
        // An empty folder at the target is replaced.
        fs::rename(&folder, &self.target).map_err(|e| {
            let _ = fs::remove_dir_all(&folder);
            failed(&self.target, "rename a finished folder to", e)
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let result = self.weights.write_all(bytes);
        result.map_err(|e| failed(&self.folder().join(WEIGHTS), "write", e))
    }

    fn folder(&self) -> &Path {
        self.temporary.as_deref().expect("it is there until it is renamed")
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            // What cannot be removed stays under its temporary name.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn check_free(target: &Path) -> Result<(), WriteError> {
    let occupied = |problem| Err(WriteError::Occupied { path: target.to_owned(), problem });
    match fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            Some(_) => occupied("is not empty"),
            None => Ok(()),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => occupied("is a file"),
        Err(e) => Err(failed(target, "read", e)),
    }
}

fn temporary_name(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    target.with_file_name(name)
}

/// The header of a safetensors file, padded so that the data starts at a multiple of 8.
fn header(tensors: &[StoredTensor]) -> String {
    let mut at = 0;
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    for tensor in tensors {
        let begin = at;
        at += tensor.byte_len();
        let entry = json!({ "dtype": tensor.format, "shape": tensor.shape, "data_offsets": [begin, at] });
        entries.insert(tensor.name.clone(), entry);
    }
    let mut text = Value::Object(entries).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> WriteError {
    WriteError::Io { path: path.to_owned(), action, source }
}
