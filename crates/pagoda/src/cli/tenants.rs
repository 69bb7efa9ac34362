//! Shares of tenants as typed.

use super::args::TenantArgs;
use super::exit::{CliError, Failure};
use anyhow::anyhow;
use pagoda::sched::Weight;
use pagoda::server::{TenantName, TenantWeights};
use std::fs;

/// What stands before the path of a file with an API key, which would be seen by all users of the machine if it were typed.
const KEY_FILE: &str = "key-file:";

/// One `--tenant-weight`.
#[derive(Clone, Debug)]
pub(crate) struct NamedWeight {
    /// As typed, for messages.
    shown: String,
    name: TenantName,
    weight: Weight,
}

/// Reads `NAME=WEIGHT`.
pub(crate) fn weight(text: &str) -> Result<NamedWeight, String> {
    let (shown, weight) = text.rsplit_once('=').ok_or("write NAME=WEIGHT, for instance team-a=2")?;
    let weight = weight.parse().map_err(|error| format!("{error}"))?;
    let name = match shown.strip_prefix(KEY_FILE) {
        Some(path) => key(path)?,
        None => TenantName::header(shown.as_bytes()).map_err(|error| format!("the name {error}"))?,
    };
    Ok(NamedWeight { shown: shown.to_owned(), name, weight })
}

/// The key in the first line of a file. Messages do not show it.
fn key(path: &str) -> Result<TenantName, String> {
    let text = fs::read(path).map_err(|error| format!("the key file {path} cannot be read: {error}"))?;
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    TenantName::key(line).map_err(|error| format!("the first line of the key file {path} {error}"))
}

/// The shares that `args` ask for.
pub(crate) fn weights(args: &TenantArgs) -> Result<TenantWeights, CliError> {
    let mut weights = TenantWeights::new(args.default_tenant_weight);
    for NamedWeight { shown, name, weight } in &args.tenant_weight {
        if !weights.set(name.clone(), *weight) {
            let error = anyhow!("--tenant-weight names the tenant {shown} twice; name it once");
            return Err(CliError::new(Failure::Usage, error));
        }
    }
    Ok(weights)
}
