//! The cache on disk.

use super::gguf::{GgufModel, choose, gguf_models};
use super::{Choice, HubId, HubName, NotChosen};
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

/// Depth of folders in which GGUF files are looked for: repositories have one for each format.
const DEPTH: usize = 2;

/// A model in a cache: a snapshot, or a GGUF model in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// Name, with the revision under which it is known.
    pub name: HubName,
    /// Commit of the snapshot.
    pub commit: String,
    /// Folder with its files, or the first GGUF file.
    pub path: PathBuf,
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
        "model {name:?} is neither a folder nor in the cache {}{}; nothing is downloaded here: `pagoda pull {name}` or \
         `{}` fetches it (for a gated model accept its licence first, then set HF_TOKEN)",
        cache.display(),
        listed(known),
        name.other_download(),
        name = name.to_string()
    )]
    NoModel {
        /// What was looked for.
        name: Box<HubName>,
        /// Where.
        cache: PathBuf,
        /// Some of what is there.
        known: Vec<String>,
    },
    /// The cache has the model, but not this revision.
    #[error(
        "{} does not have {name}, only other revisions of it: {}; `pagoda pull {name}` fetches it",
        cache.display(),
        revisions.join(", ")
    )]
    NoRevision {
        /// What was looked for.
        name: Box<HubName>,
        /// Where.
        cache: PathBuf,
        /// The revisions that are there.
        revisions: Vec<String>,
    },
    /// A download has not come to its end.
    #[error("the download of {name} was broken off; `pagoda pull {name}` goes on with it, or `{}`", name.other_download())]
    Begun {
        /// What was looked for.
        name: Box<HubName>,
    },
    /// The snapshot has other GGUF models.
    #[error("the cache of {} has {reason}; `pagoda pull {name}` fetches what is missing", name.id)]
    NotChosen {
        /// What was looked for.
        name: Box<HubName>,
        /// What is there.
        reason: NotChosen,
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

    /// Where the model is: the folder of its snapshot, or a GGUF file in it.
    ///
    /// # Errors
    /// [`FindError`] if the model, the revision or the file is not there.
    pub fn find(&self, name: &HubName) -> Result<PathBuf, FindError> {
        let id = &name.id;
        let folder = self.root.join(id.folder());
        if !folder.is_dir() {
            let known = self.list().into_iter().take(LISTED).map(|model| model.name.to_string()).collect();
            return Err(FindError::NoModel { name: name.clone().into(), cache: self.root.clone(), known });
        }
        let named = fs::read_to_string(folder.join("refs").join(&id.revision));
        let commit = named.map_or_else(|_| id.revision.clone(), |commit| commit.trim().to_owned());
        let snapshots = folder.join("snapshots");
        // A commit may be cut short, as it is in what people write down.
        let found =
            names(&snapshots).into_iter().find(|name| !commit.is_empty() && name.starts_with(&commit));
        let begun = || is_begun(&folder).then(|| FindError::Begun { name: name.clone().into() });
        match found {
            Some(found) => {
                let snapshot = snapshots.join(found);
                let empty = !has_weights(&snapshot) && gguf_in(&snapshot).is_empty();
                match begun().filter(|_| empty) {
                    Some(error) => Err(error),
                    None => in_snapshot(&snapshot, name),
                }
            }
            None => Err(begun().unwrap_or_else(|| FindError::NoRevision {
                name: name.clone().into(),
                cache: self.root.clone(),
                revisions: [references(&folder), names(&snapshots)].concat(),
            })),
        }
    }

    /// All models that have files, by name.
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
        let snapshots = names(&folder.join("snapshots")).into_iter().flat_map(|commit| {
            let revision = named.iter().find(|(of, _)| *of == commit).map(|(_, name)| name.clone());
            let id = HubId { revision: revision.unwrap_or_else(|| commit.clone()), ..id.clone() };
            models_of(&id, &commit, &folder.join("snapshots").join(&commit))
        });
        snapshots.filter(|model| model.bytes > 0).collect()
    }
}

/// What a snapshot holds: GGUF models, and the rest of its files if they are a model or there is nothing else.
fn models_of(id: &HubId, commit: &str, folder: &Path) -> Vec<CachedModel> {
    let gguf = gguf_in(folder).into_iter().map(|model| {
        let choice = match model.tag() {
            Some(tag) => Choice::Tag(tag.to_owned()),
            None => Choice::File(model.files[0].clone()),
        };
        let name = HubName { id: id.clone(), choice };
        let path = folder.join(&model.files[0]);
        CachedModel { name, commit: commit.to_owned(), path, bytes: model.bytes }
    });
    let mut models: Vec<CachedModel> = gguf.collect();
    if models.is_empty() || folder.join("config.json").exists() && has_weights(folder) {
        let (name, path) = (id.clone().into(), folder.to_owned());
        models.insert(0, CachedModel { name, commit: commit.to_owned(), bytes: bytes_of(folder), path });
    }
    models
}

/// Whether a folder has weights that are no GGUF files.
fn has_weights(folder: &Path) -> bool {
    names(folder).iter().any(|name| name.ends_with(".safetensors"))
}

