//! Weights in floats of 8 bits.

use crate::common::{EPS, Rng, all_kernels, assert_close, assert_same, linear, scalar};
use pagoda_kernels::{
    Fp8Ref, Glu, LinearScratch, LinearShape, PackError, PackedLinear, QuantFormat, QuantizedMatrix,
    StackedLinear, WeightFormat, Weights, WorkerPool,
};

struct Stored {
    n: usize,
    k: usize,
    codes: Vec<u8>,
    scales: Vec<f32>,
}

impl Stored {
    /// Codes of every value but NaN, subnormal ones and both zeros included.
    fn new(rng: &mut Rng, n: usize, k: usize) -> Self {
        let code = |rng: &mut Rng| (rng.below(127) | rng.below(2) << 7) as u8;
        let codes = (0..n * k).map(|_| code(rng)).collect();
        let scales = (0..n * k.div_ceil(128)).map(|_| 0.01 * rng.float()).collect();
        Stored { n, k, codes, scales }
    }

    fn weights(&self) -> Weights<'_> {
        Weights::Fp8(Fp8Ref::new(self.n, self.k, &self.codes, &self.scales).unwrap())
    }

    fn pack(&self, pool: &WorkerPool) -> PackedLinear {
        PackedLinear::pack(&[(self.weights(), self.n)], self.k, WeightFormat::Fp8, pool).unwrap()
    }

    /// A weight by the definition: sign, four bits of exponent, three of fraction.
    fn weight(&self, row: usize, column: usize) -> f64 {
        let code = self.codes[row * self.k + column];
        let (exponent, fraction) = (i32::from(code >> 3 & 15), f64::from(code & 7));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-9),
            _ => (1.0 + fraction / 8.0) * 2f64.powi(exponent - 7),
        };
        let scale = self.scales[row * self.k.div_ceil(128) + column / 128];
        if code >> 7 == 1 { -magnitude * f64::from(scale) } else { magnitude * f64::from(scale) }
    }
}

const SHAPES: [(usize, usize); 9] =
    [(1, 1), (16, 8), (31, 127), (33, 129), (64, 511), (97, 513), (130, 40), (96, 1025), (300, 256)];

#[test]
fn every_version_is_the_formula_in_any_company() {
    let (mut rng, pools) = (Rng(150), [1, 3].map(|threads| WorkerPool::new(threads).unwrap()));
    for (n, k) in SHAPES {
        let stored = &Stored::new(&mut rng, n, k);
        let packed = stored.pack(&pools[1]);
        let m = 30;
        let (x, bias) = (rng.floats(m * k), rng.floats(n));
        let terms = |i: usize| {
            let (x, row) = (&x[i / n * k..][..k], i % n);
            x.iter().enumerate().map(move |(column, &x)| f64::from(x) * stored.weight(row, column))
        };
        let want: Vec<f32> =
            (0..m * n).map(|i| (terms(i).sum::<f64>() + f64::from(bias[i % n])) as f32).collect();
        let size: Vec<f64> =
            (0..m * n).map(|i| terms(i).map(f64::abs).sum::<f64>() + f64::from(bias[i % n].abs())).collect();
        let steps = (k.min(128) + 2 * k.div_ceil(128) + 2) as f64;
        for kernels in all_kernels() {
            let mut whole = vec![f32::NAN; m * n];
            linear(kernels, &pools[0], &x, &packed, Some(&bias), &mut whole);
            let what = format!("{} n={n} k={k}", kernels.isa());
            assert_close(&what, &whole, &want, |i| EPS * steps * size[i]);
            for rows in [1, 2, 3, 5, 7, 12, 13, 24] {
                let first = rng.below(m - rows + 1);
                let mut part = vec![f32::NAN; rows * n];
                let x = &x[first * k..(first + rows) * k];
                linear(kernels, &pools[rows % 2], x, &packed, Some(&bias), &mut part);
                assert_same(&what, &part, &whole[first * n..(first + rows) * n]);
            }
        }
        let mut row = vec![f32::NAN; k];
        packed.read_row(n - 1, &mut row);
        let exact: Vec<f32> = (0..k).map(|column| stored.weight(n - 1, column) as f32).collect();
        assert_same("a row", &row, &exact);
    }
}

