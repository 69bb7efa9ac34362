//! Low-rank updates of some rows, and the sums of gated units that they are added to.

use crate::common::{EPS, Rng, all_kernels, assert_close, assert_same};
use half::{bf16, f16};
use pagoda_kernels::{
    Columns, Glu, Kernels, LinearScratch, LinearShape, LowRank, LowRankFormat, LowRankInput, LowRankPart,
    LowRankScratch, RowGroup, StackedLinear, WeightFormat, Weights, WorkerPool,
};

const FORMATS: [LowRankFormat; 3] = [LowRankFormat::F32, LowRankFormat::Bf16, LowRankFormat::F16];

fn round(format: LowRankFormat, values: &[f32]) -> Vec<f32> {
    let round = |&x: &f32| match format {
        LowRankFormat::F32 => x,
        LowRankFormat::Bf16 => bf16::from_f32(x).to_f32(),
        LowRankFormat::F16 => f16::from_f32(x).to_f32(),
    };
    values.iter().map(round).collect()
}

/// An update of outputs `first..first + n` of operations of k inputs.
struct Case {
    k: usize,
    n: usize,
    rank: usize,
    down: Vec<f32>,
    up: Vec<f32>,
    scale: f32,
    first: usize,
}

impl Case {
    fn new(rng: &mut Rng, (n, k): (usize, usize), rank: usize, first: usize) -> Self {
        let (down, up) = (rng.floats(rank * k), rng.floats(n * rank));
        Self { k, n, rank, down, up, scale: rng.pick(&[0.5, 1.0, 2.3]), first }
    }

    fn part(&self) -> LowRankPart<'_> {
        let (down, up, columns) = (&self.down[..], &self.up[..], Columns::from(self.first));
        LowRankPart { down, up, rank: self.rank, n: self.n, scale: self.scale, columns }
    }

    /// Adds the update to a row, and to `bounds` what rounding may do to it.
    fn add(&self, format: LowRankFormat, x: &[f32], y: &mut [f64], bounds: &mut [f64]) {
        let (down, up) = (round(format, &self.down), round(format, &self.up));
        let dot = |row: &[f32], map: fn(f64) -> f64| -> f64 {
            row.iter().zip(x).map(|(&a, &x)| map(f64::from(a) * f64::from(x))).sum()
        };
        for (column, b) in up.chunks_exact(self.rank).enumerate() {
            let (mut sum, mut size) = (0.0, 0.0);
            for (row, &b) in down.chunks_exact(self.k).zip(b) {
                sum += f64::from(self.scale) * dot(row, |x| x) * f64::from(b);
                size += f64::from(self.scale) * dot(row, f64::abs) * f64::from(b.abs());
            }
            y[self.first + column] += sum;
            bounds[self.first + column] += EPS * (self.k + self.rank + 8) as f64 * size;
        }
    }
}

/// `out` with the updates of `groups` added.
fn updated(
    kernels: &Kernels,
    pool: &WorkerPool,
    (x, k): (&[f32], usize),
    groups: &[RowGroup],
    updates: &[Option<LowRank>],
    (out, stride): (&[f32], usize),
) -> Vec<f32> {
    let mut out = out.to_vec();
    let ranks = updates.iter().flatten().map(LowRank::ranks).max().unwrap();
    let mut scratch = LowRankScratch::new(x.len() / k, ranks).unwrap();
    assert_eq!(scratch.bytes(), LowRankScratch::planned_bytes(x.len() / k, ranks));
    let weights = |number: u32| updates[number as usize].as_ref();
    let input = LowRankInput { x, groups, weights: &weights };
    kernels.add_low_rank(pool, input, &mut scratch, (&mut out, stride));
    out
}

