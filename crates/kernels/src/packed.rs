//! Weights of a linear operation in the order in which the kernels read them.
//!
//! The outputs are cut into panels of [`PANEL`] rows of the weight matrix; a panel holds its rows side by side, step by
//! step along K, so that one pass over memory feeds all its outputs:
//!
//! ```text
//! f32, f16:  [n / PANEL][k][PANEL]
//! bf16:      [n / PANEL][k / 2][PANEL][2]      k rounded up to even, padded with 0
//! ```
//!
//! The pairs of bf16 are what VDPBF16PS and AMX tiles read (an AMX tile of B is 16 rows of pairs by 16 outputs), and they
//! widen to f32 with one shift (even k) or one mask (odd k). Rows beyond n in the last panels are 0; the number of panels
//! is even, since two of them are the least that a worker takes. A quantised format adds a variant to [`WeightFormat`], its
//! own panel bytes, and a step that widens a slice of a panel in cache.

use crate::buffer::{Buffer, OutOfMemory};
use crate::pool::{WorkerPool, partition};
use crate::round::to_bf16;
use crate::shared::SharedOut;
use half::{bf16, f16};
use std::fmt;
use std::ops::Range;

/// Outputs per panel: one register of AVX-512, two of AVX2, one tile of AMX; a step of a panel of bf16 is a cache line.
pub(crate) const PANEL: usize = 16;

/// Outputs that one worker takes at least: the two registers or tiles that the widest blocks have side by side.
pub(crate) const UNIT: usize = 2 * PANEL;

/// How weights are stored in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl WeightFormat {
    /// Bytes of one weight.
    pub fn bytes(self) -> usize {
        match self {
            WeightFormat::F32 => 4,
            WeightFormat::Bf16 | WeightFormat::F16 => 2,
        }
    }

    /// Weights along K that are stored together.
    fn step(self) -> usize {
        match self {
            WeightFormat::Bf16 => 2,
            WeightFormat::F32 | WeightFormat::F16 => 1,
        }
    }

    /// Index in a panel of the weight of row `column` of the panel at step `step`.
    fn cell(self, column: usize, step: usize) -> usize {
        let group = self.step();
        (step / group * PANEL + column) * group + step % group
    }

    /// Bytes of one panel of K = `k`.
    fn panel_bytes(self, k: usize) -> usize {
        k.next_multiple_of(self.step()) * PANEL * self.bytes()
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightFormat::F32 => "f32",
            WeightFormat::Bf16 => "bf16",
            WeightFormat::F16 => "f16",
        })
    }
}

/// A weight matrix as a checkpoint holds it: row-major `[n, k]`.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
}

impl Weights<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Weights::F32(w) => w.len(),
            Weights::Bf16(w) => w.len(),
            Weights::F16(w) => w.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why weights cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A part is not `[rows, k]`.
    #[error("part {part} of the weights has {elements} elements; {rows} rows of {k} need {}", rows * k)]
    Shape {
        /// Which part, from 0.
        part: usize,
        /// Elements it has.
        elements: usize,
        /// Rows it was said to have.
        rows: usize,
        /// Elements per row.
        k: usize,
    },
    /// There is no weight at all.
    #[error("a linear operation needs at least one row and one column; it has n = {n}, k = {k}")]
    Empty {
        /// Outputs.
        n: usize,
        /// Inputs.
        k: usize,
    },
    /// There is not enough memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The weights `[n, k]` of one linear operation, packed.
#[derive(Debug)]
pub struct PackedLinear {
    n: usize,
    k: usize,
    format: WeightFormat,
    bytes: Buffer<u8>,
}

