//! The CPU as a backend of the scheduler.

use crate::adapters::Adapters;
use crate::check::check;
use crate::forward::Forward;
use crate::kv::KvStorage;
use crate::profile::StepRecord;
use crate::rope::RopeTable;
use crate::sampling::RowSamplers;
use crate::scratch::Scratch;
use crate::stopwatch::Stopwatch;
use crate::traffic::Traffic;
use crate::weights::ModelWeights;
use crate::work::Work;
use crate::{CpuError, CpuOptions, MemoryPlan, Operation, Profile};
use pagoda_kernels::{Isa, Kernels, WorkerPool};
use pagoda_model::{AttentionSpan, Checkpoint, DecoderSpec};
use pagoda_sched::{AdapterId, AdapterWeights, ExecError, Executor, KvCapacity, StepInput, StepOutput};

/// Runs the steps of one model on the CPU.
///
/// The bits of a row's logits depend on the row's tokens alone: not on the other rows, on how its context was cut
/// into steps, on which blocks hold it, or on the number of threads.
pub struct CpuExecutor {
    spec: DecoderSpec,
    kernels: &'static Kernels,
    pool: WorkerPool,
    /// A pool of the calling thread alone, for steps too small to share out.
    solo: WorkerPool,
    work: Work,
    traffic: Traffic,
    profile: Profile,
    weights: ModelWeights,
    adapters: Adapters,
    kv: KvStorage,
    /// One for each kind of rotary positions.
    ropes: Vec<RopeTable>,
    scratch: Scratch,
    samplers: RowSamplers,
    plan: MemoryPlan,
    max_tokens: u32,
    longest: u32,
}

/// Multiplications of a step below which one thread computes it: about a millisecond, in which tens of short
/// operations would each wait for the slowest worker. On a busy machine that wait is a time slice; the bits are the
/// same either way.
const SOLO_WORK: u64 = 16_000_000;

/// How far loading has come, in bytes of stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl LoadProgress {
    /// Part done, from 0 to 1.
    pub fn fraction(&self) -> f32 {
        if self.total == 0 { 1.0 } else { (self.done as f64 / self.total as f64) as f32 }
    }
}

impl CpuExecutor {
    /// Packs the weights of `checkpoint` and reserves KV storage and scratch memory. `progress` is called at the
    /// start and after each tensor.
    ///
    /// # Errors
    /// Options that cannot work with this model or machine, and too little memory.
    pub fn load(
        checkpoint: &Checkpoint,
        options: &CpuOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, CpuError> {
        let spec = checkpoint.spec();
        let plan = MemoryPlan::new(spec, options)?;
        let kernels = kernels(options.isa)?;
        let workers =
            |threads| WorkerPool::new(threads).map_err(|source| CpuError::Threads { threads, source });
        let pool = workers(plan.threads)?;
        let kv = KvStorage::new(plan.layout, plan.kv_dtype)
            .map_err(|source| CpuError::OutOfMemory { purpose: "keys and values", source })?;
        let weights =
            ModelWeights::load(checkpoint, options.role_formats(checkpoint.spec()), &pool, progress)?;
        Ok(Self {
            traffic: Traffic::new(spec, &weights, &plan.layout),
            profile: Profile::default(),
            weights,
            adapters: Adapters::new(options.adapters),
            ropes: spec.ropes.iter().map(|rope| RopeTable::new(rope, options.longest(spec))).collect(),
            scratch: Scratch::new(spec, options)?,
            samplers: RowSamplers::new(plan.threads, spec.vocab_size, kernels),
            solo: workers(1)?,
            work: Work::new(spec),
            spec: spec.clone(),
            max_tokens: options.max_tokens_per_step,
            longest: options.longest(spec),
            kernels,
            pool,
            kv,
            plan,
        })
    }

    /// The instruction set that was chosen.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// What the executor was planned to hold.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Bytes that the executor does hold without adapters: weights, keys and values, everything else.
    pub fn held_bytes(&self) -> [u64; 3] {
        let rest = self.scratch.bytes()
            + self.ropes.iter().map(RopeTable::reserved_bytes).sum::<u64>()
            + self.samplers.held_bytes();
        [self.weights.bytes(), self.kv.bytes(), rest]
    }

    /// Bytes of the adapters that are attached.
    pub fn adapter_bytes(&self) -> u64 {
        self.adapters.bytes()
    }

    /// The profile that its steps are measured in; off until it is started.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Measures steps in `profile` from here on.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// Raw logits, `[vocab_size]`, of the `index`-th row among those of the latest step that sampled; `None` past
    /// the last one. For tests and tools; a step overwrites them.
    pub fn last_logits(&self, index: usize) -> Option<&[f32]> {
        let vocab = self.spec.vocab_size as usize;
        (index < self.scratch.sampled.len()).then(|| &self.scratch.logits[index * vocab..(index + 1) * vocab])
    }
}

impl Executor for CpuExecutor {
    fn capacity(&self) -> KvCapacity {
        KvCapacity {
            layout: self.kv.layout(),
            max_context: self.longest,
            vocab_size: self.spec.vocab_size,
            window: widest_window(&self.spec),
        }
    }

    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError> {
        let mut watch = Stopwatch::start(&self.profile);
        check(input, &self.capacity(), self.max_tokens)?;
        self.scratch.prepare(input);
        self.scratch.find_adapters(&input.rows, &self.adapters)?;
        let pool = if self.work.of(input) < SOLO_WORK { &self.solo } else { &self.pool };
        input.copies.iter().for_each(|&copy| self.kv.copy(copy));
        watch.lap(Operation::Other);
        let mut forward = Forward {
            kernels: self.kernels,
            pool,
            spec: &self.spec,
            weights: &self.weights,
            adapters: &self.adapters,
            kv: &mut self.kv,
            ropes: &mut self.ropes,
            scratch: &mut self.scratch,
            watch: &mut watch,
            tokens: input.tokens.len(),
        };
        forward.layers(input);
        if input.rows.iter().any(|row| row.report.is_some()) {
            forward.report(input, &self.samplers, output);
        }
        forward.head(input);
        let Scratch { sampled, logits, .. } = &mut self.scratch;
        let logits = &mut logits[..sampled.len() * self.spec.vocab_size as usize];
        self.samplers.run(pool, input, sampled, logits, output);
        watch.lap(Operation::Sample);
        if let Some(record) = watch.finish() {
            let (tokens, sampled) = (input.tokens.len() as u64, sampled.len() as u64);
            let mut costs = self.traffic.of(input);
            self.scratch.experts.iter().for_each(|experts| experts.add_costs(&mut costs));
            self.profile.add(&StepRecord { tokens, sampled, costs, ..record });
        }
        Ok(())
    }

    fn attach(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<(), ExecError> {
        self.adapters.attach(id, adapter, self.spec.layers.len())
    }

    fn detach(&mut self, id: AdapterId) -> Option<AdapterWeights> {
        self.adapters.detach(id)
    }
}

/// How many tokens back a token sees at most; `None` where some layer sees all.
fn widest_window(spec: &DecoderSpec) -> Option<u32> {
    let windows = spec.layers.iter().map(|layer| match layer.attention {
        AttentionSpan::Window(window) => Some(window),
        AttentionSpan::Full => None,
    });
    windows.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn kernels(isa: Option<Isa>) -> Result<&'static Kernels, CpuError> {
    let Some(isa) = isa else { return Ok(Kernels::best()) };
    Kernels::for_isa(isa).ok_or_else(|| {
        let available: Vec<_> = Isa::available().map(Isa::name).collect();
        CpuError::Isa { isa, available: available.join(", ") }
    })
}
