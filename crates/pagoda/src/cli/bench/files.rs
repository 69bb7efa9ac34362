//! Files that a measurement writes.

use super::super::exit::{CliError, Failure};
use anyhow::anyhow;
use pagoda::bench::chart::Chart;
use serde::Serialize;
use std::ffi::OsStr;
use std::path::Path;

/// Form of a picture, told by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    Svg,
    Html,
}

impl Picture {
    /// The form that `path` asks for; known before anything is measured.
    pub(crate) fn of(path: &Path) -> Result<Self, CliError> {
        match path.extension().and_then(OsStr::to_str) {
            Some("svg") => Ok(Self::Svg),
            Some("html" | "htm") => Ok(Self::Html),
            _ => {
                let error = anyhow!(
                    "{} is no picture that can be drawn; end its name with .svg or .html",
                    path.display()
                );
                Err(CliError::new(Failure::Usage, error))
            }
        }
    }

    pub(super) fn write(self, path: &Path, chart: &Chart) -> Result<(), CliError> {
        let text = match self {
            Self::Svg => chart.svg(),
            Self::Html => chart.html(),
        };
        write(path, text)
    }
}

/// Writes `value` as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CliError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| CliError::new(Failure::Internal, error))?;
    write(path, text + "\n")
}

/// Writes `text`, whatever was there before.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot write {}", path.display()));
        CliError::new(Failure::Runtime, error)
    })
}

/// Fails unless the folder of `path` is there, so that a long measurement does not end without its result.
pub(crate) fn check_writable(path: &Path) -> Result<(), CliError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    let error = anyhow!("cannot write {}: {} is no folder", path.display(), folder.display());
    Err(CliError::new(Failure::Usage, error))
}
