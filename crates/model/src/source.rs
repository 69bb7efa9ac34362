//! Where a model's files are: a folder, the binary itself, or nowhere.

use crate::gguf::{self, GgufSet};
use crate::mmap::MappedFile;
use crate::random::stand_in;
use crate::{ModelError, RandomShape, tokenizer_files};
use std::borrow::Cow;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where a model's files are.
#[derive(Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder as `transformers` saves it or the Hub delivers it.
    Folder(PathBuf),
    /// A GGUF file, or any shard of a split set.
    Gguf(PathBuf),
    /// Files in memory, for example embedded in the program.
    Memory {
        /// Name of the model, for messages.
        name: &'static str,
        /// File name and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
    /// A public shape with random weights; config.json and a stand-in tokenizer.json are made when they are read.
    Random {
        /// Dimensions.
        shape: RandomShape,
        /// Chooses the weights.
        seed: u64,
    },
}

impl fmt::Debug for ModelSource {
    /// Leaves out the contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            Self::Gguf(path) => f.debug_tuple("Gguf").field(path).finish(),
            Self::Memory { name, .. } => f.debug_tuple("Memory").field(name).finish(),
            Self::Random { shape, seed } => f.debug_tuple("Random").field(&shape.name()).field(seed).finish(),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::Gguf(path) => path.display().fmt(f),
            Self::Memory { name, .. } => f.write_str(name),
            Self::Random { shape, .. } => f.write_str(shape.name()),
        }
    }
}

/// The bytes of a weight file.
#[derive(Debug)]
pub(crate) enum Blob {
    Mapped(MappedFile),
    Static(&'static [u8]),
}

impl Blob {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => file.bytes(),
            Self::Static(bytes) => bytes,
        }
    }

    /// See [`MappedFile::prefetch`]; nothing to do for bytes in memory.
    pub(crate) fn prefetch(&self, range: Range<usize>) {
        if let Self::Mapped(file) = self {
            file.prefetch(range);
        }
    }

    /// See [`MappedFile::release`]; nothing to do for bytes in memory.
    pub(crate) fn release(&self, range: Range<usize>) {
        if let Self::Mapped(file) = self {
            file.release(range);
        }
    }

    pub(crate) fn is_unchanged(&self) -> bool {
        match self {
            Self::Mapped(file) => file.is_unchanged(),
            Self::Static(_) => true,
        }
    }
}

/// Longest text file (tokenizer, template) that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 256 << 20;
/// Most files of one kind in a folder within that of a model.
const MAX_FILES: usize = 64;

/// Whether `name` is a single path component, so that joining it to a folder stays in the folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

