//! What `pagoda chat` and `pagoda complete` take.

use super::super::args::ServerArgs;
use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// One message: its answer goes to stdout, and that is all.
    #[arg(short, long, value_name = "TEXT")]
    pub(super) quick: Option<String>,

    /// What the model is told before the conversation.
    #[arg(long, value_name = "TEXT")]
    pub(super) system: Option<String>,

    #[command(flatten)]
    pub(super) settings: SettingArgs,

    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    /// The text to continue; read from stdin if absent.
    #[arg(short, long, value_name = "TEXT")]
    pub(super) quick: Option<String>,

    #[command(flatten)]
    pub(super) settings: SettingArgs,

    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// What is sent with every request.
#[derive(Debug, Args)]
pub(crate) struct SettingArgs {
    /// Name of the model (default: the first one that the server lists).
    #[arg(long, env = "PAGODA_REQUEST_MODEL", value_name = "NAME")]
    pub(super) model: Option<String>,

    /// Most tokens of an answer (default: what the context has room for; 256 to complete).
    #[arg(short = 'n', long, value_name = "N")]
    max_tokens: Option<u32>,

    /// 0 is greedy (default: the server's).
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,

    /// Sample from the smallest set of tokens with this probability mass.
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,

    /// The same seed gives the same text.
    #[arg(short, long)]
    seed: Option<u64>,
}

impl SettingArgs {
    /// The fields of a request that were given.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let given = [
            ("max_tokens", self.max_tokens.map(Value::from)),
            ("temperature", self.temperature.map(|value| json!(value))),
            ("top_p", self.top_p.map(|value| json!(value))),
            ("seed", self.seed.map(Value::from)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
