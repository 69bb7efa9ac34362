//! The command line as typed. Names are vLLM's where vLLM has one; llama.cpp's are accepted as aliases.

use super::bench::BenchCommand;
use super::eval::EvalCommand;
use super::models::{ListArgs, PullArgs};
use super::sim::SimArgs;
use super::size::{Limit, MemorySize};
use super::talk::{ChatArgs, CompleteArgs};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use pagoda::sched::Weight;
use pagoda_kernels::{Isa, QuantFormat};
use pagoda_model::RandomShape;
use std::net::IpAddr;
use std::path::PathBuf;

/// LLM inference and serving: continuous batching, PagedAttention, one static binary.
#[derive(Debug, Parser)]
#[command(name = "pagoda", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// File with settings (TOML). It is below flags and variables; --print-config writes one.
    #[arg(long, global = true, env = "PAGODA_CONFIG", value_name = "FILE", help_heading = "Settings")]
    pub(crate) config: Option<PathBuf>,

    /// Write the settings that hold, each with its origin, and do nothing else.
    #[arg(long, global = true, help_heading = "Settings")]
    pub(crate) print_config: bool,

    /// Show every flag.
    #[arg(long, global = true, help_heading = "Settings")]
    pub(crate) help_all: bool,

    /// What is logged, such as `info` or `pagoda_engine=debug`. By default warnings, a line for each request and one every 10
    /// seconds that says what runs (`warn,access=info,status=info`); RUST_LOG is heard too.
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Logging")]
    pub(crate) log: Option<String>,

    /// Log more: -v what happens, -vv every detail.
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = "Logging")]
    pub(crate) verbose: u8,

    /// Form of the log on stderr: text or json.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, help_heading = "Logging", value_name = "FORM")]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a prompt: text to stdout, speed and finish reason to stderr. Without one, hold a conversation.
    ///
    /// Example: pagoda run "Once upon a time" --max-tokens 200 --seed 7
    Run(RunArgs),
    /// Serve a model over an OpenAI-compatible HTTP interface.
    ///
    /// Example: pagoda serve ./Qwen2.5-0.5B-Instruct --port 8000
    Serve(ServeArgs),
    /// Show what a running server serves and does.
    ///
    /// Example: pagoda ps --port 8000
    Ps(PsArgs),
    /// Ask a server why a request waits, what goes before it, and when it is expected to start and end.
    ///
    /// Example: pagoda explain cmpl-019308f1a2b37c4d8e5f60718293a4b5 --port 8000
    Explain(ExplainArgs),
    /// Talk to a server: answers stream to stdout. With -q or piped input one answer, else a conversation.
    ///
    /// Example: pagoda chat -q "Why is the sky blue?" --port 8000
    Chat(ChatArgs),
    /// Have a server continue texts.
    ///
    /// Example: pagoda complete -q "Once upon a time" --port 8000
    Complete(CompleteArgs),
    /// Show what a model is and the memory that it will take. Loads no weights.
    ///
    /// Example: pagoda inspect ./Qwen2.5-0.5B-Instruct --max-model-len 8k
    Inspect(InspectArgs),
    /// Show whether a model fits into memory, and what other formats would leave for requests. Loads no weights.
    ///
    /// Example: pagoda plan --random llama-3.1-8b --max-num-seqs 16
    Plan(PlanArgs),
    /// List the models of the Hugging Face cache on this machine.
    ///
    /// Example: pagoda list
    List(ListArgs),
    /// Download a model from the Hugging Face hub into the cache that the Python tools share.
    ///
    /// Example: pagoda pull Qwen/Qwen2.5-0.5B-Instruct
    Pull(PullArgs),
    /// Write a model in a quantised format as a folder that loads without the work.
    ///
    /// Example: pagoda quantize ./Qwen2.5-0.5B-Instruct ./Qwen2.5-0.5B-Instruct-int4 --format int4
    Quantize(QuantizeArgs),
    /// Run a workload through the real scheduler in virtual time and report latencies, throughput and use of the KV blocks.
    ///
    /// Each rule of the scheduler can be switched off, so that what it is worth is a number.
    #[command(after_help = super::sim::EXAMPLES)]
    Sim(SimArgs),
    /// Run the scheduler against random workloads and check every invariant after every step.
    ///
    /// Example: pagoda verify --seeds 400 --steps 2500
    Verify(VerifyArgs),
    /// Score a model on texts.
    ///
    /// Example: pagoda eval ppl book.txt
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Look at this machine: what it can do at most, what limits it, what is wrong.
    ///
    /// Example: pagoda doctor --random llama-3.2-1b
    Doctor(DoctorArgs),
    /// Measure: throughput and latency of the engine, speed of its kernels, load on any server.
    ///
    /// Example: pagoda bench throughput --concurrency 1,4,16
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Write the completions of a shell to stdout.
    ///
    /// Example: pagoda completions bash > ~/.local/share/bash-completion/completions/pagoda
    Completions(CompletionsArgs),
    /// Write the manual page to stdout, or one for each command into a folder.
    ///
    /// Example: pagoda man --out ~/.local/share/man/man1
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Text to continue; `-` reads it from stdin. Without it a conversation is held at a terminal, and elsewhere stdin is
    /// read.
    pub(crate) prompt: Option<String>,

    /// Folder of the model in Hugging Face form, or a GGUF file; the embedded story model if absent.
    #[arg(short, long, env = "PAGODA_MODEL", value_name = "FOLDER", help_heading = "Model")]
    pub(crate) model: Option<String>,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling (default: the model's own)")]
pub(crate) struct SamplingArgs {
    /// Most tokens to generate.
    #[arg(short = 'n', long, default_value_t = 256, value_name = "N", value_parser = at_least_one())]
    pub(crate) max_tokens: u32,

    /// 0 is greedy.
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,

    /// Sample from the smallest set of tokens with this probability mass.
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,

    /// Sample from the K most likely tokens; 0 is off.
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<u32>,

    /// Drop tokens below this fraction of the highest probability.
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f32>,

    /// Makes tokens of prompt and output less likely; 1 is off.
    #[arg(long, value_name = "R")]
    pub(crate) repetition_penalty: Option<f32>,

    /// The same seed gives the same text; random if absent.
    #[arg(short, long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,

    /// End at this text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,

    /// Go on after the end-of-sequence token.
    #[arg(long)]
    pub(crate) ignore_eos: bool,

    /// Use the prompt as it is, without the model's chat template.
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder of the model in Hugging Face form, or a GGUF file; the embedded story model if absent.
    #[arg(env = "PAGODA_MODEL", value_name = "MODEL", help_heading = "Model")]
    pub(crate) model: Option<String>,

    /// Address to listen on. Beyond loopback clients need an API key.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS", help_heading = "Server")]
    pub(crate) host: IpAddr,

    /// Port to listen on; 0 picks a free one and prints it.
    #[arg(long, default_value_t = 8000, help_heading = "Server")]
    pub(crate) port: u16,

    /// Unix socket to listen on instead of address and port. Only the user who started the server can connect.
    #[arg(long, value_name = "PATH", help_heading = "Server")]
    pub(crate) uds: Option<PathBuf>,

    /// Names that clients may use for the model; the first is the one reported.
    #[arg(long, short = 'a', num_args = 1.., value_name = "NAME", help_heading = "Server")]
    pub(crate) served_model_name: Vec<String>,

    /// Take any name that a client gives for the model.
    #[arg(long, help_heading = "Server")]
    pub(crate) any_model_name: bool,

    /// Seconds that running requests get to finish after SIGTERM.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", help_heading = "Server")]
    pub(crate) shutdown_timeout: u64,

    /// Seconds without progress of the engine after which every request is ended and the process with them.
    #[arg(long, default_value_t = 300, value_name = "SECONDS", help_heading = "Server", hide_short_help = true,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) stall_timeout: u64,

    /// Most waiting requests before new ones are refused with 429. By default 4 × max-num-seqs, at least 64.
    #[arg(long, value_name = "N", help_heading = "Scheduling")]
    pub(crate) max_queue: Option<u32>,

    /// Seconds a request may wait before it first runs; a request can only ask for less.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", help_heading = "Scheduling")]
    pub(crate) queue_timeout: u64,

    /// Seconds until the first token of a request, waiting included; no limit if absent.
    #[arg(long, value_name = "SECONDS", help_heading = "Scheduling", hide_short_help = true,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) first_token_timeout: Option<u64>,

    /// Seconds until the end of a request, waiting included; no limit if absent.
    #[arg(long, value_name = "SECONDS", help_heading = "Scheduling", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) request_timeout: Option<u64>,

    /// Seconds of waiting that raise the class of a request by one; with 0 the classes take turns from the start.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", help_heading = "Scheduling", hide_short_help = true,
          value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub(crate) ageing: u64,

    /// Most KV blocks that requests can pin with cache_retention; beside them a request of full length has to fit.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Memory", hide_short_help = true)]
    pub(crate) max_pinned_blocks: u32,

    /// Leave out the line that says every 10 seconds what runs.
    #[arg(long, help_heading = "Logging")]
    pub(crate) disable_log_stats: bool,

    #[command(flatten)]
    pub(crate) security: super::security::SecurityArgs,

    #[command(flatten)]
    pub(crate) tenants: TenantArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Tenants (named by the header x-tenant, else by the API key)")]
pub(crate) struct TenantArgs {
    /// Share of a tenant beside others that have work waiting, 0.001 to 1000. May be given several times. NAME is what
    /// x-tenant says, or key-file:PATH for the API key in that file, or default for requests that name none.
    #[arg(long, value_name = "NAME=WEIGHT", hide_short_help = true, value_parser = super::tenants::weight)]
    pub(crate) tenant_weight: Vec<super::tenants::NamedWeight>,

    /// Share of every other tenant.
    #[arg(
        long,
        default_value = "1",
        value_name = "WEIGHT",
        hide_short_help = true,
        allow_negative_numbers = true
    )]
    pub(crate) default_tenant_weight: Weight,

    /// Let tenants share cached prefixes where they give no cache_salt. Each can then find out from the time that an
    /// answer takes whether another has sent a text.
    #[arg(long, hide_short_help = true)]
    pub(crate) share_prefix_cache: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Id of the response, or the x-request-id of the call.
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// A server that runs elsewhere, and who asks it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// Address of the server, for instance http://127.0.0.1:8000; instead of --host and --port.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Address of the server.
    #[arg(long, default_value = "127.0.0.1", value_name = "NAME")]
    pub(crate) host: String,

    /// Port of the server.
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,

    /// Tenant that asks, as x-tenant says it.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,

    /// API key of who asks.
    #[arg(long, env = "PAGODA_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Folder of the model in Hugging Face form, or a GGUF file; the embedded story model if absent.
    #[arg(env = "PAGODA_MODEL", value_name = "MODEL", help_heading = "Model")]
    pub(crate) model: Option<String>,

    /// List every tensor.
    #[arg(long)]
    pub(crate) tensors: bool,

    /// Show the source of the chat template.
    #[arg(long)]
    pub(crate) template: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Folder of the model in Hugging Face form, or a GGUF file; the embedded story model if absent.
    #[arg(env = "PAGODA_MODEL", value_name = "MODEL", help_heading = "Model")]
    pub(crate) model: Option<String>,

    /// Load the model, fill its KV cache, and show the memory that it took beside the plan.
    #[arg(long, help_heading = "Memory")]
    pub(crate) measure: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Folder of a model whose speed is predicted.
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,

    /// Write what was found as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// Folder of the model in Hugging Face form.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// Folder to write; it does not exist or is empty.
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,

    /// int8, int4, w8a8 or w4a8, with -g32, -g64, -g128 or -asym if wanted.
    #[arg(long, default_value_t = QuantFormat::INT4)]
    pub(crate) format: QuantFormat,

    /// Worker threads (default: physical cores that this process may use).
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct EngineArgs {
    /// A public shape with random weights made in memory, instead of a model. Nothing is downloaded, and the text means
    /// nothing. For instance qwen2.5-0.5b or llama-3.2-1b; another name lists all.
    #[arg(long, value_name = "SHAPE", help_heading = "Model")]
    pub(crate) random: Option<RandomShape>,

    /// Type of weights and arithmetic: `auto` keeps the stored type.
    #[arg(long, value_enum, default_value_t = Dtype::Auto, help_heading = "Model", value_name = "TYPE")]
    pub(crate) dtype: Dtype,

    /// Quantise the weights while loading: int8, int4, w8a8 or w4a8, with -g32, -g64, -g128 or -asym if wanted.
    #[arg(long, value_name = "FORMAT", help_heading = "Model")]
    pub(crate) quantize: Option<QuantFormat>,

    /// Bits to which activations are rounded before they meet weights that are stored quantised. By default 8 for GGUF files,
    /// as llama.cpp has them, and what config.json says for folders, else 16, which is finer than bf16.
    #[arg(long, value_enum, value_name = "BITS", help_heading = "Model", hide_short_help = true)]
    pub(crate) activation_bits: Option<ActivationBits>,

    /// Chat template instead of the model's: chatml, llama3, mistral, zephyr or a file.
    #[arg(long, value_name = "NAME|FILE", help_heading = "Model")]
    pub(crate) chat_template: Option<String>,

    /// Where sampling parameters come from that a request leaves out: `auto` is the model's generation_config.json, `vllm`
    /// what is neutral.
    #[arg(long, value_enum, default_value_t = GenerationConfig::Auto, help_heading = "Model", hide_short_help = true, value_name = "FROM")]
    pub(crate) generation_config: GenerationConfig,

    /// What computes: auto or cpu.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device, help_heading = "Model",
          hide_short_help = true)]
    pub(crate) device: Device,

    /// Worker threads. By default one per physical core that this process may use.
    #[arg(short, long, value_name = "N", help_heading = "Model")]
    pub(crate) threads: Option<usize>,

    /// Instruction set of the kernels: scalar, avx2, avx512, avx512bf16 or amx. By default the best that this CPU has.
    #[arg(long, value_name = "ISA", help_heading = "Model", hide_short_help = true)]
    pub(crate) isa: Option<Isa>,

    /// Longest prompt + output of one request in tokens (`8192`, `8k`, `auto`); `auto` is the model's, shrunk to fit. Each
    /// request can be so long: the memory is shared, not divided.
    #[arg(long, default_value = "auto", value_parser = super::size::limit, value_name = "TOKENS", help_heading = "Memory")]
    pub(crate) max_model_len: Limit,

    /// Memory for the KV cache (`512MiB`, `4GiB`, `50%` of what is free); by default what --memory-utilization leaves.
    #[arg(long, value_name = "BYTES", help_heading = "Memory")]
    pub(crate) kv_cache_memory: Option<MemorySize>,

    /// Part of the free memory that the KV cache gets at most. What is free once weights and workspace are in place.
    #[arg(long, default_value_t = 0.5, value_parser = super::size::fraction, value_name = "PART", help_heading = "Memory")]
    pub(crate) memory_utilization: f64,

    /// Type of stored keys and values: `auto` is bf16, or f32 when --dtype is float32; `int8` halves their memory.
    #[arg(long, value_enum, default_value_t = KvCacheDtype::Auto, value_name = "TYPE", help_heading = "Memory")]
    pub(crate) kv_cache_dtype: KvCacheDtype,

    /// Tokens per KV block; a multiple of 16.
    #[arg(long, default_value_t = 16, value_name = "TOKENS", help_heading = "Memory")]
    pub(crate) block_size: u32,

    /// Compute every prompt anew instead of reusing cached prefixes.
    #[arg(long, help_heading = "Memory")]
    pub(crate) no_enable_prefix_caching: bool,

    /// Most sequences that run at once.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = at_least_one(), help_heading = "Scheduling")]
    pub(crate) max_num_seqs: u32,

    /// Most tokens in one step, decode and prefill together.
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = at_least_one(), help_heading = "Scheduling")]
    pub(crate) max_num_batched_tokens: u32,

    /// Longest gap between two tokens of a stream that prefill of others may cause. Prompts are computed in as large pieces
    /// as keep to it (default: 1.75 times the gap without prefill, as measured; up to four times that while requests wait for
    /// theirs).
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000), help_heading = "Scheduling")]
    pub(crate) itl_target_ms: Option<u64>,

    #[command(flatten)]
    pub(crate) adapters: super::adapters::AdapterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GenerationConfig {
    Auto,
    #[value(alias = "none")]
    Vllm,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Auto,
    Cpu,
    /// A graphics processor, which no build computes on.
    Cuda,
}

