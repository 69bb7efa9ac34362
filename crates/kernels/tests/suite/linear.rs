//! Linear operation.

use crate::common::{Case, EPS, Rng, all_kernels, assert_close, assert_same, linear, scalar};
use half::{bf16, f16};
use pagoda_kernels::{Isa, LinearShape, PackError, PackedLinear, WeightFormat, Weights, WorkerPool};

const FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::F16];

/// `(n, k)`: panels of 32 and their neighbours, odd k, k across the blocks of 512 steps.
const SHAPES: [(usize, usize); 14] = [
    (1, 1),
    (1, 17),
    (2, 3),
    (16, 8),
    (31, 31),
    (32, 64),
    (33, 65),
    (64, 511),
    (95, 512),
    (97, 513),
    (130, 40),
    (160, 1025),
    (257, 90),
    (300, 1024),
];

fn rounded(x: f32, format: WeightFormat) -> f64 {
    match format {
        WeightFormat::F32 => f64::from(x),
        WeightFormat::Bf16 => bf16::from_f32(x).to_f64(),
        WeightFormat::F16 => f16::from_f32(x).to_f64(),
        WeightFormat::Fp8 | WeightFormat::Quantized(_) | WeightFormat::Blocks(..) => {
            unreachable!("FORMATS are floats")
        }
    }
}

/// Whether activations are rounded to bf16 before they are multiplied.
fn rounds_activations(isa: Isa, format: WeightFormat) -> bool {
    isa >= Isa::Avx512Bf16 && format == WeightFormat::Bf16
}

/// `Σ |x| |w| + |bias|` of each output: what errors of rounding are relative to.
fn magnitudes(case: &Case, x: &[f32], format: WeightFormat, bias: Option<&[f32]>) -> Vec<f64> {
    let row = |x: &[f32], j: usize| -> f64 {
        let weights = &case.weights[j * case.k..(j + 1) * case.k];
        let sum: f64 =
            x.iter().zip(weights).map(|(&x, &w)| f64::from(x).abs() * rounded(w, format).abs()).sum();
        sum + bias.map_or(0.0, |bias| f64::from(bias[j]).abs())
    };
    x.chunks(case.k).flat_map(|x| (0..case.n).map(move |j| row(x, j))).collect()
}

#[test]
fn scalar_is_the_plain_formula() {
    let (mut rng, pool) = (Rng(1), WorkerPool::new(2).unwrap());
    for (n, k) in SHAPES {
        let case = Case::new(&mut rng, n, k);
        let x = rng.floats(3 * k);
        for format in FORMATS {
            let mut out = vec![f32::NAN; 3 * n];
            linear(scalar(), &pool, &x, &case.pack(format, &pool), Some(&case.bias), &mut out);
            let plain: Vec<f32> = (0..3 * n)
                .map(|i| {
                    let (x, w) = (&x[i / n * k..][..k], &case.weights[i % n * k..][..k]);
                    let dot: f64 = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * rounded(w, format)).sum();
                    (dot + f64::from(case.bias[i % n])) as f32
                })
                .collect();
            let size = magnitudes(&case, &x, format, Some(&case.bias));
            assert_close(&format!("{format:?} {n}x{k}"), &out, &plain, |i| 2.0 * EPS * size[i]);
        }
    }
}