#[test]
fn matrices_are_stacked_and_gated() {
    let (mut rng, pool) = (Rng(151), WorkerPool::new(2).unwrap());
    let (n, k, m) = (70, 200, 14);
    let [gate, up] = [0, 1].map(|_| Stored::new(&mut rng, n, k));
    let half: Vec<f32> = rng.floats(n * k);
    let x = rng.floats(m * k);
    let stacked =
        PackedLinear::pack(&[(gate.weights(), n), (up.weights(), n)], k, WeightFormat::Fp8, &pool).unwrap();
    let shape = LinearShape { n, k };
    let unit = StackedLinear::pack_gated(
        [(gate.weights(), WeightFormat::Fp8), (up.weights(), WeightFormat::Fp8)],
        shape,
        &pool,
    );
    let mixed = StackedLinear::pack_gated(
        [(gate.weights(), WeightFormat::Fp8), (Weights::F32(&half), WeightFormat::Bf16)],
        shape,
        &pool,
    );
    assert_eq!(
        stacked.bytes() as u64,
        PackedLinear::packed_bytes(LinearShape { n: 2 * n, k }, WeightFormat::Fp8)
    );
    for kernels in all_kernels() {
        let run = |w: &PackedLinear| {
            let mut out = vec![f32::NAN; m * w.n()];
            linear(kernels, &pool, &x, w, None, &mut out);
            out
        };
        let both = run(&stacked);
        let [gates, ups] = [&gate, &up].map(|part| run(&part.pack(&pool)));
        let float =
            run(&PackedLinear::pack(&[(Weights::F32(&half), n)], k, WeightFormat::F32, &pool).unwrap());
        for row in 0..m {
            assert_same("stacked", &both[row * 2 * n..][..n], &gates[row * n..][..n]);
            assert_same("stacked", &both[row * 2 * n + n..][..n], &ups[row * n..][..n]);
        }
        for (unit, ups) in [(&unit, &ups), (&mixed, &float)] {
            let mut scratch = LinearScratch::new(m, 2 * k).unwrap();
            let mut out = vec![f32::NAN; m * n];
            let unit = (unit.as_ref().unwrap(), Glu::Relu);
            kernels.stacked_gated_linear(&pool, &x, unit, None, &mut scratch, &mut out);
            let want: Vec<f32> = gates.iter().zip(ups).map(|(g, u)| g.max(0.0) * u).collect();
            assert_close("gated", &out, &want, |i| 1e-6 * f64::from(want[i].abs()));
        }
    }
    let mut out = vec![0.0; m * n];
    linear(scalar(), &pool, &vec![f32::NAN; m * k], &gate.pack(&pool), None, &mut out);
    assert!(out.iter().all(|x| x.is_nan()));
}

#[test]
fn what_is_no_number_and_what_does_not_fit_is_refused() {
    let (mut rng, pool) = (Rng(152), WorkerPool::new(2).unwrap());
    let pack = |stored: &Stored, format| {
        PackedLinear::pack(&[(stored.weights(), stored.n)], stored.k, format, &pool).map(|_| ()).unwrap_err()
    };
    for code in [0x7f, 0xff] {
        let mut stored = Stored::new(&mut rng, 40, 300);
        stored.codes[37 * 300 + 299] = code;
        let place = PackError::NotFinite { part: 0, row: 37, column: 299 };
        assert_eq!(pack(&stored, WeightFormat::Fp8), place);
    }
    for scale in [f32::NAN, f32::INFINITY, 3e38] {
        let mut stored = Stored::new(&mut rng, 40, 300);
        stored.scales[12 * 3 + 1] = scale;
        assert_eq!(pack(&stored, WeightFormat::Fp8), PackError::NotFinite { part: 0, row: 12, column: 128 });
    }
    let stored = Stored::new(&mut rng, 4, 130);
    for to in [WeightFormat::Bf16, QuantFormat::INT8.into()] {
        assert_eq!(pack(&stored, to), PackError::Format { part: 0, from: WeightFormat::Fp8, to });
    }
    assert!(QuantizedMatrix::quantize(stored.weights(), 4, 130, QuantFormat::INT8, &pool).is_err());
    let floats = [0.0; 64];
    let made = PackedLinear::pack(&[(Weights::F32(&floats), 1)], 64, WeightFormat::Fp8, &pool);
    assert_eq!(made.unwrap_err(), PackError::Stored { part: 0, format: WeightFormat::Fp8 });
    for (codes, scales) in [(519, 8), (520, 7), (521, 8)] {
        let (codes, scales) = (vec![0; codes], vec![1.0; scales]);
        let error = Fp8Ref::new(4, 130, &codes, &scales).unwrap_err().to_string();
        assert!(error.contains("4 rows of 130"), "{error}");
    }
}
