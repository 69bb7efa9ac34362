//! Quantised weights as files of others have them: scales of every type, zero points of both widths, columns in an order of
//! their own.

use crate::common::{Rng, all_kernels, assert_close, assert_same, linear, scalar};
use half::{bf16, f16};
use pagoda_kernels::{
    Activations, Bits, Glu, GroupScratch, GroupedInput, Kernels, LinearRef, LinearScratch, LinearShape,
    PackError, PackedLinear, QuantFormat, QuantizedParts, QuantizedRef, RowGroup, ScaleFormat, Scales,
    StackedLinear, Weights, WorkerPool,
};

/// A matrix with random parts.
struct Stored {
    n: usize,
    k: usize,
    format: QuantFormat,
    codes: Vec<u8>,
    bf16: Vec<bf16>,
    f16: Vec<f16>,
    f32: Vec<f32>,
    zeros: Option<Vec<u8>>,
    order: Option<Vec<u32>>,
}

impl Stored {
    fn new(rng: &mut Rng, (n, k): (usize, usize), format: QuantFormat, ordered: bool) -> Self {
        let row = if format.bits == Bits::Eight { k } else { k.div_ceil(8) * 4 };
        let cells = n * k.div_ceil(format.group.into());
        let f32: Vec<f32> = (0..cells).map(|_| 0.01 * rng.float()).collect();
        let top = usize::from(format.bits.max_code()) + 1;
        let mut order: Vec<u32> = (0..k as u32).collect();
        (1..k).for_each(|i| order.swap(i, rng.below(i + 1)));
        Stored {
            n,
            k,
            format,
            codes: (0..n * row).map(|_| rng.below(256) as u8).collect(),
            bf16: f32.iter().map(|&s| bf16::from_f32(s)).collect(),
            f16: f32.iter().map(|&s| f16::from_f32(s)).collect(),
            f32,
            zeros: format.zero_point.then(|| (0..cells).map(|_| rng.below(top) as u8).collect()),
            order: ordered.then_some(order),
        }
    }

    fn scales(&self) -> Scales<'_> {
        match self.format.scales {
            ScaleFormat::Bf16 => Scales::Bf16(&self.bf16),
            ScaleFormat::F16 => Scales::F16(&self.f16),
            ScaleFormat::F32 => Scales::F32(&self.f32),
        }
    }

    fn weights(&self) -> Weights<'_> {
        let parts = QuantizedParts {
            codes: &self.codes,
            scales: self.scales(),
            zeros: self.zeros.as_deref(),
            order: self.order.as_deref(),
        };
        Weights::Quantized(QuantizedRef::new(self.n, self.k, self.format, parts).unwrap())
    }

    fn pack(&self, pool: &WorkerPool) -> PackedLinear {
        PackedLinear::pack(&[(self.weights(), self.n)], self.k, self.format.into(), pool).unwrap()
    }

    /// Row `row` by the definition, input after input.
    fn row(&self, row: usize) -> Vec<f32> {
        let group = usize::from(self.format.group);
        let bytes = self.codes.len() / self.n;
        let mut weights = vec![f32::NAN; self.k];
        for column in 0..self.k {
            let cell = row * self.k.div_ceil(group) + column / group;
            let codes = &self.codes[row * bytes..];
            let code = match self.format.bits {
                Bits::Eight => codes[column] ^ 0x80,
                Bits::Four => codes[column / 2] >> (column % 2 * 4) & 15,
            };
            let zero = self.zeros.as_ref().map_or(self.format.bits.middle(), |zeros| zeros[cell]);
            let input = self.order.as_ref().map_or(column, |order| order[column] as usize);
            weights[input] = (f32::from(code) - f32::from(zero)) * self.scales().get(cell);
        }
        weights
    }
}

