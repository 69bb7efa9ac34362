//! Downloads into the cache, by the hub's own library.

use super::fetch::{Fetch, RemoteFile};
use super::gguf::{choose, gguf_models};
use super::name::{Choice, is_inside};
use super::{HubCache, HubId, HubName, NotChosen};
use futures_util::{StreamExt as _, pin_mut};
use hf_hub::HFError;
use hf_hub::repository::{HFRepository, RepoTreeEntry, RepoTypeModel};
use std::env;
use std::path::PathBuf;

/// Endings of what a model needs to run beside GGUF; other formats of the same weights stay where they are.
const WANTED: [&str; 5] = [".json", ".safetensors", ".jinja", ".model", ".txt"];

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes that have come.
    pub done: u64,
    /// Bytes that are to come in all; 0 while that is not known.
    pub total: u64,
}

/// Why a model was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Downloads are switched off.
    #[error("HF_HUB_OFFLINE is set, so {0} is not downloaded; unset it to download")]
    Offline(Box<HubName>),
    /// The environment names no cache.
    #[error("no cache of models is known: set HF_HUB_CACHE, HF_HOME or HOME")]
    NoCache,
    /// The hub wants to know who asks.
    #[error(
        "the hub does not give {id} away: {reason}. Where it has a licence to accept, accept it there, then set HF_TOKEN to a \
         token of that account{}",
        if *has_token { "; the one that is set was not enough" } else { "; none is set" }
    )]
    Refused {
        /// What was asked for.
        id: HubId,
        /// What the hub said.
        reason: String,
        /// Whether there was a token.
        has_token: bool,
    },
    /// There is no such model, or none that this account may see.
    #[error(
        "the hub has no model {}, or hides it from this account: check the name{}, or set HF_TOKEN",
        .0,
        without_owner(.0)
    )]
    Unknown(HubId),
    /// The repository has other GGUF models.
    #[error("{} has {reason}{}", name.id, example(name, reason))]
    NotChosen {
        /// What was asked for.
        name: Box<HubName>,
        /// What is there.
        reason: NotChosen,
    },
    /// The repository has no weights that are read.
    #[error(
        "{id} has neither safetensors nor GGUF files{}",
        match pickled {
            Some(file) => format!(", only pickled weights ({file}), which can run code and are not read; look for another \
                                   upload of the model in one of the two"),
            None => ", so it is no model that can be run".to_owned(),
        }
    )]
    NoWeights {
        /// What was asked for.
        id: HubId,
        /// A file of pickled weights.
        pickled: Option<String>,
    },
    /// The hub was not reached, or the download broke off.
    #[error(
        "{id} could not be downloaded: {reason}. What has come is kept; the same command goes on from there"
    )]
    Failed {
        /// What was asked for.
        id: HubId,
        /// What went wrong.
        reason: String,
    },
}

impl PullError {
    pub(super) fn failed(id: &HubId, error: &impl ToString) -> Self {
        Self::Failed { id: id.clone(), reason: error.to_string() }
    }
}

/// What is likely to be wrong with a name of one part.
fn without_owner(id: &HubId) -> &'static str {
    if id.owner.is_none() { ", which hardly ever goes without an OWNER/" } else { "" }
}

/// A command that would do.
fn example(name: &HubName, reason: &NotChosen) -> String {
    reason
        .instead()
        .map_or_else(String::new, |handle| format!(": `pagoda pull {}{handle}`", name.id.repository()))
}

/// Downloads what a model needs to run, or what is missing of it, and returns its folder, or its GGUF file. `progress` is called
/// for every piece that comes.
///
/// `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` mean what they mean to the Python tools.
///
/// # Errors
/// [`PullError`] saying what to do.
pub async fn pull(name: &HubName, progress: impl Fn(PullProgress) + Sync) -> Result<PathBuf, PullError> {
    let id = &name.id;
    if is_offline() {
        return Err(PullError::Offline(name.clone().into()));
    }
    let cache = HubCache::of_environment().ok_or(PullError::NoCache)?;
    let client = hf_hub::HFClient::builder().cache_dir(cache.root()).build();
    let client = client.map_err(|error| told(id, &error))?;
    let repository = client.model(id.owner.clone().unwrap_or_default(), id.name.clone());
    let (commit, files) = listing(id, &repository).await.map_err(|error| told(id, &error))?;
    let (wanted, first) = wanted(name, &files)?;
    let fetch =
        Fetch::begin(id, &commit, repository, &cache).map_err(|error| PullError::failed(id, &error))?;
    let total = wanted.iter().map(|file| file.bytes).sum();
    let (there, missing): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|file| fetch.has(file));
    let mut done = there.iter().map(|file| file.bytes).sum::<u64>();
    progress(PullProgress { done, total });
    for file in missing {
        fetch.file(file, &|arrived| progress(PullProgress { done: done + arrived, total })).await?;
        done += file.bytes;
        progress(PullProgress { done, total });
    }
    fetch.finish().map_err(|error| PullError::failed(id, &error))?;
    Ok(first.map_or_else(|| fetch.snapshot(), |file| fetch.snapshot().join(file)))
}

