//! Adapters: low-rank updates of the linear operations of the layers, several in one step.
//!
//! Each row of a step names its adapter. Behind a linear operation the rows that have one get their update on top, each from its
//! own matrices in an order of its own, so that a row has the same bits whoever is beside it; a step without adapters passes by.

use crate::scratch::Scratch;
use crate::{CpuError, CpuOptions};
use pagoda_kernels::Kernels;
use pagoda_kernels::{
    AttentionRow, Buffer, Columns, LowRank, LowRankFormat, LowRankInput, LowRankPart, LowRankScratch,
    RowGroup, StackedLinear, WeightFormat, WorkerPool,
};
use pagoda_model::{Adapter, DecoderSpec, LayerRole, Mlp, Role, Update};
use pagoda_sched::{AdapterId, AdapterWeights, ExecError, Row};

/// Room for adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterLimits {
    /// Most adapters at a time; 0 is none ever.
    pub count: u32,
    /// Largest rank of an adapter.
    pub rank: u32,
}

impl Default for AdapterLimits {
    fn default() -> Self {
        Self { count: 0, rank: 16 }
    }
}

/// A linear operation of a layer that adapters change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Qkv,
    O,
    /// Gate and up of a gated unit, or up alone.
    GateUp,
    Down,
}

impl Changed {
    const ALL: [Self; 4] = [Self::Qkv, Self::O, Self::GateUp, Self::Down];

    /// The matrices of the operation in a model of `spec`, and the columns of its output that they make.
    fn parts(self, spec: &DecoderSpec, mlp: &Mlp) -> Vec<(LayerRole, Columns)> {
        let (q, kv) = (spec.q_width() as usize, spec.kv_width() as usize);
        match (self, mlp) {
            (Self::Qkv, _) => vec![
                (LayerRole::Q, Columns::from(0)),
                (LayerRole::K, Columns::from(q)),
                (LayerRole::V, Columns::from(q + kv)),
            ],
            (Self::O, _) => vec![(LayerRole::O, Columns::from(0))],
            (Self::GateUp, Mlp::Gated) => {
                vec![(LayerRole::Gate, Columns::gate()), (LayerRole::Up, Columns::up())]
            }
            (Self::GateUp, Mlp::Plain) => vec![(LayerRole::Up, Columns::from(0))],
            (Self::Down, Mlp::Gated | Mlp::Plain) => vec![(LayerRole::Down, Columns::from(0))],
            (Self::GateUp | Self::Down, Mlp::Experts(_)) => Vec::new(),
        }
    }
}

/// An adapter as the kernels read it.
#[derive(Debug)]
pub struct PackedAdapter {
    /// By layer; the operations in the order of [`Changed::ALL`].
    layers: Vec<[Option<LowRank>; Changed::ALL.len()]>,
}

impl PackedAdapter {
    /// Packs `adapter`, which was read for a model of `spec`, as an executor with `options` computes with it: in the format of
    /// the weights if that is a float, else in bf16.
    ///
    /// # Errors
    /// A rank above the limit of the options, and too little memory.
    pub fn pack(adapter: &Adapter, spec: &DecoderSpec, options: &CpuOptions) -> Result<Self, CpuError> {
        Self::check(adapter, options)?;
        let format = format(spec, options);
        let mut layers = Vec::with_capacity(spec.layers.len());
        for (index, layer) in (0..).zip(&spec.layers) {
            let mut packed = [const { None }; Changed::ALL.len()];
            for (place, changed) in packed.iter_mut().zip(Changed::ALL) {
                let parts = changed.parts(spec, &layer.mlp);
                let found: Vec<_> = parts
                    .into_iter()
                    .filter_map(|(role, columns)| {
                        let is_it = |update: &&Update| (update.layer, update.role) == (index, role);
                        Some((adapter.updates().iter().find(is_it)?, columns))
                    })
                    .collect();
                *place = pack(adapter, &found, format)?;
            }
            layers.push(packed);
        }
        Ok(Self { layers })
    }

