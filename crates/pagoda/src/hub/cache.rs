//! The cache on disk.

use super::HubId;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Models that an error lists.
const LISTED: usize = 8;

/// A folder in the layout of the hub's cache.
#[derive(Clone, Debug)]
pub struct HubCache {
    root: PathBuf,
}

/// A snapshot in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// Name, with the revision under which it is known.
    pub id: HubId,
    /// Commit of the snapshot.
    pub commit: String,
    /// Folder with its files.
    pub folder: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Why a model was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The environment names no cache.
    #[error("no cache of models is known: set HF_HUB_CACHE, HF_HOME or HOME, or give a folder")]
    NoCache,
    /// The cache does not have the model.
    #[error(
        "model {id:?} is neither a folder nor in the cache {}{}; nothing is downloaded here: `pagoda pull {id}` or \
         `hf download {id}` fetches it (for a gated model accept its licence first, then set HF_TOKEN)",
        cache.display(),
        listed(known)
    )]
    NoModel {
        /// What was looked for.
        id: String,
        /// Where.
        cache: PathBuf,
        /// Some of what is there.
        known: Vec<String>,
    },
    /// The cache has the model, but not this revision.
    #[error("{} does not have {id}, only other revisions of it: {}", cache.display(), revisions.join(", "))]
    NoRevision {
        /// What was looked for.
        id: String,
        /// Where.
        cache: PathBuf,
        /// The revisions that are there.
        revisions: Vec<String>,
    },
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (it has {})", known.join(", ")) }
}