/// Panels, as the kernels read them.
#[derive(Clone, Copy)]
pub(crate) enum Panels<'a> {
    /// `[panels][k][PANEL]`
    F32(&'a [f32]),
    /// `[panels][k / 2][PANEL][2]`
    Bf16(&'a [bf16]),
    /// `[panels][k][PANEL]`
    F16(&'a [f16]),
}

impl PackedLinear {
    /// Packs matrices `[rows, k]`, stacked along n in the order given (query, key and value; gate and up), rounding to
    /// `format`. Each worker of `pool` writes the panels that it will read.
    ///
    /// # Errors
    ///
    /// Parts whose length is not `rows * k`, an empty matrix, too little memory.
    pub fn pack(
        parts: &[(Weights<'_>, usize)],
        k: usize,
        format: WeightFormat,
        pool: &WorkerPool,
    ) -> Result<Self, PackError> {
        for (part, &(weights, rows)) in parts.iter().enumerate() {
            let elements = weights.len();
            if rows.checked_mul(k) != Some(elements) {
                return Err(PackError::Shape { part, elements, rows, k });
            }
        }
        let n = parts.iter().map(|&(_, rows)| rows).sum();
        if n == 0 || k == 0 {
            return Err(PackError::Empty { n, k });
        }
        let (units, panel_bytes) = (n.div_ceil(UNIT), format.panel_bytes(k));
        let mut bytes = Buffer::zeroed(units * (UNIT / PANEL) * panel_bytes)?;
        let out = SharedOut::new(&mut bytes);
        pool.run(&|worker| {
            let units = partition(units, pool.threads(), worker);
            for panel in units.start * (UNIT / PANEL)..units.end * (UNIT / PANEL) {
                // SAFETY: each panel belongs to one worker.
                let to = unsafe { out.slice(panel * panel_bytes..(panel + 1) * panel_bytes) };
                pack_panel(parts, k, format, panel * PANEL, to);
            }
        });
        Ok(PackedLinear { n, k, format, bytes })
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How a weight is stored.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Bytes of memory, the padding included.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Units of outputs.
    pub(crate) fn units(&self) -> usize {
        self.n.div_ceil(UNIT)
    }

    /// All panels, one after the other.
    pub(crate) fn panels(&self) -> Panels<'_> {
        let (start, len) = (self.bytes.as_ptr(), self.bytes.len() / self.format.bytes());
        match self.format {
            // SAFETY: the buffer, aligned to 64, holds `len` of the type; every bit pattern is a value.
            WeightFormat::F32 => Panels::F32(unsafe { std::slice::from_raw_parts(start.cast(), len) }),
            // SAFETY: as above.
            WeightFormat::Bf16 => Panels::Bf16(unsafe { std::slice::from_raw_parts(start.cast(), len) }),
            // SAFETY: as above.
            WeightFormat::F16 => Panels::F16(unsafe { std::slice::from_raw_parts(start.cast(), len) }),
        }
    }

    /// Bytes that packing `n` outputs of `k` inputs takes.
    pub fn packed_bytes(shape: LinearShape, format: WeightFormat) -> u64 {
        (shape.n.div_ceil(UNIT) * (UNIT / PANEL)) as u64 * format.panel_bytes(shape.k) as u64
    }
}

/// Size of a linear operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
}

/// Steps of K packed for all rows of a panel before the next ones, so that what is written stays in cache.
const PACK_STEPS: usize = 128;

/// Fills the panel whose first row is `first` of the stacked matrices.
fn pack_panel(parts: &[(Weights<'_>, usize)], k: usize, format: WeightFormat, first: usize, to: &mut [u8]) {
    for step in (0..k).step_by(PACK_STEPS) {
        let steps = step..(step + PACK_STEPS).min(k);
        let mut part_start = 0;
        for &(weights, rows) in parts {
            let from = first.max(part_start);
            let until = (first + PANEL).min(part_start + rows);
            for row in from..until.max(from) {
                let start = (row - part_start) * k;
                let elements = start + steps.start..start + steps.end;
                let cell = |i: usize| format.cell(row - first, steps.start + i);
                pack_row(weights, elements, format, to, cell);
            }
            part_start += rows;
        }
    }
}

/// Writes some elements of a row of the matrix; element `i` of them goes to `cell(i)` of the panel.
fn pack_row(
    weights: Weights<'_>,
    elements: Range<usize>,
    format: WeightFormat,
    to: &mut [u8],
    cell: impl Fn(usize) -> usize,
) {
    use WeightFormat as To;
    match (weights, format) {
        (Weights::F32(w), To::F32) => scatter(&w[elements], to, cell, f32::to_ne_bytes),
        (Weights::Bf16(w), To::F32) => scatter(&w[elements], to, cell, |x| x.to_f32().to_ne_bytes()),
        (Weights::F16(w), To::F32) => scatter(&w[elements], to, cell, |x| x.to_f32().to_ne_bytes()),
        (Weights::F32(w), To::Bf16) => scatter(&w[elements], to, cell, |x| to_bf16(x).to_ne_bytes()),
        (Weights::Bf16(w), To::Bf16) => scatter(&w[elements], to, cell, bf16::to_ne_bytes),
        (Weights::F16(w), To::Bf16) => {
            scatter(&w[elements], to, cell, |x| to_bf16(x.to_f32()).to_ne_bytes());
        }
        (Weights::F32(w), To::F16) => scatter(&w[elements], to, cell, |x| f16::from_f32(x).to_ne_bytes()),
        (Weights::Bf16(w), To::F16) => {
            scatter(&w[elements], to, cell, |x| f16::from_f32(x.to_f32()).to_ne_bytes());
        }
        (Weights::F16(w), To::F16) => scatter(&w[elements], to, cell, f16::to_ne_bytes),
    }
}

fn scatter<T: Copy, const BYTES: usize>(
    row: &[T],
    to: &mut [u8],
    cell: impl Fn(usize) -> usize,
    convert: impl Fn(T) -> [u8; BYTES],
) {
    let (cells, _) = to.as_chunks_mut::<BYTES>();
    for (i, &x) in row.iter().enumerate() {
        cells[cell(i)] = convert(x);
    }
}
