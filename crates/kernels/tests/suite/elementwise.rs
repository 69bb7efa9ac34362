//! Norms, rotation, activations, sums and statistics of a row.

use crate::common::{EPS, Rng, all_kernels, assert_close, assert_same, linear, scalar};
use pagoda_kernels::{
    Angles, Glu, HeadRows, Isa, Kernels, LinearScratch, LinearShape, Map, Norm, NormKind, PackedLinear,
    Pairing, WeightFormat, Weights, WorkerPool,
};

const ACTIVATIONS: [Glu; 4] = [Glu::Silu, Glu::GeluTanh, Glu::Gelu, Glu::Relu];

/// Below, at and above every vector length, and the sizes of models.
const LENGTHS: [usize; 17] = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 576, 1000, 4096];

fn each(test: impl Fn(&Kernels, &WorkerPool, usize)) {
    let pool = WorkerPool::new(2).unwrap();
    for kernels in all_kernels() {
        LENGTHS.iter().for_each(|&n| test(kernels, &pool, n));
    }
}

/// Norms of both kinds, with bias and without.
fn norms<'a>(weight: &'a [f32], bias: &'a [f32], eps: f32) -> [Norm<'a>; 3] {
    let norm = Norm { kind: NormKind::Rms, weight, bias: None, eps };
    let layer = Norm { kind: NormKind::Layer, ..norm };
    [norm, layer, Norm { bias: Some(bias), ..layer }]
}

#[test]
fn norms_agree() {
    each(|kernels, pool, n| {
        let mut rng = Rng(n as u64);
        for (m, offset) in [(1, 0.0), (3, 2.0), (20, -0.5)] {
            let x: Vec<f32> = rng.floats(m * n).iter().map(|x| x + offset).collect();
            let (weight, bias) = (rng.floats(n), rng.floats(n));
            for norm in norms(&weight, &bias, 1e-5) {
                let (mut out, mut want) = (vec![f32::NAN; m * n], vec![0.0; m * n]);
                kernels.norm(pool, &x, &norm, &mut out);
                scalar().norm(pool, &x, &norm, &mut want);
                let what = format!("{} {:?} m={m} n={n}", kernels.isa(), norm.kind);
                let bound = |i: usize| {
                    let (w, b) = (f64::from(weight[i % n].abs()), f64::from(bias[i % n].abs()));
                    // Around a mean of many elements, their rounding weighs as much as the largest of them.
                    let around =
                        if norm.kind == NormKind::Layer { (n as f64).sqrt() * 8.0 * w + b } else { 0.0 };
                    (n as f64 / 8.0 + 8.0) * EPS * (f64::from(want[i].abs()) + around)
                };
                assert_close(&what, &out, &want, bound);
                for i in [0, m - 1] {
                    let mut alone = vec![0.0; n];
                    kernels.norm(pool, &x[i * n..(i + 1) * n], &norm, &mut alone);
                    assert_same(&what, &alone, &out[i * n..(i + 1) * n]);
                }
            }
        }
    });
}

#[test]
fn scalar_norms_are_the_plain_formulas() {
    let pool = WorkerPool::new(1).unwrap();
    let mut out = [0.0; 2];
    let [rms, layer, shifted] = norms(&[1.0, 2.0], &[0.25, -1.0], 0.0);
    scalar().norm(&pool, &[3.0, 4.0], &rms, &mut out);
    let root = 12.5f64.sqrt();
    assert_close("3, 4", &out, &[(3.0 / root) as f32, (8.0 / root) as f32], |_| 1e-9);
    scalar().norm(&pool, &[3.0, 7.0], &layer, &mut out);
    assert_eq!(out, [-1.0, 2.0]);
    scalar().norm(&pool, &[3.0, 7.0], &shifted, &mut out);
    assert_eq!(out, [-0.75, 1.0]);
}

