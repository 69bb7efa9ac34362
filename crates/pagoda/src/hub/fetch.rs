//! Files of a repository into the cache, each from where the last attempt ended.
//!
//! A file lies in `blobs` under its content's hash, as `.incomplete` while it comes, and in `snapshots/COMMIT` as a link; that is
//! where the Python tools put it and look for it.

use super::HubId;
use super::cache::HubCache;
use super::pull::{PullError, told};
use futures_util::StreamExt as _;
use hf_hub::HFError;
use hf_hub::repository::{HFRepository, RepoTypeModel};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Attempts in a row that bring nothing, after which a download fails.
const ATTEMPTS: u32 = 4;

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Its path there.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Hash of what the repository itself holds: of the file, or of what stands for a large one.
    pub(super) object: String,
    /// Whether it is stored apart from the repository, where the hash of its content names it.
    pub(super) is_large: bool,
}

/// A snapshot that is being downloaded.
pub(super) struct Fetch<'a> {
    pub(super) id: &'a HubId,
    pub(super) commit: &'a str,
    pub(super) repository: HFRepository<RepoTypeModel>,
    folder: PathBuf,
    /// Held while this lives, so that two downloads of one model follow each other.
    _lock: File,
}

impl<'a> Fetch<'a> {
    /// Makes the folders, and waits for other downloads of this model.
    pub(super) fn begin(
        id: &'a HubId,
        commit: &'a str,
        repository: HFRepository<RepoTypeModel>,
        cache: &HubCache,
    ) -> io::Result<Self> {
        let (folder, locks) = (cache.root().join(id.folder()), cache.root().join(".locks"));
        fs::create_dir_all(folder.join("blobs"))?;
        fs::create_dir_all(&locks)?;
        let lock = File::create(locks.join(format!("{}.lock", id.folder())))?;
        lock.lock()?;
        Ok(Self { id, commit, repository, folder, _lock: lock })
    }

    /// The folder of the snapshot.
    pub(super) fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshots").join(self.commit)
    }

    /// Whether the snapshot has all of `file`.
    pub(super) fn has(&self, file: &RemoteFile) -> bool {
        fs::metadata(self.snapshot().join(&file.path)).is_ok_and(|meta| meta.len() == file.bytes)
    }

    /// Bytes of `file` that an earlier attempt brought.
    pub(super) fn begun(&self, file: &RemoteFile) -> u64 {
        fs::metadata(self.incomplete(file)).map_or(0, |meta| meta.len()).min(file.bytes)
    }

    fn incomplete(&self, file: &RemoteFile) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", file.object))
    }

    /// Brings `file`, or what is missing of it; `arrived` is told how many bytes of it are there.
    pub(super) async fn file(
        &self,
        file: &RemoteFile,
        arrived: &(dyn Fn(u64) + Sync),
    ) -> Result<(), PullError> {
        let path = self.incomplete(file);
        let mut vain = 0;
        loop {
            let before = self.begun(file);
            if before == file.bytes && path.exists() {
                break;
            }
            let Err(error) = self.rest(file, &path, before, arrived).await else { continue };
            vain = if self.begun(file) > before { 0 } else { vain + 1 };
            if vain == ATTEMPTS || !error.may_pass() {
                return Err(error.told(self.id));
            }
            tokio::time::sleep(Duration::from_secs(u64::from(vain))).await;
        }
        self.place(file, &path).map_err(|error| PullError::failed(self.id, &error))
    }

    /// Appends to the file at `path` what comes from byte `begin` on.
    async fn rest(
        &self,
        file: &RemoteFile,
        path: &Path,
        begin: u64,
        arrived: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Broken> {
        let mut to = OpenOptions::new().create(true).append(true).open(path)?;
        to.set_len(begin)?;
        if file.bytes == 0 {
            return Ok(());
        }
        let stream = self.repository.download_file_stream().filename(file.path.clone());
        let stream = stream.revision(self.commit.to_owned()).range(begin..file.bytes).send();
        let (_, mut stream) = stream.await?;
        let mut there = begin;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            there += piece.len() as u64;
            if there > file.bytes {
                // Whoever sends more does not know ranges, so that what came belongs to the beginning.
                to.set_len(0)?;
                return Err(
                    io::Error::other(format!("{} is longer than {} bytes", file.path, file.bytes)).into()
                );
            }
            to.write_all(&piece)?;
            arrived(there);
        }
        if there < file.bytes {
            let error = format!("{} ended after {there} of {} bytes", file.path, file.bytes);
            return Err(io::Error::other(error).into());
        }
        Ok(())
    }

    /// Gives the whole file its name in the cache and links the snapshot to it.
    fn place(&self, file: &RemoteFile, incomplete: &Path) -> io::Result<()> {
        let name = if file.is_large { sha256(incomplete)? } else { file.object.clone() };
        let blob = self.folder.join("blobs").join(name);
        fs::rename(incomplete, &blob)?;
        let link = self.snapshot().join(&file.path);
        fs::create_dir_all(link.parent().unwrap_or(&link))?;
        // There may be none.
        let _ = fs::remove_file(&link);
        #[cfg(unix)]
        {
            let up = "../".repeat(2 + file.path.matches('/').count());
            let name = blob.file_name().unwrap_or_default();
            std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), link)
        }
        #[cfg(not(unix))]
        fs::rename(blob, link)
    }

    /// Notes which commit the revision was.
    pub(super) fn finish(&self) -> io::Result<()> {
        if self.id.revision == self.commit {
            return Ok(());
        }
        let reference = self.folder.join("refs").join(&self.id.revision);
        fs::create_dir_all(reference.parent().unwrap_or(&reference))?;
        fs::write(reference, self.commit)
    }
}

/// Why the stream of a file ended early.
enum Broken {
    Hub(HFError),
    Disk(io::Error),
}

impl Broken {
    /// Whether another attempt may bring more.
    fn may_pass(&self) -> bool {
        match self {
            Self::Hub(error) => !matches!(
                error,
                HFError::AuthRequired { .. }
                    | HFError::Forbidden { .. }
                    | HFError::RepoNotFound { .. }
                    | HFError::EntryNotFound { .. }
            ),
            Self::Disk(error) => error.kind() == io::ErrorKind::Other,
        }
    }

    fn told(&self, id: &HubId) -> PullError {
        match self {
            Self::Hub(error) => told(id, error),
            Self::Disk(error) => PullError::failed(id, error),
        }
    }
}

impl From<HFError> for Broken {
    fn from(error: HFError) -> Self {
        Self::Hub(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// The hash of a file's content in hexadecimal digits.
fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = BufReader::new(File::open(path)?);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