impl HubCache {
    /// The cache at `root`, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The cache that the Python tools use: `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or in `huggingface` in the user's cache folder.
    /// `None` if the environment names none.
    pub fn of_environment() -> Option<Self> {
        let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || folder("HOME").map(|home| home.join(".cache"));
        let hub = || folder("HF_HOME").map(|home| home.join("hub"));
        let own = || folder("XDG_CACHE_HOME").or_else(home).map(|cache| cache.join("huggingface/hub"));
        folder("HF_HUB_CACHE").or_else(hub).or_else(own).map(Self::at)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of a model's snapshot.
    ///
    /// # Errors
    /// [`FindError`] if the model or the revision is not there.
    pub fn find(&self, id: &HubId) -> Result<PathBuf, FindError> {
        let folder = self.root.join(id.folder());
        if !folder.is_dir() {
            let known = self.list().into_iter().take(LISTED).map(|model| model.id.to_string()).collect();
            return Err(FindError::NoModel { id: id.to_string(), cache: self.root.clone(), known });
        }
        let named = fs::read_to_string(folder.join("refs").join(&id.revision));
        let commit = named.map_or_else(|_| id.revision.clone(), |commit| commit.trim().to_owned());
        let snapshots = folder.join("snapshots");
        // A commit may be cut short, as it is in what people write down.
        let found =
            names(&snapshots).into_iter().find(|name| !commit.is_empty() && name.starts_with(&commit));
        match found {
            Some(name) => Ok(snapshots.join(name)),
            None => Err(FindError::NoRevision {
                id: id.to_string(),
                cache: self.root.clone(),
                revisions: [references(&folder), names(&snapshots)].concat(),
            }),
        }
    }

    /// All snapshots that have files, by name.
    pub fn list(&self) -> Vec<CachedModel> {
        let models = names(&self.root).into_iter().filter_map(|name| HubId::of_folder(&name));
        models.flat_map(|id| self.snapshots(&id)).collect()
    }

    fn snapshots(&self, id: &HubId) -> Vec<CachedModel> {
        let folder = self.root.join(id.folder());
        let named: Vec<(String, String)> = references(&folder)
            .into_iter()
            .filter_map(|name| {
                let commit = fs::read_to_string(folder.join("refs").join(&name)).ok()?;
                Some((commit.trim().to_owned(), name))
            })
            .collect();
        let snapshots = names(&folder.join("snapshots")).into_iter().map(|commit| {
            let revision = named.iter().find(|(of, _)| *of == commit).map(|(_, name)| name.clone());
            let path = folder.join("snapshots").join(&commit);
            CachedModel {
                id: HubId { revision: revision.unwrap_or_else(|| commit.clone()), ..id.clone() },
                bytes: bytes_of(&path),
                folder: path,
                commit,
            }
        });
        snapshots.filter(|model| model.bytes > 0).collect()
    }
}

/// Names in a folder, in order; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Revisions that have a name; those of pull requests, which lie deeper, are left out.
fn references(folder: &Path) -> Vec<String> {
    let folder = folder.join("refs");
    names(&folder).into_iter().filter(|name| folder.join(name).is_file()).collect()
}

/// Bytes of the files in a folder, without those in folders below it.
fn bytes_of(folder: &Path) -> u64 {
    let sizes = names(folder).into_iter().filter_map(|name| fs::metadata(folder.join(name)).ok());
    sizes.filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A cache of two models, one of them at two revisions, as the Python tools leave it.
    struct Cache(PathBuf);

    impl Cache {
        fn new(test: &str) -> Self {
            let root = env::temp_dir().join(format!("pagoda-hub-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let cache = Self(root);
            cache.add("models--org--small", "main", "aaa111", b"12345");
            cache.add("models--org--small", "v1", "bbb222", b"123");
            cache.add("models--gpt2", "main", "ccc333", b"1");
            cache.add("datasets--org--texts", "main", "ddd444", b"1");
            fs::create_dir_all(cache.0.join("models--org--begun/snapshots/eee555")).unwrap();
            cache
        }

        fn add(&self, model: &str, revision: &str, commit: &str, config: &[u8]) {
            let model = self.0.join(model);
            for folder in ["refs", "blobs", &format!("snapshots/{commit}")] {
                fs::create_dir_all(model.join(folder)).unwrap();
            }
            fs::write(model.join("refs").join(revision), format!("{commit}\n")).unwrap();
            fs::write(model.join("blobs").join(commit), config).unwrap();
            let link = model.join("snapshots").join(commit).join("config.json");
            symlink(format!("../../blobs/{commit}"), link).unwrap();
        }

        fn find(&self, id: &str) -> Result<PathBuf, FindError> {
            HubCache::at(&self.0).find(&id.parse().unwrap())
        }
    }

    impl Drop for Cache {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_model_is_found_by_branch_tag_and_commit() {
        let cache = Cache::new("find");
        let small = cache.0.join("models--org--small/snapshots");
        assert_eq!(cache.find("org/small"), Ok(small.join("aaa111")));
        assert_eq!(cache.find("org/small@v1"), Ok(small.join("bbb222")));
        assert_eq!(cache.find("org/small@bbb"), Ok(small.join("bbb222")));
        assert_eq!(cache.find("gpt2"), Ok(cache.0.join("models--gpt2/snapshots/ccc333")));
    }

    #[test]
    fn what_is_missing_is_told_with_what_is_there() {
        let cache = Cache::new("missing");
        let message = cache.find("org/other").unwrap_err().to_string();
        assert!(
            message.contains("org/other") && message.contains("gpt2, org/small, org/small@v1"),
            "{message}"
        );
        let message = cache.find("org/small@v2").unwrap_err().to_string();
        assert!(message.contains("main, v1, aaa111, bbb222"), "{message}");
        assert!(matches!(cache.find("org/begun"), Err(FindError::NoRevision { .. })));
        let nowhere = HubCache::at("/no/such/cache");
        assert!(matches!(nowhere.find(&"gpt2".parse().unwrap()), Err(FindError::NoModel { .. })));
        assert_eq!(nowhere.list(), []);
    }

    #[test]
    fn snapshots_are_listed_with_their_size() {
        let cache = Cache::new("list");
        let list: Vec<_> = HubCache::at(&cache.0)
            .list()
            .into_iter()
            .map(|model| (model.id.to_string(), model.commit, model.bytes))
            .collect();
        let expected = [("gpt2", "ccc333", 1), ("org/small", "aaa111", 5), ("org/small@v1", "bbb222", 3)];
        assert_eq!(list, expected.map(|(id, commit, bytes)| (id.to_owned(), commit.to_owned(), bytes)));
    }
}