    /// Fails if there is no room for the ranks of `adapter`.
    ///
    /// # Errors
    /// [`CpuError::AdapterRank`].
    pub fn check(adapter: &Adapter, options: &CpuOptions) -> Result<(), CpuError> {
        let (rank, limit) = (adapter.rank(), options.adapters.rank);
        if rank > limit { Err(CpuError::AdapterRank { rank, limit }) } else { Ok(()) }
    }

    /// Bytes of its matrices.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().flatten().flatten().map(|update| update.bytes() as u64).sum()
    }

    /// Bytes that an adapter of the largest rank for every matrix takes.
    pub(crate) fn planned_bytes(spec: &DecoderSpec, options: &CpuOptions) -> u64 {
        let format = format(spec, options);
        let matrix = |layer, role| {
            let shape = Role::Layer(layer, role).shape(spec);
            let (n, k) = (shape[0] as usize, shape[1] as usize);
            LowRank::packed_bytes(options.adapters.rank as usize, k, n, format)
        };
        let layer = |(index, layer): (u32, &pagoda_model::LayerSpec)| {
            let parts = Changed::ALL.into_iter().flat_map(|changed| changed.parts(spec, &layer.mlp));
            parts.map(|(role, _)| matrix(index, role)).sum::<u64>()
        };
        (0..).zip(&spec.layers).map(layer).sum()
    }
}

/// How matrices of adapters are stored beside a checkpoint of `spec`.
fn format(spec: &DecoderSpec, options: &CpuOptions) -> LowRankFormat {
    match options.weight_formats(spec).layers {
        WeightFormat::F32 => LowRankFormat::F32,
        WeightFormat::F16 => LowRankFormat::F16,
        WeightFormat::Bf16 | WeightFormat::Fp8 | WeightFormat::Quantized(_) | WeightFormat::Blocks(..) => {
            LowRankFormat::Bf16
        }
    }
}

/// The updates of one operation; `None` where the adapter does not change it.
fn pack(
    adapter: &Adapter,
    updates: &[(&Update, Columns)],
    format: LowRankFormat,
) -> Result<Option<LowRank>, CpuError> {
    let Some((first, _)) = updates.first() else { return Ok(None) };
    let matrices: Vec<_> =
        updates.iter().map(|(update, _)| (adapter.down(update), adapter.up(update))).collect();
    let parts: Vec<_> = updates
        .iter()
        .zip(&matrices)
        .map(|(&(update, columns), (down, up))| LowRankPart {
            down,
            up,
            rank: update.rank as usize,
            n: update.outputs as usize,
            scale: update.scale,
            columns,
        })
        .collect();
    let role = Role::Layer(first.layer, first.role);
    let packed = LowRank::pack(&parts, first.inputs as usize, format);
    packed.map(Some).map_err(|source| CpuError::Pack { role, source })
}

/// The adapters of an executor, each in a place of its own.
#[derive(Debug)]
pub(crate) struct Adapters {
    places: Vec<Option<(AdapterId, PackedAdapter)>>,
}

impl Adapters {
    pub(crate) fn new(limits: AdapterLimits) -> Self {
        Self { places: (0..limits.count).map(|_| None).collect() }
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        self.places.iter().flatten().map(|(_, adapter)| adapter.bytes()).sum()
    }

    /// Takes an adapter, as [`Executor::attach`](pagoda_sched::Executor::attach) says, for a model of `layers` layers.
    pub(crate) fn attach(
        &mut self,
        id: AdapterId,
        adapter: AdapterWeights,
        layers: usize,
    ) -> Result<(), ExecError> {
        let refuse = |message: &str| Err(ExecError { message: message.to_owned() });
        let Ok(adapter) = adapter.downcast::<PackedAdapter>() else {
            return refuse("the adapter was packed for another backend");
        };
        if adapter.layers.len() != layers {
            return refuse("the adapter was packed for another model");
        }
        if self.find(id).is_some() || id == AdapterId::NONE {
            return refuse("there is an adapter of this number");
        }
        let Some(place) = self.places.iter_mut().find(|place| place.is_none()) else {
            return refuse("every place for an adapter is taken");
        };
        *place = Some((id, *adapter));
        Ok(())
    }

