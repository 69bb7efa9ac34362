//! Weights of a linear operation in the order in which the kernels read them.
//!
//! The outputs are cut into panels of [`PANEL`] rows of the weight matrix; a panel holds its rows side by side, step by
//! step along K, so that one pass over memory feeds all its outputs. The order within a panel is that of the format: see
//! [`float`], [`fp8`], [`quantized`] and [`blocks`]. The number of panels is even, since two of them, a unit, are the least that a worker takes.

use crate::buffer::{Buffer, Element};
use crate::format::WeightFormat;
use crate::pack_error::{FirstError, PackError};
use crate::panels::blocks::{BlockLayout, BlockPanels};
use crate::panels::float::FloatFormat;
use crate::panels::fp8::Fp8Panels;
use crate::panels::quantized::{QuantLayout, QuantPanels};
use crate::panels::{Order, blocks, float, fp8, quantized};
pub(crate) use crate::panels::{PANEL, UNIT};
use crate::pool::{WorkerPool, partition};
use crate::shared::SharedOut;
use crate::source::Weights;
use half::{bf16, f16};
use std::ops::Range;

/// The weights `[n, k]` of one linear operation, packed.
#[derive(Debug)]
pub struct PackedLinear {
    n: usize,
    k: usize,
    format: WeightFormat,
    /// Outputs of each of the two matrices of a gated unit.
    gated: Option<usize>,
    /// `[k]`: the input that each column belongs to, where they are not in order.
    order: Option<Box<[u32]>>,
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
    /// See [`fp8`].
    Fp8(Fp8Panels<'a>),
    /// See [`quantized`].
    Quantized(QuantPanels<'a>),
    /// See [`blocks`].
    Blocks(BlockPanels<'a>),
}

impl PackedLinear {
    /// Packs matrices `[rows, k]`, stacked along n in the order given (query, key and value; gate and up), rounding to
    /// `format`. Each worker of `pool` writes the panels that it will read. A quantised matrix stays as it is.
    ///
    /// # Errors
    ///
    /// Parts whose length is not `rows * k`, an empty matrix, a weight to be quantised that is not finite, a quantised
    /// part in another format than `format`, parts with inputs in different orders, too little memory.
    pub fn pack(
        parts: &[(Weights<'_>, usize)],
        k: usize,
        format: WeightFormat,
        pool: &WorkerPool,
    ) -> Result<Self, PackError> {
        for (part, &(weights, rows)) in parts.iter().enumerate() {
            check_part(part, &weights, LinearShape { n: rows, k }, format)?;
        }
        let order = common_order(parts)?;
        let n = parts.iter().map(|&(_, rows)| rows).sum();
        let bytes =
            pack_units(parts, LinearShape { n, k }, format, pool, |unit| (0..parts.len(), unit * UNIT))?;
        Ok(PackedLinear { n, k, format, gated: None, order, bytes })
    }

    /// Packs the two matrices `[rows, k]` of a gated unit for [`Kernels::gated_linear`](crate::Kernels::gated_linear): units
    /// of the gate and of the other one in turn, so that whoever computes outputs of the one has those of the other.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    pub fn pack_gated(
        [gate, up]: [Weights<'_>; 2],
        shape: LinearShape,
        format: WeightFormat,
        pool: &WorkerPool,
    ) -> Result<Self, PackError> {
        let LinearShape { n: rows, k } = shape;
        let parts = [(gate, rows), (up, rows)];
        for (part, (weights, _)) in parts.iter().enumerate() {
            check_part(part, weights, shape, format)?;
        }
        let order = common_order(&parts)?;
        let n = gated_rows(rows);
        let bytes = pack_units(&parts, LinearShape { n, k }, format, pool, |unit| {
            (unit % 2..unit % 2 + 1, unit / 2 * UNIT)
        })?;
        Ok(PackedLinear { n, k, format, gated: Some(rows), order, bytes })
    }

    /// The biases `[rows]` of the two matrices of a gated unit in the order in which the matrices are packed.
    pub fn gated_bias(gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut bias = vec![0.0; gated_rows(gate.len())];
        let (mut gates, mut ups) = (gate.chunks(UNIT), up.chunks(UNIT));
        for pair in bias.chunks_exact_mut(2 * UNIT) {
            let (gate, up) = pair.split_at_mut(UNIT);
            for (to, from) in [(gate, gates.next()), (up, ups.next())] {
                let from = from.unwrap_or_default();
                to[..from.len()].copy_from_slice(from);
            }
        }
        bias
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

    /// The inputs that the columns belong to, where they are not in order.
    pub(crate) fn order(&self) -> Option<&[u32]> {
        self.order.as_deref()
    }

    /// Outputs of a gated unit of which this holds both matrices.
    pub(crate) fn gated(&self) -> Option<usize> {
        self.gated
    }

    /// Bytes of memory, the padding included.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that packing `n` outputs of `k` inputs takes.
    pub fn packed_bytes(shape: LinearShape, format: WeightFormat) -> u64 {
        shape.n.div_ceil(UNIT) as u64 * unit_bytes(format, shape.k) as u64
    }

    /// Bytes that packing the two matrices of a gated unit takes, each of `n` outputs of `k` inputs.
    pub fn packed_gated_bytes(shape: LinearShape, format: WeightFormat) -> u64 {
        Self::packed_bytes(LinearShape { n: gated_rows(shape.n), k: shape.k }, format)
    }

    /// Widens row `row` of the matrix to `out`, `[k]`.
    ///
    /// # Panics
    ///
    /// When there is no such row or `out` has another length.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n, "row {row} of {}", self.n);
        assert_eq!(out.len(), self.k, "a row has {} elements", self.k);
        let (panel, column) = (row / PANEL, row % PANEL);
        let cell = |format: FloatFormat, step| {
            panel * format.panel_bytes(self.k) / format.bytes() + format.cell(column, step)
        };
        let steps = out.iter_mut().enumerate();
        match self.panels() {
            Panels::F32(w) => steps.for_each(|(k, out)| *out = w[cell(FloatFormat::F32, k)]),
            Panels::Bf16(w) => steps.for_each(|(k, out)| *out = w[cell(FloatFormat::Bf16, k)].to_f32()),
            Panels::F16(w) => steps.for_each(|(k, out)| *out = w[cell(FloatFormat::F16, k)].to_f32()),
            Panels::Quantized(w) => {
                let column = row % UNIT;
                for (group, out) in out.chunks_mut(w.layout.group()).enumerate() {
                    let block = w.block(row / UNIT, group);
                    let (scale, zero) = (block.scale(column), i16::from(block.zero(column)));
                    for (step, out) in out.iter_mut().enumerate() {
                        *out = f32::from(i16::from(block.code(column, step)) - zero) * scale;
                    }
                }
            }
            Panels::Fp8(w) => steps.for_each(|(k, out)| *out = w.weight(row / UNIT, row % UNIT, k)),
            Panels::Blocks(w) => read_blocks(&w, row, out),
        }
        if let Some(order) = &self.order {
            let columns = out.to_vec();
            order.iter().zip(columns).for_each(|(&input, weight)| out[input as usize] = weight);
        }
    }

    /// Units of outputs.
    pub(crate) fn units(&self) -> usize {
        self.n.div_ceil(UNIT)
    }

    /// All panels, one after the other.
    pub(crate) fn panels(&self) -> Panels<'_> {
        match self.format {
            WeightFormat::F32 => Panels::F32(self.elements()),
            WeightFormat::Bf16 => Panels::Bf16(self.elements()),
            WeightFormat::F16 => Panels::F16(self.elements()),
            WeightFormat::Fp8 => Panels::Fp8(Fp8Panels::new(self.k, &self.bytes)),
            WeightFormat::Quantized(format) => Panels::Quantized(QuantPanels {
                layout: QuantLayout::new(format, self.k),
                bytes: &self.bytes,
            }),
            WeightFormat::Blocks(format, _) => {
                Panels::Blocks(BlockPanels { layout: BlockLayout::new(format, self.k), bytes: &self.bytes })
            }
        }
    }

    fn elements<T: Element>(&self) -> &[T] {
        let (start, len) = (self.bytes.as_ptr().cast(), self.bytes.len() / size_of::<T>());
        // SAFETY: the buffer, aligned to 64, holds `len` of the type; every bit pattern of an element is a value.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

/// Widens row `row` of a matrix in blocks.
fn read_blocks(w: &BlockPanels<'_>, row: usize, out: &mut [f32]) {
    let build = w.layout.build;
    for (index, out) in out.chunks_exact_mut(build.block).enumerate() {
        let (block, column) = (w.block(row / UNIT, index), row % UNIT);
        for (group, out) in out.chunks_exact_mut(build.group).enumerate() {
            let (factor, addend) = block.group(column, group);
            for (step, out) in out.iter_mut().enumerate() {
                let level = block.level(column, group * build.group + step);
                *out = f32::from(level) * factor + addend;
            }
        }
    }
}

/// Rows of the two matrices of `rows` outputs each, packed unit by unit in turn.
pub(crate) fn gated_rows(rows: usize) -> usize {
    2 * rows.next_multiple_of(UNIT)
}

/// The units of a matrix; `source` tells which parts, stacked, a unit comes from and its first row among them. Each worker of
/// `pool` writes the panels that it will read.
fn pack_units(
    parts: &[(Weights<'_>, usize)],
    LinearShape { n, k }: LinearShape,
    format: WeightFormat,
    pool: &WorkerPool,
    source: impl Fn(usize) -> (Range<usize>, usize) + Sync,
) -> Result<Buffer<u8>, PackError> {
    if n == 0 || k == 0 {
        return Err(PackError::Empty { n, k });
    }
    let (units, unit_bytes) = (n.div_ceil(UNIT), unit_bytes(format, k));
    let mut bytes = Buffer::zeroed(units * unit_bytes)?;
    let out = SharedOut::new(&mut bytes);
    let failure = FirstError::default();
    pool.run(&|worker| {
        for unit in partition(units, pool.threads(), worker) {
            // SAFETY: each unit belongs to one worker.
            let to = unsafe { out.slice(unit * unit_bytes..(unit + 1) * unit_bytes) };
            let (stacked, first) = source(unit);
            if let Err(error) = pack_unit(parts, stacked, k, format, first, to) {
                return failure.report(unit, error);
            }
        }
    });
    failure.result()?;
    Ok(bytes)
}

/// Size of a linear operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
}

/// Whether `weights` are `[n, k]` and can be packed in `format`.
fn check_part(
    part: usize,
    weights: &Weights<'_>,
    LinearShape { n: rows, k }: LinearShape,
    format: WeightFormat,
) -> Result<(), PackError> {
    let elements = weights.len();
    let shaped = match weights.fixed_shape() {
        Some(shape) => shape == (rows, k),
        None => rows.checked_mul(k) == Some(elements),
    };
    if !shaped {
        return Err(PackError::Shape { part, elements, rows, k });
    }
    match (weights.fixed_format(), format) {
        (Some(WeightFormat::Quantized(from)), WeightFormat::Quantized(to)) if from.same_weights(to) => {}
        (Some(WeightFormat::Blocks(from, _)), WeightFormat::Blocks(to, _)) if from == to => {}
        (Some(WeightFormat::Fp8), WeightFormat::Fp8) => {}
        (Some(from), to) => return Err(PackError::Format { part, from, to }),
        (None, WeightFormat::Fp8 | WeightFormat::Blocks(..)) => {
            return Err(PackError::Stored { part, format });
        }
        (None, WeightFormat::Quantized(format)) => drop(format.checked()?),
        (None, _) => {}
    }
    Ok(())
}

/// The order of the inputs that all parts have.
fn common_order(parts: &[(Weights<'_>, usize)]) -> Result<Option<Box<[u32]>>, PackError> {
    let order = parts.first().and_then(|(weights, _)| weights.order());
    match parts.iter().position(|(weights, _)| weights.order() != order) {
        Some(part) => Err(PackError::Order { part }),
        None => Ok(order.map(Into::into)),
    }
}

/// Bytes of one unit of K = `k`.
fn unit_bytes(format: WeightFormat, k: usize) -> usize {
    match Order::of(format) {
        Order::Float(format) => UNIT / PANEL * format.panel_bytes(k),
        Order::Fp8 => fp8::unit_bytes(k),
        Order::Quantized(format) => QuantLayout::new(format, k).unit_bytes(),
        Order::Blocks(format) => BlockLayout::new(format, k).unit_bytes(),
    }
}

/// Fills the unit whose first row is `first` of the parts that are stacked.
fn pack_unit(
    parts: &[(Weights<'_>, usize)],
    stacked: Range<usize>,
    k: usize,
    format: WeightFormat,
    first: usize,
    to: &mut [u8],
) -> Result<(), PackError> {
    match Order::of(format) {
        Order::Float(format) => {
            let panels = to.chunks_exact_mut(format.panel_bytes(k));
            for (panel, to) in panels.enumerate() {
                float::pack_panel(&parts[stacked.clone()], k, format, first + panel * PANEL, to);
            }
            Ok(())
        }
        Order::Fp8 => fp8::pack_unit(parts, stacked, first, to),
        Order::Quantized(format) => quantized::pack_unit(parts, stacked, k, format, first, to),
        Order::Blocks(format) => blocks::pack_unit(parts, stacked, k, format, first, to),
    }
}
