//! The server that a command talks to.

use super::args::ServerArgs;
use super::exit::{CliError, Failure};
use anyhow::{Context, anyhow};
use pagoda::client::{Client, ClientError, Target};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

impl ServerArgs {
    /// A client that says who asks.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        let made = self.target().and_then(|target| Ok(Client::new(target, self.headers()?)));
        made.map_err(|error| CliError::new(Failure::Usage, error))
    }

    fn target(&self) -> anyhow::Result<Target> {
        let local = || Target { host: self.host.clone(), port: self.port, prefix: String::new() };
        Ok(self.url.as_deref().map(Target::parse).transpose()?.unwrap_or_else(local))
    }

    fn headers(&self) -> anyhow::Result<Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)>> {
        let mut headers = Vec::new();
        if let Some(tenant) = &self.tenant {
            let value = tenant.parse().context("--tenant cannot be sent as a header")?;
            headers.push(("x-tenant".parse().context("x-tenant is a header")?, value));
        }
        if let Some(key) = &self.api_key {
            // The key itself must not get into a message.
            let value = format!("Bearer {key}")
                .parse()
                .map_err(|_| anyhow!("--api-key cannot be sent as a header"))?;
            headers.push((hyper::header::AUTHORIZATION, value));
        }
        Ok(headers)
    }
}

/// What drives a client.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CliError::new(Failure::Runtime, error))
}

/// The message of the server, where it gave one.
pub(super) fn refusal(error: ClientError) -> anyhow::Error {
    if let ClientError::Status { body, .. } = &error
        && let Ok(json) = serde_json::from_str::<Value>(body)
        && let Some(message) = json["error"]["message"].as_str()
    {
        return anyhow!("{message}");
    }
    error.into()
}
