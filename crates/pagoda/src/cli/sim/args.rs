//! The options of `pagoda sim` as typed.

use crate::cli::args::at_least_one;
use crate::cli::size::tokens;
use clap::Args;
use pagoda::sched::Weight;
use pagoda_lab::{Rule, Shape};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct SimArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,

    #[command(flatten)]
    pub(super) rules: RuleArgs,

    #[command(flatten)]
    pub(super) limits: LimitArgs,

    #[command(flatten)]
    pub(super) cost: CostArgs,

    #[command(flatten)]
    pub(super) results: ResultArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Built-in shape: chat, fixed:PROMPT:OUTPUT, agents (shared prefixes), long (30k prompts beside chat), classes, tenants
    /// (offered load 10:1) or overload (ten times the rate in the second minute).
    #[arg(long, default_value = "chat", value_name = "SHAPE")]
    pub(super) workload: Shape,

    /// Recorded traffic instead: .csv or .jsonl with arrival_s, prompt_tokens and output_tokens, and if wanted max_tokens,
    /// class, tenant, prefix_group and prefix_tokens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "requests", "rate", "burst", "clients", "seed"])]
    pub(super) trace: Option<PathBuf>,

    /// Number of requests.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(super) requests: u64,

    /// Requests per second, at random times.
    #[arg(long, default_value_t = 1.0, value_name = "RATE", value_parser = rate)]
    pub(super) rate: f64,

    /// All requests at the start.
    #[arg(long, conflicts_with_all = ["rate", "clients"])]
    pub(super) burst: bool,

    /// So many clients, each of which asks again when it has its answer.
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = at_least_one())]
    pub(super) clients: Option<u32>,

    /// The same seed gives the same requests and the same report.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,

    /// Share of a tenant beside others, for instance `heavy=2.5`; may be given several times.
    #[arg(long, value_name = "TENANT=WEIGHT", value_parser = weight)]
    pub(super) tenant_weight: Vec<(String, Weight)>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Rules")]
pub(super) struct RuleArgs {
    /// Switch rules off: continuous-batching, paged-kv (reserve max_tokens, share nothing), prefix-cache, classes (one line for
    /// all), pacing (no chunk is cut for the sake of a stream).
    #[arg(long, value_delimiter = ',', value_name = "RULE,…")]
    pub(super) without: Vec<Rule>,

    /// Run the same requests also without each rule and without any, and show the ratios.
    #[arg(long)]
    pub(super) compare: bool,

    /// Find the highest rate at which 90 % of the requests have their whole answer within this time.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with_all = ["trace", "rate", "burst", "clients", "plot"])]
    pub(super) find_rate: Option<f64>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Scheduler")]
pub(super) struct LimitArgs {
    /// Longest prompt + output of one request in tokens (`8192`, `8k`).
    #[arg(long, default_value = "32k", value_parser = tokens, value_name = "TOKENS")]
    pub(super) max_model_len: u32,

    /// Most sequences that run at once.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = at_least_one())]
    pub(super) max_num_seqs: u32,

    /// Most tokens in one step, decode and prefill together.
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = at_least_one())]
    pub(super) max_num_batched_tokens: u32,

    /// Longest gap between two tokens of a stream that prefill of others may cause (default: 1.75 times the gap without prefill)
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub(super) itl_target_ms: Option<u64>,

    /// Tokens per KV block.
    #[arg(long, default_value_t = 16, value_name = "TOKENS", value_parser = at_least_one())]
    pub(super) block_size: u32,

    /// KV blocks in the pool.
    #[arg(long, default_value_t = 4096, value_name = "N", value_parser = at_least_one())]
    pub(super) kv_blocks: u32,

    /// Most waiting requests before others are refused (default: any number).
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub(super) max_queue: Option<u32>,

    /// Longest wait before a request first runs (default: any time).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) queue_timeout: Option<f64>,
}