fn formats() -> impl Iterator<Item = QuantFormat> {
    let scales = [ScaleFormat::Bf16, ScaleFormat::F16, ScaleFormat::F32];
    let bits = [(Bits::Four, false), (Bits::Four, true), (Bits::Eight, false), (Bits::Eight, true)];
    let pairs = scales.into_iter().flat_map(move |scales| bits.into_iter().map(move |bits| (scales, bits)));
    pairs.zip([32, 64, 128].into_iter().cycle()).flat_map(|((scales, (bits, zero_point)), group)| {
        [Activations::I16, Activations::I8].map(|activations| QuantFormat {
            bits,
            group,
            zero_point,
            scales,
            activations,
        })
    })
}

#[test]
fn every_version_has_the_bits_of_the_scalar_one_and_those_are_the_formula() {
    let (mut rng, pool) = (Rng(140), WorkerPool::new(2).unwrap());
    for (index, format) in formats().enumerate() {
        for (n, k) in [(1, 31), (33, 130), (70, 384)] {
            let stored = Stored::new(&mut rng, (n, k), format, (index + n) % 2 == 0);
            let packed = stored.pack(&pool);
            let planned = PackedLinear::packed_bytes(LinearShape { n, k }, format.into());
            assert_eq!(packed.bytes() as u64, planned, "{format:?}");
            for m in [1, 6, 17] {
                let (x, bias) = (rng.floats(m * k), rng.floats(n));
                let run = |kernels: &Kernels| {
                    let mut scratch = LinearScratch::for_orders(m, k).unwrap();
                    let mut out = vec![f32::NAN; m * n];
                    kernels.linear(&pool, &x, &packed, Some(&bias), &mut scratch, &mut out);
                    out
                };
                let want = run(scalar());
                for kernels in all_kernels() {
                    assert_same(&format!("{} {format:?} m={m}", kernels.isa()), &run(kernels), &want);
                }
                // Activations are rounded to one part in 2 max of the largest of their group.
                let step = f64::from(8.0 / format.activations.max());
                for (row, out) in want.chunks(n).enumerate() {
                    for (j, &out) in out.iter().enumerate() {
                        let weights = stored.row(j);
                        let x = &x[row * k..(row + 1) * k];
                        let exact: f64 =
                            x.iter().zip(&weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                        let size: f64 = weights.iter().map(|&w| f64::from(w.abs())).sum();
                        assert_close(&format!("{format:?}"), &[out], &[exact as f32 + bias[j]], |_| {
                            0.6 * step * size + 1e-4
                        });
                    }
                }
            }
            let mut row = vec![f32::NAN; k];
            packed.read_row(n - 1, &mut row);
            assert_same(&format!("{format:?} row"), &row, &stored.row(n - 1));
        }
    }
}

const ORDERED: QuantFormat =
    QuantFormat { group: 32, zero_point: true, scales: ScaleFormat::F16, ..QuantFormat::INT4 };

#[test]
fn matrices_of_different_orders_are_computed_apart() {
    let (mut rng, pool) = (Rng(141), WorkerPool::new(2).unwrap());
    let (n, k, m) = (70, 96, 9);
    let parts: Vec<Stored> = (0..3).map(|i| Stored::new(&mut rng, (n, k), ORDERED, i > 0)).collect();
    let alone: Vec<PackedLinear> = parts.iter().map(|part| part.pack(&pool)).collect();
    let matrices: Vec<_> = parts.iter().map(|part| (part.weights(), n, ORDERED.into())).collect();
    let together =
        PackedLinear::pack(&[(parts[0].weights(), n), (parts[1].weights(), n)], k, ORDERED.into(), &pool);
    assert_eq!(together.unwrap_err(), PackError::Order { part: 1 });
    let stacked = StackedLinear::pack(&matrices, k, &pool).unwrap();
    let shape = LinearShape { n, k };
    let gated = StackedLinear::pack_gated([1, 2].map(|i| (parts[i].weights(), ORDERED.into())), shape, &pool)
        .unwrap();
    let same = StackedLinear::pack_gated([1, 1].map(|i| (parts[i].weights(), ORDERED.into())), shape, &pool)
        .unwrap();
    assert_eq!([&stacked, &gated, &same].map(StackedLinear::is_one), [false, false, true]);
    let x = rng.floats(m * k);
    for kernels in all_kernels() {
        let mut scratch = LinearScratch::for_orders(m, 2 * k).unwrap();
        let mut each = Vec::new();
        for packed in &alone {
            let mut out = vec![f32::NAN; m * n];
            kernels.linear(&pool, &x, packed, None, &mut scratch, &mut out);
            each.push(out);
        }
        let mut out = vec![f32::NAN; m * 3 * n];
        kernels.stacked_linear(&pool, &x, &stacked, None, &mut scratch, &mut out);
        for (row, out) in out.chunks(3 * n).enumerate() {
            let want: Vec<f32> = each.iter().flat_map(|each| each[row * n..(row + 1) * n].to_vec()).collect();
            assert_same(&format!("{}", kernels.isa()), out, &want);
        }
        for (unit, up) in [(&gated, 2), (&same, 1)] {
            let mut out = vec![f32::NAN; m * n];
            kernels.stacked_gated_linear(&pool, &x, (unit, Glu::Relu), None, &mut scratch, &mut out);
            let want: Vec<f32> = each[1].iter().zip(&each[up]).map(|(g, u)| g.max(0.0) * u).collect();
            assert_close(&format!("{}", kernels.isa()), &out, &want, |i| 1e-6 * f64::from(want[i].abs()));
        }
    }
}

#[test]
fn experts_may_have_orders_of_their_own() {
    let (mut rng, pool) = (Rng(142), WorkerPool::new(2).unwrap());
    let (n, k) = (40, 96);
    let experts: Vec<Stored> = (0..3).map(|i| Stored::new(&mut rng, (n, k), ORDERED, i != 1)).collect();
    let packed: Vec<PackedLinear> = experts.iter().map(|expert| expert.pack(&pool)).collect();
    let groups = [(0, 0..5), (1, 5..6), (2, 6..11)].map(|(weights, rows)| RowGroup { weights, rows });
    let x = rng.floats(11 * k);
    let weights = |index: u32| LinearRef { weight: &packed[index as usize], bias: None };
    for kernels in all_kernels() {
        let mut scratch = GroupScratch::for_orders(11, k, 3).unwrap();
        let mut out = vec![f32::NAN; 11 * n];
        let input = GroupedInput { x: &x, groups: &groups, weights: &weights };
        kernels.grouped_linear(&pool, input, &mut scratch, &mut out);
        for group in &groups {
            let rows = group.rows.start as usize..group.rows.end as usize;
            let mut scratch = LinearScratch::for_orders(rows.len(), k).unwrap();
            let mut want = vec![f32::NAN; rows.len() * n];
            let x = &x[rows.start * k..rows.end * k];
            kernels.linear(&pool, x, &packed[group.weights as usize], None, &mut scratch, &mut want);
            assert_same(&format!("{}", kernels.isa()), &out[rows.start * n..rows.end * n], &want);
        }
    }
}

#[test]
fn an_order_names_each_input_once() {
    let mut rng = Rng(143);
    for (at, input) in [(0, 96), (5, u32::MAX), (3, 4)] {
        let mut stored = Stored::new(&mut rng, (2, 96), ORDERED, true);
        let order = stored.order.as_mut().unwrap();
        order[at] = if input == 4 { order[4] } else { input };
        let parts = QuantizedParts {
            codes: &stored.codes,
            scales: Scales::F16(&stored.f16),
            zeros: stored.zeros.as_deref(),
            order: stored.order.as_deref(),
        };
        let error = QuantizedRef::new(2, 96, ORDERED, parts).unwrap_err().to_string();
        assert!(error.contains("95 columns"), "{error}");
    }
    let short = Stored::new(&mut rng, (1, 32), ORDERED, false);
    let packed = short.pack(&WorkerPool::new(1).unwrap());
    let mut out = [0.0];
    linear(scalar(), &WorkerPool::new(1).unwrap(), &[0.0; 32], &packed, None, &mut out);
    assert_eq!(out, [0.0], "no scratch for orders is needed where there is none");
}
