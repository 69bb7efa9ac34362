//! Settings of the server.

use crate::cors::CorsOrigins;
use crate::head::HeadLimits;
use crate::hosts::AllowedHosts;
use crate::keys::ApiKeys;
use crate::reload::Reload;
use crate::tenant::TenantWeights;
use std::time::Duration;

/// Limits and timings of the server; `Default` suits a server for a few hundred clients.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Names that clients may use besides the model's own.
    pub aliases: Vec<String>,
    /// Further names that clients may use, which are not listed: those of the model's file or folder.
    pub unlisted_names: Vec<String>,
    /// Whether any name means the one model that is loaded.
    pub any_model_name: bool,
    /// Who may call. Default: everybody.
    pub api_keys: ApiKeys,
    /// Whether `/metrics` needs a key where there are any. Default: no.
    pub protect_metrics: bool,
    /// Whether `x-tenant` is believed where there are API keys, each of which is a tenant otherwise. Default: no.
    pub trust_tenant_header: bool,
    /// Names under which the server may be asked for. `None`: any. Default: any.
    pub allowed_hosts: Option<AllowedHosts>,
    /// Web pages that may call from a browser. Default: none.
    pub cors_origins: CorsOrigins,
    /// Largest request head.
    pub head_limits: HeadLimits,
    /// Largest body, bytes. Default: 4 MiB.
    pub body_limit: usize,
    /// Longest time for a body to arrive. Default: 30 s.
    pub body_timeout: Duration,
    /// Longest time for a request head to arrive. Default: 10 s.
    pub head_timeout: Duration,
    /// How long a connection may be idle between two requests. Default: 60 s.
    pub idle_timeout: Duration,
    /// Longest time for which a client may leave a response unread; then the connection is closed and what it asked
    /// for is cancelled. Default: 30 s.
    pub stall_timeout: Duration,
    /// Most bytes of tokens and log-probabilities that may wait for each choice of a stream to be sent; a choice with more is
    /// ended. Default: 256 KiB.
    pub stream_buffer: usize,
    /// Most open connections; further ones wait in the listener's backlog. Default: 12,000.
    pub max_connections: usize,
    /// Most generating calls between their head and their last byte; further ones are refused. Default: 4,096.
    pub max_in_flight: usize,
    /// Most of them for one API key, where there are keys. `None`: no limit. Default: 64.
    pub max_in_flight_per_key: Option<usize>,
    /// Most calls that render templates and tokenize at the same time. Default: the number of processors.
    pub text_threads: usize,
    /// A stream that has been silent for this long gets an empty line, so that proxies keep it open. `None`:
    /// never. Default: 10 s.
    pub keep_alive: Option<Duration>,
    /// Longest time that running calls may take to end once the server is told to stop. Default: 30 s.
    pub shutdown_timeout: Duration,
    /// Shares of tenants. Default: all have the same.
    pub tenants: TenantWeights,
    /// Whether tenants that give no salt share one prefix cache. It saves work where they send the same text, and
    /// lets each find out from the time that an answer takes whether another has sent a text. Default: no.
    pub share_prefix_cache: bool,
    /// Who loads the model anew when the operator orders it. `None`: nobody, which the operator is told.
    pub reload: Option<Reload>,
    /// What `/version` reports.
    pub build: BuildInfo,
}

/// What the program is, for `/version`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: String,
    /// Revision that it was built from.
    pub git: Option<String>,
    /// Cargo features that it was built with.
    pub build_features: Vec<String>,
    /// Instruction set that the kernels use.
    pub cpu_isa: Option<String>,
    /// Device that runs the model.
    pub device: String,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            aliases: Vec::new(),
            unlisted_names: Vec::new(),
            any_model_name: false,
            api_keys: ApiKeys::default(),
            protect_metrics: false,
            trust_tenant_header: false,
            allowed_hosts: None,
            cors_origins: CorsOrigins::default(),
            head_limits: HeadLimits::default(),
            body_limit: 4 << 20,
            body_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            stream_buffer: 256 << 10,
            max_connections: 12_000,
            max_in_flight: 4_096,
            max_in_flight_per_key: Some(64),
            text_threads: std::thread::available_parallelism().map_or(1, usize::from),
            keep_alive: Some(Duration::from_secs(10)),
            shutdown_timeout: Duration::from_secs(30),
            tenants: TenantWeights::default(),
            share_prefix_cache: false,
            reload: None,
            build: BuildInfo::default(),
        }
    }
}

impl Default for BuildInfo {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git: None,
            build_features: Vec::new(),
            cpu_isa: None,
            device: "cpu".to_owned(),
        }
    }
}
