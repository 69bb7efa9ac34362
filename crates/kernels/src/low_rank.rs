//! Low-rank updates of linear operations: `y += scale · B (A x)` for some rows, each with matrices of its own.
//!
//! The terms of `A x` are added lane by lane along k and then across the lanes, those of `B t` along the rank, from zero on; the
//! sum is added to the output once. So a row has the same bits alone and in any company, and a row without an update is not
//! touched.

use crate::buffer::{Buffer, OutOfMemory};
use crate::groups::RowGroup;
use crate::pack_error::PackError;
use crate::packed::UNIT;
use crate::pool::{WorkerPool, partition};
use crate::shared::SharedOut;
use crate::table::Kernels;
use half::{bf16, f16};
use std::ops::Range;

/// Outputs that a worker takes at least; rows of `B` are padded to a multiple.
pub(crate) const CHUNK: usize = 64;
const _: () = assert!(UNIT.is_power_of_two() && CHUNK.is_multiple_of(UNIT));

/// What rows of `A` are padded to: the lanes of the widest register.
const LANES: usize = 16;

/// Rows that a worker takes at most at a time.
const BLOCK: usize = 8;

/// Ranks that a worker takes at least.
const RANKS: usize = 8;

/// Products that one worker computes at least: about ten microseconds of work.
const GRAIN: usize = 1 << 17;

/// How the matrices of an update are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowRankFormat {
    /// Single precision.
    F32,
    /// The upper half of a single-precision number.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl LowRankFormat {
    fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

/// Which columns of the output a part is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    first: usize,
    /// Columns side by side are 2 to the power of this, a multiple of the lanes of every register, or all.
    run: u32,
    /// From one run to the next.
    stride: usize,
}

impl Columns {
    /// Those from `first` on.
    pub fn from(first: usize) -> Self {
        Self { first, run: usize::BITS - 1, stride: 0 }
    }

    /// Those of the gate among the sums of a gated unit, see [`Kernels::stacked_gated_sums`].
    pub fn gate() -> Self {
        Self { first: 0, run: UNIT.ilog2(), stride: 2 * UNIT }
    }

    /// Those of what the gate lets through, among the sums of a gated unit.
    pub fn up() -> Self {
        Self { first: UNIT, ..Self::gate() }
    }

    /// Where output `column` of the part goes.
    #[inline(always)]
    pub(crate) fn place(&self, column: usize) -> usize {
        self.first + (column >> self.run) * self.stride + (column & ((1 << self.run) - 1))
    }

    /// The runs that the first `n` outputs go to.
    fn runs(&self, n: usize) -> impl Iterator<Item = Range<usize>> {
        let run = 1usize << self.run;
        (0..n).step_by(run).map(move |column| {
            let first = self.place(column);
            first..first + run.min(n - column)
        })
    }
}

/// A matrix of an update as it comes, with what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct LowRankPart<'a> {
    /// `A`, `[rank, k]`
    pub down: &'a [f32],
    /// `B`, `[n, rank]`
    pub up: &'a [f32],
    /// Columns of `B`, at least 1.
    pub rank: usize,
    /// Outputs, at least 1.
    pub n: usize,
    /// Factor of the product.
    pub scale: f32,
    /// Where the outputs go.
    pub columns: Columns,
}

/// The update of one linear operation, packed. Its parts change different outputs of the same input, as queries and values do.
#[derive(Debug)]
pub struct LowRank {
    k: usize,
    parts: Vec<Part>,
    /// `[ranks]`, those of all parts.
    scales: Vec<f32>,
    /// `[ranks, k]`, rows padded with zeros.
    down: Factors,
    /// For each part `[rank, n]`, rows padded with zeros.
    up: Factors,
}

/// A part of an update.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Those of its ranks among all.
    pub(crate) ranks: Range<usize>,
    pub(crate) n: usize,
    pub(crate) columns: Columns,
    /// Where its `B` begins.
    pub(crate) start: usize,
    /// Its chunks of outputs among those of all parts.
    pub(crate) chunks: Range<usize>,
}

/// Elements in one of the formats.
#[derive(Debug)]
pub(crate) enum Factors {
    F32(Buffer<f32>),
    Bf16(Buffer<bf16>),
    F16(Buffer<f16>),
}