#[test]
fn every_version_agrees_with_scalar() {
    let mut rng = Rng(2);
    for threads in [1, 3] {
        let pool = WorkerPool::new(threads).unwrap();
        for (n, k) in SHAPES {
            let case = Case::new(&mut rng, n, k);
            for format in FORMATS {
                let w = case.pack(format, &pool);
                for m in [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 25, 100] {
                    let x = rng.floats(m * k);
                    let bias = (m % 2 == 1).then_some(&case.bias[..]);
                    let narrow: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
                    // A chain of at most 512 additions, then one per block of 512.
                    let steps = (k.min(512) + k.div_ceil(512) + 1) as f64;
                    for kernels in all_kernels() {
                        let seen = if rounds_activations(kernels.isa(), format) { &narrow } else { &x };
                        let (mut want, mut out) = (vec![0.0; m * n], vec![f32::NAN; m * n]);
                        linear(scalar(), &pool, seen, &w, bias, &mut want);
                        let size = magnitudes(&case, seen, format, bias);
                        linear(kernels, &pool, &x, &w, bias, &mut out);
                        let what = format!("{} {format:?} m={m} n={n} k={k}", kernels.isa());
                        assert_close(&what, &out, &want, |i| EPS * steps * size[i]);
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_and_on_any_number_of_threads() {
    let mut rng = Rng(3);
    let pools: Vec<_> = [1, 2, 3, 5].into_iter().map(|n| WorkerPool::new(n).unwrap()).collect();
    for (n, k) in [(1, 7), (33, 65), (130, 513), (97, 1537), (300, 64)] {
        let case = Case::new(&mut rng, n, k);
        for format in FORMATS {
            let w = case.pack(format, &pools[0]);
            let x = rng.floats(110 * k);
            for kernels in all_kernels() {
                let mut whole = vec![0.0; 110 * n];
                linear(kernels, &pools[0], &x, &w, Some(&case.bias), &mut whole);
                for (round, m) in [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 24, 96, 97, 109].into_iter().enumerate()
                {
                    let first = rng.below(110 - m + 1);
                    let mut part = vec![f32::NAN; m * n];
                    let rows = &x[first * k..(first + m) * k];
                    linear(kernels, &pools[round % pools.len()], rows, &w, Some(&case.bias), &mut part);
                    let what = format!("{} {format:?} rows {first}+{m} n={n} k={k}", kernels.isa());
                    assert_same(&what, &part, &whole[first * n..(first + m) * n]);
                }
            }
        }
    }
}

#[test]
fn stacked_parts_equal_one_matrix_and_sources_of_every_type_are_read() {
    let (mut rng, pool) = (Rng(4), WorkerPool::new(2).unwrap());
    let (k, rows) = (45, [40, 7, 20]);
    let matrices: Vec<Vec<f32>> = rows.iter().map(|&n| rng.floats(n * k)).collect();
    let middle: Vec<bf16> = matrices[1].iter().map(|&x| bf16::from_f32(x)).collect();
    let last: Vec<f16> = matrices[2].iter().map(|&x| f16::from_f32(x)).collect();
    let parts = [
        (Weights::F32(&matrices[0]), rows[0]),
        (Weights::Bf16(&middle), rows[1]),
        (Weights::F16(&last), rows[2]),
    ];
    let stacked = PackedLinear::pack(&parts, k, WeightFormat::F32, &pool).unwrap();
    assert_eq!((stacked.n(), stacked.k()), (67, k));
    let flat: Vec<f32> = matrices[0]
        .iter()
        .copied()
        .chain(middle.iter().map(|x| x.to_f32()))
        .chain(last.iter().map(|x| x.to_f32()))
        .collect();
    let whole = PackedLinear::pack(&[(Weights::F32(&flat), 67)], k, WeightFormat::F32, &pool).unwrap();
    let x = rng.floats(2 * k);
    for kernels in all_kernels() {
        let (mut a, mut b) = (vec![0.0; 134], vec![1.0; 134]);
        linear(kernels, &pool, &x, &stacked, None, &mut a);
        linear(kernels, &pool, &x, &whole, None, &mut b);
        assert_same(kernels.isa().name(), &a, &b);
    }
}

#[test]
fn bad_values_reach_their_outputs_and_no_others() {
    let (mut rng, pool) = (Rng(5), WorkerPool::new(2).unwrap());
    let (n, k) = (70, 515);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for format in FORMATS {
            let mut case = Case::new(&mut rng, n, k);
            case.weights[33 * k + 514] = bad;
            let w = case.pack(format, &pool);
            let mut x = rng.floats(5 * k);
            x[3 * k + 2] = bad;
            for kernels in all_kernels() {
                let mut out = vec![0.0; 5 * n];
                linear(kernels, &pool, &x, &w, None, &mut out);
                for (i, y) in out.iter().enumerate() {
                    let tainted = i / n == 3 || i % n == 33;
                    assert_eq!(
                        y.is_finite(),
                        !tainted,
                        "{} {format:?} {bad}: output {i} is {y}",
                        kernels.isa()
                    );
                }
            }
        }
    }
}

#[test]
fn no_rows_make_no_output() {
    let (mut rng, pool) = (Rng(6), WorkerPool::new(2).unwrap());
    let w = Case::new(&mut rng, 5, 6).pack(WeightFormat::Bf16, &pool);
    all_kernels().for_each(|kernels| linear(kernels, &pool, &[], &w, None, &mut []));
}

#[test]
fn wrong_lengths_are_refused() {
    let pool = WorkerPool::new(1).unwrap();
    let pack = |parts: &[(Weights<'_>, usize)], k| PackedLinear::pack(parts, k, WeightFormat::F32, &pool);
    let six = [0.0; 6];
    let error = pack(&[(Weights::F32(&six), 2), (Weights::F32(&six), 3)], 3).unwrap_err();
    assert_eq!(error, PackError::Shape { part: 1, elements: 6, rows: 3, k: 3 });
    assert!(error.to_string().contains("part 1") && error.to_string().contains('9'), "{error}");
    assert_eq!(pack(&[], 3).unwrap_err(), PackError::Empty { n: 0, k: 3 });
    assert!(pack(&[(Weights::F32(&six), usize::MAX)], 2).is_err());
}

#[test]
fn the_size_is_known_before_packing() {
    let (mut rng, pool) = (Rng(7), WorkerPool::new(1).unwrap());
    for format in FORMATS {
        let packed = Case::new(&mut rng, 33, 7).pack(format, &pool);
        let planned = PackedLinear::packed_bytes(LinearShape { n: 33, k: 7 }, format);
        assert_eq!(packed.bytes() as u64, planned, "{format:?}");
    }
}
