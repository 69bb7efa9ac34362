//! From typed engine options to the builder's.

use super::args::{ActivationBits, Command, Device, Dtype, EngineArgs, GenerationConfig, KvCacheDtype};
use super::config::Resolved;
use super::exit::{CliError, Failure};
use super::find_model::locate;
use super::size::MemorySize;
use anyhow::anyhow;
use pagoda::{Activations, ComputeDtype, Engine, EngineBuilder, KvDtype, Prepared, templates};
use std::time::Duration;

/// Seed of random weights: the same everywhere, so that outputs can be compared.
const RANDOM_SEED: u64 = 0;

/// The builder that `args` ask for, over `model` or the embedded one.
pub(crate) fn builder(model: Option<&str>, args: &EngineArgs) -> Result<EngineBuilder, CliError> {
    if args.device == Device::Cuda {
        let error = anyhow!(
            "this build has no kernels for a graphics processor; leave out --device, or say --device cpu"
        );
        return Err(CliError::new(Failure::Device, error));
    }
    let mut builder = Engine::builder()
        .memory_utilization(args.memory_utilization)
        .max_num_seqs(args.max_num_seqs)
        .max_num_batched_tokens(args.max_num_batched_tokens)
        .block_size(args.block_size)
        .dtype(compute_dtype(args.dtype))
        .prefix_cache(!args.no_enable_prefix_caching);
    match (model, args.random) {
        (Some(model), None) => builder = builder.model(locate(model)?),
        (None, Some(shape)) => builder = builder.random(shape, RANDOM_SEED),
        (None, None) => {}
        (Some(folder), Some(shape)) => {
            let error = anyhow!("both the model {folder} and --random {shape} are given; drop one");
            return Err(CliError::new(Failure::Usage, error));
        }
    }
    if let Some(ms) = args.itl_target_ms {
        builder = builder.itl_target(Duration::from_millis(ms));
    }
    if let Some(format) = args.quantize {
        builder = builder.quantize(format);
    }
    if let Some(bits) = args.activation_bits {
        builder = builder.activations(match bits {
            ActivationBits::Eight => Activations::I8,
            ActivationBits::Sixteen => Activations::I16,
        });
    }
    if let Some(tokens) = args.max_model_len.0 {
        builder = builder.max_model_len(tokens);
    }
    match args.kv_cache_memory {
        Some(MemorySize::Bytes(bytes)) => builder = builder.kv_cache_bytes(bytes),
        Some(MemorySize::Part(part)) => builder = builder.memory_utilization(part),
        None => {}
    }
    if let Some(name) = &args.chat_template {
        builder = builder.chat_template(chat_template(name)?);
    }
    if args.generation_config == GenerationConfig::Vllm {
        builder = builder.neutral_sampling();
    }
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    builder = args.adapters.apply(builder)?;
    if let Some(isa) = args.isa {
        builder = builder.isa(isa);
    }
    Ok(match args.kv_cache_dtype {
        KvCacheDtype::Auto => builder,
        KvCacheDtype::Bfloat16 => builder.kv_dtype(KvDtype::Bf16),
        KvCacheDtype::Float32 => builder.kv_dtype(KvDtype::F32),
        KvCacheDtype::Int8 => builder.kv_dtype(KvDtype::Int8),
    })
}

/// A template by the name of its form or by its file.
fn chat_template(name: &str) -> Result<String, CliError> {
    if let Some(known) = templates::builtin(name) {
        return Ok(known.to_owned());
    }
    std::fs::read_to_string(name).map_err(|error| {
        let names = templates::NAMES.join(", ");
        let error =
            anyhow!("--chat-template {name:?} is neither {names} nor a file that can be read: {error}");
        CliError::new(Failure::Usage, error)
    })
}

/// What the model and the machine say where `command` left it open.
pub(crate) fn resolved(command: &Command) -> Vec<Resolved> {
    let (model, engine) = match command {
        Command::Run(args) => (&args.model, &args.engine),
        Command::Serve(args) => (&args.model, &args.engine),
        Command::Inspect(args) => (&args.model, &args.engine),
        Command::Plan(args) => (&args.model, &args.engine),
        _ => return Vec::new(),
    };
    // A model that cannot be used is the error of the command, not of its settings.
    let prepared = builder(model.as_deref(), engine).and_then(|builder| Ok(builder.prepare()?));
    prepared.map(|prepared| resolve(&prepared)).unwrap_or_default()
}

fn resolve(prepared: &Prepared) -> Vec<Resolved> {
    let model = &prepared.model;
    let context = if model.max_model_len == model.trained_context { "the model" } else { "the memory plan" };
    let mut resolved = vec![
        Resolved { key: "max-model-len", value: model.max_model_len.to_string(), origin: context },
        Resolved {
            key: "kv-cache-memory",
            value: format!("{}B", prepared.memory.kv),
            origin: "the memory plan",
        },
        Resolved { key: "threads", value: prepared.memory.threads.to_string(), origin: "the machine" },
        Resolved { key: "isa", value: prepared.isa().to_string(), origin: "the machine" },
        Resolved { key: "served-model-name", value: model.name().to_owned(), origin: "the model" },
    ];
    let defaults = &model.defaults;
    let sampling = [
        ("temperature", defaults.temperature.map(|value| value.to_string())),
        ("top-p", defaults.top_p.map(|value| value.to_string())),
        ("top-k", defaults.top_k.map(|value| value.to_string())),
        ("min-p", defaults.min_p.map(|value| value.to_string())),
        ("repetition-penalty", defaults.repetition_penalty.map(|value| value.to_string())),
    ];
    let sampling = sampling.into_iter().filter_map(|(key, value)| {
        Some(Resolved { key, value: value?, origin: "the model's generation_config.json" })
    });
    resolved.extend(sampling);
    resolved
}

fn compute_dtype(dtype: Dtype) -> ComputeDtype {
    match dtype {
        Dtype::Auto => ComputeDtype::Auto,
        Dtype::Bfloat16 => ComputeDtype::Bf16,
        Dtype::Float16 => ComputeDtype::F16,
        Dtype::Float32 => ComputeDtype::F32,
    }
}
