//! From options to a running engine.

use crate::adapters::AdapterPlan;
use crate::memory::{KvDemand, available_bytes};
use crate::served::{Overrides, served_model};
use crate::{BuildError, Engine};
use pagoda_cpu::{ComputeDtype, CpuExecutor, CpuOptions, KvDtype, LoadProgress, MemoryPlan, Profile};
use pagoda_engine::{EngineConfig, ServedModel};
use pagoda_kernels::{Activations, Isa, Kernels, QuantFormat};
use pagoda_model::{Checkpoint, ModelSource, RandomShape};
use pagoda_sched::Executor;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Options of an engine; every one has a default. See [`Engine::builder`].
#[derive(Clone, Debug)]
pub struct EngineBuilder {
    source: Option<ModelSource>,
    names: Vec<String>,
    max_model_len: Option<u32>,
    kv_bytes: Option<u64>,
    kv_part: f64,
    overrides: Overrides,
    cpu: CpuOptions,
    adapters: AdapterPlan,
    engine: EngineConfig,
}

/// A model that has been read and planned for, but whose weights have not been loaded.
#[derive(Debug)]
pub struct Prepared {
    /// Configuration and checked tensors.
    pub checkpoint: Checkpoint,
    /// The model as clients see it.
    pub model: Arc<ServedModel>,
    /// Memory that the executor will take.
    pub memory: MemoryPlan,
    /// Resolved options of the executor.
    pub cpu: CpuOptions,
    /// Resolved options of the engine.
    pub engine: EngineConfig,
    /// The profile of the executor's steps; clone it and start it to measure them.
    pub profile: Profile,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        let mut engine = EngineConfig::default();
        engine.scheduler.max_num_seqs = 64;
        engine.scheduler.max_num_batched_tokens = 512;
        Self {
            source: None,
            names: Vec::new(),
            max_model_len: None,
            kv_bytes: None,
            kv_part: 0.5,
            overrides: Overrides::default(),
            cpu: CpuOptions::default(),
            adapters: AdapterPlan::default(),
            engine,
        }
    }
}

impl EngineBuilder {
    /// Folder of the model in Hugging Face form, or a GGUF file, of a split set any part. Default: the embedded story model.
    #[must_use]
    pub fn model(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Some(ModelSource::at(path));
        self
    }

    /// A public shape with random weights instead of a model, to measure with. Its tokenizer is a stand-in that makes
    /// each byte of a text a token, and its text means nothing.
    #[must_use]
    pub fn random(mut self, shape: RandomShape, seed: u64) -> Self {
        self.source = Some(ModelSource::Random { shape, seed });
        self
    }

    /// Names that clients may use; the first one is reported. Default: the last component of the folder.
    #[must_use]
    pub fn served_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Longest prompt + output in tokens. Default: the model's context, shrunk to what the KV cache holds.
    #[must_use]
    pub fn max_model_len(mut self, tokens: u32) -> Self {
        self.max_model_len = Some(tokens);
        self
    }

    /// Most sequences that run at once. Default: 64.
    #[must_use]
    pub fn max_num_seqs(mut self, sequences: u32) -> Self {
        self.engine.scheduler.max_num_seqs = sequences;
        self
    }

    /// Most tokens of one step. Default: 512.
    #[must_use]
    pub fn max_num_batched_tokens(mut self, tokens: u32) -> Self {
        self.engine.scheduler.max_num_batched_tokens = tokens;
        self
    }

    /// Longest gap between two tokens of a stream that prefill of others may cause. Default: 1.75 times the gap without prefill,
    /// as measured.
    #[must_use]
    pub fn itl_target(mut self, target: Duration) -> Self {
        self.engine.scheduler.itl_target = Some(target);
        self
    }

    /// Tokens per KV block, a multiple of 16. Default: 16.
    #[must_use]
    pub fn block_size(mut self, tokens: u32) -> Self {
        self.cpu.block_size = tokens;
        self
    }

    /// Bytes of the KV cache. Default: at most half of the memory that is free, and no more than
    /// `max_num_seqs` sequences of full length need.
    #[must_use]
    pub fn kv_cache_bytes(mut self, bytes: u64) -> Self {
        self.kv_bytes = Some(bytes);
        self
    }

    /// Part of the free memory that the KV cache takes at most where [`kv_cache_bytes`](Self::kv_cache_bytes) is not
    /// given, above 0 and at most 1. Default: 0.5.
    #[must_use]
    pub fn memory_utilization(mut self, part: f64) -> Self {
        self.kv_part = part.clamp(0.0, 1.0);
        self
    }

