//! Downloads into the cache, by the hub's own library.

use super::{HubCache, HubId};
use hf_hub::HFError;
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use std::collections::HashMap;
use std::env;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What a model needs to run; other formats of the same weights stay where they are.
const WANTED: [&str; 6] = ["*.json", "*.safetensors", "*.jinja", "*.model", "tokenizer*", "*.txt"];

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
    Offline(HubId),
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
    #[error("the hub has no model {0}, or hides it from this account: check the name, or set HF_TOKEN")]
    Unknown(HubId),
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

/// Downloads what a model needs to run, or what is missing of it, and returns the folder. `progress` is called from threads of the
/// download, about ten times a second.
///
/// `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` mean what they mean to the Python tools.
///
/// # Errors
/// [`PullError`] saying what to do.
pub async fn pull(
    id: &HubId,
    progress: impl Fn(PullProgress) + Send + Sync + 'static,
) -> Result<PathBuf, PullError> {
    if is_offline() {
        return Err(PullError::Offline(id.clone()));
    }
    let cache = HubCache::of_environment().ok_or(PullError::NoCache)?;
    let client = hf_hub::HFClient::builder().cache_dir(cache.root()).build();
    let client = client.map_err(|error| told(id, &error))?;
    let repository = client.model(id.owner.clone().unwrap_or_default(), id.name.clone());
    let download = repository
        .snapshot_download()
        .revision(id.revision.clone())
        .allow_patterns(WANTED.map(str::to_owned).to_vec())
        .progress(Meter { sink: progress, files: Mutex::default() })
        .send();
    download.await.map_err(|error| told(id, &error))
}

/// Whether the user has switched downloads off.
fn is_offline() -> bool {
    env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()))
}

fn told(id: &HubId, error: &HFError) -> PullError {
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

/// Adds up what the library reports file by file.
struct Meter<F> {
    sink: F,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    total: u64,
    done: HashMap<String, u64>,
    /// Of the files that come in chunks which many files share, together.
    chunked: u64,
}

impl<F: Fn(PullProgress) + Send + Sync> ProgressHandler for Meter<F> {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            DownloadEvent::Start { total_bytes, .. } => files.total = *total_bytes,
            DownloadEvent::Progress { files: changed } => {
                for file in changed {
                    files.done.insert(file.filename.clone(), file.bytes_completed);
                }
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => files.chunked = *bytes_completed,
            DownloadEvent::Complete => files.chunked = files.total,
        }
        let done = files.done.values().sum::<u64>().saturating_add(files.chunked).min(files.total);
        (self.sink)(PullProgress { done, total: files.total });
    }
}