#[test]
fn a_norm_of_heads_is_the_norm_of_each_in_place() {
    let pool = WorkerPool::new(2).unwrap();
    for kernels in all_kernels() {
        for (rows, head_dim) in [(1, 64), (3, 6), (40, 80), (200, 128)] {
            let mut rng = Rng(head_dim as u64);
            let heads = HeadRows { rows, stride: 5 * head_dim + 3, heads: 4, head_dim };
            let before = rng.floats(rows * heads.stride);
            let (weight, bias) = (rng.floats(4 * head_dim), rng.floats(4 * head_dim));
            for (norm, own) in norms(&weight, &bias, 1e-6).into_iter().flat_map(|n| [(n, true), (n, false)]) {
                let part = |start: usize| Norm {
                    weight: &weight[start..start + head_dim],
                    bias: norm.bias.map(|bias| &bias[start..start + head_dim]),
                    ..norm
                };
                let mut x = before.clone();
                let shared = part(0);
                kernels.norm_heads(&pool, heads, &mut x, if own { &norm } else { &shared });
                for row in 0..rows {
                    let (old, got) = (&before[row * heads.stride..], &x[row * heads.stride..]);
                    for head in 0..4 {
                        let range = head * head_dim..(head + 1) * head_dim;
                        let mut want = vec![0.0; head_dim];
                        let norm = part(if own { range.start } else { 0 });
                        kernels.norm(&pool, &old[range.clone()], &norm, &mut want);
                        assert_same(kernels.isa().name(), &got[range], &want);
                    }
                    let rest = 4 * head_dim..heads.stride;
                    assert_same("between rows", &got[rest.clone()], &old[rest]);
                }
            }
        }
    }
}

#[test]
fn rope_agrees_and_turns_by_the_angle() {
    let pool = WorkerPool::new(2).unwrap();
    for (head_dim, r, rows) in [(2, 1, 1), (6, 2, 3), (64, 32, 2), (80, 20, 5), (128, 64, 70), (34, 17, 9)] {
        let mut rng = Rng(head_dim as u64);
        let heads = HeadRows { rows, stride: 3 * head_dim + 1, heads: 3, head_dim };
        let before = rng.floats(rows * heads.stride);
        let angles = rng.floats(rows * r);
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        for (pairing, other) in [(Pairing::Halves, r), (Pairing::Neighbours, 1)] {
            let turned = |kernels: &Kernels| {
                let mut x = before.clone();
                kernels.rope(&pool, heads, &mut x, &Angles { cos: &cos, sin: &sin, pairing });
                x
            };
            let want = turned(scalar());
            let (x, y, a) = (f64::from(before[0]), f64::from(before[other]), f64::from(angles[0]));
            assert!((f64::from(want[0]) - (x * a.cos() - y * a.sin())).abs() < 1e-5);
            assert!((f64::from(want[other]) - (y * a.cos() + x * a.sin())).abs() < 1e-5);
            for kernels in all_kernels() {
                assert_close(kernels.isa().name(), &turned(kernels), &want, |_| 4.0 * EPS * 16.0);
            }
            for (i, (got, old)) in want.iter().zip(&before).enumerate() {
                let place = i % heads.stride;
                if place >= 3 * head_dim || place % head_dim >= 2 * r {
                    assert_eq!(got.to_bits(), old.to_bits(), "element {i} is not rotated");
                }
            }
        }
    }
}

/// `kind(gate) * up`, row by row of `[m, n]`.
fn gated(kernels: &Kernels, pool: &WorkerPool, kind: Glu, n: usize, [gate, up]: [&[f32]; 2]) -> Vec<f32> {
    let shape = LinearShape { n, k: 1 };
    let unit = |gate: &[f32], up: &[f32]| {
        let weights = [Weights::F32(gate), Weights::F32(up)];
        let w = PackedLinear::pack_gated(weights, shape, WeightFormat::F32, pool).unwrap();
        let (mut scratch, mut out) = (LinearScratch::new(1, 1).unwrap(), vec![f32::NAN; n]);
        kernels.gated_linear(pool, &[1.0], (&w, kind), None, &mut scratch, &mut out);
        out
    };
    gate.chunks(n).zip(up.chunks(n)).flat_map(|(gate, up)| unit(gate, up)).collect()
}