    pub(crate) fn detach(&mut self, id: AdapterId) -> Option<AdapterWeights> {
        let place = self.find(id)?;
        self.places[place as usize].take().map(|(_, adapter)| Box::new(adapter) as AdapterWeights)
    }

    fn find(&self, id: AdapterId) -> Option<u32> {
        let is_it = |place: &Option<(AdapterId, PackedAdapter)>| {
            place.as_ref().is_some_and(|(other, _)| *other == id)
        };
        self.places.iter().position(is_it).map(|place| place as u32)
    }
}

/// Memory of the adapters of a step, sized once.
#[derive(Debug)]
pub(crate) struct AdapterScratch {
    /// `[rows]` place of the adapter of each row, if it has one.
    rows: Vec<Option<u32>>,
    /// Tokens that have an adapter.
    groups: Vec<RowGroup>,
    memory: LowRankScratch,
    /// `[T, sums]` of a gated unit before its activation.
    sums: Buffer<f32>,
}

/// Sizes of that memory: tokens, ranks of one operation, sums of a token, rows.
fn lengths(spec: &DecoderSpec, options: &CpuOptions) -> [usize; 4] {
    let tokens = options.max_tokens_per_step as usize;
    let is_gated = spec.layers.iter().any(|layer| layer.mlp == Mlp::Gated);
    let sums = if is_gated { StackedLinear::sums(spec.intermediate as usize) } else { 0 };
    let rows = options.max_rows.min(options.max_tokens_per_step) as usize;
    // Queries, keys and values are one operation.
    [tokens, 3 * options.adapters.rank as usize, sums, rows]
}

impl AdapterScratch {
    /// Memory for the largest step; `None` where there will be no adapters.
    pub(crate) fn new(spec: &DecoderSpec, options: &CpuOptions) -> Result<Option<Self>, CpuError> {
        if options.adapters.count == 0 {
            return Ok(None);
        }
        let [tokens, ranks, sums, rows] = lengths(spec, options);
        let no_memory = |source| CpuError::OutOfMemory { purpose: "the adapters of a step", source };
        Ok(Some(Self {
            rows: Vec::with_capacity(rows),
            groups: Vec::with_capacity(rows),
            memory: LowRankScratch::new(tokens, ranks).map_err(no_memory)?,
            sums: Buffer::zeroed(tokens.saturating_mul(sums)).map_err(no_memory)?,
        }))
    }

    /// Bytes that [`new`](Self::new) reserves.
    pub(crate) fn planned_bytes(spec: &DecoderSpec, options: &CpuOptions) -> u64 {
        if options.adapters.count == 0 {
            return 0;
        }
        let [tokens, ranks, sums, rows] = lengths(spec, options);
        let words = tokens as u64 * sums as u64 * size_of::<f32>() as u64;
        let lists = rows * (size_of::<Option<u32>>() + size_of::<RowGroup>());
        words + lists as u64 + LowRankScratch::planned_bytes(tokens, ranks)
    }

    /// Bytes reserved.
    pub(crate) fn bytes(&self) -> u64 {
        let lists =
            self.rows.capacity() * size_of::<Option<u32>>() + self.groups.capacity() * size_of::<RowGroup>();
        self.memory.bytes() + (lists + self.sums.len() * size_of::<f32>()) as u64
    }

    /// Looks the adapters of the rows of a step up.
    ///
    /// # Errors
    /// A row names an adapter that is not there.
    fn start(&mut self, rows: &[Row], adapters: &Adapters) -> Result<(), ExecError> {
        self.rows.clear();
        for row in rows {
            let place = adapters.find(row.adapter);
            if place.is_none() && row.adapter != AdapterId::NONE {
                return Err(unknown(row));
            }
            self.rows.push(place);
        }
        Ok(())
    }