fn device(text: &str) -> Result<Device, String> {
    match text.split(':').next() {
        Some("auto") => Ok(Device::Auto),
        Some("cpu") => Ok(Device::Cpu),
        Some("cuda" | "gpu") => Ok(Device::Cuda),
        _ => Err(format!("{text:?} is no device; give auto or cpu")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    Auto,
    #[value(alias = "bf16")]
    Bfloat16,
    #[value(alias = "f16", alias = "half")]
    Float16,
    #[value(alias = "f32", alias = "float")]
    Float32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ActivationBits {
    #[value(name = "8")]
    Eight,
    #[value(name = "16")]
    Sixteen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvCacheDtype {
    Auto,
    #[value(alias = "bf16")]
    Bfloat16,
    #[value(alias = "f32", alias = "float")]
    Float32,
    #[value(alias = "q8", alias = "q8_0")]
    Int8,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Number of random workloads.
    #[arg(long, default_value_t = 400)]
    pub(crate) seeds: u64,

    /// First seed; a failure prints the seed to give here.
    #[arg(long, default_value_t = 0)]
    pub(crate) first_seed: u64,

    /// Steps per workload, before it is drained.
    #[arg(long, default_value_t = 2500)]
    pub(crate) steps: u64,

    /// Bits of the prefix hash that are used; 8 forces collisions.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) hash_bits: u32,

    /// Threads (default: one per core).
    #[arg(short, long)]
    pub(crate) threads: Option<usize>,
}

pub(super) fn at_least_one() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=u64::from(u32::MAX))
}