#[test]
fn gated_units_agree() {
    each(|kernels, pool, n| {
        let mut rng = Rng(n as u64);
        for kind in ACTIVATIONS.into_iter().chain([Glu::ClampedSwish { alpha: 1.7, limit: 4.0 }]) {
            let [gate, up] = [(); 2].map(|()| rng.floats(n).iter().map(|x| 3.0 * x).collect::<Vec<_>>());
            let out = gated(kernels, pool, kind, n, [&gate, &up]);
            let want = gated(scalar(), pool, kind, n, [&gate, &up]);
            // The exponent of GELU is a cubic, whose rounding errors are relative to the exponent.
            let bound =
                |i: usize| 60.0 * EPS * f64::from(want[i].abs()) + 1e-12 * (1.0 + f64::from(up[i].abs()));
            assert_close(&format!("{} {kind:?} {n}", kernels.isa()), &out, &want, bound);
        }
    });
}

#[test]
fn clamped_units_hold_both_inputs_and_pass_nan_on() {
    let pool = WorkerPool::new(1).unwrap();
    let kind = Glu::ClampedSwish { alpha: 1.5, limit: 2.0 };
    let (gate, up) = ([50.0, -50.0, 1.0, 1.0, 1.0, f32::NAN, 1.0], [1.0, 1.0, 9.0, -9.0, 0.5, 1.0, f32::NAN]);
    let swish = |x: f32| x / (1.0 + (-1.5 * x).exp());
    let want = [2.0 * swish(2.0), 0.0, 3.0 * swish(1.0), -swish(1.0), 1.5 * swish(1.0)];
    for kernels in all_kernels() {
        let out = gated(kernels, &pool, kind, 7, [&gate, &up]);
        assert_close(kernels.isa().name(), &out[..5], &want, |_| 1e-5);
        assert!(out[5].is_nan() && out[6].is_nan(), "{}: {out:?}", kernels.isa());
    }
}

#[test]
fn functions_of_elements_agree_wherever_an_element_stands() {
    let maps = ACTIVATIONS.map(Map::Activate).into_iter().chain([Map::Scale(0.22), Map::Softcap(30.0)]);
    for map in maps {
        each(|kernels, pool, n| {
            let x: Vec<f32> = Rng(n as u64).floats(n).iter().map(|x| 3.0 * x).collect();
            let apply = |kernels: &Kernels, x: &[f32]| {
                let mut x = x.to_vec();
                kernels.map(pool, &mut x, map);
                x
            };
            let (out, want) = (apply(kernels, &x), apply(scalar(), &x));
            let what = format!("{} {map:?} {n}", kernels.isa());
            let least = if matches!(map, Map::Softcap(_)) { 1e-5 } else { 1e-12 };
            assert_close(&what, &out, &want, |i| 60.0 * EPS * f64::from(want[i].abs()) + least);
            let at = n / 2;
            assert_same(&what, &apply(kernels, &x[at..at + 1]), &out[at..at + 1]);
            assert!(apply(kernels, &[f32::NAN])[0].is_nan(), "{what}");
        });
    }
}

