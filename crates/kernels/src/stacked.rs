//! Matrices of one operation that are stored in several formats.

use crate::act::Glu;
use crate::format::WeightFormat;
use crate::gated::{GluTask, SUMS};
use crate::linear::{LinearTask, Output, arrange, in_order, pieces, prepare, run_columns, share};
use crate::pack_error::PackError;
use crate::packed::{LinearShape, PackedLinear, UNIT, gated_rows};
use crate::pool::WorkerPool;
use crate::scratch::{LinearScratch, filled};
use crate::shared::SharedOut;
use crate::source::Weights;
use crate::table::Kernels;
use std::mem::MaybeUninit;

/// Matrices `[rows, k]` stacked along the outputs, or the two of a gated unit, each in its own format. Neighbours of one
/// format are packed as one, so that where all have the same this is a [`PackedLinear`].
#[derive(Debug)]
pub struct StackedLinear {
    parts: Vec<PackedLinear>,
    /// Outputs of a gated unit; its parts are both matrices as one, or gate and up.
    gated: Option<usize>,
}

impl StackedLinear {
    /// Packs matrices in the order given, each with its rows and the format that it is brought into. Those that have their
    /// inputs in different orders are packed apart.
    ///
    /// # Errors
    ///
    /// As [`PackedLinear::pack`].
    pub fn pack(
        matrices: &[(Weights<'_>, usize, WeightFormat)],
        k: usize,
        pool: &WorkerPool,
    ) -> Result<Self, PackError> {
        let alike = matrices.chunk_by(|a, b| a.2 == b.2 && a.0.order() == b.0.order());
        let parts = alike.map(|group| {
            let stacked: Vec<_> = group.iter().map(|&(weights, rows, _)| (weights, rows)).collect();
            PackedLinear::pack(&stacked, k, group[0].2, pool)
        });
        let parts: Vec<PackedLinear> = parts.collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Err(PackError::Empty { n: 0, k });
        }
        Ok(Self { parts, gated: None })
    }

    /// Packs gate and up of a gated unit, each with the format that it is brought into.
    ///
    /// # Errors
    ///
    /// As [`PackedLinear::pack_gated`].
    pub fn pack_gated(
        [gate, up]: [(Weights<'_>, WeightFormat); 2],
        shape: LinearShape,
        pool: &WorkerPool,
    ) -> Result<Self, PackError> {
        let LinearShape { n, k } = shape;
        let formats = pair([gate.1, up.1]);
        let parts = if formats[0] == formats[1] && gate.0.order() == up.0.order() {
            vec![PackedLinear::pack_gated([gate.0, up.0], shape, formats[0], pool)?]
        } else {
            let alone = |weights, format| PackedLinear::pack(&[(weights, n)], k, format, pool);
            vec![alone(gate.0, formats[0])?, alone(up.0, formats[1])?]
        };
        Ok(Self { parts, gated: Some(n) })
    }

    /// Bytes that [`pack`](Self::pack) takes for matrices of these rows and formats.
    pub fn packed_bytes(matrices: &[(usize, WeightFormat)], k: usize) -> u64 {
        let alike = matrices.chunk_by(|a, b| a.1 == b.1);
        let bytes = alike.map(|group| {
            let n = group.iter().map(|(rows, _)| rows).sum();
            PackedLinear::packed_bytes(LinearShape { n, k }, group[0].1)
        });
        bytes.sum()
    }

    /// Bytes that [`pack_gated`](Self::pack_gated) takes.
    pub fn packed_gated_bytes(shape: LinearShape, formats: [WeightFormat; 2]) -> u64 {
        let [gate, up] = pair(formats);
        if gate == up {
            return PackedLinear::packed_gated_bytes(shape, gate);
        }
        PackedLinear::packed_bytes(shape, gate) + PackedLinear::packed_bytes(shape, up)
    }

    /// Outputs; of a gated unit those of both matrices, padding included.
    pub fn n(&self) -> usize {
        self.parts.iter().map(PackedLinear::n).sum()
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.parts[0].k()
    }

    /// Bytes of memory, the padding included.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(PackedLinear::bytes).sum()
    }

    /// The matrices as one.
    ///
    /// # Panics
    ///
    /// When they are of several formats.
    pub fn only(&self) -> &PackedLinear {
        let [only] = self.parts.as_slice() else { panic!("matrices of several formats") };
        only
    }

    /// Sums that [`Kernels::stacked_gated_sums`] makes for a row of a gated unit of `width` outputs.
    pub fn sums(width: usize) -> usize {
        gated_rows(width)
    }

    /// Whether all matrices are packed as one.
    pub fn is_one(&self) -> bool {
        self.parts.len() == 1
    }

    /// Rows of scratch memory that a row of the input takes: 2 where gate and up of a gated unit have two formats, or two
    /// orders of their inputs.
    pub fn scratch_rows(formats: [WeightFormat; 2]) -> usize {
        let [gate, up] = pair(formats);
        if gate == up { 1 } else { 2 }
    }
}

/// The formats of gate and up. Where they are two, floats are of 32 bits, so that both arrange rows alike.
fn pair([gate, up]: [WeightFormat; 2]) -> [WeightFormat; 2] {
    if gate == up {
        return [gate, up];
    }
    [gate, up].map(|format| match format {
        WeightFormat::Bf16 | WeightFormat::F16 => WeightFormat::F32,
        other => other,
    })
}

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &StackedLinear,
    bias: Option<&[f32]>,
    scratch: &mut LinearScratch,
    out: &mut [f32],
) {
    let (rows, n) = (x.len() / w.k(), w.n());
    assert_eq!(out.len(), rows * n, "out is [{rows}, {n}]");
    assert!(bias.is_none_or(|bias| bias.len() == n), "bias is [{n}]");
    let mut first = 0;
    for part in w.parts.iter().filter(|_| rows > 0) {
        let bias = bias.map(|bias| &bias[first..first + part.n()]);
        run_columns(kernels, pool, x, (part, None), bias, scratch, (&mut out[first..], n));
        first += part.n();
    }
}

/// The sums of a gated unit: units of the gate and of what it lets through in turn.
pub(crate) fn run_sums(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &StackedLinear,
    bias: Option<&[f32]>,
    scratch: &mut LinearScratch,
    sums: &mut [f32],
) {
    assert!(w.gated.is_some(), "the matrices of a gated unit");
    let [gate, up] = match w.parts.as_slice() {
        [both] => return crate::linear::run(kernels, pool, x, (both, None), bias, scratch, sums),
        [gate, up] => [gate, up],
        _ => unreachable!("a gated unit has one part or two"),
    };
    let stride = 2 * gate.units() * UNIT;
    let m = x.len() / gate.k();
    assert_eq!((x.len(), sums.len()), (m * gate.k(), m * stride), "sums are [{m}, {stride}]");
    assert!(bias.is_none_or(|bias| bias.len() == stride), "bias is [{stride}]");
    let elements = &SharedOut::new(sums);
    for (part, w) in [gate, up].into_iter().enumerate() {
        let Some((rows, x, prepared)) = prepare(kernels, pool, x, w, None, scratch) else { return };
        share(pool, w, rows, UNIT, &|units, blocks| {
            for unit in units {
                // As in `run_gated`.
                let bias = bias.map(|bias| &bias[(unit + part) * UNIT..]);
                let first_column = (unit * UNIT).wrapping_sub((2 * unit + part) * UNIT);
                let out = Output { elements, stride, first_row: 0, first_column };
                let (blocks, units) = (blocks.clone(), unit..unit + 1);
                (kernels.linear)(LinearTask { x, prepared, w, bias, out, rows, blocks, units });
            }
        });
    }
}

pub(crate) fn run_gated(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    (w, kind): (&StackedLinear, Glu),
    bias: Option<&[f32]>,
    scratch: &mut LinearScratch,
    out: &mut [f32],
) {
    let width = w.gated.expect("the matrices of a gated unit");
    let [gate, up] = match w.parts.as_slice() {
        [both] => return crate::linear::run(kernels, pool, x, (both, Some(kind)), bias, scratch, out),
        [gate, up] => [gate, up],
        _ => unreachable!("a gated unit has one part or two"),
    };
    let (m, k) = (x.len() / gate.k(), gate.k());
    assert_eq!(x.len(), m * k, "x is [m, {k}]");
    assert_eq!(out.len(), m * width, "out is [{m}, {width}]");
    if m == 0 {
        return;
    }
    let words = scratch.words.get_mut(m, 2 * k);
    let half = words.len() / 2;
    let (first, second) = words.split_at_mut(half);
    let half = scratch.gathered.len() / 2;
    let (to_gate, to_up) = scratch.gathered.split_at_mut(half);
    let inputs = [in_order(pool, x, gate, to_gate), in_order(pool, x, up, to_up)];
    let rows = arrange(kernels, pool, inputs[0], gate, first);
    let same = arrange(kernels, pool, inputs[1], up, second);
    assert_eq!(rows, same, "formats of a pair take rows alike");
    let parts = [(gate, inputs[0], &*first), (up, inputs[1], &*second)];
    let out = Output { elements: &SharedOut::new(out), stride: width, first_row: 0, first_column: 0 };
    share(pool, gate, rows, UNIT, &|units, blocks| {
        let mut memory = [const { MaybeUninit::uninit() }; SUMS];
        let memory = filled(&mut memory, SUMS, 0.0);
        for unit in units {
            for blocks in pieces(blocks.clone(), SUMS / (2 * UNIT * rows.padded(0))) {
                let (present, stride) = (rows.rows(blocks.clone()), 2 * UNIT);
                let sums = &mut memory[..present.len() * stride];
                let elements = &SharedOut::new(sums);
                for (part, (w, x, prepared)) in parts.into_iter().enumerate() {
                    // Biases, as sums, have units of the gate and of the other matrix in turn.
                    let bias = bias.map(|bias| &bias[(unit + part) * UNIT..]);
                    let first_column = (unit * UNIT).wrapping_sub(part * UNIT);
                    let out = Output { elements, stride, first_row: present.start, first_column };
                    let (blocks, units) = (blocks.clone(), unit..unit + 1);
                    (kernels.linear)(LinearTask { x, prepared, w, bias, out, rows, blocks, units });
                }
                let columns = unit * UNIT..((unit + 1) * UNIT).min(width);
                (kernels.glu)(&GluTask { kind, sums, stride, out, rows: present, columns });
            }
        }
    });
}
