//! The table of kernels of one instruction set, chosen once.

use crate::attention::{Area, AttentionInput, AttentionScratch, AttentionTask};
use crate::gated::GluTask;
use crate::groups::{GroupScratch, GroupedInput};
use crate::kv::{KvMut, KvRef, KvRows, KvShape};
use crate::linear::{LinearTask, PrepareTask};
use crate::low_rank::{DownTask, LowRankInput, LowRankScratch, UpTask};
use crate::route::{RouteWeights, RoutedRow};
use crate::rows::Blocking;
use crate::{
    Angles, Glu, HeadRows, Isa, LinearScratch, Map, Norm, PackedLinear, RowStats, StackedLinear,
    WeightFormat, WorkerPool,
};

/// Every operation in the version of one instruction set.
///
/// The functions in the table are safe: a table of an instruction set is reachable only through
/// [`Kernels::for_isa`], which answers `None` where the machine lacks it. They do the work of one worker; the methods
/// check shapes and share the work out. No result depends on the number of workers, nor the result of a row on the
/// other rows.
pub struct Kernels {
    pub(crate) isa: Isa,
    /// Rows of the blocks that `prepare` and `linear` work on, for weights of a format and a number of rows.
    pub(crate) blocking: fn(WeightFormat, usize) -> Blocking,
    /// Arranges part of the input of a linear operation as `linear` reads it.
    pub(crate) prepare: fn(PrepareTask<'_>),
    /// Computes part of the output, after all of the input was prepared.
    pub(crate) linear: fn(LinearTask<'_>),
    pub(crate) attention: fn(&AttentionTask<'_>, &mut Area<'_>),
    /// One row: `(x, norm, out)`, all of one length.
    pub(crate) norm: fn(&[f32], &Norm<'_>, &mut [f32]),
    /// One row or head in place.
    pub(crate) norm_in_place: fn(&mut [f32], &Norm<'_>),
    /// One head in place: `(x, cos, sin)`, pairs in halves.
    pub(crate) rope: fn(&mut [f32], &[f32], &[f32]),
    /// One head in place: `(x, cos, sin)`, pairs of neighbours.
    pub(crate) rope_neighbours: fn(&mut [f32], &[f32], &[f32]),
    /// `kind(gate) * up`, see [`GluTask`].
    pub(crate) glu: fn(&GluTask<'_>),
    /// Each element in place.
    pub(crate) map: fn(&mut [f32], Map),
    /// `x += y`, of one length.
    pub(crate) add: fn(&mut [f32], &[f32]),
    /// See [`Kernels::row_stats`].
    pub(crate) row_stats: fn(&[f32]) -> RowStats,
    /// See [`Kernels::sum_exp`].
    pub(crate) sum_exp: fn(&[f32], f32, f32) -> f32,
    /// See [`Kernels::weigh`].
    pub(crate) weigh: fn(&[f32], f32, f32, &mut [f32]),
    /// `A x` of an update.
    pub(crate) low_rank_down: fn(DownTask<'_>),
    /// `y += B t` of an update.
    pub(crate) low_rank_up: fn(UpTask<'_>),
}

impl Kernels {
    /// The kernels of `isa`; `None` where the machine or its operating system does not run them.
    pub fn for_isa(isa: Isa) -> Option<&'static Kernels> {
        match isa {
            Isa::Scalar => Some(&crate::scalar::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => crate::avx2::kernels(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => crate::avx512::kernels(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => crate::avx512::bf16_kernels(),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => crate::amx::kernels(),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => None,
        }
    }

    /// The kernels of the fastest instruction set that this machine runs: the strongest, save that dot products of bf16
    /// are passed over where plain multiply-adds are faster.
    pub fn best() -> &'static Kernels {
        let mut strongest_first = Isa::ALL.into_iter().rev().filter(|isa| isa.is_worthwhile());
        strongest_first.find_map(Kernels::for_isa).unwrap_or(&crate::scalar::KERNELS)
    }

    /// The kernels of [`Isa::Amx`] over tiles in plain Rust, for tests on machines without tiles: slow, with the same bits
    /// where sums are exact and sums in the documented order of the hardware where they are not. Operations that do not
    /// use tiles are scalar.
    #[cfg(target_arch = "x86_64")]
    pub fn emulated_amx() -> &'static Kernels {
        crate::amx::emulated()
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `out = x · wᵀ + bias`: `x` is `[m, k]`, `bias` `[n]`, `out` `[m, n]`, all row-major. The terms of each output are
    /// added in an order that depends on K alone. The input is arranged in `scratch` first, once for all workers.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit `w` or `scratch` is too small.
    pub fn linear(
        &self,
        pool: &WorkerPool,
        x: &[f32],
        w: &PackedLinear,
        bias: Option<&[f32]>,
        scratch: &mut LinearScratch,
        out: &mut [f32],
    ) {
        crate::linear::run(self, pool, x, (w, None), bias, scratch, out);
    }

    /// `out = kind(x · gateᵀ) * (x · upᵀ)`: `w` holds both matrices, see [`PackedLinear::pack_gated`], and `bias` those of
    /// both, see [`PackedLinear::gated_bias`]; `out` is `[m, width]`. The rest as [`linear`](Self::linear).
    ///
    /// # Panics
    ///
    /// When the lengths do not fit `w`, it holds other matrices, or `scratch` is too small.
    pub fn gated_linear(
        &self,
        pool: &WorkerPool,
        x: &[f32],
        unit: (&PackedLinear, Glu),
        bias: Option<&[f32]>,
        scratch: &mut LinearScratch,
        out: &mut [f32],
    ) {
        let (w, kind) = unit;
        crate::linear::run(self, pool, x, (w, Some(kind)), bias, scratch, out);
    }

    /// [`linear`](Self::linear) with matrices of several formats.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit `w` or `scratch` is too small.
    pub fn stacked_linear(
        &self,
        pool: &WorkerPool,
        x: &[f32],
        w: &StackedLinear,
        bias: Option<&[f32]>,
        scratch: &mut LinearScratch,
        out: &mut [f32],
    ) {
        crate::stacked::run(self, pool, x, w, bias, scratch, out);
    }

    /// [`gated_linear`](Self::gated_linear) with matrices of one format or two; of two, each row takes two of `scratch`, see
    /// [`StackedLinear::scratch_rows`].
    ///
    /// # Panics
    ///
    /// When the lengths do not fit `w`, it is no gated unit, or `scratch` is too small.
    pub fn stacked_gated_linear(
        &self,
        pool: &WorkerPool,
        x: &[f32],
        unit: (&StackedLinear, Glu),
        bias: Option<&[f32]>,
        scratch: &mut LinearScratch,
        out: &mut [f32],
    ) {
        crate::stacked::run_gated(self, pool, x, unit, bias, scratch, out);
    }

    /// The sums of a gated unit before its activation, as many a row as [`StackedLinear::sums`] tells: what
    /// [`stacked_gated_linear`](Self::stacked_gated_linear) computes first, with the same bits. [`glu`](Self::glu) does the rest.
    ///
    /// # Panics
    ///
    /// As [`stacked_gated_linear`](Self::stacked_gated_linear).
    pub fn stacked_gated_sums(
        &self,
        pool: &WorkerPool,
        x: &[f32],
        w: &StackedLinear,
        bias: Option<&[f32]>,
        scratch: &mut LinearScratch,
        sums: &mut [f32],
    ) {
        crate::stacked::run_sums(self, pool, x, w, bias, scratch, sums);
    }

    /// `out = kind(gate) * up`, `[m, width]`, of the sums of a gated unit, `[m, stride]`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit each other.
    pub fn glu(&self, pool: &WorkerPool, (sums, stride): (&[f32], usize), kind: Glu, out: &mut [f32]) {
        crate::gated::run(self, pool, (sums, stride), kind, out);
    }

    /// Adds to rows of `out`, `[m, stride]`, the low-rank updates that they have: `scale · B (A x)`. A row has the same bits in
    /// any company, and one without an update stays as it is.
    ///
    /// # Panics
    ///
    /// When groups, lengths or updates do not fit each other, or `scratch` is too small.
    pub fn add_low_rank(
        &self,
        pool: &WorkerPool,
        input: LowRankInput<'_>,
        scratch: &mut LowRankScratch,
        out: (&mut [f32], usize),
    ) {
        crate::low_rank::run(self, pool, input, scratch, out);
    }

    /// [`linear`](Self::linear) of rows in groups, each with weights of its own; `out` is `[m, n]`. A row has the same bits as
    /// alone.
    ///
    /// # Panics
    ///
    /// When groups, lengths or weights do not fit each other, or `scratch` is too small.
    pub fn grouped_linear(
        &self,
        pool: &WorkerPool,
        input: GroupedInput<'_>,
        scratch: &mut GroupScratch,
        out: &mut [f32],
    ) {
        crate::groups::run(self, pool, input, None, scratch, out);
    }

    /// [`gated_linear`](Self::gated_linear) of rows in groups, each with weights of its own; `out` is `[m, width]`.
    ///
    /// # Panics
    ///
    /// As [`grouped_linear`](Self::grouped_linear), and when weights are no gated unit.
    pub fn grouped_gated_linear(
        &self,
        pool: &WorkerPool,
        input: GroupedInput<'_>,
        kind: Glu,
        scratch: &mut GroupScratch,
        out: &mut [f32],
    ) {
        crate::groups::run(self, pool, input, Some(kind), scratch, out);
    }

    /// Chooses experts: of each row of `scores`, `[m, experts]`, the largest ones, the first among equals, in falling order, to
    /// `chosen`, and their weights to `weights`, both `[m, per_row]`. Of a row that holds NaN all weights are NaN.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit or there are fewer experts than are to be chosen.
    pub fn route(
        &self,
        pool: &WorkerPool,
        scores: (&[f32], usize),
        rule: RouteWeights,
        chosen: &mut [u32],
        weights: &mut [f32],
    ) {
        crate::route::route(pool, scores, rule, chosen, weights);
    }

    /// Copies rows of `x`, `[m, width]`, to `out`, `[rows, width]`, in the order of `rows`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit or there is no such row.
    pub fn gather_rows(
        &self,
        pool: &WorkerPool,
        x: &[f32],
        width: usize,
        rows: &[RoutedRow],
        out: &mut [f32],
    ) {
        crate::route::gather(pool, x, width, rows, out);
    }

    /// Adds the rows of `y`, `[rows, width]`, times their weights to the rows of `out`, `[m, width]`, that they belong to, in
    /// the order of `rows`. The same bits on every instruction set.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit or there is no such row.
    pub fn add_weighted_rows(
        &self,
        pool: &WorkerPool,
        y: &[f32],
        width: usize,
        rows: &[RoutedRow],
        out: &mut [f32],
    ) {
        crate::route::add_weighted(pool, y, width, rows, out);
    }

    /// Norm of the rows of `x`, `[m, h]`, where the norm has `h` weights.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn norm(&self, pool: &WorkerPool, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
        crate::norm::norm(self, pool, x, norm, out);
    }

    /// Adds to the residual stream and normalises it in one pass: `x += h`, then `h = norm(x)` as
    /// [`norm`](Self::norm) has it, with the bits of the two operations one after the other.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn add_norm(&self, pool: &WorkerPool, x: &mut [f32], norm: &Norm<'_>, h: &mut [f32]) {
        crate::norm::add_norm(self, pool, x, norm, h);
    }

    /// Norm of every head of `x` by itself, in place. The norm has `head_dim` weights, which all heads share, or
    /// `heads * head_dim`, each head its own. Rows as a whole are normalised in place as one head.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn norm_heads(&self, pool: &WorkerPool, heads: HeadRows, x: &mut [f32], norm: &Norm<'_>) {
        crate::norm::norm_heads(self, pool, heads, x, norm);
    }

    /// Rotates every head of `x` in place by `angles` of r pairs each, `2 r <= head_dim`; what follows element `2 r`
    /// stays.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn rope(&self, pool: &WorkerPool, heads: HeadRows, x: &mut [f32], angles: &Angles<'_>) {
        crate::rope::rope(self, pool, heads, x, angles);
    }

    /// Replaces every element of `x` by what `map` makes of it.
    pub fn map(&self, pool: &WorkerPool, x: &mut [f32], map: Map) {
        crate::map::map(self, pool, x, map);
    }

    /// `x += y`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn add(&self, pool: &WorkerPool, x: &mut [f32], y: &[f32]) {
        crate::map::add(self, pool, x, y);
    }

    /// Rounds the keys and values of tokens and writes them to their slots; slot `s` is token `s % block_size` of block
    /// `s / block_size`.
    ///
    /// # Panics
    ///
    /// When a slice is too short for the rows or a slot is outside the storage.
    pub fn kv_write(
        &self,
        pool: &WorkerPool,
        shape: &KvShape,
        kv: KvMut<'_>,
        rows: KvRows<'_>,
        slots: &[u32],
    ) {
        crate::kv::write(pool, shape, kv, rows, slots);
    }

    /// Copies block `from` over block `to`, keys and values of one layer.
    ///
    /// # Panics
    ///
    /// When a block is outside the storage.
    pub fn kv_copy(&self, shape: &KvShape, kv: KvMut<'_>, from: u32, to: u32) {
        crate::kv::copy(shape, kv, from, to);
    }

    /// Causal attention of every row of `input` over its blocks; `out` is `[tokens, heads * head_dim]`. The keys and
    /// values of the rows' own tokens are in the blocks already.
    ///
    /// # Panics
    ///
    /// When a length does not fit, a table is too short for its context or names a block outside the storage, or when
    /// `scratch` was made for smaller heads or fewer threads.
    pub fn attention(
        &self,
        pool: &WorkerPool,
        input: &AttentionInput<'_>,
        kv: KvRef<'_>,
        scratch: &mut AttentionScratch,
        out: &mut [f32],
    ) {
        crate::attention::run(self, pool, input, kv, scratch, out);
    }

    /// The largest element of `x`, the first place where it stands, and whether all are finite.
    pub fn row_stats(&self, x: &[f32]) -> RowStats {
        (self.row_stats)(x)
    }

    /// Sum of `exp((x - max) * scale)` over `x`.
    pub fn sum_exp(&self, x: &[f32], max: f32, scale: f32) -> f32 {
        (self.sum_exp)(x, max, scale)
    }

    /// `out = exp((x - max) * scale)` by [`weight`](crate::weight), the same bits on every instruction set. No element is
    /// NaN, `max` is finite and not below any of them, `scale` is positive and finite.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn weigh(&self, x: &[f32], max: f32, scale: f32, out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "a weight for each logit");
        (self.weigh)(x, max, scale, out);
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.isa)
    }
}