impl ModelSource {
    /// The model at `path`: a GGUF file, any shard of a split set, or a folder.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let names_gguf = path.file_name().is_some_and(|name| gguf::is_gguf(&name.to_string_lossy()));
        if path.is_file() || names_gguf && !path.is_dir() { Self::Gguf(path) } else { Self::Folder(path) }
    }

    /// Where the model really is: a folder without config.json may hold one GGUF model.
    pub(crate) fn resolved(&self) -> Result<Self, ModelError> {
        self.check("config.json and model.safetensors")?;
        let Self::Folder(folder) = self else { return Ok(self.clone()) };
        if folder.join("config.json").exists() {
            return Ok(self.clone());
        }
        Ok(gguf::in_folder(folder, &self.names())?.map_or_else(|| self.clone(), Self::Gguf))
    }

    /// The regular file at `path`, mapped; `name` is for messages.
    pub(crate) fn map(path: &Path, name: &str) -> Result<Blob, ModelError> {
        let io = |source| ModelError::Io { file: path.display().to_string(), action: "open", source };
        // Opening a pipe would wait for ever.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("it is not a regular file")));
        }
        MappedFile::open(path, name).map(Blob::Mapped)
    }

    /// Fails unless the folder is one; `files` is what it should hold.
    pub(crate) fn check(&self, files: &str) -> Result<(), ModelError> {
        let Self::Folder(path) = self else { return Ok(()) };
        let problem = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return Ok(()),
            Ok(_) => "is not a folder".to_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => "does not exist".to_owned(),
            Err(e) => format!("cannot be read ({e})"),
        };
        let problem = format!("{problem}: give a folder that holds {files}");
        Err(ModelError::Folder { path: path.clone(), problem })
    }

    /// Contents of a text file of the model (`tokenizer.json`, `chat_template.jinja`, …); `None` when it has none of this name.
    /// A folder without `tokenizer.json` has one that is made from `tokenizer.model` of SentencePiece, or from `vocab.json` and
    /// `merges.txt`.
    ///
    /// # Errors
    /// The file is there but cannot be read, or is longer than 256 MiB; a tokenizer of a kind that is not read.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        let found = self.read(name, MAX_TEXT_BYTES)?;
        if found.is_some() || name != "tokenizer.json" || !matches!(self, Self::Folder(_)) {
            return Ok(found);
        }
        Ok(tokenizer_files::stand_in(self, MAX_TEXT_BYTES)?.map(Cow::Owned))
    }

    /// Whole contents of a small file; `None` when there is none of this name.
    ///
    /// # Errors
    /// The file cannot be read, is no regular file or is longer than `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        match self {
            Self::Folder(folder) if is_plain_name(name) => match regular(folder, name)? {
                Some(path) => read_capped(&path, name, limit).map(|bytes| Some(Cow::Owned(bytes))),
                None => Ok(None),
            },
            Self::Folder(_) => Ok(None),
            Self::Gguf(path) if GgufSet::has_text_file(name) => {
                Ok(GgufSet::open(path)?.text_file(name)?.map(Cow::Owned))
            }
            Self::Gguf(_) => Ok(None),
            Self::Memory { files, .. } => Ok(find(files, name).map(Cow::Borrowed)),
            Self::Random { shape, .. } => Ok(match name {
                "config.json" => Some(Cow::Owned(shape.config())),
                "tokenizer.json" => Some(Cow::Owned(stand_in(shape.vocab_size()))),
                _ => None,
            }),
        }
    }

    /// Names, without `suffix`, and contents of the text files with that suffix in `folder`, which lies in that of the model; by
    /// name. Empty when there is no such folder, or the model is no folder.
    ///
    /// # Errors
    /// A file cannot be read, or is longer than 256 MiB; there are more than 64.
    pub fn files_in(&self, folder: &str, suffix: &str) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
        let Self::Folder(parent) = self else { return Ok(Vec::new()) };
        let path = parent.join(folder);
        let mut names = Self::Folder(path.clone()).names();
        names.retain(|name| name.ends_with(suffix) && is_plain_name(name));
        names.sort_unstable();
        if names.len() > MAX_FILES {
            let problem = format!("has {} files *{suffix}; at most {MAX_FILES} are read", names.len());
            return Err(ModelError::Folder { path, problem });
        }
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            if let Some(file) = regular(&path, &name)? {
                let contents = read_capped(&file, &format!("{folder}/{name}"), MAX_TEXT_BYTES)?;
                files.push((name.strip_suffix(suffix).unwrap_or(&name).to_owned(), contents));
            }
        }
        Ok(files)
    }

    /// A weight file, mapped; `None` when there is none of this name.
    pub(crate) fn blob(&self, name: &str) -> Result<Option<Blob>, ModelError> {
        match self {
            Self::Folder(folder) if is_plain_name(name) => match regular(folder, name)? {
                Some(path) => MappedFile::open(&path, name).map(|file| Some(Blob::Mapped(file))),
                None => Ok(None),
            },
            Self::Folder(_) => Ok(None),
            Self::Memory { files, .. } => Ok(find(files, name).map(Blob::Static)),
            Self::Random { .. } | Self::Gguf(_) => Ok(None),
        }
    }

    /// Names of the files, for advice in messages; unreadable folders have none.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect(),
            Self::Gguf(_) => Vec::new(),
            Self::Memory { files, .. } => files.iter().map(|(name, _)| (*name).to_owned()).collect(),
            Self::Random { .. } => vec!["config.json".to_owned(), "tokenizer.json".to_owned()],
        }
    }
}

fn find(files: &'static [(&'static str, &'static [u8])], name: &str) -> Option<&'static [u8]> {
    files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
}

/// The path of a regular file; opening a pipe of this name would wait for ever. Links are followed, because
/// the Hub's cache is made of them.
fn regular(folder: &Path, name: &str) -> Result<Option<PathBuf>, ModelError> {
    let path = folder.join(name);
    match fs::metadata(&path) {
        Ok(meta) if meta.is_file() => Ok(Some(path)),
        Ok(_) => Err(ModelError::Io {
            file: path.display().to_string(),
            action: "open",
            source: std::io::Error::other("it is not a regular file"),
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Io { file: path.display().to_string(), action: "open", source }),
    }
}

fn read_capped(path: &Path, name: &str, limit: u64) -> Result<Vec<u8>, ModelError> {
    let io = |source| ModelError::Io { file: path.display().to_string(), action: "read", source };
    let mut file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes > limit {
        return Err(ModelError::FileTooLarge { file: name.into(), bytes, limit });
    }
    let mut contents = Vec::new();
    // One byte more than allowed shows a file that grew since its length was asked.
    file.by_ref().take(limit + 1).read_to_end(&mut contents).map_err(io)?;
    if contents.len() as u64 > limit {
        return Err(ModelError::FileTooLarge { file: name.into(), bytes: contents.len() as u64, limit });
    }
    Ok(contents)
}
