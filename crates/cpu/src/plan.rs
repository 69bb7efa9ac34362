//! How much memory a model will take, known before anything is loaded.

use crate::rope::RopeTable;
use crate::sampling::RowSamplers;
use crate::scratch::Scratch;
use crate::weights::ModelWeights;
use crate::{CpuError, CpuOptions, KvDtype, PackedAdapter, WeightFormats};
use pagoda_kernels::KvShape;
use pagoda_model::DecoderSpec;
use pagoda_sched::KvLayout;

/// How much memory an executor takes, in bytes, to the byte of what it allocates for numbers.
///
/// Storage and scratch memory are reserved at the start and become resident as they are first used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Packed weights, the token embedding, norms and biases.
    pub weights: u64,
    /// Keys and values.
    pub kv: u64,
    /// Activations, logits, rotary angles and the samplers' scratch memory.
    pub activations: u64,
    /// Adapters, as many as there is room for, of the largest rank for every matrix.
    pub adapters: u64,
    /// Geometry of the KV storage.
    pub layout: KvLayout,
    /// Formats of the weights.
    pub weight_formats: WeightFormats,
    /// Number format of keys and values.
    pub kv_dtype: KvDtype,
    /// Worker threads.
    pub threads: usize,
}

impl MemoryPlan {
    /// Plans for a model of `spec`.
    ///
    /// # Errors
    /// Options that cannot work with this model.
    pub fn new(spec: &DecoderSpec, options: &CpuOptions) -> Result<Self, CpuError> {
        check(spec, options)?;
        let weight_formats = options.weight_formats(spec);
        let kv_dtype = options.kv_format(spec);
        let threads = options.workers();
        let layout = KvLayout {
            layers: spec.layers.len() as u32,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            block_size: options.block_size,
            element_bytes: kv_dtype.bytes(),
            scale_bytes: kv_dtype.scale_bytes(),
            blocks: options.blocks,
        };
        Ok(Self {
            weights: ModelWeights::planned_bytes(spec, options.role_formats(spec)),
            kv: layout.total_bytes(),
            activations: Scratch::planned_bytes(spec, options)
                + spec.ropes.iter().map(|rope| RopeTable::bytes(rope, options.longest(spec))).sum::<u64>()
                + RowSamplers::bytes(threads, spec.vocab_size),
            adapters: u64::from(options.adapters.count) * PackedAdapter::planned_bytes(spec, options),
            layout,
            weight_formats,
            kv_dtype,
            threads,
        })
    }

    /// Everything together.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.activations + self.adapters
    }
}

fn check(spec: &DecoderSpec, options: &CpuOptions) -> Result<(), CpuError> {
    let refuse = |option, value: u32, rule| Err(CpuError::Option { option, value: u64::from(value), rule });
    let heads = |block_size| KvShape { kv_heads: 1, head_dim: spec.head_dim as usize, block_size };
    if !heads(16).is_supported() {
        return Err(CpuError::HeadDim { head_dim: spec.head_dim, max: KvShape::MAX_HEAD_DIM });
    }
    if !heads(options.block_size as usize).is_supported() {
        return refuse("block_size", options.block_size, "it must be a multiple of 16, at most 1024");
    }
    if options.blocks < 2 {
        return refuse("blocks", options.blocks, "one block is the null block, so at least 2 are needed");
    }
    if options.blocks.checked_mul(options.block_size).is_none() {
        return refuse(
            "blocks",
            options.blocks,
            "blocks times block_size must be below 2^32; use fewer blocks",
        );
    }
    options.check_formats(spec)?;
    if options.adapters.count > 0 && !(1..=4096).contains(&options.adapters.rank) {
        return refuse("adapters.rank", options.adapters.rank, "adapters have ranks from 1 to 4096");
    }
    if options.max_tokens_per_step == 0 {
        return refuse("max_tokens_per_step", 0, "a step needs at least one token");
    }
    if options.max_rows == 0 {
        return refuse("max_rows", 0, "a step needs at least one row");
    }
    Ok(())
}
