//! Rows in groups with weights of their own, and the way of rows to experts and back.

use crate::common::{Case, Rng, all_kernels, assert_close, assert_same, linear, scalar};
use pagoda_kernels::{
    Glu, GroupScratch, GroupedInput, Kernels, LinearRef, LinearScratch, LinearShape, PackedLinear,
    RouteWeights, RoutedRow, RowGroup, WeightFormat, Weights, WorkerPool,
};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const EXPERTS: usize = 7;

fn formats() -> Vec<WeightFormat> {
    let quantized =
        ["int8", "w4a8", "int4-g32-asym"].map(|name| WeightFormat::Quantized(name.parse().unwrap()));
    [WeightFormat::F32, WeightFormat::Bf16].into_iter().chain(quantized).collect()
}

/// Groups of random sizes, of some of the weights, in order.
fn groups(rng: &mut Rng) -> (Vec<RowGroup>, usize) {
    let mut rows = 0;
    let mut all = Vec::new();
    for weights in 0..EXPERTS as u32 {
        let count = rng.pick(&[0, 1, 1, 2, 5, 16, 17, 40]);
        if count > 0 {
            all.push(RowGroup { weights, rows: rows..rows + count });
            rows += count;
        }
    }
    (all, rows as usize)
}

/// Runs one operation of all groups with scratch memory of exactly its size.
fn grouped(
    kernels: &Kernels,
    pool: &WorkerPool,
    input: GroupedInput<'_>,
    (k, columns): (usize, usize),
    glu: Option<Glu>,
) -> Vec<f32> {
    let rows = input.x.len() / k;
    let mut scratch = GroupScratch::new(rows, k, input.groups.len()).unwrap();
    assert_eq!(scratch.bytes(), GroupScratch::planned_bytes(rows, k, input.groups.len()));
    let mut out = vec![f32::NAN; rows * columns];
    match glu {
        Some(kind) => kernels.grouped_gated_linear(pool, input, kind, &mut scratch, &mut out),
        None => kernels.grouped_linear(pool, input, &mut scratch, &mut out),
    }
    out
}

#[test]
fn a_group_has_the_bits_of_its_rows_alone_and_no_other_weights_are_asked_for() {
    let mut rng = Rng(80);
    for threads in [1, 2, 5] {
        let pool = WorkerPool::new(threads).unwrap();
        for (n, k) in [(33, 65), (96, 130), (40, 530)] {
            let cases: Vec<Case> = (0..EXPERTS).map(|_| Case::new(&mut rng, n, k)).collect();
            let (groups, rows) = groups(&mut rng);
            let x = rng.floats(rows * k);
            for format in formats() {
                let packed: Vec<_> = cases.iter().map(|case| case.pack(format, &pool)).collect();
                for kernels in all_kernels() {
                    let asked = AtomicU32::new(0);
                    let weights = |index: u32| {
                        asked.fetch_or(1 << index, Relaxed);
                        LinearRef { weight: &packed[index as usize], bias: Some(&cases[index as usize].bias) }
                    };
                    let input = GroupedInput { x: &x, groups: &groups, weights: &weights };
                    let out = grouped(kernels, &pool, input, (k, n), None);
                    let used = groups.iter().fold(0, |used, group| used | 1 << group.weights);
                    assert_eq!(asked.into_inner(), used);
                    for RowGroup { weights, rows } in &groups {
                        let (start, end) = (rows.start as usize, rows.end as usize);
                        let mut want = vec![f32::NAN; (end - start) * n];
                        let (w, bias) = (&packed[*weights as usize], &cases[*weights as usize].bias);
                        linear(kernels, &pool, &x[start * k..end * k], w, Some(bias), &mut want);
                        let what = format!("{} {format} {threads} threads, rows {rows:?}", kernels.isa());
                        assert_same(&what, &out[start * n..end * n], &want);
                    }
                }
            }
        }
    }
}

#[test]
fn gated_groups_have_the_bits_of_their_rows_alone() {
    let mut rng = Rng(81);
    let pool = WorkerPool::new(3).unwrap();
    let kind = Glu::ClampedSwish { alpha: 1.7, limit: 3.0 };
    for (n, k) in [(31, 70), (96, 64)] {
        let cases: Vec<[Case; 2]> =
            (0..EXPERTS).map(|_| [(); 2].map(|()| Case::new(&mut rng, n, k))).collect();
        let (groups, rows) = groups(&mut rng);
        let x = rng.floats(rows * k);
        for format in formats() {
            let units: Vec<_> = cases
                .iter()
                .map(|[gate, up]| {
                    let both = [Weights::F32(&gate.weights), Weights::F32(&up.weights)];
                    let w = PackedLinear::pack_gated(both, LinearShape { n, k }, format, &pool).unwrap();
                    (w, PackedLinear::gated_bias(&gate.bias, &up.bias))
                })
                .collect();
            for kernels in all_kernels() {
                let weights = |index: u32| {
                    let (weight, bias) = &units[index as usize];
                    LinearRef { weight, bias: Some(bias) }
                };
                let input = GroupedInput { x: &x, groups: &groups, weights: &weights };
                let out = grouped(kernels, &pool, input, (k, n), Some(kind));
                for RowGroup { weights, rows } in &groups {
                    let (start, end) = (rows.start as usize, rows.end as usize);
                    let (w, bias) = &units[*weights as usize];
                    let mut scratch = LinearScratch::new(end - start, k).unwrap();
                    let mut want = vec![f32::NAN; (end - start) * n];
                    let x = &x[start * k..end * k];
                    kernels.gated_linear(&pool, x, (w, kind), Some(bias), &mut scratch, &mut want);
                    let what = format!("{} {format} rows {rows:?}", kernels.isa());
                    assert_same(&what, &out[start * n..end * n], &want);
                }
            }
        }
    }
}