    /// Jinja source of a chat template that takes the place of the model's; [`templates`](crate::templates) has some.
    /// Default: the model's.
    #[must_use]
    pub fn chat_template(mut self, template: impl Into<String>) -> Self {
        self.overrides.chat_template = Some(template.into());
        self
    }

    /// Leaves out what the model's generation_config.json says of sampling: what a request does not say is neutral then.
    #[must_use]
    pub fn neutral_sampling(mut self) -> Self {
        self.overrides.neutral_sampling = true;
        self
    }

    /// Number format of the weights in memory. Default: as stored.
    #[must_use]
    pub fn dtype(mut self, dtype: ComputeDtype) -> Self {
        self.cpu.dtype = dtype;
        self
    }

    /// Quantises the weights while they are loaded; excludes [`dtype`](Self::dtype). Default: not.
    #[must_use]
    pub fn quantize(mut self, format: QuantFormat) -> Self {
        self.cpu.quantize = Some(format);
        self
    }

    /// How activations are rounded before they meet weights that are stored quantised; excludes
    /// [`quantize`](Self::quantize). Default: as the checkpoint says; 8 bits for GGUF files, else 16.
    #[must_use]
    pub fn activations(mut self, activations: Activations) -> Self {
        self.cpu.activations = Some(activations);
        self
    }

    /// Number format of keys and values. Default: bf16, or f32 where the weights are.
    #[must_use]
    pub fn kv_dtype(mut self, dtype: KvDtype) -> Self {
        self.cpu.kv_dtype = Some(dtype);
        self
    }

    /// Worker threads. Default: one per physical core that the process may use.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.cpu.threads = Some(threads);
        self
    }

    /// Instruction set of the kernels. Default: the best that the CPU has.
    #[must_use]
    pub fn isa(mut self, isa: Isa) -> Self {
        self.cpu.isa = Some(isa);
        self
    }

    /// Loads the adapter in the folder `path`, as PEFT saves it; requests name it as
    /// [`GenerateParams::adapter`](crate::GenerateParams::adapter). Call it for each.
    #[must_use]
    pub fn adapter(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.adapters.initial.push((name.into(), path.into()));
        self
    }

    /// Most adapters at a time, for which memory is reserved; [`EngineHandle::load_adapter`](crate::EngineHandle::load_adapter)
    /// loads further ones. Default: as many as [`adapter`](Self::adapter) gives.
    #[must_use]
    pub fn max_adapters(mut self, adapters: u32) -> Self {
        self.adapters.limit = Some(adapters);
        self
    }

    /// Largest rank of an adapter. Default: 16.
    #[must_use]
    pub fn max_adapter_rank(mut self, rank: u32) -> Self {
        self.cpu.adapters.rank = rank;
        self
    }

    /// Switches the prefix cache, which is on by default.
    #[must_use]
    pub fn prefix_cache(mut self, on: bool) -> Self {
        self.engine.scheduler.prefix_cache = on;
        self
    }

    /// All settings of the engine and its scheduler, for those that have no method of their own.
    pub fn engine_config(&mut self) -> &mut EngineConfig {
        &mut self.engine
    }

    /// Reads the model's configuration and checks its tensors, without planning for this machine.
    ///
    /// # Errors
    /// [`BuildError`] naming the file or field that cannot be used.
    pub fn checkpoint(self) -> Result<Checkpoint, BuildError> {
        Ok(Checkpoint::open(&self.source.map_or_else(embedded, Ok)?)?)
    }

    /// Reads the model's configuration, checks its tensors and plans its memory; loads no weights.
    ///
    /// # Errors
    /// [`BuildError`] naming the file, field or option that cannot be used.
    pub fn prepare(mut self) -> Result<Prepared, BuildError> {
        let source = self.source.take().map_or_else(embedded, Ok)?;
        let checkpoint = Checkpoint::open(&source)?;
        let scheduler = &mut self.engine.scheduler;
        self.cpu.max_rows = scheduler.max_num_seqs;
        self.cpu.max_tokens_per_step = scheduler.max_num_batched_tokens;
        scheduler.hash_seed = RandomState::new().build_hasher().finish();
        self.cpu.adapters.count = self.adapters.limit();
        let plan = MemoryPlan::new(checkpoint.spec(), &self.cpu)?;
        self.adapters.check(checkpoint.spec(), &self.cpu)?;
        let smallest = CpuOptions { kv_dtype: Some(KvDtype::Int8), ..self.cpu.clone() };
        let size = KvDemand {
            block_size: self.cpu.block_size,
            block_bytes: plan.layout.block_bytes(),
            model_context: checkpoint.spec().max_context,
            max_model_len: self.max_model_len,
            max_num_seqs: scheduler.max_num_seqs,
            kv_bytes: self.kv_bytes,
            part: self.kv_part,
            fixed_bytes: plan.total() - plan.kv,
            available_bytes: available_bytes().unwrap_or(DEFAULT_FREE_BYTES),
            // Where the smaller format cannot be used, it does not help.
            smallest_block_bytes: MemoryPlan::new(checkpoint.spec(), &smallest)
                .map_or(plan.layout.block_bytes(), |plan| plan.layout.block_bytes()),
        }
        .size()?;
        (self.cpu.blocks, self.cpu.longest) = (size.blocks, Some(size.max_model_len));
        let memory = MemoryPlan::new(checkpoint.spec(), &self.cpu)?;
        let mut model = served_model(&checkpoint, &self.names, size.max_model_len, &self.overrides)?;
        model.kv_token_bytes = memory.layout.block_bytes() / u64::from(memory.layout.block_size);
        model.quantization = self.cpu.quantize.map(|format| format.to_string());
        let model = Arc::new(model);
        if let Some(source) = self.adapters.source(checkpoint.spec(), &self.cpu) {
            self.engine.adapters = Some(source);
        }
        Ok(Prepared {
            checkpoint,
            model,
            memory,
            cpu: self.cpu,
            engine: self.engine,
            profile: Profile::default(),
        })
    }

    /// Loads the model and starts the engine.
    ///
    /// # Errors
    /// [`BuildError`] naming the file, field or option that cannot be used.
    pub fn build(self) -> Result<Engine, BuildError> {
        self.prepare()?.load(&mut |_| {})
    }

    /// Starts the engine over a backend of your own. `model` says how text becomes tokens and what the limits are.
    ///
    /// # Errors
    /// [`BuildError::Engine`] when the settings do not fit the backend.
    pub fn build_with(
        self,
        model: Arc<ServedModel>,
        executor: impl Executor + 'static,
    ) -> Result<Engine, BuildError> {
        Ok(Engine::new(pagoda_engine::Engine::start(model, executor, self.engine)?))
    }
}

