//! Weight files mapped into memory. The only unsafe code of this crate.
//!
//! A mapping is as honest as the file behind it. The length is taken once from the open descriptor, every
//! tensor's range is checked against it, and the file may then be shortened or rewritten by another process:
//! reading a page that no longer exists raises SIGBUS, which no program returns from, and a rewritten page
//! yields other weights. Neither breaks memory safety of this process beyond that, and the window is short,
//! because the executors copy what they need into their own layout while they load. Callers ask
//! [`MappedFile::is_unchanged`] afterwards, which turns a rewrite into an error.
#![expect(unsafe_code, reason = "mapping a file is unsafe because other processes may change it")]

use crate::ModelError;
use memmap2::{Mmap, MmapOptions};
use std::fs::{File, Metadata};
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

/// A file mapped read-only, with the length and time of change it had when it was opened.
#[derive(Debug)]
pub(crate) struct MappedFile {
    file: File,
    map: Option<Mmap>,
    len: u64,
    modified: Option<SystemTime>,
}

impl MappedFile {
    /// Maps the regular file at `path`; `name` is for messages.
    pub(crate) fn open(path: &Path, name: &str) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(|e| io(name, "open", e))?;
        let meta = file.metadata().map_err(|e| io(name, "read the length of", e))?;
        let len = meta.len();
        let size = usize::try_from(len).map_err(|_| ModelError::FileTooLarge {
            file: name.into(),
            bytes: len,
            limit: usize::MAX as u64,
        })?;
        let map = if size == 0 {
            None // An empty mapping is an error on some systems.
        } else {
            // SAFETY: the mapping is private and read-only, and its length is the file's own. What other
            // processes may do to the file is said at the top of this module.
            let map = unsafe { MmapOptions::new().len(size).map(&file) }.map_err(|e| io(name, "map", e))?;
            Some(map)
        };
        let modified = meta.modified().ok();
        Ok(Self { file, map, len, modified })
    }

    /// The file's bytes as they are when they are read.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// Asks the system to bring in a part of the file in one go, instead of page by page when it is read.
    pub(crate) fn prefetch(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Some(map) = &self.map {
            // A refusal (an old kernel, a file that shrank) costs speed only: the pages then come one by one.
            let _ = map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// Gives the pages of a part of the file back to the system; reading them again brings them in again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            // SAFETY: the mapping is read-only, so there is no change of ours to lose: the pages that are dropped come
            // back from the file with the same contents when they are read. A refusal costs memory only.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Whether length and time of change are still those of the opening.
    pub(crate) fn is_unchanged(&self) -> bool {
        let same = |meta: Metadata| meta.len() == self.len && meta.modified().ok() == self.modified;
        self.file.metadata().is_ok_and(same)
    }
}

fn io(name: &str, action: &'static str, source: std::io::Error) -> ModelError {
    ModelError::Io { file: name.into(), action, source }
}
