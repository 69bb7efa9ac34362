//! Adapters that an engine starts with, and those that it loads while it runs.

use crate::BuildError;
use pagoda_cpu::{CpuOptions, PackedAdapter};
use pagoda_engine::{AdapterSource, InitialAdapter, LoadedAdapter};
use pagoda_model::{Adapter, DecoderSpec};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdapterPlan {
    /// Name and folder of each that the engine starts with.
    pub(crate) initial: Vec<(String, PathBuf)>,
    /// Most adapters at a time; `None` is as many as are there at the start.
    pub(crate) limit: Option<u32>,
}

impl AdapterPlan {
    /// Most adapters at a time.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(self.initial.len() as u32)
    }

    /// Checks the files of the adapters that the engine starts with.
    pub(crate) fn check(&self, spec: &DecoderSpec, options: &CpuOptions) -> Result<(), BuildError> {
        for (name, path) in &self.initial {
            let bad = |reason: String| BuildError::Adapter { name: name.clone(), path: path.clone(), reason };
            let adapter = Adapter::open(path, spec).map_err(|error| bad(error.to_string()))?;
            PackedAdapter::check(&adapter, options).map_err(|error| bad(error.to_string()))?;
        }
        Ok(())
    }

    /// Where the engine takes adapters from; `None` if it will have none.
    pub(crate) fn source(self, spec: &DecoderSpec, options: &CpuOptions) -> Option<AdapterSource> {
        let limit = self.limit();
        let (spec, options) = (spec.clone(), options.clone());
        let load = move |path: &Path| {
            load(path, &spec, &options).map_err(|reason| format!("{}: {reason}", path.display()))
        };
        let initial =
            self.initial.into_iter().map(|(name, path)| InitialAdapter { name, path, required: true });
        (limit > 0).then(|| AdapterSource { limit, load: Arc::new(load), initial: initial.collect() })
    }
}

fn load(path: &Path, spec: &DecoderSpec, options: &CpuOptions) -> Result<LoadedAdapter, String> {
    let adapter = Adapter::open(path, spec).map_err(|error| error.to_string())?;
    let packed = PackedAdapter::pack(&adapter, spec, options).map_err(|error| error.to_string())?;
    adapter.check_unchanged().map_err(|error| error.to_string())?;
    let (rank, bytes) = (adapter.rank(), packed.bytes());
    Ok(LoadedAdapter { weights: Box::new(packed), rank, bytes })
}
