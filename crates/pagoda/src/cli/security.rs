//! Who may call a server, from where and how often, as typed.

use super::exit::{CliError, Failure};
use anyhow::anyhow;
use clap::Args;
use pagoda::server::{AllowedHosts, ApiKeys, ServerConfig};
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where a key can come from besides the command line, which all users of the machine can read.
const KEY_VARIABLE: &str = "PAGODA_API_KEY";

/// Most keys of one server: each call is compared with all of them.
const MAX_KEYS: usize = 1_024;

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct SecurityArgs {
    /// A key that clients have to send. As `authorization: Bearer KEY`, `x-api-key` or `api-key`; may be given several times.
    /// Each is a tenant. Other users of this machine can see it: prefer the variable or the file.
    #[arg(long, value_name = "KEY", env = KEY_VARIABLE, hide_env_values = true)]
    api_key: Vec<Secret>,

    /// File with one key per line; empty lines and those that begin with # are skipped.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// Listen beyond loopback without any key: something else keeps strangers away.
    #[arg(long)]
    allow_unauthenticated: bool,

    /// Ask for a key at /metrics too.
    #[arg(long, hide_short_help = true)]
    protect_metrics: bool,

    /// Believe x-tenant beside a key: a proxy in front sets it.
    #[arg(long, hide_short_help = true)]
    trust_tenant_header: bool,

    /// Most calls that one key may have in flight; 0 is no limit.
    #[arg(long, default_value_t = 64, value_name = "N", hide_short_help = true)]
    max_in_flight_per_key: usize,

    /// Port on 127.0.0.1 for the operator; none if absent. It takes POST /v1/cache/reset, loads adapters and shows requests of all
    /// tenants.
    #[arg(long, value_name = "PORT")]
    pub(crate) admin_port: Option<u16>,

    /// Web pages that may call from a browser. For instance http://localhost:3000; `*` stands for all.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    cors_origins: Vec<String>,

    /// Names under which clients reach the server, without port, or `*` for any; on loopback its own names always do.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allowed_hosts: Vec<String>,
}

/// What must not be shown.
#[derive(Clone)]
struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl SecurityArgs {
    /// Sets what `config` says of access to a server that listens on `host`.
    ///
    /// # Errors
    /// For keys, origins and names that are none, and for an address that others reach without a key.
    pub(crate) fn apply(&self, host: IpAddr, config: &mut ServerConfig) -> Result<(), CliError> {
        config.api_keys = self.keys()?;
        if config.api_keys.is_empty() && !host.is_loopback() && !self.allow_unauthenticated {
            return Err(usage(format!(
                "--host {host} can be reached from other machines and there is no API key: give --api-key-file FILE or \
                 {KEY_VARIABLE}, or keep to --host 127.0.0.1, or say --allow-unauthenticated if something else keeps \
                 strangers away"
            )));
        }
        config.protect_metrics = self.protect_metrics;
        config.trust_tenant_header = self.trust_tenant_header;
        config.max_in_flight_per_key = Some(self.max_in_flight_per_key).filter(|limit| *limit > 0);
        config.allowed_hosts = self.hosts(host)?;
        for origin in &self.cors_origins {
            if !config.cors_origins.add(origin) {
                return Err(usage(format!(
                    "--cors-origins {origin:?} is no origin; write scheme and host, such as http://localhost:3000, or *"
                )));
            }
        }
        Ok(())
    }

    /// The line of the start-up message.
    pub(crate) fn describe(config: &ServerConfig, host: IpAddr) -> String {
        let who = match config.api_keys.len() {
            0 if host.is_loopback() => "no API key: everybody on this machine may call".to_owned(),
            0 => format!("no API key: everybody who reaches {host} may call"),
            keys => format!(
                "{keys} API key{} · without one only probes{} answer",
                if keys == 1 { "" } else { "s" },
                if config.protect_metrics { "" } else { " and /metrics" },
            ),
        };
        let pages = match config.cors_origins.names().as_slice() {
            [] => "web pages may not".to_owned(),
            origins => format!("web pages of {}", origins.join(", ")),
        };
        format!("access  {who} · {pages}")
    }

    fn keys(&self) -> Result<ApiKeys, CliError> {
        let mut keys = ApiKeys::default();
        for Secret(key) in &self.api_key {
            keys.add(key.as_bytes())
                .map_err(|error| usage(format!("a key of --api-key or {KEY_VARIABLE} {error}")))?;
        }
        if let Some(file) = &self.api_key_file {
            read(file, &mut keys)?;
        }
        if keys.len() > MAX_KEYS {
            return Err(usage(format!("there are {} API keys; at most {MAX_KEYS} are taken", keys.len())));
        }
        Ok(keys)
    }

    fn hosts(&self, host: IpAddr) -> Result<Option<AllowedHosts>, CliError> {
        let any = self.allowed_hosts.iter().any(|name| name == "*");
        if any || (self.allowed_hosts.is_empty() && !host.is_loopback()) {
            return Ok(None);
        }
        let mut hosts = AllowedHosts::loopback();
        match self.allowed_hosts.iter().find(|name| !hosts.add(name)) {
            None => Ok(Some(hosts)),
            Some(name) => {
                Err(usage(format!("--allowed-hosts {name:?} is no name; write it without scheme and port")))
            }
        }
    }
}

/// Adds the keys of a file. Messages tell the line and never what is in it.
fn read(path: &Path, keys: &mut ApiKeys) -> Result<(), CliError> {
    let shown = path.display();
    let text = fs::read(path)
        .map_err(|error| usage(format!("the file {shown} of --api-key-file cannot be read: {error}")))?;
    let before = keys.len();
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        keys.add(line).map_err(|error| usage(format!("line {} of {shown} {error}", at + 1)))?;
    }
    if keys.len() == before {
        return Err(usage(format!("the file {shown} of --api-key-file adds no key; write one per line")));
    }
    Ok(())
}

fn usage(message: String) -> CliError {
    CliError::new(Failure::Usage, anyhow!(message))
}
