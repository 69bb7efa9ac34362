//! Which folder a model means, and what to do where none was given or found.

use super::exit::{CliError, Failure};
use super::nearest::did_you_mean;
use anyhow::anyhow;
use pagoda::hub::{HubCache, find_model_in};
use pagoda::memory::{available_bytes, show_bytes};
use pagoda::model::is_gguf;
use std::fs;
use std::path::{Path, PathBuf};

/// The path that `model` means.
///
/// # Errors
/// [`Failure::Model`] with what was looked for, what is like it, and how to get it.
pub(crate) fn locate(model: &str) -> Result<PathBuf, CliError> {
    locate_in(model, HubCache::of_environment().as_ref())
        .map_err(|message| CliError::new(Failure::Model, anyhow!(message)))
}

fn locate_in(model: &str, cache: Option<&HubCache>) -> Result<PathBuf, String> {
    let near = || [cache.map(cached).unwrap_or_default(), siblings(Path::new(model))].concat();
    let hint = || did_you_mean(model, near().iter().map(String::as_str));
    match find_model_in(model, cache) {
        Ok(path) if path.exists() => Ok(path),
        Ok(_) => Err(format!("model folder {model:?} does not exist{}", hint())),
        Err(error) => Err(format!("{error}{}", hint())),
    }
}

/// Names of the models in `cache`.
fn cached(cache: &HubCache) -> Vec<String> {
    let models = cache.list().into_iter();
    let models = models.filter(|model| model.path.is_file() || model.path.join("config.json").exists());
    models.map(|model| model.name.to_string()).collect()
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
    let here = names(Path::new("."));
    let here = here.into_iter().filter(|name| is_gguf(name) || Path::new(name).join("config.json").exists());
    let here = here.map(|name| format!("./{name}"));
    HubCache::of_environment().as_ref().map(cached).unwrap_or_default().into_iter().chain(here).collect()
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

    #[test]
    fn what_is_not_in_the_cache_is_told_with_what_is_like_it() {
        let root = std::env::temp_dir().join(format!("pagoda-locate-{}", std::process::id()));
        let snapshot = root.join("models--org--fox-1b/snapshots/abc123");
        fs::create_dir_all(&snapshot).expect("a folder can be made");
        fs::create_dir_all(root.join("models--org--fox-1b/refs")).expect("a folder can be made");
        fs::write(root.join("models--org--fox-1b/refs/main"), "abc123\n").expect("a file can be written");
        fs::write(snapshot.join("config.json"), "{}").expect("a file can be written");
        let cache = HubCache::at(&root);
        assert_eq!(locate_in("org/fox-1b", Some(&cache)), Ok(snapshot));
        let error = locate_in("org/fox-2b", Some(&cache)).unwrap_err();
        assert!(
            error.contains("did you mean org/fox-1b?") && error.contains("hf download org/fox-2b"),
            "{error}"
        );
        fs::remove_dir_all(&root).expect("the folder can be removed");
    }

    #[test]
    fn paths_are_taken_as_they_are_and_missing_ones_have_neighbours() {
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(locate_in(here, None), Ok(here.into()));
        let error = locate_in(&format!("{here}/srcs"), None).unwrap_err();
        assert!(error.contains(&format!("did you mean {here}/src?")), "{error}");
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