#[test]
fn no_groups_are_no_work_and_wrong_ones_are_refused() {
    let pool = WorkerPool::new(1).unwrap();
    let case = Case::new(&mut Rng(82), 3, 4);
    let packed = case.pack(WeightFormat::F32, &pool);
    let run = |groups: &[RowGroup], x: &[f32]| {
        let weights = |_| LinearRef { weight: &packed, bias: None };
        let input = GroupedInput { x, groups, weights: &weights };
        let mut scratch = GroupScratch::new(2, 4, 2).unwrap();
        let mut out = vec![0.0; x.len() / 4 * 3];
        scalar().grouped_linear(&pool, input, &mut scratch, &mut out);
    };
    run(&[], &[]);
    let refused = |groups: &[RowGroup], x: &[f32]| {
        let call = std::panic::AssertUnwindSafe(|| run(groups, x));
        std::panic::catch_unwind(call).unwrap_err().downcast_ref::<String>().cloned().unwrap()
    };
    let group = |rows| RowGroup { weights: 0, rows };
    assert!(refused(&[group(0..1), group(2..3)], &[0.0; 12]).contains("after row 1"));
    assert!(refused(&[group(0..1)], &[0.0; 8]).contains("x is [1, 4]"));
    assert!(refused(&[group(0..40)], &[0.0; 160]).contains("too small"));
}

/// Chosen experts and their weights, `per_row` of each row.
fn route(
    pool: &WorkerPool,
    scores: &[f32],
    experts: usize,
    per_row: usize,
    rule: RouteWeights,
) -> (Vec<u32>, Vec<f32>) {
    let choices = scores.len() / experts * per_row;
    let (mut chosen, mut weights) = (vec![u32::MAX; choices], vec![f32::NAN; choices]);
    scalar().route(pool, (scores, experts), rule, &mut chosen, &mut weights);
    (chosen, weights)
}

#[test]
fn the_largest_scores_are_chosen_and_weighed_by_their_softmax() {
    let mut rng = Rng(83);
    for (experts, per_row) in [(1, 1), (4, 2), (8, 8), (60, 4), (128, 8)] {
        // Enough rows for several workers.
        let rows = 300;
        let mut scores = rng.floats(rows * experts);
        // Equal scores: the first ones win.
        scores[..experts].fill(0.25);
        for rule in [RouteWeights::All, RouteWeights::Chosen] {
            let [one, three] =
                [1, 3].map(|n| route(&WorkerPool::new(n).unwrap(), &scores, experts, per_row, rule));
            assert_eq!(one, three);
            assert_eq!(one.0[..per_row], (0..per_row as u32).collect::<Vec<_>>());
            for (row, scores) in scores.chunks(experts).enumerate() {
                let chosen = &one.0[row * per_row..(row + 1) * per_row];
                let mut order: Vec<usize> = (0..experts).collect();
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                assert!(chosen.iter().map(|&e| e as usize).eq(order[..per_row].iter().copied()), "row {row}");
                let exp = |expert: usize| f64::from(scores[expert]).exp();
                let over = if rule == RouteWeights::All { experts } else { per_row };
                let sum: f64 = order[..over].iter().map(|&expert| exp(expert)).sum();
                let want: Vec<f32> = order[..per_row].iter().map(|&e| (exp(e) / sum) as f32).collect();
                let weights = &one.1[row * per_row..(row + 1) * per_row];
                assert_close(&format!("row {row}"), weights, &want, |i| 1e-6 * f64::from(want[i]));
            }
        }
    }
}

#[test]
fn scores_that_are_no_numbers_make_weights_that_are_none() {
    let pool = WorkerPool::new(1).unwrap();
    let scores = [1.0, f32::NAN, 2.0, 0.0, 3.0, f32::NEG_INFINITY];
    let (chosen, weights) = route(&pool, &scores, 3, 2, RouteWeights::Chosen);
    assert_eq!(chosen, [0, 1, 1, 0]);
    assert!(
        weights[0].is_nan() && weights[1].is_nan() && weights[2] > 0.9 && weights[3] < 0.1,
        "{weights:?}"
    );
    let infinite = route(&pool, &[f32::INFINITY, 0.0], 2, 1, RouteWeights::All);
    assert!(infinite.1[0].is_nan(), "{infinite:?}");
}

#[test]
fn rows_go_out_and_come_back_weighted_in_order() {
    let mut rng = Rng(84);
    for (m, width, count) in [(1, 1, 3), (5, 70, 12), (40, 200, 300)] {
        let x = rng.floats(m * width);
        let rows: Vec<RoutedRow> =
            (0..count).map(|_| RoutedRow { row: rng.below(m) as u32, weight: rng.float() }).collect();
        let start = rng.floats(m * width);
        let mut want = start.clone();
        for RoutedRow { row, weight } in &rows {
            for column in 0..width {
                let at = *row as usize * width + column;
                want[at] += weight * x[at];
            }
        }
        for threads in [1, 3] {
            let pool = WorkerPool::new(threads).unwrap();
            let (mut gathered, mut out) = (vec![f32::NAN; count * width], start.clone());
            scalar().gather_rows(&pool, &x, width, &rows, &mut gathered);
            scalar().add_weighted_rows(&pool, &gathered, width, &rows, &mut out);
            assert_same(&format!("{m} rows of {width}"), &out, &want);
        }
    }
}
