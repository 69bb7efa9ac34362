//! Which folder a model means: a path, or a name whose files other tools have left in the cache of Hugging Face. Nothing is
//! asked of the network.

use super::exit::{CliError, Failure};
use super::nearest::did_you_mean;
use anyhow::anyhow;
use pagoda::memory::{available_bytes, show_bytes};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The path that `model` means.
///
/// # Errors
/// [`Failure::Model`] with what was looked for, what is like it, and how to get it.
pub(crate) fn locate(model: &str) -> Result<PathBuf, CliError> {
    locate_in(model, cache().as_deref()).map_err(|message| CliError::new(Failure::Model, anyhow!(message)))
}

fn locate_in(model: &str, cache: Option<&Path>) -> Result<PathBuf, String> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let Some(id) = Id::parse(model) else {
        let near = siblings(path);
        let hint = did_you_mean(model, near.iter().map(String::as_str));
        return Err(format!("model folder {model:?} does not exist{hint}"));
    };
    let found = cache.map(cached).unwrap_or_default();
    if let Some(folder) = cache.and_then(|cache| id.snapshot(cache)) {
        return Ok(folder);
    }
    let place = cache.map_or_else(|| "(no home folder)".to_owned(), |cache| cache.display().to_string());
    let hint = did_you_mean(&id.name, found.iter().map(String::as_str));
    Err(format!(
        "model {model:?} is neither a folder nor in the cache {place}{hint}; nothing is downloaded here: \
         `hf download {}` fetches it (for a gated model accept its licence first, then set HF_TOKEN)",
        id.name
    ))
}

/// A name of Hugging Face: `organisation/model`, with `@revision` if wanted.
struct Id {
    name: String,
    revision: String,
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (organisation, model) = name.split_once('/')?;
        let is_word = |word: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !word.is_empty() && !word.starts_with('.') && word.bytes().all(known)
        };
        let whole = is_word(organisation) && is_word(model) && is_word(revision);
        whole.then(|| Self { name: name.to_owned(), revision: revision.to_owned() })
    }

    /// Its files in `cache`: `models--organisation--model/snapshots/COMMIT`, of which `refs/REVISION` names the commit.
    fn snapshot(&self, cache: &Path) -> Option<PathBuf> {
        let folder = cache.join(format!("models--{}", self.name.replace('/', "--")));
        let named = fs::read_to_string(folder.join("refs").join(&self.revision)).ok();
        let commit = named.as_deref().map_or(self.revision.as_str(), str::trim);
        let snapshot = folder.join("snapshots").join(commit);
        holds_model(&snapshot).then_some(snapshot)
    }
}

/// Whether a folder has config.json, or a GGUF file.
fn holds_model(folder: &Path) -> bool {
    folder.join("config.json").exists()
        || names(folder).iter().any(|name| name.to_lowercase().ends_with(".gguf"))
}

/// Where Python's tools keep what they have fetched.
fn cache() -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HF_HOME").map(|home| home.join("hub"));
    let usual = || {
        Some(
            variable("XDG_CACHE_HOME")
                .or_else(|| Some(variable("HOME")?.join(".cache")))?
                .join("huggingface/hub"),
        )
    };
    variable("HF_HUB_CACHE").or_else(home).or_else(usual)
}

/// Names of the models in `cache`.
fn cached(cache: &Path) -> Vec<String> {
    let folders = names(cache);
    let names =
        folders.iter().filter_map(|folder| Some(folder.strip_prefix("models--")?.replacen("--", "/", 1)));
    let there = |name: &String| Id::parse(name).is_some_and(|id| id.snapshot(cache).is_some());
    names.filter(there).collect()
}

