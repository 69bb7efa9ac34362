//! From typed engine options to the builder's.

use super::args::{Dtype, EngineArgs, KvCacheDtype};
use super::exit::{CliError, Failure};
use pagoda::{ComputeDtype, Engine, EngineBuilder, KvDtype};
use std::time::Duration;

/// Seed of random weights: the same everywhere, so that outputs can be compared.
const RANDOM_SEED: u64 = 0;

/// The builder that `args` ask for, over `model` or the embedded one.
pub(crate) fn builder(model: Option<&str>, args: &EngineArgs) -> Result<EngineBuilder, CliError> {
    let mut builder = Engine::builder()
        .max_num_seqs(args.max_num_seqs)
        .max_num_batched_tokens(args.max_num_batched_tokens)
        .block_size(args.block_size)
        .dtype(compute_dtype(args.dtype))
        .prefix_cache(!args.no_enable_prefix_caching);
    match (model, args.random) {
        (Some(folder), None) => builder = builder.model(folder),
        (None, Some(shape)) => builder = builder.random(shape, RANDOM_SEED),
        (None, None) => {}
        (Some(folder), Some(shape)) => {
            let error = anyhow::anyhow!("both the model {folder} and --random {shape} are given; drop one");
            return Err(CliError::new(Failure::Usage, error));
        }
    }
    if let Some(ms) = args.itl_target_ms {
        builder = builder.itl_target(Duration::from_millis(ms));
    }
    if let Some(format) = args.quantize {
        builder = builder.quantize(format);
    }
    if let Some(tokens) = args.max_model_len {
        builder = builder.max_model_len(tokens);
    }
    if let Some(bytes) = args.kv_cache_memory {
        builder = builder.kv_cache_bytes(bytes.0);
    }
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
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

fn compute_dtype(dtype: Dtype) -> ComputeDtype {
    match dtype {
        Dtype::Auto => ComputeDtype::Auto,
        Dtype::Bfloat16 => ComputeDtype::Bf16,
        Dtype::Float16 => ComputeDtype::F16,
        Dtype::Float32 => ComputeDtype::F32,
    }
}
