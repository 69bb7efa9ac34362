//! `pagoda list` and `pagoda pull`: models of the hub on this machine.

use super::exit::{CliError, Failure};
use clap::Args;
use pagoda::Engine;
use pagoda::hub::{CachedModel, FindError, HubCache, HubId};
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Name on the hub, with a branch, tag or commit after an `@` if it is not `main`.
    #[arg(value_name = "OWNER/NAME[@REVISION]")]
    pub(crate) model: HubId,
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
        "id": model.id.to_string(), "commit": model.commit, "folder": model.folder, "bytes": model.bytes,
        "architecture": architecture, "problem": problem,
    })
}

fn table(models: &[CachedModel]) -> String {
    let names: Vec<String> = models.iter().map(|model| model.id.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut table = String::new();
    for (name, model) in names.iter().zip(models) {
        let gib = model.bytes as f64 / (1_u64 << 30) as f64;
        let what = match kind(model) {
            Kind::Runs(architecture) => architecture,
            Kind::Cannot(problem) => format!("does not run: {problem}"),
        };
        let _ = writeln!(table, "{name:width$}  {gib:8.2} GiB  {what}");
    }
    table
}

/// Reads configuration and headers, no weights.
fn kind(model: &CachedModel) -> Kind {
    match Engine::builder().model(&model.folder).checkpoint() {
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
    let folder = runtime.block_on(pagoda::hub::pull(&args.model, move |at| bar.show(at.done, at.total)));
    let folder = folder.map_err(|error| {
        let failure = match &error {
            PullError::Unknown(_) | PullError::NoCache => Failure::Model,
            PullError::Offline(_) => Failure::Usage,
            PullError::Refused { .. } | PullError::Failed { .. } => Failure::Network,
        };
        CliError::new(failure, error)
    })?;
    println!("{}", folder.display());
    Ok(())
}

/// Says how to download with other means.
#[cfg(not(feature = "hub"))]
pub(crate) fn pull(args: &PullArgs) -> Result<(), CliError> {
    let error = anyhow::anyhow!(
        "this build does not download; `hf download {}` puts the model where pagoda finds it, or build pagoda with \
         `--features hub`",
        args.model.repository()
    );
    Err(CliError::new(Failure::Usage, error))
}
