//! Adapters on the command line.

use super::exit::{CliError, Failure};
use anyhow::anyhow;
use clap::Args;
use pagoda::EngineBuilder;
use std::path::PathBuf;

/// Adapters of the model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct AdapterArgs {
    /// Serve the LoRA adapter in this folder as the model NAME. The folder is as PEFT saves it, and names it without NAME=. May be
    /// given several times.
    #[arg(long, value_name = "NAME=FOLDER", value_parser = adapter)]
    pub(crate) lora: Vec<NamedAdapter>,

    /// Most adapters at a time; memory is reserved for them, and the admin listener can load and unload them. By default as
    /// many as --lora gives.
    #[arg(long, value_name = "N", hide_short_help = true, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) max_loras: Option<u32>,

    /// Largest rank of an adapter.
    #[arg(long, default_value_t = 16, value_name = "R", hide_short_help = true,
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_lora_rank: u32,
}

/// An adapter with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedAdapter {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Reads `NAME=FOLDER`, `FOLDER`, or the object that vLLM's `--lora-modules` takes.
fn adapter(text: &str) -> Result<NamedAdapter, String> {
    if text.trim_start().starts_with('{') {
        let wrong = || format!("{text:?} has to have the texts \"name\" and \"path\"");
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| format!("{text:?}: {error}"))?;
        let field = |name: &str| value.get(name).and_then(serde_json::Value::as_str).ok_or_else(wrong);
        return Ok(NamedAdapter { name: field("name")?.to_owned(), path: field("path")?.into() });
    }
    let (name, path) = match text.split_once('=') {
        Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
        None => {
            let path = PathBuf::from(text);
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (name.ok_or_else(|| format!("{text:?} names no folder; give NAME=FOLDER"))?, path)
        }
    };
    if name.is_empty() || path.as_os_str().is_empty() {
        return Err(format!("{text:?} lacks a name or a folder; give NAME=FOLDER"));
    }
    Ok(NamedAdapter { name, path })
}

impl AdapterArgs {
    /// The builder with room for the adapters, and with those that are given.
    pub(crate) fn apply(&self, builder: EngineBuilder) -> Result<EngineBuilder, CliError> {
        let given = self.lora.len() as u32;
        if let Some(limit) = self.max_loras.filter(|limit| *limit < given) {
            let error = anyhow!("--lora gives {given} adapters and --max-loras {limit}; raise it to {given}");
            return Err(CliError::new(Failure::Usage, error));
        }
        let mut builder = builder.max_adapter_rank(self.max_lora_rank);
        if let Some(limit) = self.max_loras {
            builder = builder.max_adapters(limit);
        }
        for NamedAdapter { name, path } in &self.lora {
            builder = builder.adapter(name, path);
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_or_those_of_folders() {
        let named = |name: &str, path: &str| Ok(NamedAdapter { name: name.to_owned(), path: path.into() });
        assert_eq!(adapter("sql=./adapters/a=b"), named("sql", "./adapters/a=b"));
        assert_eq!(adapter("./adapters/sql"), named("sql", "./adapters/sql"));
        assert_eq!(adapter(r#"{"name": "sql", "path": "x", "base_model_name": "y"}"#), named("sql", "x"));
        for wrong in ["", "=x", "sql=", "..", "/", "{", r#"{"name": "sql"}"#] {
            assert!(adapter(wrong).is_err(), "{wrong:?}");
        }
    }
}