#[test]
fn a_gated_unit_is_its_activation_of_two_linear_operations() {
    let mut formats = vec![WeightFormat::F32, WeightFormat::Bf16];
    formats.extend(["int8", "w4a8", "int4-asym"].map(|name| WeightFormat::Quantized(name.parse().unwrap())));
    let mut rng = Rng(31);
    for (n, k, m) in [(1, 1, 3), (31, 70, 1), (64, 513, 5), (97, 40, 130), (640, 33, 17)] {
        let [gate, up] = [(); 2].map(|()| rng.floats(n * k));
        let [gate_bias, up_bias] = [(); 2].map(|()| rng.floats(n));
        let x = rng.floats(m * k);
        for threads in [1, 3] {
            let pool = WorkerPool::new(threads).unwrap();
            for (kernels, &format) in
                all_kernels().flat_map(|kernels| formats.iter().map(move |f| (kernels, f)))
            {
                let one = |w: &[f32], bias: &[f32]| {
                    let w = PackedLinear::pack(&[(Weights::F32(w), n)], k, format, &pool).unwrap();
                    let mut out = vec![f32::NAN; m * n];
                    linear(kernels, &pool, &x, &w, Some(bias), &mut out);
                    out
                };
                let [gates, ups] = [one(&gate, &gate_bias), one(&up, &up_bias)];
                let want = gated(kernels, &pool, Glu::Silu, n, [&gates, &ups]);
                let weights = [Weights::F32(&gate), Weights::F32(&up)];
                let w = PackedLinear::pack_gated(weights, LinearShape { n, k }, format, &pool).unwrap();
                assert_eq!(PackedLinear::packed_gated_bytes(LinearShape { n, k }, format), w.bytes() as u64);
                let bias = PackedLinear::gated_bias(&gate_bias, &up_bias);
                let (mut scratch, mut out) = (LinearScratch::new(m, k).unwrap(), vec![f32::NAN; m * n]);
                kernels.gated_linear(&pool, &x, (&w, Glu::Silu), Some(&bias), &mut scratch, &mut out);
                assert_same(&format!("{} {format} {m}x{n}x{k}", kernels.isa()), &out, &want);
            }
        }
    }
}

#[test]
fn gates_saturate_and_pass_nan_on() {
    let pool = WorkerPool::new(1).unwrap();
    let gates = [0.0, 200.0, -200.0, 1e30, -1e30, f32::INFINITY, f32::NAN, -0.0, 1e-30];
    for kernels in all_kernels() {
        for kind in ACTIVATIONS {
            let out = gated(kernels, &pool, kind, gates.len(), [&gates, &[2.0; 9]]);
            let what = format!("{} {kind:?} {out:?}", kernels.isa());
            assert!(out[0] == 0.0 && out[1] == 400.0 && out[2].abs() < 1e-30 && out[3] == 2e30, "{what}");
            assert!(out[4].abs() < 1e-30 && out[5] == f32::INFINITY && out[6].is_nan(), "{what}");
            let small = if kind == Glu::Relu { 2e-30 } else { 1e-30 };
            assert!(out[7] == 0.0 && (out[8] - small).abs() < 1e-36, "{what}");
        }
    }
}

#[test]
fn statistics_of_a_row_find_the_first_largest_and_what_is_not_finite() {
    each(|kernels, _, n| {
        let mut rng = Rng(n as u64);
        let mut x = rng.floats(n);
        let (place, again) = (rng.below(n), rng.below(n));
        (x[place], x[again]) = (50.0, 50.0);
        let stats = kernels.row_stats(&x);
        assert_eq!(
            (stats.max, stats.argmax, stats.finite),
            (50.0, place.min(again), true),
            "{}",
            kernels.isa()
        );
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = x.clone();
            x[rng.below(n)] = bad;
            assert!(!kernels.row_stats(&x).finite, "{} {bad}", kernels.isa());
        }
        // Masked elements are not finite, but the rest can still be asked for.
        let mut x = vec![f32::NEG_INFINITY; n];
        x[place] = -3.0;
        let stats = kernels.row_stats(&x);
        assert_eq!((stats.max, stats.argmax, stats.finite), (-3.0, place, n == 1), "{}", kernels.isa());
    });
    all_kernels().for_each(|kernels| assert_eq!(kernels.row_stats(&[]).max, f32::NEG_INFINITY));
}

