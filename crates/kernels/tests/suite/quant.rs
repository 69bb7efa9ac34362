//! Quantised weights: rounding, layouts, and linear operations whose bits are the same everywhere.

use crate::common::{Case, Rng, all_kernels, assert_same, scalar};
use half::{bf16, f16};
use pagoda_kernels::{
    Activations, Bits, Kernels, LinearShape, PackError, PackedLinear, QuantFormat, QuantFormatError,
    QuantizedMatrix, QuantizedParts, QuantizedRef, Scales, WeightFormat, Weights, WorkerPool,
};

/// Every format that is computed.
pub(crate) fn formats() -> impl Iterator<Item = QuantFormat> {
    [32, 64, 128].into_iter().flat_map(|group| {
        [(Bits::Eight, false), (Bits::Four, false), (Bits::Four, true)].into_iter().flat_map(
            move |(bits, zero_point)| {
                [Activations::I16, Activations::I8].into_iter().map(move |activations| QuantFormat {
                    bits,
                    group,
                    zero_point,
                    activations,
                    ..QuantFormat::INT8
                })
            },
        )
    })
}

/// `(n, k)`: units of 32 and their neighbours, whole groups and broken ones.
const SHAPES: [(usize, usize); 9] =
    [(1, 1), (3, 31), (32, 32), (33, 65), (64, 128), (95, 129), (31, 256), (130, 40), (257, 384)];

fn quantize(case: &Case, format: QuantFormat, pool: &WorkerPool) -> QuantizedMatrix {
    QuantizedMatrix::quantize(Weights::F32(&case.weights), case.n, case.k, format, pool).unwrap()
}

/// A quantised matrix taken apart: `codes - zero` and scales.
struct Plain {
    k: usize,
    group: usize,
    codes: Vec<i32>,
    scales: Vec<f32>,
}

impl Plain {
    fn new(matrix: &QuantizedMatrix) -> Self {
        let (view, parts) = (matrix.as_ref(), matrix.parts());
        let (k, format) = (view.k(), view.format());
        let group = usize::from(format.group);
        let row_bytes = parts.codes.len() / view.n();
        let code = |row: usize, k: usize| match format.bits {
            Bits::Eight => i32::from(parts.codes[row * row_bytes + k] as i8) + 128,
            Bits::Four => i32::from(parts.codes[row * row_bytes + k / 2] >> (k % 2 * 4) & 15),
        };
        let zero = |row: usize, k: usize| {
            let cell = row * view.k().div_ceil(group) + k / group;
            parts.zeros.map_or(i32::from(format.bits.middle()), |zeros| i32::from(zeros[cell]))
        };
        let cells = (0..view.n()).flat_map(|row| (0..k).map(move |k| (row, k)));
        let codes = cells.map(|(row, k)| code(row, k) - zero(row, k)).collect();
        Plain {
            k,
            group,
            codes,
            scales: (0..view.n() * k.div_ceil(group)).map(|cell| parts.scales.get(cell)).collect(),
        }
    }

    fn scale(&self, row: usize, k: usize) -> f32 {
        self.scales[row * self.k.div_ceil(self.group) + k / self.group]
    }

    fn row(&self, row: usize) -> Vec<f32> {
        (0..self.k).map(|k| self.codes[row * self.k + k] as f32 * self.scale(row, k)).collect()
    }

    /// One output, by the definition.
    fn output(&self, x: &[f32], row: usize, bias: f32, max: f32) -> f32 {
        let codes = &self.codes[row * self.k..(row + 1) * self.k];
        let mut out = bias;
        for (i, (x, codes)) in x.chunks(self.group).zip(codes.chunks(self.group)).enumerate() {
            let largest = x.iter().fold(0f32, |a, x| a.max(x.abs()));
            let q = |x: f32| if largest == 0.0 { 0 } else { (x * (max / largest)).round_ties_even() as i64 };
            let exact: i64 = x.iter().zip(codes).map(|(&x, &code)| q(x) * i64::from(code)).sum();
            let scale = self.scale(row, i * self.group) * (largest / max);
            out = (exact as i32 as f32).mul_add(scale, out);
        }
        out
    }
}

fn linear(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &PackedLinear,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / w.k() * w.n()];
    crate::common::linear(kernels, pool, x, w, bias, &mut out);
    out
}