impl Factors {
    fn zeroed(format: LowRankFormat, len: usize) -> Result<Self, OutOfMemory> {
        Ok(match format {
            LowRankFormat::F32 => Self::F32(Buffer::zeroed(len)?),
            LowRankFormat::Bf16 => Self::Bf16(Buffer::zeroed(len)?),
            LowRankFormat::F16 => Self::F16(Buffer::zeroed(len)?),
        })
    }

    fn set(&mut self, index: usize, value: f32) {
        match self {
            Self::F32(all) => all[index] = value,
            Self::Bf16(all) => all[index] = bf16::from_f32(value),
            Self::F16(all) => all[index] = f16::from_f32(value),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(all) => size_of_val::<[f32]>(all),
            Self::Bf16(all) => size_of_val::<[bf16]>(all),
            Self::F16(all) => size_of_val::<[f16]>(all),
        }
    }
}

impl LowRank {
    /// Packs the parts of an update of an operation of `k` inputs, rounding to `format`.
    ///
    /// # Errors
    ///
    /// Matrices of another size than was said, a rank, `n` or `k` of 0, too little memory.
    ///
    /// # Panics
    ///
    /// When two parts change one output.
    pub fn pack(parts: &[LowRankPart<'_>], k: usize, format: LowRankFormat) -> Result<Self, PackError> {
        for (index, part) in parts.iter().enumerate() {
            check(index, part, k)?;
        }
        check_columns(parts);
        let ranks = parts.iter().map(|part| part.rank).sum::<usize>();
        let up_len = parts.iter().map(|part| part.rank * part.n.next_multiple_of(CHUNK)).sum();
        let mut packed = Self {
            k,
            parts: Vec::with_capacity(parts.len()),
            scales: Vec::with_capacity(ranks),
            down: Factors::zeroed(format, ranks * k.next_multiple_of(LANES))?,
            up: Factors::zeroed(format, up_len)?,
        };
        let (mut start, mut chunk) = (0, 0);
        for part in parts {
            let first = packed.scales.len();
            packed.put(part, first, start);
            packed.scales.resize(first + part.rank, part.scale);
            let chunks = chunk..chunk + part.n.div_ceil(CHUNK);
            chunk = chunks.end;
            let (ranks, n, columns) = (first..first + part.rank, part.n, part.columns);
            packed.parts.push(Part { ranks, n, columns, start, chunks });
            start += part.rank * n.next_multiple_of(CHUNK);
        }
        Ok(packed)
    }

    /// Writes the matrices of a part whose ranks begin at `first` and whose `B` begins at `start`.
    fn put(&mut self, part: &LowRankPart<'_>, first: usize, start: usize) {
        let (k, width) = (self.k, self.stride());
        for (rank, row) in part.down.chunks_exact(k).enumerate() {
            for (at, &value) in row.iter().enumerate() {
                self.down.set((first + rank) * width + at, value);
            }
        }
        let width = part.n.next_multiple_of(CHUNK);
        for (column, row) in part.up.chunks_exact(part.rank).enumerate() {
            for (rank, &value) in row.iter().enumerate() {
                self.up.set(start + rank * width + column, value);
            }
        }
    }

    /// Bytes that a part takes when it is packed.
    pub fn packed_bytes(rank: usize, k: usize, n: usize, format: LowRankFormat) -> u64 {
        (rank * (k.next_multiple_of(LANES) + n.next_multiple_of(CHUNK))) as u64 * format.bytes()
    }

    /// Bytes of the matrices, the padding included.
    pub fn bytes(&self) -> usize {
        self.down.bytes() + self.up.bytes()
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Ranks of all parts together.
    pub fn ranks(&self) -> usize {
        self.scales.len()
    }

    /// Multiplications for one row.
    pub fn products(&self) -> usize {
        self.parts.iter().map(|part| part.ranks.len() * (self.k + part.n)).sum()
    }

    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(crate) fn down(&self) -> &Factors {
        &self.down
    }

    pub(crate) fn up(&self) -> &Factors {
        &self.up
    }

    /// Elements from one row of `A` to the next.
    pub(crate) fn stride(&self) -> usize {
        self.k.next_multiple_of(LANES)
    }

    /// Chunks of outputs of all parts.
    fn chunks(&self) -> usize {
        self.parts.last().map_or(0, |part| part.chunks.end)
    }

    /// Outputs from the first that a part changes to behind the last.
    fn width(&self) -> usize {
        self.parts.iter().map(|part| part.columns.place(part.n - 1) + 1).max().unwrap_or(0)
    }
}

fn check(index: usize, part: &LowRankPart<'_>, k: usize) -> Result<(), PackError> {
    if k == 0 || part.rank == 0 || part.n == 0 {
        return Err(PackError::Empty { n: part.n.min(part.rank), k });
    }
    for (found, rows, columns) in [(part.down.len(), part.rank, k), (part.up.len(), part.n, part.rank)] {
        if rows.checked_mul(columns) != Some(found) {
            return Err(PackError::Shape { part: index, elements: found, rows, k: columns });
        }
    }
    Ok(())
}

/// Workers write the outputs of different parts at the same time.
fn check_columns(parts: &[LowRankPart<'_>]) {
    let mut runs: Vec<_> = parts.iter().flat_map(|part| part.columns.runs(part.n)).collect();
    runs.sort_unstable_by_key(|run| run.start);
    let apart = runs.windows(2).all(|pair| pair[0].end <= pair[1].start);
    assert!(apart, "two parts of an update change one output");
}

/// Some ranks of `A x` for some rows, each times its scale.
pub(crate) struct DownTask<'a> {
    pub(crate) w: &'a LowRank,
    /// `[rows, k]`, the task's own.
    pub(crate) x: &'a [f32],
    pub(crate) ranks: Range<usize>,
    /// Element `rank` of row r goes to `r * stride + rank`; this task alone writes its ranks.
    pub(crate) out: SharedOut<'a, f32>,
    pub(crate) stride: usize,
}

/// Some chunks of `y += B t` for some rows.
pub(crate) struct UpTask<'a> {
    pub(crate) w: &'a LowRank,
    /// `[rows, t_stride]`, the task's own.
    pub(crate) t: &'a [f32],
    pub(crate) t_stride: usize,
    pub(crate) chunks: Range<usize>,
    /// `[rows, stride]`; this task alone touches the outputs of its chunks.
    pub(crate) out: SharedOut<'a, f32>,
    pub(crate) stride: usize,
}

/// A chunk of outputs: its part, its first output and how many it has.
pub(crate) fn chunk(w: &LowRank, index: usize) -> (&Part, usize, usize) {
    let part = w.parts.iter().find(|part| part.chunks.contains(&index)).expect("a chunk belongs to a part");
    let first = (index - part.chunks.start) * CHUNK;
    (part, first, CHUNK.min(part.n - first))
}

/// Rows with updates.
#[derive(Clone, Copy)]
pub struct LowRankInput<'a> {
    /// `[m, k]`
    pub x: &'a [f32],
    /// Rows that have an update, in rising order; rows between them have none.
    pub groups: &'a [RowGroup],
    /// The update of a number, if it changes this operation.
    pub weights: &'a (dyn Fn(u32) -> Option<&'a LowRank> + Sync),
}

