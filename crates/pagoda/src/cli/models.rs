//! `pagoda list` and `pagoda pull`: models of the hub on this machine.

use super::exit::{CliError, Failure};
use clap::Args;
use pagoda::Engine;
use pagoda::hub::{CachedModel, FindError, HubCache, HubName};
use pagoda::memory::show_bytes;
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Name on the hub; for GGUF with its format, Q4_K_M or Q8_0 if absent, or its file; behind an `@` the revision if it is not `main`.
    #[arg(value_name = "OWNER/NAME[:FORMAT|/FILE.gguf][@REVISION]")]
    pub(crate) model: HubName,
}

/// What can be done with a model of the cache.
enum Kind {
    /// It runs; its architecture.
    Runs(String),
    /// It does not; why.
    Cannot(String),
}

/// Lists the cache.
pub(crate) fn list(args: &ListArgs) -> Result<(), CliError> {
    let cache = HubCache::of_environment();
    let cache = cache.ok_or_else(|| CliError::new(Failure::Model, FindError::NoCache))?;
    let models = cache.list();
    if args.json {
        let models: Vec<_> = models.iter().map(as_json).collect();
        println!("{}", serde_json::json!({ "cache": cache.root(), "models": models }));
        return Ok(());
    }
    if models.is_empty() {
        println!("no models in {}", cache.root().display());
    }
    print!("{}", table(&models));
    Ok(())
}

fn as_json(model: &CachedModel) -> serde_json::Value {
    let (architecture, problem) = match kind(model) {
        Kind::Runs(architecture) => (Some(architecture), None),
        Kind::Cannot(problem) => (None, Some(problem)),
    };
    serde_json::json!({
        "id": model.name.to_string(), "commit": model.commit, "path": model.path, "bytes": model.bytes,
        "architecture": architecture, "problem": problem,
    })
}

fn table(models: &[CachedModel]) -> String {
    let names: Vec<String> = models.iter().map(|model| model.name.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut table = String::new();
    for (name, model) in names.iter().zip(models) {
        let what = match kind(model) {
            Kind::Runs(architecture) => architecture,
            Kind::Cannot(problem) => format!("does not run: {problem}"),
        };
        let _ = writeln!(table, "{name:width$}  {:>9}  {what}", show_bytes(model.bytes));
    }
    table
}

/// Reads configuration and headers, no weights.
fn kind(model: &CachedModel) -> Kind {
    match Engine::builder().model(&model.path).checkpoint() {
        Ok(checkpoint) => Kind::Runs(checkpoint.spec().architecture.clone()),
        Err(error) => Kind::Cannot(error.to_string()),
    }
}

/// Downloads a model, or what is missing of it.
#[cfg(feature = "hub")]
pub(crate) fn pull(args: &PullArgs) -> Result<(), CliError> {
    use super::progress::DownloadBar;
    use pagoda::hub::PullError;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(Failure::Runtime, error))?;
    let bar = DownloadBar::default();
    let path = runtime.block_on(pagoda::hub::pull(&args.model, |at| bar.show(at.done, at.total)));
    let path = path.map_err(|error| {
        let failure = match &error {
            PullError::Unknown(_) | PullError::NoCache => Failure::Model,
            PullError::NotChosen { .. } | PullError::NoWeights { .. } => Failure::Model,
            PullError::Offline(_) => Failure::Usage,
            PullError::Refused { .. } | PullError::Failed { .. } => Failure::Network,
        };
        CliError::new(failure, error)
    })?;
    println!("{}", path.display());
    Ok(())
}

/// Says how to download with other means.
#[cfg(not(feature = "hub"))]
pub(crate) fn pull(args: &PullArgs) -> Result<(), CliError> {
    let error = anyhow::anyhow!(
        "this build does not download; `{}` puts the model where pagoda finds it, or build pagoda with \
         `--features hub`",
        args.model.other_download()
    );
    Err(CliError::new(Failure::Usage, error))
}