#[test]
fn updates_agree_with_their_definition_and_leave_other_rows_alone() {
    let mut rng = Rng(90);
    for (k, stride) in [(16, 40), (65, 100), (130, 257), (896, 200)] {
        for format in FORMATS {
            let ranks = [rng.pick(&[1, 4, 8]), rng.pick(&[5, 16, 33])];
            let cases = [
                vec![
                    Case::new(&mut rng, (stride / 2, k), ranks[0], 3),
                    Case::new(&mut rng, (7, k), ranks[1], stride - 7),
                ],
                vec![Case::new(&mut rng, (stride, k), ranks[1], 0)],
            ];
            let pack = |parts: &Vec<Case>| {
                let parts: Vec<_> = parts.iter().map(Case::part).collect();
                let packed = LowRank::pack(&parts, k, format).unwrap();
                let size = |p: &LowRankPart<'_>| LowRank::packed_bytes(p.rank, k, p.n, format);
                assert_eq!(packed.bytes() as u64, parts.iter().map(size).sum::<u64>());
                Some(packed)
            };
            let updates: Vec<_> = cases.iter().map(pack).chain([None]).collect();
            let group = |weights, rows| RowGroup { weights, rows };
            let groups = [group(0, 1..2), group(1, 2..21), group(2, 21..23), group(0, 24..25)];
            let (x, out) = (rng.floats(26 * k), rng.floats(26 * stride));
            let mut want: Vec<f64> = out.iter().map(|&y| f64::from(y)).collect();
            let mut bounds: Vec<f64> = want.iter().map(|y| EPS * 2.0 * y.abs()).collect();
            for RowGroup { weights, rows } in &groups {
                for row in rows.clone().map(|row| row as usize) {
                    let at = row * stride..(row + 1) * stride;
                    for case in cases.get(*weights as usize).into_iter().flatten() {
                        let x = &x[row * k..(row + 1) * k];
                        case.add(format, x, &mut want[at.clone()], &mut bounds[at.clone()]);
                    }
                }
            }
            let want: Vec<f32> = want.into_iter().map(|y| y as f32).collect();
            for (threads, kernels) in [1, 2, 5].into_iter().flat_map(|n| all_kernels().map(move |k| (n, k))) {
                let pool = WorkerPool::new(threads).unwrap();
                let got = updated(kernels, &pool, (&x, k), &groups, &updates, (&out, stride));
                let what = format!("{kernels:?} {threads} threads {format:?} k={k} {ranks:?}");
                let bound = |i: usize| bounds[i] + EPS * 2.0 * f64::from(want[i].abs());
                assert_close(&what, &got, &want, bound);
                for row in [0, 21, 22, 23, 25] {
                    let at = row * stride..(row + 1) * stride;
                    assert_same("a row without an update", &got[at.clone()], &out[at]);
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_company() {
    let mut rng = Rng(91);
    let (k, stride, m) = (200, 150, 37);
    let cases: Vec<_> = (0..3).map(|_| Case::new(&mut rng, (stride, k), 13, 0)).collect();
    let (x, out) = (rng.floats(m * k), rng.floats(m * stride));
    for format in FORMATS {
        let updates: Vec<_> =
            cases.iter().map(|case| Some(LowRank::pack(&[case.part()], k, format).unwrap())).collect();
        let groups: Vec<_> = [(0, 0..1), (1, 1..18), (2, 20..36), (1, 36..37)]
            .map(|(weights, rows)| RowGroup { weights, rows })
            .into();
        for kernels in all_kernels() {
            let together =
                updated(kernels, &WorkerPool::new(3).unwrap(), (&x, k), &groups, &updates, (&out, stride));
            for group in &groups {
                for row in group.rows.clone().map(|row| row as usize) {
                    let alone = updated(
                        kernels,
                        &WorkerPool::new(1).unwrap(),
                        (&x[row * k..(row + 1) * k], k),
                        &[RowGroup { weights: group.weights, rows: 0..1 }],
                        &updates,
                        (&out[row * stride..(row + 1) * stride], stride),
                    );
                    let what = format!("{kernels:?} {format:?} row {row}");
                    assert_same(&what, &together[row * stride..(row + 1) * stride], &alone);
                }
            }
        }
    }
}

/// The updates of gate and up go where their sums are.
#[test]
fn sums_and_activation_are_the_gated_unit_and_take_updates() {
    let mut rng = Rng(92);
    let pool = WorkerPool::new(2).unwrap();
    let (m, n, k) = (9, 70, 96);
    let [gate, up] = [rng.floats(n * k), rng.floats(n * k)];
    let x = rng.floats(m * k);
    for formats in [[WeightFormat::F32; 2], [WeightFormat::Bf16; 2]] {
        let matrices = [(Weights::F32(&gate), formats[0]), (Weights::F32(&up), formats[1])];
        let w = StackedLinear::pack_gated(matrices, LinearShape { n, k }, &pool).unwrap();
        let stride = StackedLinear::sums(n);
        let bias = pagoda_kernels::PackedLinear::gated_bias(&gate[..n], &up[..n]);
        for kernels in all_kernels() {
            let mut scratch = LinearScratch::new(m, 2 * k + 128).unwrap();
            let [mut want, mut got] = [vec![f32::NAN; m * n], vec![f32::NAN; m * n]];
            kernels.stacked_gated_linear(&pool, &x, (&w, Glu::Silu), Some(&bias), &mut scratch, &mut want);
            let mut sums = vec![f32::NAN; m * stride];
            kernels.stacked_gated_sums(&pool, &x, &w, Some(&bias), &mut scratch, &mut sums);
            kernels.glu(&pool, (&sums, stride), Glu::Silu, &mut got);
            let what = format!("{kernels:?} {formats:?}");
            assert_same(&what, &got, &want);

            // A gate far above 0 lets all through, so an update of 1 to what it lets through shows as it is.
            let ones = vec![1.0; n];
            let x = vec![1.0; k];
            let down = [&[1.0][..], &vec![0.0; k - 1]].concat();
            let part = |columns, scale| LowRankPart { down: &down, up: &ones, rank: 1, n, scale, columns };
            let parts = [part(Columns::gate(), 100.0), part(Columns::up(), 3.0)];
            let update = [Some(LowRank::pack(&parts, k, LowRankFormat::F32).unwrap())];
            let groups = [RowGroup { weights: 0, rows: 0..1 }];
            let sums = updated(kernels, &pool, (&x, k), &groups, &update, (&vec![0.0; stride], stride));
            let mut out = vec![f32::NAN; n];
            kernels.glu(&pool, (&sums, stride), Glu::Silu, &mut out);
            assert_close(&what, &out, &vec![300.0; n], |_| 1e-3);
        }
    }
}

#[test]
#[should_panic(expected = "change one output")]
fn parts_that_meet_in_an_output_are_a_mistake() {
    let mut rng = Rng(93);
    let cases = [Case::new(&mut rng, (10, 16), 2, 0), Case::new(&mut rng, (10, 16), 2, 9)];
    let _ = LowRank::pack(&[cases[0].part(), cases[1].part()], 16, LowRankFormat::F32);
}

#[test]
fn matrices_of_another_size_are_refused() {
    let mut rng = Rng(94);
    let case = Case::new(&mut rng, (10, 16), 2, 0);
    for part in [
        LowRankPart { n: 9, ..case.part() },
        LowRankPart { rank: 3, ..case.part() },
        LowRankPart { rank: 0, ..case.part() },
        LowRankPart { n: usize::MAX, ..case.part() },
    ] {
        assert!(LowRank::pack(&[part], 16, LowRankFormat::F32).is_err());
    }
    assert!(LowRank::pack(&[case.part()], 17, LowRankFormat::F32).is_err());
}