#[derive(Args, Debug)]
#[command(
    next_help_heading = "Cost of a step: base + token × (tokens - free) + context × Σ context + attended × Σ chunk · context \
                               (default: Qwen2.5-0.5B in bf16 on two cores)"
)]
pub(super) struct CostArgs {
    /// JSON with base_s, token_s, context_s and attended_s in seconds, and free_tokens.
    #[arg(long, value_name = "FILE", conflicts_with = "fit")]
    pub(super) cost: Option<PathBuf>,

    /// Fit the costs to the JSON that `pagoda bench throughput --json` wrote.
    #[arg(long, value_name = "FILE")]
    pub(super) fit: Option<PathBuf>,

    /// Milliseconds of every step.
    #[arg(long, value_name = "MS")]
    pub(super) cost_base_ms: Option<f64>,

    /// Microseconds per token.
    #[arg(long, value_name = "US", hide_short_help = true)]
    pub(super) cost_token_us: Option<f64>,

    /// Tokens of a step whose arithmetic hides behind the reading of the weights.
    #[arg(long, value_name = "N")]
    pub(super) cost_free_tokens: Option<f64>,

    /// Nanoseconds per token of a row's context.
    #[arg(long, value_name = "NS", hide_short_help = true)]
    pub(super) cost_context_ns: Option<f64>,

    /// Nanoseconds per pair of a prompt token and one that it attends to.
    #[arg(long, value_name = "NS", hide_short_help = true)]
    pub(super) cost_attended_ns: Option<f64>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Results")]
pub(super) struct ResultArgs {
    /// Count requests that keep these limits in milliseconds: ttft, tpot, e2el; for instance `ttft:500 tpot:50`.
    #[arg(long, num_args = 1.., value_name = "METRIC:MS", value_parser = aim)]
    pub(super) goodput: Vec<(Aim, f64)>,

    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// Draw latencies, blocks and requests over time as .svg or .html.
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
}

/// What a good answer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    Ttft,
    Tpot,
    E2el,
}

fn positive(text: &str, what: &str, most: f64) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| *value > 0.0 && *value <= most);
    value.ok_or_else(|| format!("{text:?} is no {what} above 0 and at most {most}"))
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text, "rate", 1e6)
}

fn seconds(text: &str) -> Result<f64, String> {
    positive(text, "time in seconds", 1e9)
}

fn weight(text: &str) -> Result<(String, Weight), String> {
    let (name, weight) = text
        .rsplit_once('=')
        .ok_or_else(|| format!("{text:?} is no TENANT=WEIGHT, for instance heavy=2.5"))?;
    Ok((name.to_owned(), weight.parse().map_err(|error: pagoda::sched::InvalidWeight| error.to_string())?))
}

fn aim(text: &str) -> Result<(Aim, f64), String> {
    let (metric, limit) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is no METRIC:MS, for instance ttft:500"))?;
    let aim = match metric {
        "ttft" => Aim::Ttft,
        "tpot" => Aim::Tpot,
        "e2el" => Aim::E2el,
        other => return Err(format!("unknown metric {other:?}; known are: ttft, tpot, e2el")),
    };
    Ok((aim, positive(limit, "limit in milliseconds", 1e12)? / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for text in ["0", "-1", "NaN", "inf", "x", ""] {
            assert!(rate(text).is_err() && seconds(text).is_err(), "{text}");
        }
        assert_eq!((rate("2.5"), seconds("3600")), (Ok(2.5), Ok(3600.0)));
    }

    #[test]
    fn weights_and_aims_have_a_name_and_a_number() {
        assert_eq!(
            weight("a=b=2").map(|(name, weight)| (name, weight.thousandths())),
            Ok(("a=b".into(), 2000))
        );
        for text in ["heavy", "heavy=0", "heavy=NaN", "=", "heavy="] {
            assert!(weight(text).is_err(), "{text}");
        }
        assert_eq!(aim("ttft:500"), Ok((Aim::Ttft, 0.5)));
        for text in ["ttft", "ttft:0", "itl:5", "tpot:x"] {
            assert!(aim(text).is_err(), "{text}");
        }
    }
}