#[test]
fn a_sum_and_its_norm_are_those_of_two_operations() {
    each(|kernels, pool, n| {
        let mut rng = Rng(n as u64);
        // Enough rows for several workers.
        let rows = 20_000 / n + 3;
        let (x, y, weight) = (rng.floats(rows * n), rng.floats(rows * n), rng.floats(n));
        let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        let mut alone = x.clone();
        kernels.add(pool, &mut alone, &y);
        assert_same(kernels.isa().name(), &alone, &sum);
        for norm in norms(&weight, &weight, 1e-6) {
            let mut normed = vec![0.0; rows * n];
            kernels.norm(pool, &sum, &norm, &mut normed);
            let (mut x, mut h) = (x.clone(), y.clone());
            kernels.add_norm(pool, &mut x, &norm, &mut h);
            assert_same(kernels.isa().name(), &x, &sum);
            assert_same(kernels.isa().name(), &h, &normed);
        }
    });
}

#[test]
fn weights_have_the_same_bits_everywhere() {
    each(|kernels, _, n| {
        let mut rng = Rng(n as u64);
        let mut x: Vec<f32> = rng.floats(n).iter().map(|x| x * 60.0).collect();
        x[rng.below(n)] = f32::NEG_INFINITY;
        x[rng.below(n)] = 0.0;
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for scale in [1.0, 0.3, 7.5] {
            let mut out = vec![f32::NAN; n];
            kernels.weigh(&x, max, scale, &mut out);
            for (x, out) in x.iter().zip(&out) {
                let want = pagoda_kernels::weight((x - max) * scale);
                assert_eq!(out.to_bits(), want.to_bits(), "{}: {x} of {max} at {scale}", kernels.isa());
            }
        }
    });
}

#[test]
fn the_exponential_is_accurate_everywhere() {
    for kernels in all_kernels() {
        let mut x = -104.5f32;
        while x < 88.7 {
            // Tails and whole registers take different paths to one function.
            for n in [1, 16] {
                let sum = kernels.sum_exp(&[x; 16][..n], 0.0, 1.0);
                let want = n as f64 * f64::from(x).exp();
                let error = (f64::from(sum) - want).abs();
                let bound = 2.4e-7 * want + n as f64 * f64::from(f32::from_bits(1));
                let overflow = want > f64::from(f32::MAX) && sum.is_infinite();
                assert!(error <= bound || overflow, "{} exp({x}) * {n} is {sum}, want {want}", kernels.isa());
            }
            x += 0.0173;
        }
        assert_eq!(kernels.sum_exp(&[88.8], 0.0, 1.0), f32::INFINITY);
        assert_eq!(kernels.sum_exp(&[0.0], 0.0, 1.0), 1.0);
        assert_eq!(kernels.sum_exp(&[f32::NEG_INFINITY], 0.0, 1.0), 0.0);
        assert_eq!(kernels.sum_exp(&[f32::INFINITY], 0.0, 1.0), f32::INFINITY);
        assert!(kernels.sum_exp(&[f32::NAN], 0.0, 1.0).is_nan());
        assert!(kernels.sum_exp(&[f32::NAN; 40], 0.0, 1.0).is_nan());
    }
}

#[test]
fn sums_of_exponentials_agree() {
    each(|kernels, _, n| {
        let x = Rng(n as u64).floats(n);
        let (sum, want) = (kernels.sum_exp(&x, 8.0, 1.3), scalar().sum_exp(&x, 8.0, 1.3));
        let close = (f64::from(sum) - f64::from(want)).abs() <= 200.0 * EPS * f64::from(want);
        assert!(close, "{} n={n}: {sum}, want {want}", kernels.isa());
    });
}

#[test]
fn the_strongest_version_is_the_default() {
    assert_eq!(Some(Kernels::best().isa()), Isa::available().last());
    assert!(Isa::Scalar.is_available());
}
