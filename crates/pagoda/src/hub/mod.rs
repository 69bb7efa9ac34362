//! Models by their name on the Hugging Face hub, in the cache that the Python tools fill and read.
//!
//! The layout is documented by its makers in the manual of `huggingface_hub`: `models--OWNER--NAME` with `refs/REVISION`, a file
//! that holds a commit, and `snapshots/COMMIT`, a folder of links to files.

mod cache;
#[cfg(feature = "hub")]
mod fetch;
mod gguf;
mod id;
mod name;
#[cfg(feature = "hub")]
mod pull;

pub use cache::{CachedModel, FindError, HubCache};
pub use gguf::{GgufModel, NotChosen, choose, gguf_models};
pub use id::{HubId, HubIdError};
pub use name::{Choice, HubName};
#[cfg(feature = "hub")]
pub use pull::{PullError, PullProgress, pull};

use pagoda_model::is_gguf;
use std::path::PathBuf;

/// Where the model is that a user calls `name`: the path itself where there is such a file or folder or where it can only be a
/// path, else what is meant by the [name](HubName) in the user's cache: a snapshot or a GGUF file in one. Nothing is asked of the
/// network.
///
/// # Errors
/// [`FindError`] naming what was looked for, and where.
pub fn find_model(name: &str) -> Result<PathBuf, FindError> {
    find_model_in(name, HubCache::of_environment().as_ref())
}

/// [`find_model`] with the cache given.
///
/// # Errors
/// [`FindError`] naming what was looked for, and where.
pub fn find_model_in(name: &str, cache: Option<&HubCache>) -> Result<PathBuf, FindError> {
    let path = PathBuf::from(name);
    if path.exists() {
        return Ok(path);
    }
    match name.parse::<HubName>() {
        Ok(id) if !is_path(name) => cache.ok_or(FindError::NoCache)?.find(&id),
        // Whoever opens it says what is wrong with it.
        _ => Ok(path),
    }
}

/// Whether a name cannot be one of the hub.
fn is_path(name: &str) -> bool {
    let files = name.matches('/').count() < 2 && is_gguf(name);
    name.starts_with(['/', '.', '~']) || files || name.ends_with(".safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_are() {
        for path in ["/no/such/folder", "./model", "../a/b", "a/b/c", "weights.gguf", "org/file.gguf", "~/m"]
        {
            assert_eq!(find_model_in(path, None).ok(), Some(PathBuf::from(path)), "{path}");
        }
        assert_eq!(find_model_in("src", None).ok(), Some(PathBuf::from("src")), "a folder that exists");
        for name in ["org/name", "org/name:Q4_K_M", "org/name/file.gguf"] {
            assert_eq!(find_model_in(name, None), Err(FindError::NoCache), "{name}");
        }
    }
}
