//! Arguments of `pagoda bench`.

use super::super::args::EngineArgs;
use clap::{Args, Subcommand, ValueEnum};
use pagoda::bench::plot::Quantity;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Many sequences at once: prefill, decode and end-to-end throughput beside the machine's limits.
    ///
    /// Example: pagoda bench throughput ./Qwen2.5-0.5B --concurrency 1,8,64 --json r.json --plot r.svg
    Throughput(ThroughputArgs),
    /// One sequence: rows ppN (a prompt of N tokens) and tgN (N generated tokens), as llama-bench prints them.
    ///
    /// Example: pagoda bench latency ./Qwen2.5-0.5B --input-len 128,512 --output-len 128
    Latency(LatencyArgs),
    /// Each operation in the shapes of a model, beside the machine's limits.
    ///
    /// Example: pagoda bench kernels --random qwen2.5-0.5b --formats bf16,int8,int4 --rows 1,8,64
    Kernels(KernelsArgs),
    /// Loading: seconds beside reading the files once, and the memory that it takes meanwhile.
    ///
    /// Example: pagoda bench load ./Qwen2.5-0.5B
    Load(LoadArgs),
    /// Load on any OpenAI-compatible server, with the flags, labels and JSON keys of `vllm bench serve`.
    ///
    /// Example: pagoda bench serve --port 8000 --request-rate 2 --num-prompts 60 --random-input-len 128 --ignore-eos
    Serve(Box<ServeLoadArgs>),
    /// Draw results of `bench throughput --json`, several over each other.
    ///
    /// Example: pagoda bench plot bf16.json int8.json -o throughput.svg
    Plot(PlotArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    /// Folder of the model in Hugging Face form, or a GGUF file; the embedded story model if absent.
    #[arg(env = "PAGODA_MODEL", value_name = "MODEL", help_heading = "Model")]
    pub(crate) model: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ThroughputArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Sequences under way at once; a list measures each.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_name = "N,…", value_parser = count())]
    pub(crate) concurrency: Vec<u32>,

    /// Tokens of each prompt, beside the shared prefix.
    #[arg(long, default_value_t = 128, value_name = "TOKENS", value_parser = count())]
    pub(crate) input_len: u32,

    /// Tokens of each answer.
    #[arg(long, default_value_t = 128, value_name = "TOKENS", value_parser = count())]
    pub(crate) output_len: u32,

    /// Tokens that all prompts begin with.
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    pub(crate) prefix_len: u32,

    /// Requests of each run (default: the concurrency, all arriving at once).
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) num_prompts: Option<u32>,

    #[command(flatten)]
    pub(crate) runs: RunArgs,

    /// Draw throughput over concurrency with the roofline: FILE.svg, or FILE.html with the figures.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Lengths of prompts; a row ppN for each.
    #[arg(long, short = 'p', value_delimiter = ',', default_value = "512", value_name = "TOKENS,…", value_parser = count())]
    pub(crate) input_len: Vec<u32>,

    /// Lengths of answers; a row tgN for each, 2 or more.
    #[arg(long, short = 'n', value_delimiter = ',', default_value = "128", value_name = "TOKENS,…",
          value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) output_len: Vec<u32>,

    #[command(flatten)]
    pub(crate) runs: RunArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct KernelsArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Formats of weights: bf16, f16, f32, int8, int4, w8a8, w4a8 and their variants, and the blocks of GGUF files (q4_k, q8_0 …).
    #[arg(long, value_delimiter = ',', default_value = "bf16,int8,int4", value_name = "FORMAT,…")]
    pub(crate) formats: Vec<String>,

    /// Rows of the input: tokens of a step.
    #[arg(long, short = 'm', value_delimiter = ',', default_value = "1,4,16,64,256", value_name = "N,…", value_parser = count())]
    pub(crate) rows: Vec<u32>,

    /// Contexts of attention.
    #[arg(long, value_delimiter = ',', default_value = "1024", value_name = "TOKENS,…", value_parser = count())]
    pub(crate) contexts: Vec<u32>,

    /// What is measured.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "linear,attention,small",
        value_name = "KIND,…"
    )]
    pub(crate) operations: Vec<Operations>,

    /// Calls of which the median counts.
    #[arg(long, short, default_value_t = 7, value_name = "N", value_parser = count())]
    pub(crate) repetitions: u32,

    /// Write machine, limits and every case as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Do not measure the machine's limits.
    #[arg(long)]
    pub(crate) no_limits: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Loads of which the middle one counts.
    #[arg(long, short, default_value_t = 3, value_name = "N", value_parser = count())]
    pub(crate) repetitions: u32,

    /// Write machine, limits and every load as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operations {
    /// Projections and the head.
    Linear,
    /// Attention of decoding sequences and of a chunk of a prompt.
    Attention,
    /// Sum and norm, rotation, writing keys and values.
    Small,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Runs of which the median counts.
    #[arg(long, short, default_value_t = 3, value_name = "N", value_parser = count())]
    pub(crate) repetitions: u32,

    /// Seed of the prompts.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// Write machine, settings, limits, every run and the hash of the outputs as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Show where the time of the steps goes, by operation; costs a little speed.
    #[arg(long)]
    pub(crate) profile: bool,

    /// Do not measure the machine's limits.
    #[arg(long)]
    pub(crate) no_limits: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PlotArgs {
    /// Results of `bench throughput --json`.
    #[arg(required = true, value_name = "FILE.json")]
    pub(crate) results: Vec<PathBuf>,

    /// The picture: FILE.svg, or FILE.html with the figures.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// What is drawn over the concurrency.
    #[arg(long, value_enum, default_value_t = QuantityArg::Decode)]
    pub(crate) quantity: QuantityArg,

    /// Title instead of the model's name.
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuantityArg {
    /// Generated tokens per second end to end.
    Output,
    /// Generated tokens per second after the prefill.
    Decode,
    /// Prompt tokens per second.
    Prefill,
}

impl From<QuantityArg> for Quantity {
    fn from(quantity: QuantityArg) -> Self {
        match quantity {
            QuantityArg::Output => Self::Output,
            QuantityArg::Decode => Self::Decode,
            QuantityArg::Prefill => Self::Prefill,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeLoadArgs {
    /// Kind of API; it decides the default of --endpoint.
    #[arg(long, alias = "endpoint-type", value_enum, default_value_t = Backend::Openai)]
    pub(crate) backend: Backend,

    /// Address of the server, for instance http://127.0.0.1:8000; instead of --host and --port.
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,

    /// Host of the server.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// Port of the server.
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,

    /// Path of the API (default: /v1/completions, or /v1/chat/completions for chat).
    #[arg(long, value_name = "PATH")]
    pub(crate) endpoint: Option<String>,

    /// Name of the model (default: the first one that the server lists).
    #[arg(long, alias = "served-model-name", env = "PAGODA_REQUEST_MODEL", value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// Header of every request; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) header: Vec<String>,

    #[command(flatten)]
    pub(crate) dataset: DatasetArgs,

    /// Requests per second; `inf` sends all at once.
    #[arg(long, default_value = "inf", value_parser = positive, value_name = "RATE")]
    pub(crate) request_rate: f64,

    /// Shape of the gaps between requests: 1 is a Poisson process, below is burstier, above more even.
    #[arg(long, default_value_t = 1.0, value_parser = finite_positive, value_name = "SHAPE")]
    pub(crate) burstiness: f64,

    /// Most requests under way at once.
    #[arg(long, value_name = "N", value_parser = count())]
    pub(crate) max_concurrency: Option<u32>,

    /// Go on after the end-of-sequence token (a field that vLLM, SGLang and this server know).
    #[arg(long)]
    pub(crate) ignore_eos: bool,

    /// 0 is greedy.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub(crate) temperature: f64,

    /// More fields of every request, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) extra_body: Option<String>,

    /// Wait so long for the server to answer before the load begins; 0 asks once.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(crate) ready_check_timeout_sec: u64,

    /// Requests before the load, which do not count.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) num_warmups: u32,

    /// Longest time of one request.
    #[arg(long, default_value_t = 3600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) request_timeout: u64,

    #[command(flatten)]
    pub(crate) results: ResultArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    #[value(alias = "vllm")]
    Openai,
    OpenaiChat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatasetName {
    Random,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prompts")]
pub(crate) struct DatasetArgs {
    /// Where prompts come from.
    #[arg(long, value_enum, default_value_t = DatasetName::Random)]
    pub(crate) dataset_name: DatasetName,

    /// Number of requests.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = count())]
    pub(crate) num_prompts: u32,

    /// Mean tokens of a prompt, beside the prefix.
    #[arg(long, alias = "input-len", default_value_t = 1024, value_name = "TOKENS", value_parser = count())]
    pub(crate) random_input_len: u32,

    /// Mean tokens of an answer.
    #[arg(long, alias = "output-len", default_value_t = 128, value_name = "TOKENS", value_parser = count())]
    pub(crate) random_output_len: u32,

    /// Tokens that all prompts begin with.
    #[arg(long, default_value_t = 0, value_name = "TOKENS")]
    pub(crate) random_prefix_len: u32,

    /// Lengths vary by this part of their mean, from 0 to below 1.
    #[arg(long, default_value_t = 0.0, value_parser = ratio, value_name = "PART")]
    pub(crate) random_range_ratio: f64,

    /// Folder with a tokenizer.json: prompts are then texts of random tokens. Without it the completions endpoint gets
    /// random token ids and chat gets random words.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) tokenizer: Option<PathBuf>,

    /// Token ids are drawn below this; it has to be at most the vocabulary of the model.
    #[arg(long, default_value_t = 4000, value_name = "N", value_parser = count())]
    pub(crate) vocab_size: u32,

    /// Seed of prompts and gaps.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Results")]
pub(crate) struct ResultArgs {
    /// Metrics to report: ttft, tpot, itl, e2el.
    #[arg(long, value_delimiter = ',', default_value = "ttft,tpot,itl", value_name = "METRIC,…")]
    pub(crate) percentile_metrics: Vec<pagoda::bench::serve::Metric>,

    /// Percentiles of each metric.
    #[arg(long, value_delimiter = ',', default_value = "99", value_parser = percentile, value_name = "P,…")]
    pub(crate) metric_percentiles: Vec<f64>,

    /// Count requests that keep these limits in milliseconds, for instance `ttft:500 tpot:50`.
    #[arg(long, num_args = 1.., value_name = "METRIC:MS")]
    pub(crate) goodput: Vec<String>,

    /// Write the result as JSON.
    #[arg(long)]
    pub(crate) save_result: bool,

    /// Write every measurement of every request too.
    #[arg(long, hide_short_help = true)]
    pub(crate) save_detailed: bool,

    /// Folder of the result.
    #[arg(long, value_name = "FOLDER", hide_short_help = true)]
    pub(crate) result_dir: Option<PathBuf>,

    /// Name of the result (default: made of backend, rate, model and time).
    #[arg(long, value_name = "FILE")]
    pub(crate) result_filename: Option<PathBuf>,

    /// Label of the result.
    #[arg(long, hide_short_help = true)]
    pub(crate) label: Option<String>,

    /// More fields of the result.
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE", hide_short_help = true)]
    pub(crate) metadata: Vec<String>,

    /// Show no progress.
    #[arg(long, alias = "disable-tqdm")]
    pub(crate) quiet: bool,
}

fn count() -> clap::builder::RangedU64ValueParser<u32> {
    clap::builder::RangedU64ValueParser::new().range(1..=u64::from(u32::MAX))
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err("give a number above 0, or inf".to_owned()),
    }
}

fn finite_positive(text: &str) -> Result<f64, String> {
    positive(text).ok().filter(|number| number.is_finite()).ok_or_else(|| "give a number above 0".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..1.0).contains(&number) => Ok(number),
        _ => Err("give a number from 0 to below 1".to_owned()),
    }
}

fn percentile(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err("give percentiles from 0 to 100".to_owned()),
    }
}