    /// Keeps of the rows those of `kept`, in rising order.
    pub(crate) fn narrow(&mut self, kept: impl Iterator<Item = u32>) {
        let mut count = 0;
        for (to, from) in kept.enumerate() {
            self.rows[to] = self.rows[from as usize];
            count = to + 1;
        }
        self.rows.truncate(count);
    }

    /// Finds the tokens that have an adapter; `rows` are those of the step, or those that are left of them.
    pub(crate) fn group(&mut self, rows: &[AttentionRow]) {
        self.groups.clear();
        for (row, place) in rows.iter().zip(&self.rows) {
            let Some(weights) = *place else { continue };
            let tokens = row.tokens.clone();
            match self.groups.last_mut() {
                Some(last) if last.weights == weights && last.rows.end == tokens.start => {
                    last.rows.end = tokens.end;
                }
                _ => self.groups.push(RowGroup { weights, rows: tokens }),
            }
        }
    }
}

fn unknown(row: &Row) -> ExecError {
    ExecError { message: format!("a row names adapter {}, which is not attached", row.adapter.0) }
}

impl Scratch {
    /// Finds the rows of a step that have an adapter.
    ///
    /// # Errors
    /// A row names an adapter that is not there.
    pub(crate) fn find_adapters(&mut self, rows: &[Row], adapters: &Adapters) -> Result<(), ExecError> {
        let Some(scratch) = &mut self.adapters else {
            let named = rows.iter().find(|row| row.adapter != AdapterId::NONE);
            return named.map_or(Ok(()), |row| Err(unknown(row)));
        };
        scratch.start(rows, adapters)?;
        scratch.group(&self.rows);
        Ok(())
    }
}

/// The adapters of a step at work.
#[derive(Clone, Copy)]
pub(crate) struct Applied<'a> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) pool: &'a WorkerPool,
    pub(crate) adapters: &'a Adapters,
}

impl Applied<'_> {
    /// Whether an operation of a layer has updates in this step.
    pub(crate) fn change(&self, scratch: &Option<AdapterScratch>, layer: usize, changed: Changed) -> bool {
        let groups = scratch.iter().flat_map(|scratch| &scratch.groups);
        let mut updates = groups.map(|group| self.update(group.weights, layer, changed));
        updates.any(|update| update.is_some())
    }

    /// Adds the updates of an operation of a layer, whose input is `x`, to its output, `[T, stride]`.
    pub(crate) fn add(
        &self,
        scratch: &mut Option<AdapterScratch>,
        (layer, changed): (usize, Changed),
        x: &[f32],
        out: (&mut [f32], usize),
    ) {
        let Some(AdapterScratch { groups, memory, .. }) = scratch else { return };
        if groups.is_empty() {
            return;
        }
        let weights = |place: u32| self.update(place, layer, changed);
        let input = LowRankInput { x, groups, weights: &weights };
        self.kernels.add_low_rank(self.pool, input, memory, out);
    }

    /// The sums of a gated unit, to which updates can be added: taken out of the memory until they are put back.
    pub(crate) fn take_sums(scratch: &mut Option<AdapterScratch>) -> Buffer<f32> {
        let scratch = scratch.as_mut().expect("there are updates");
        std::mem::replace(&mut scratch.sums, Buffer::zeroed(0).expect("nothing takes no memory"))
    }

    /// Puts back what [`take_sums`](Self::take_sums) took.
    pub(crate) fn put_sums(scratch: &mut Option<AdapterScratch>, sums: Buffer<f32>) {
        scratch.as_mut().expect("there are updates").sums = sums;
    }

    fn update(&self, place: u32, layer: usize, changed: Changed) -> Option<&LowRank> {
        let (_, adapter) = self.adapters.places[place as usize].as_ref().expect("the rows were looked up");
        adapter.layers[layer][changed as usize].as_ref()
    }
}