/// Memory of updates.
#[derive(Debug)]
pub struct LowRankScratch {
    /// `[rows, ranks]`
    t: Buffer<f32>,
    max_rows: usize,
    ranks: usize,
    /// Blocks of rows of each group and those before it.
    ends: Vec<usize>,
}

impl LowRankScratch {
    /// Memory for up to `max_rows` rows with updates of up to `max_ranks` ranks.
    ///
    /// # Errors
    ///
    /// When the system does not have the memory.
    pub fn new(max_rows: usize, max_ranks: usize) -> Result<Self, OutOfMemory> {
        let t = Buffer::zeroed(max_rows.saturating_mul(max_ranks))?;
        Ok(Self { t, max_rows, ranks: max_ranks, ends: Vec::with_capacity(max_rows) })
    }

    /// Bytes that [`new`](Self::new) reserves.
    pub fn planned_bytes(max_rows: usize, max_ranks: usize) -> u64 {
        (max_rows * (max_ranks * size_of::<f32>() + size_of::<usize>())) as u64
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        (self.t.len() * size_of::<f32>() + self.ends.capacity() * size_of::<usize>()) as u64
    }
}

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    input: LowRankInput<'_>,
    scratch: &mut LowRankScratch,
    (out, stride): (&mut [f32], usize),
) {
    let LowRankInput { x, groups, weights } = input;
    let Some(k) = groups.iter().find_map(|group| weights(group.weights)).map(LowRank::k) else { return };
    let LowRankScratch { t, max_rows, ranks, ends } = scratch;
    let m = out.len() / stride;
    assert_eq!((x.len(), out.len()), (m * k, m * stride), "x is [{m}, {k}], out [{m}, {stride}]");
    let mut next = 0;
    for group in groups {
        assert!(
            group.rows.start >= next && group.rows.end as usize <= m,
            "{group:?} after row {next} of {m}"
        );
        next = group.rows.end;
        let Some(w) = weights(group.weights) else { continue };
        assert!(w.k() == k && w.width() <= stride, "update {} has another shape", group.weights);
        assert!(w.ranks() <= *ranks && m <= *max_rows, "the scratch memory is too small");
    }
    let width = *ranks;
    let blocks = Blocks::new(pool, groups, ends);
    let memory = SharedOut::new(&mut t[..m * width]);
    blocks.share(weights, &|w, rows, (part, parts)| {
        let pieces = partition(w.ranks().div_ceil(RANKS), parts, part);
        let ranks = pieces.start * RANKS..(pieces.end * RANKS).min(w.ranks());
        let out = memory.part(rows.start * width..rows.end * width);
        let x = &x[rows.start * k..rows.end * k];
        (kernels.low_rank_down)(DownTask { w, x, ranks, out, stride: width });
    });
    let (t, out) = (&t[..m * width], SharedOut::new(out));
    blocks.share(weights, &|w, rows, (part, parts)| {
        let chunks = partition(w.chunks(), parts, part);
        let out = out.part(rows.start * stride..rows.end * stride);
        let t = &t[rows.start * width..rows.end * width];
        (kernels.low_rank_up)(UpTask { w, t, t_stride: width, chunks, out, stride });
    });
}