/// The commit that the revision is, and the files in it.
async fn listing(
    id: &HubId,
    repository: &HFRepository<RepoTypeModel>,
) -> Result<(String, Vec<RemoteFile>), HFError> {
    let info = repository.info().revision(id.revision.clone()).send().await?;
    let commit = info.sha.unwrap_or_else(|| id.revision.clone());
    let entries = repository.list_tree().revision(commit.clone()).recursive(true).send()?;
    pin_mut!(entries);
    let mut files = Vec::new();
    while let Some(entry) = entries.next().await {
        if let RepoTreeEntry::File { oid, size, path, lfs, .. } = entry? {
            // What a listing says becomes part of paths here.
            if is_inside(&path) && oid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                files.push(RemoteFile { path, bytes: size, object: oid, is_large: lfs.is_some() });
            }
        }
    }
    Ok((commit, files))
}

/// The files that `name` means, small ones first, and the first of a GGUF model.
fn wanted<'a>(
    name: &HubName,
    files: &'a [RemoteFile],
) -> Result<(Vec<&'a RemoteFile>, Option<String>), PullError> {
    let models = gguf_models(files.iter().map(|file| (file.path.as_str(), file.bytes)));
    let is_weights = |file: &RemoteFile| is_root(file) && file.path.ends_with(".safetensors");
    if name.choice == Choice::Usual && (files.iter().any(is_weights) || models.is_empty()) {
        if !files.iter().any(is_weights) {
            let pickled =
                |file: &&RemoteFile| [".bin", ".pt", ".pth"].iter().any(|end| file.path.ends_with(end));
            let pickled = files.iter().find(pickled).map(|file| file.path.clone());
            return Err(PullError::NoWeights { id: name.id.clone(), pickled });
        }
        // Some repositories have all weights twice, under names of their makers as well.
        let usual = files.iter().any(|file| file.path.starts_with("model") && is_weights(file));
        let twice = |file: &RemoteFile| usual && is_weights(file) && file.path.starts_with("consolidated");
        let wanted = |file: &&RemoteFile| is_root(file) && is_wanted(&file.path) && !twice(file);
        let mut wanted: Vec<_> = files.iter().filter(wanted).collect();
        wanted.sort_by_key(|file| file.bytes);
        return Ok((wanted, None));
    }
    let chosen = choose(&models, &name.choice);
    let chosen = chosen.map_err(|reason| PullError::NotChosen { name: name.clone().into(), reason })?;
    let wanted = files.iter().filter(|file| chosen.files.contains(&file.path)).collect();
    Ok((wanted, Some(chosen.files[0].clone())))
}

/// Whether a file lies in no folder of the repository: those are other forms of the model.
fn is_root(file: &RemoteFile) -> bool {
    !file.path.contains('/')
}

fn is_wanted(path: &str) -> bool {
    WANTED.iter().any(|end| path.ends_with(end)) || path.starts_with("tokenizer")
}

/// Whether the user has switched downloads off.
fn is_offline() -> bool {
    env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()))
}

pub(super) fn told(id: &HubId, error: &HFError) -> PullError {
    let (id, reason) = (id.clone(), error.to_string());
    match error {
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => {
            let has_token = env::var_os("HF_TOKEN").is_some_and(|token| !token.is_empty());
            PullError::Refused { id, reason, has_token }
        }
        HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => PullError::Unknown(id),
        _ => PullError::Failed { id, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<RemoteFile> {
        let file = |name: &&str| RemoteFile {
            path: (*name).to_owned(),
            bytes: name.len() as u64,
            object: "a".to_owned(),
            is_large: false,
        };
        names.iter().map(file).collect()
    }

    fn names(name: &str, files: &[RemoteFile]) -> Result<Vec<String>, String> {
        let wanted = wanted(&name.parse().expect("a name"), files);
        wanted
            .map(|(files, _)| files.iter().map(|file| file.path.clone()).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_folder_is_what_lies_at_the_root_and_once() {
        let repository = files(&[
            "model.safetensors",
            "config.json",
            "consolidated.safetensors",
            "original/params.json",
            "onnx/model.onnx",
            "model-Q8_0.gguf",
        ]);
        assert_eq!(
            names("a/b", &repository),
            Ok(vec!["config.json".to_owned(), "model.safetensors".to_owned()])
        );
        assert_eq!(names("a/b:Q8_0", &repository), Ok(vec!["model-Q8_0.gguf".to_owned()]));
        let only = files(&["consolidated.safetensors", "params.json"]);
        assert_eq!(names("a/b", &only).map(|files| files.len()), Ok(2));
    }

    #[test]
    fn what_cannot_run_is_refused_before_it_is_downloaded() {
        let pickled = names("a/b", &files(&["config.json", "pytorch_model.bin"])).expect_err("no weights");
        assert!(pickled.contains("(pytorch_model.bin), which can run code"), "{pickled}");
        let data = names("a/b", &files(&["README.md"])).expect_err("no weights");
        assert!(data.contains("no model that can be run"), "{data}");
        let several = files(&["m-Q5_0.gguf", "m-Q6_K.gguf"]);
        let several = names("a/b", &several).expect_err("neither is usual");
        assert!(several.ends_with(":Q5_0 (11 B), :Q6_K (11 B): `pagoda pull a/b:Q6_K`"), "{several}");
    }
}