/// The GGUF models below a folder, by their paths in it.
fn gguf_in(folder: &Path) -> Vec<GgufModel> {
    let mut files = Vec::new();
    collect(folder, "", DEPTH, &mut files);
    gguf_models(files.iter().map(|(path, bytes)| (path.as_str(), *bytes)))
}

fn collect(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, u64)>) {
    for name in names(folder) {
        let path = folder.join(&name);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => files.push((format!("{prefix}{name}"), meta.len())),
            Ok(_) if depth > 0 => collect(&path, &format!("{prefix}{name}/"), depth - 1, files),
            _ => {}
        }
    }
}

/// What `name` means in its snapshot `folder`.
fn in_snapshot(folder: &Path, name: &HubName) -> Result<PathBuf, FindError> {
    let models = gguf_in(folder);
    if name.choice == Choice::Usual && (has_weights(folder) || models.is_empty()) {
        return Ok(folder.to_owned());
    }
    let chosen = choose(&models, &name.choice);
    let chosen = chosen.map_err(|reason| FindError::NotChosen { name: name.clone().into(), reason })?;
    Ok(folder.join(&chosen.files[0]))
}

/// Whether a download into the folder of a model has not come to its end.
fn is_begun(folder: &Path) -> bool {
    names(&folder.join("blobs")).iter().any(|name| name.ends_with(".incomplete"))
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
            cache.add("models--org--small", "main", "aaa111/config.json", b"12345");
            cache.add("models--org--small", "v1", "bbb222/config.json", b"123");
            cache.add("models--gpt2", "main", "ccc333/config.json", b"1");
            cache.add("datasets--org--texts", "main", "ddd444/config.json", b"1");
            for name in ["m-Q4_K_M.gguf", "q8/m-Q8_0-00001-of-00002.gguf", "q8/m-Q8_0-00002-of-00002.gguf"] {
                cache.add("models--org--blocks", "main", &format!("fff666/{name}"), b"12");
            }
            fs::create_dir_all(cache.0.join("models--org--begun/snapshots/eee555")).unwrap();
            cache
        }

        fn add(&self, model: &str, revision: &str, file: &str, contents: &[u8]) {
            let (model, commit) = (self.0.join(model), file.split('/').next().unwrap());
            let link = model.join("snapshots").join(file);
            for folder in [&model.join("refs"), &model.join("blobs"), link.parent().unwrap()] {
                fs::create_dir_all(folder).unwrap();
            }
            fs::write(model.join("refs").join(revision), format!("{commit}\n")).unwrap();
            let blob = model.join("blobs").join(file.replace('/', "-"));
            fs::write(&blob, contents).unwrap();
            symlink(blob, link).unwrap();
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
            message.contains("org/other") && message.contains("org/blocks:Q8_0, org/small, org/small@v1"),
            "{message}"
        );
        let message = cache.find("org/small@v2").unwrap_err().to_string();
        assert!(message.contains("main, v1, aaa111, bbb222"), "{message}");
        assert!(matches!(cache.find("org/begun"), Err(FindError::NoRevision { .. })));
        fs::create_dir_all(cache.0.join("models--org--begun/blobs")).unwrap();
        fs::write(cache.0.join("models--org--begun/blobs/123.incomplete"), b"1").unwrap();
        let message = cache.find("org/begun@v1").unwrap_err().to_string();
        assert!(message.contains("broken off; `pagoda pull org/begun@v1`"), "{message}");
        let nowhere = HubCache::at("/no/such/cache");
        assert!(matches!(nowhere.find(&"gpt2".parse().unwrap()), Err(FindError::NoModel { .. })));
        assert_eq!(nowhere.list(), []);
    }

    #[test]
    fn gguf_files_are_found_by_format_and_by_name() {
        let cache = Cache::new("gguf");
        let snapshot = cache.0.join("models--org--blocks/snapshots/fff666");
        let first = snapshot.join("q8/m-Q8_0-00001-of-00002.gguf");
        assert_eq!(cache.find("org/blocks"), Ok(snapshot.join("m-Q4_K_M.gguf")));
        assert_eq!(cache.find("org/blocks:q8_0"), Ok(first.clone()));
        assert_eq!(cache.find("org/blocks/q8/m-Q8_0-00002-of-00002.gguf"), Ok(first));
        let message = cache.find("org/blocks:Q6_K").unwrap_err().to_string();
        assert!(
            message.contains("no Q6_K; add one of :Q4_K_M (2 B), :Q8_0 (4 B); `pagoda pull org/blocks:Q6_K`"),
            "{message}"
        );
    }

    #[test]
    fn snapshots_are_listed_with_their_size() {
        let cache = Cache::new("list");
        let list: Vec<_> = HubCache::at(&cache.0)
            .list()
            .into_iter()
            .map(|model| (model.name.to_string(), model.commit, model.bytes))
            .collect();
        let expected = [
            ("gpt2", "ccc333", 1),
            ("org/blocks:Q4_K_M", "fff666", 2),
            ("org/blocks:Q8_0", "fff666", 4),
            ("org/small", "aaa111", 5),
            ("org/small@v1", "bbb222", 3),
        ];
        assert_eq!(list, expected.map(|(id, commit, bytes)| (id.to_owned(), commit.to_owned(), bytes)));
    }
}