/// What is done with a block: its update, its rows, and which part of how many.
type Job<'j> = dyn Fn(&LowRank, Range<usize>, (usize, usize)) + Sync + 'j;

/// The rows of a call as they are shared out: in blocks of one group each, and those in parts where blocks are few.
struct Blocks<'b> {
    pool: &'b WorkerPool,
    groups: &'b [RowGroup],
    ends: &'b [usize],
    parts: usize,
}

impl<'b> Blocks<'b> {
    fn new(pool: &'b WorkerPool, groups: &'b [RowGroup], ends: &'b mut Vec<usize>) -> Self {
        ends.clear();
        let mut blocks = 0;
        ends.extend(groups.iter().map(|group| {
            blocks += group.rows.len().div_ceil(BLOCK);
            blocks
        }));
        let parts = if pool.threads() == 1 { 1 } else { (2 * pool.threads()).div_ceil(blocks.max(1)) };
        Self { pool, groups, ends, parts }
    }

    /// Calls `job` with each block that has an update, its rows, and each part of how many.
    fn share<'a>(&self, weights: &(dyn Fn(u32) -> Option<&'a LowRank> + Sync), job: &Job<'_>) {
        let blocks = self.ends.last().copied().unwrap_or(0);
        let products =
            |group: &RowGroup| weights(group.weights).map_or(0, |w| w.products() / 2 * group.rows.len());
        let tasks = blocks * self.parts;
        let each = self.groups.iter().map(products).sum::<usize>() / tasks.max(1);
        self.pool.share(tasks, GRAIN.div_ceil(each.max(1)), &|tasks| {
            for task in tasks {
                let (block, part) = (task / self.parts, task % self.parts);
                let index = self.ends.partition_point(|&end| end <= block);
                let before = index.checked_sub(1).map_or(0, |before| self.ends[before]);
                let group = &self.groups[index];
                let first = group.rows.start as usize + (block - before) * BLOCK;
                let rows = first..(first + BLOCK).min(group.rows.end as usize);
                if let Some(w) = weights(group.weights) {
                    job(w, rows, (part, self.parts));
                }
            }
        });
    }
}