/// Folders beside `path` as they would be typed.
fn siblings(path: &Path) -> Vec<String> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    names(folder).into_iter().map(|name| parent.join(name).to_string_lossy().into_owned()).collect()
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Models on this machine, as they would be typed: those of the cache, and folders here.
fn on_this_machine() -> Vec<String> {
    let is_gguf = |name: &String| name.to_lowercase().ends_with(".gguf");
    let here = names(Path::new("."));
    let here = here.into_iter().filter(|name| is_gguf(name) || Path::new(name).join("config.json").exists());
    let here = here.map(|name| format!("./{name}"));
    cache().map(|cache| cached(&cache)).unwrap_or_default().into_iter().chain(here).collect()
}

/// What to do where no model was given: commands to paste, and what this machine has room for.
pub(crate) fn next_steps(command: &str) -> String {
    /// Most models that are listed.
    const MOST: usize = 6;
    let found = on_this_machine();
    let listed: Vec<&str> = found.iter().take(MOST).map(String::as_str).collect();
    let flag = if command == "run" { "--model " } else { "" };
    let first = listed.first().copied().unwrap_or("./FOLDER");
    let models = match listed.is_empty() {
        true => {
            "none; a model is a GGUF file, or a folder with config.json, tokenizer.json and model.safetensors"
                .to_owned()
        }
        false => listed.join(", "),
    };
    format!(
        "  a model of yours   pagoda {command} {flag}{first}\n  on this machine    {models}\n  \
         without a download pagoda {command} --random qwen2.5-0.5b (the text means nothing)\n  room               {}\n",
        room()
    )
}

/// How many parameters fit into the memory that is free, by format, with a quarter left for everything else.
fn room() -> String {
    let Some(free) = available_bytes() else { return "?".to_owned() };
    let billions = |bits: f64| 0.75 * free as f64 * 8.0 / bits / 1e9;
    format!(
        "{} free: up to {:.1} billion parameters in bf16, {:.1} in int8, {:.1} in int4",
        show_bytes(free),
        billions(16.0),
        billions(8.125),
        billions(4.25),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with one model, removed when dropped.
    struct Cache(PathBuf);

    impl Cache {
        fn new() -> Self {
            let root = std::env::temp_dir().join(format!("pagoda-hub-{}", std::process::id()));
            let model = root.join("models--org--fox-1b");
            for folder in ["refs", "snapshots/abc123"] {
                fs::create_dir_all(model.join(folder)).expect("a folder can be made");
            }
            fs::write(model.join("refs/main"), "abc123\n").expect("a file can be written");
            fs::write(model.join("snapshots/abc123/config.json"), "{}").expect("a file can be written");
            Self(root)
        }
    }

    impl Drop for Cache {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn names_mean_folders_of_the_cache() {
        let cache = Cache::new();
        let folder = cache.0.join("models--org--fox-1b/snapshots/abc123");
        for name in ["org/fox-1b", "org/fox-1b@main", "org/fox-1b@abc123"] {
            assert_eq!(locate_in(name, Some(&cache.0)), Ok(folder.clone()), "{name}");
        }
        assert_eq!(cached(&cache.0), ["org/fox-1b"]);
        let error = locate_in("org/fox-2b", Some(&cache.0)).unwrap_err();
        assert!(
            error.contains("did you mean org/fox-1b?") && error.contains("hf download org/fox-2b"),
            "{error}"
        );
        assert!(locate_in("org/fox-1b@other", Some(&cache.0)).is_err());
    }

    #[test]
    fn paths_are_taken_as_they_are_and_missing_ones_have_neighbours() {
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(locate_in(here, None), Ok(here.into()));
        let error = locate_in(&format!("{here}/srcs"), None).unwrap_err();
        assert!(error.contains(&format!("did you mean {here}/src?")), "{error}");
        for id in ["../x/y", "a/b/c", "./a", "/a/b", "a", "a/", "org/..", "a b/c"] {
            assert!(Id::parse(id).is_none(), "{id}");
        }
    }

    #[test]
    fn next_steps_are_commands() {
        let steps = next_steps("serve");
        assert!(
            steps.contains("pagoda serve --random qwen2.5-0.5b") && steps.contains("billion parameters"),
            "{steps}"
        );
        assert!(next_steps("run").contains("pagoda run --model "), "{steps}");
    }
}