impl Prepared {
    /// Instruction set that the kernels will use.
    pub fn isa(&self) -> Isa {
        self.cpu.isa.unwrap_or_else(|| Kernels::best().isa())
    }

    /// Loads the weights and starts the engine; `progress` hears how far the load is.
    ///
    /// # Errors
    /// [`BuildError`] when the weights cannot be loaded or the engine cannot be started.
    pub fn load(self, progress: &mut dyn FnMut(LoadProgress)) -> Result<Engine, BuildError> {
        let mut executor = CpuExecutor::load(&self.checkpoint, &self.cpu, progress)?;
        executor.set_profile(self.profile);
        self.checkpoint.check_unchanged()?;
        Ok(Engine::new(pagoda_engine::Engine::start(self.model, executor, self.engine)?))
    }

    /// Starts the engine at once and loads the weights on its thread, so that health can be answered meanwhile.
    ///
    /// # Errors
    /// [`BuildError::Engine`] when there is no thread.
    pub fn load_in_background(self) -> Result<Engine, BuildError> {
        let Self { checkpoint, model, cpu, engine, profile, .. } = self;
        let loader = move |report: pagoda_engine::LoadReport<'_>| {
            let mut progress = |at: LoadProgress| report(at.fraction());
            let mut executor =
                CpuExecutor::load(&checkpoint, &cpu, &mut progress).map_err(|error| error.to_string())?;
            executor.set_profile(profile);
            checkpoint.check_unchanged().map_err(|error| error.to_string())?;
            Ok(executor)
        };
        Ok(Engine::new(pagoda_engine::Engine::load(model, engine, loader)?))
    }
}

/// Free memory that is assumed where the system does not tell: 4 GiB.
const DEFAULT_FREE_BYTES: u64 = 4 << 30;

#[cfg(feature = "embedded-model")]
#[expect(clippy::unnecessary_wraps, reason = "a build without the embedded model has none to give")]
fn embedded() -> Result<ModelSource, BuildError> {
    Ok(crate::embedded::SOURCE)
}

#[cfg(not(feature = "embedded-model"))]
fn embedded() -> Result<ModelSource, BuildError> {
    Err(BuildError::NoModel)
}