#[test]
fn scalar_is_the_definition() {
    let (mut rng, pool) = (Rng(40), WorkerPool::new(2).unwrap());
    for (n, k) in SHAPES {
        let case = Case::new(&mut rng, n, k);
        let mut x = rng.floats(3 * k);
        x[k..k + k.min(70)].fill(0.0);
        for format in formats() {
            let plain = Plain::new(&quantize(&case, format, &pool));
            let max = format.activations.max();
            let want: Vec<f32> = (0..3 * n)
                .map(|i| plain.output(&x[i / n * k..][..k], i % n, case.bias[i % n], max))
                .collect();
            let out = linear(scalar(), &pool, &x, &case.pack(format, &pool), Some(&case.bias));
            assert_same(&format!("{format} {n}x{k}"), &out, &want);
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut rng = Rng(41);
    for threads in [1, 3] {
        let pool = WorkerPool::new(threads).unwrap();
        for (n, k) in SHAPES {
            let case = Case::new(&mut rng, n, k);
            for format in formats() {
                let w = case.pack(format, &pool);
                for m in [1, 2, 3, 4, 5, 7, 12, 16, 17, 33] {
                    let x = rng.floats(m * k);
                    let bias = (m % 2 == 1).then_some(&case.bias[..]);
                    let want = linear(scalar(), &pool, &x, &w, bias);
                    for kernels in all_kernels() {
                        let out = linear(kernels, &pool, &x, &w, bias);
                        assert_same(&format!("{} {format} m={m} n={n} k={k}", kernels.isa()), &out, &want);
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_and_on_any_number_of_threads() {
    let mut rng = Rng(42);
    let pools: Vec<_> = [1, 2, 3, 5].into_iter().map(|n| WorkerPool::new(n).unwrap()).collect();
    for (n, k) in [(33, 65), (130, 513), (300, 64)] {
        let case = Case::new(&mut rng, n, k);
        for format in formats() {
            let w = case.pack(format, &pools[0]);
            let x = rng.floats(70 * k);
            for kernels in all_kernels() {
                let whole = linear(kernels, &pools[0], &x, &w, Some(&case.bias));
                for (round, m) in [1, 2, 3, 6, 15, 16, 17, 32, 48, 69].into_iter().enumerate() {
                    let first = rng.below(70 - m + 1);
                    let rows = &x[first * k..(first + m) * k];
                    let part = linear(kernels, &pools[round % pools.len()], rows, &w, Some(&case.bias));
                    let what = format!("{} {format} rows {first}+{m} n={n} k={k}", kernels.isa());
                    assert_same(&what, &part, &whole[first * n..(first + m) * n]);
                }
            }
        }
    }
}

/// Activations at the ends of what the integers hold: a sum that wrapped would show.
#[test]
fn the_largest_sums_are_exact() {
    let pool = WorkerPool::new(1).unwrap();
    for format in formats() {
        let (n, k) = (33, 256);
        for sign in [1.0, -1.0] {
            let weights = vec![-1.0f32; n * k];
            let w = PackedLinear::pack(&[(Weights::F32(&weights), n)], k, format.into(), &pool).unwrap();
            let mut weight = vec![0.0; k];
            w.read_row(32, &mut weight);
            let x = vec![3.0 * sign; k];
            for kernels in all_kernels() {
                let out = linear(kernels, &pool, &x, &w, None);
                let want = -3.0 * sign * k as f32;
                let close = out.iter().all(|out| (out - want).abs() <= 0.01 * want.abs());
                assert!(close, "{} {format}: {} for {want}", kernels.isa(), out[32]);
                assert_same("as scalar", &out, &linear(scalar(), &pool, &x, &w, None));
            }
        }
    }
}

#[test]
fn unusual_activations_give_the_same_on_every_instruction_set() {
    let (mut rng, pool) = (Rng(43), WorkerPool::new(2).unwrap());
    let (n, k, m) = (70, 300, 18);
    let case = Case::new(&mut rng, n, k);
    let unusual =
        [f32::MIN_POSITIVE, 1e-45, 1e-36, 3e-31, -1e-30, 0.0, -0.0, 1e30, -3e37, f32::MAX, 0.5, 32767.5];
    for format in formats() {
        let w = case.pack(format, &pool);
        for round in 0..6 {
            let mut x = vec![0f32; m * k];
            for x in &mut x {
                *x = if round == 0 { rng.pick(&unusual) } else { rng.float() * unusual[2 * round - 1] };
            }
            let want = linear(scalar(), &pool, &x, &w, Some(&case.bias));
            for kernels in all_kernels() {
                let out = linear(kernels, &pool, &x, &w, Some(&case.bias));
                for (i, (out, want)) in out.iter().zip(&want).enumerate() {
                    let same = out.to_bits() == want.to_bits() || out.is_nan() && want.is_nan();
                    assert!(
                        same,
                        "{} {format} round {round}: output {i} is {out}, not {want}",
                        kernels.isa()
                    );
                }
            }
        }
    }
}

#[test]
fn bad_activations_reach_their_rows_and_no_others() {
    let (mut rng, pool) = (Rng(44), WorkerPool::new(2).unwrap());
    let (n, k) = (70, 300);
    let case = Case::new(&mut rng, n, k);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for format in formats() {
            let w = case.pack(format, &pool);
            for m in [1, 2, 5, 40] {
                let mut x = rng.floats(m * k);
                let (row, column) = (rng.below(m), rng.below(k));
                x[row * k + column] = bad;
                for kernels in all_kernels() {
                    let out = linear(kernels, &pool, &x, &w, None);
                    let as_it_should = |(i, y): (usize, &f32)| y.is_nan() == (i / n == row);
                    let what = format!("{} {format} {bad} in row {row} of {m}", kernels.isa());
                    assert!(out.iter().enumerate().all(as_it_should), "{what}");
                }
            }
        }
    }
}

#[test]
fn packing_a_quantised_matrix_is_packing_the_floats_and_rows_read_back() {
    let (mut rng, pool) = (Rng(45), WorkerPool::new(2).unwrap());
    for (n, k) in SHAPES {
        let case = Case::new(&mut rng, n, k);
        let x = rng.floats(2 * k);
        for format in formats() {
            let matrix = quantize(&case, format, &pool);
            let direct = case.pack(format, &pool);
            let parts = [(Weights::Quantized(matrix.as_ref()), n)];
            let packed = PackedLinear::pack(&parts, k, format.into(), &pool).unwrap();
            let plain = Plain::new(&matrix);
            let (mut row, mut same) = (vec![0.0; k], vec![0.0; k]);
            for i in 0..n {
                packed.read_row(i, &mut row);
                direct.read_row(i, &mut same);
                assert_same(&format!("{format} {n}x{k} row {i}"), &row, &plain.row(i));
                assert_same("packed at once", &same, &row);
            }
            let outs = [&packed, &direct].map(|w| linear(scalar(), &pool, &x, w, None));
            assert_same("packed at once", &outs[1], &outs[0]);
        }
    }
}

#[test]
fn stacked_parts_equal_one_matrix_from_sources_of_every_type() {
    let (mut rng, pool) = (Rng(46), WorkerPool::new(3).unwrap());
    let (k, rows) = (100, [40, 7, 20, 5]);
    for format in formats() {
        let halves: Vec<bf16> = (0..72 * k).map(|_| bf16::from_f32(rng.float())).collect();
        let exact: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        let ranges = [0..40 * k, 40 * k..47 * k, 47 * k..67 * k, 67 * k..72 * k];
        let small: Vec<f16> = exact[ranges[2].clone()].iter().map(|&x| f16::from_f32(x)).collect();
        let mut all = exact.clone();
        all[ranges[2].clone()].iter_mut().zip(&small).for_each(|(x, small)| *x = small.to_f32());
        let last =
            QuantizedMatrix::quantize(Weights::F32(&all[ranges[3].clone()]), 5, k, format, &pool).unwrap();
        let parts = [
            (Weights::F32(&all[ranges[0].clone()]), rows[0]),
            (Weights::Bf16(&halves[ranges[1].clone()]), rows[1]),
            (Weights::F16(&small), rows[2]),
            (Weights::Quantized(last.as_ref()), rows[3]),
        ];
        let stacked = PackedLinear::pack(&parts, k, format.into(), &pool).unwrap();
        let whole = PackedLinear::pack(&[(Weights::F32(&all), 72)], k, format.into(), &pool).unwrap();
        let (mut a, mut b) = (vec![0.0; k], vec![0.0; k]);
        for row in 0..72 {
            stacked.read_row(row, &mut a);
            whole.read_row(row, &mut b);
            assert_same(&format!("{format} row {row}"), &a, &b);
        }
    }
}

/// Squared error of one row of weights, and that of plain rounding: scale from the largest magnitude, or from the range.
fn errors(w: &[f32], plain: &Plain, format: QuantFormat) -> (f64, f64) {
    let (mut ours, mut simple) = (0.0, 0.0);
    let row = plain.row(0);
    let groups = w.chunks(plain.group).zip(row.chunks(plain.group));
    for (w, rounded) in groups {
        let largest = w.iter().fold(0f32, |a, x| a.max(x.abs()));
        let (min, max) = w.iter().fold((0f32, 0f32), |(a, b), &x| (a.min(x), b.max(x)));
        let top = f32::from(format.bits.max_code());
        let (scale, low) = if format.zero_point {
            let scale = bf16::from_f32((max - min) / top).to_f32();
            (scale, (min / scale).round())
        } else {
            (bf16::from_f32(largest / (top / 2.0).floor()).to_f32(), -(top / 2.0).ceil())
        };
        for (&w, &rounded) in w.iter().zip(rounded) {
            ours += f64::from(w - rounded).powi(2);
            let nearest = (w / scale).round().clamp(low, low + top) * scale;
            simple += f64::from(w - nearest).powi(2);
        }
    }
    (ours, simple)
}

#[test]
fn the_error_is_below_that_of_plain_rounding() {
    let (mut rng, pool) = (Rng(47), WorkerPool::new(1).unwrap());
    // Sums of several uniform numbers are near a normal distribution, as weights are.
    let mut normal = || (0..6).map(|_| (rng.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>();
    for format in formats() {
        let (mut ours, mut simple) = (0.0, 0.0);
        for _ in 0..100 {
            let w: Vec<f32> = (0..512).map(|_| 0.1 * normal()).collect();
            let matrix = QuantizedMatrix::quantize(Weights::F32(&w), 1, 512, format, &pool).unwrap();
            let (a, b) = errors(&w, &Plain::new(&matrix), format);
            ours += a;
            simple += b;
        }
        println!("{format}: {:.3} of the squared error of plain rounding", ours / simple);
        let most = if format.bits == Bits::Eight { 1.0 } else { 0.92 };
        assert!(ours <= most * simple, "{format}: {ours:e} against {simple:e}");
    }
}

#[test]
fn finite_weights_of_any_size_are_rounded_to_within_a_few_steps() {
    let (mut rng, pool) = (Rng(48), WorkerPool::new(1).unwrap());
    for format in formats() {
        for round in 0..200 {
            let k = 1 + rng.below(200);
            let magnitude = [1.0, 1e-20, 1e-40, 1e30, 3e38, 0.0][round % 6];
            let offset = [0.0, 0.9, -0.9][round % 3];
            let unit = |rng: &mut Rng| (rng.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
            let w: Vec<f32> =
                (0..k).map(|_| ((1.0f32 - f32::abs(offset)) * unit(&mut rng) + offset) * magnitude).collect();
            let matrix = QuantizedMatrix::quantize(Weights::F32(&w), 1, k, format, &pool).unwrap();
            let plain = Plain::new(&matrix);
            for (i, (w, rounded)) in w.iter().zip(plain.row(0)).enumerate() {
                let step = plain.scale(0, i).abs();
                // A group in which one weight stands out clips it by a few steps at most.
                let close = (w - rounded).abs() <= 4.0 * step + 1e-30;
                assert!(close, "{format} round {round}: {w} became {rounded}, step {step}");
            }
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_with_their_place() {
    let (mut rng, pool) = (Rng(49), WorkerPool::new(3).unwrap());
    let (n, k) = (150, 200);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for format in formats() {
            let mut case = Case::new(&mut rng, n, k);
            case.weights[97 * k + 131] = bad;
            case.weights[140 * k] = bad;
            let error =
                QuantizedMatrix::quantize(Weights::F32(&case.weights), n, k, format, &pool).unwrap_err();
            assert_eq!(error, PackError::NotFinite { part: 0, row: 97, column: 131 });
            let parts = [(Weights::F32(&case.bias), 1), (Weights::F32(&case.weights), n)];
            let error = PackedLinear::pack(&[parts[1]], k, format.into(), &pool).unwrap_err();
            assert!(error.to_string().contains("row 97, column 131"), "{error}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let pool = WorkerPool::new(1).unwrap();
    let w = vec![1.0f32; 64];
    let matrix = QuantizedMatrix::quantize(Weights::F32(&w), 2, 32, QuantFormat::INT4, &pool).unwrap();
    let pack = |format: WeightFormat, rows, k| {
        PackedLinear::pack(&[(Weights::Quantized(matrix.as_ref()), rows)], k, format, &pool).map(|_| ())
    };
    assert_eq!(pack(QuantFormat::INT4.into(), 2, 32), Ok(()));
    assert_eq!(pack(QuantFormat::W4A8.into(), 2, 32), Ok(()), "activations are no part of stored weights");
    for to in [WeightFormat::Bf16, QuantFormat::INT8.into()] {
        let error = pack(to, 2, 32).unwrap_err();
        assert_eq!(error, PackError::Format { part: 0, from: QuantFormat::INT4.into(), to });
        assert!(error.to_string().contains("int4") && error.to_string().contains(&to.to_string()), "{error}");
    }
    let shape = PackError::Shape { part: 0, elements: 64, rows: 1, k: 64 };
    assert_eq!(pack(QuantFormat::INT4.into(), 1, 64), Err(shape));
    let wrong = QuantFormat { group: 48, ..QuantFormat::INT4 };
    let error = QuantizedMatrix::quantize(Weights::F32(&w), 2, 32, wrong, &pool).unwrap_err();
    assert_eq!(error, PackError::Unsupported(QuantFormatError::Group { group: 48 }));
    assert!(PackedLinear::pack(&[(Weights::F32(&w), 2)], 32, wrong.into(), &pool).is_err());
    assert!(QuantizedMatrix::quantize(Weights::F32(&w), 3, 32, QuantFormat::INT8, &pool).is_err());
}

#[test]
fn parts_of_other_lengths_are_refused() {
    let (all_codes, all_scales, all_zeros) = ([0u8; 80], [bf16::ONE; 4], [7u8; 4]);
    let view = |format, codes: usize, scales: usize, zeros: Option<usize>| {
        let zeros = zeros.map(|len| &all_zeros[..len]);
        let parts = QuantizedParts {
            codes: &all_codes[..codes],
            scales: Scales::Bf16(&all_scales[..scales]),
            zeros,
            order: None,
        };
        QuantizedRef::new(2, 40, format, parts).map(|_| ())
    };
    let narrow = QuantFormat { group: 32, zero_point: false, ..QuantFormat::INT4 };
    let asym = QuantFormat { zero_point: true, ..narrow };
    let wide = QuantFormat { group: 32, ..QuantFormat::INT8 };
    assert_eq!(view(narrow, 40, 4, None), Ok(()));
    assert_eq!(view(asym, 40, 4, Some(4)), Ok(()));
    assert_eq!(view(wide, 80, 4, None), Ok(()));
    for (format, codes, scales, zeros, what) in [
        (wide, 79, 4, None, "codes"),
        (narrow, 39, 4, None, "codes"),
        (narrow, 40, 3, None, "scales"),
        (asym, 40, 4, None, "zero points"),
        (asym, 40, 4, Some(3), "zero points"),
        (narrow, 40, 4, Some(4), "zero points"),
    ] {
        let message = view(format, codes, scales, zeros).unwrap_err().to_string();
        assert!(message.contains(what) && message.contains("2 rows of 40"), "{message}");
    }
}

#[test]
fn the_size_is_known_before_packing() {
    let (mut rng, pool) = (Rng(50), WorkerPool::new(1).unwrap());
    for format in formats() {
        let packed = Case::new(&mut rng, 33, 130).pack(format, &pool);
        let planned = PackedLinear::packed_bytes(LinearShape { n: 33, k: 130 }, format.into());
        assert_eq!(packed.bytes() as u64, planned, "{format}");
    }
    let bytes = PackedLinear::packed_bytes(LinearShape { n: 4096, k: 4096 }, QuantFormat::INT4.into());
    assert_eq!(bytes, 4096 * 4096 / 2 + 4096 * 4096 / 64 * 2);
}
