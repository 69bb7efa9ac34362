//! Weights in blocks: what they mean, how they are packed, and linear operations whose bits are the same everywhere.

use crate::common::{Rng, all_kernels, assert_close, assert_same, linear, scalar};
use half::f16;
use pagoda_kernels::{
    Activations, BlockFormat, BlockRef, Glu, LinearScratch, LinearShape, PackError, PackedLinear,
    StackedLinear, WeightFormat, Weights, WorkerPool,
};

/// Random blocks of a matrix, scales and minima of about a tenth.
fn blocks(rng: &mut Rng, format: BlockFormat, n: usize, k: usize) -> Vec<u8> {
    let size = format.stored_bytes();
    let mut bytes: Vec<u8> = (0..n * k / format.block() * size).map(|_| rng.next() as u8).collect();
    for block in bytes.chunks_exact_mut(size) {
        if format == BlockFormat::Mxfp4 {
            block[0] = 120 + rng.below(6) as u8;
        }
        for at in halves(format) {
            let scale = f16::from_f32(0.1 * rng.float());
            block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

/// Where the f16 of a block are.
fn halves(format: BlockFormat) -> &'static [usize] {
    match format {
        BlockFormat::Q4_0
        | BlockFormat::Q5_0
        | BlockFormat::Q8_0
        | BlockFormat::Iq4Nl
        | BlockFormat::Iq4Xs => &[0],
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
        BlockFormat::Q2K => &[80, 82],
        BlockFormat::Mxfp4 => &[],
        BlockFormat::Q3K => &[108],
        BlockFormat::Q6K => &[208],
    }
}

/// A format with both roundings of activations.
fn both(format: BlockFormat) -> [WeightFormat; 2] {
    [Activations::I8, Activations::I16].map(|activations| WeightFormat::Blocks(format, activations))
}

/// A format with activations of 8 bits.
fn fast(format: BlockFormat) -> WeightFormat {
    both(format)[0]
}

fn pack(to: WeightFormat, parts: &[(&[u8], usize)], k: usize, pool: &WorkerPool) -> PackedLinear {
    let WeightFormat::Blocks(format, _) = to else { panic!("{to} are no blocks") };
    let parts: Vec<_> = parts
        .iter()
        .map(|&(bytes, n)| (Weights::Blocks(BlockRef::new(n, k, format, bytes).unwrap()), n))
        .collect();
    PackedLinear::pack(&parts, k, to, pool).unwrap()
}

fn widened(format: BlockFormat, bytes: &[u8], n: usize, k: usize) -> Vec<f32> {
    let matrix = BlockRef::new(n, k, format, bytes).unwrap();
    let mut weights = vec![0.0; n * k];
    weights.chunks_exact_mut(k).enumerate().for_each(|(row, out)| matrix.widen_row(row, out));
    weights
}

/// Outputs and inputs: units of 32 and their neighbours; one block and several, within a K block and across.
fn shapes(format: BlockFormat) -> Vec<(usize, usize)> {
    let factors = if format.block() == 32 { [1, 3, 9, 17] } else { [1, 2, 3, 5] };
    [1, 32, 33, 95].into_iter().zip(factors).map(|(n, blocks)| (n, blocks * format.block())).collect()
}

#[test]
fn scalar_is_the_product_with_the_widened_weights() {
    let (mut rng, pool) = (Rng(60), WorkerPool::new(2).unwrap());
    for format in BlockFormat::ALL {
        for (n, k) in shapes(format) {
            let bytes = blocks(&mut rng, format, n, k);
            let weights = widened(format, &bytes, n, k);
            let (x, bias) = (rng.floats(2 * k), rng.floats(n));
            let (mut want, mut size) = (Vec::new(), Vec::new());
            for (row, column) in (0..2).flat_map(|row| (0..n).map(move |column| (row, column))) {
                let terms = x[row * k..][..k].iter().zip(&weights[column * k..][..k]);
                let terms = terms.map(|(x, w)| f64::from(*x) * f64::from(*w));
                size.push(terms.clone().map(f64::abs).sum::<f64>());
                want.push((f64::from(bias[column]) + terms.sum::<f64>()) as f32);
            }
            // Activations are rounded to one part in 256, or 65536, of the largest of their group.
            for (to, rounding) in both(format).into_iter().zip([2e-2, 1e-4]) {
                let w = pack(to, &[(&bytes, n)], k, &pool);
                let mut out = vec![f32::NAN; 2 * n];
                linear(scalar(), &pool, &x, &w, Some(&bias), &mut out);
                assert_close(&format!("{to} {n}x{k}"), &out, &want, |i| rounding * size[i] + 1e-5);
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut rng = Rng(61);
    for threads in [1, 3] {
        let pool = WorkerPool::new(threads).unwrap();
        for format in BlockFormat::ALL {
            let cases = shapes(format).into_iter().flat_map(|shape| both(format).map(|to| (shape, to)));
            for ((n, k), to) in cases {
                let bytes = blocks(&mut rng, format, n, k);
                let w = pack(to, &[(&bytes, n)], k, &pool);
                let bias = rng.floats(n);
                for m in [1, 2, 3, 5, 7, 12, 17, 33] {
                    let mut x = rng.floats(m * k);
                    x[..k / 2].fill(0.0);
                    let bias = (m % 2 == 1).then_some(&bias[..]);
                    let mut want = vec![f32::NAN; m * n];
                    linear(scalar(), &pool, &x, &w, bias, &mut want);
                    for kernels in all_kernels() {
                        let mut out = vec![f32::NAN; m * n];
                        linear(kernels, &pool, &x, &w, bias, &mut out);
                        assert_same(&format!("{} {to} m={m} n={n} k={k}", kernels.isa()), &out, &want);
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    let (mut rng, pool) = (Rng(62), WorkerPool::new(2).unwrap());
    for (format, to) in BlockFormat::ALL.into_iter().flat_map(|format| both(format).map(|to| (format, to))) {
        let (n, k) = (70, 1280);
        let bytes = blocks(&mut rng, format, n, k);
        let w = pack(to, &[(&bytes, n)], k, &pool);
        let x = rng.floats(50 * k);
        for kernels in all_kernels() {
            let mut whole = vec![f32::NAN; 50 * n];
            linear(kernels, &pool, &x, &w, None, &mut whole);
            for m in [1, 2, 4, 11, 30] {
                let first = rng.below(50 - m + 1);
                let mut part = vec![f32::NAN; m * n];
                linear(kernels, &pool, &x[first * k..(first + m) * k], &w, None, &mut part);
                assert_same(&format!("{} {to}", kernels.isa()), &part, &whole[first * n..(first + m) * n]);
            }
        }
    }
}

#[test]
fn activations_that_are_no_numbers_reach_their_rows_and_no_others() {
    let (mut rng, pool) = (Rng(63), WorkerPool::new(1).unwrap());
    for format in BlockFormat::ALL {
        let (n, k) = (33, 512);
        let bytes = blocks(&mut rng, format, n, k);
        let w = pack(fast(format), &[(&bytes, n)], k, &pool);
        for (m, bad) in [(1, f32::NAN), (6, f32::INFINITY), (14, f32::NEG_INFINITY)] {
            let mut x = rng.floats(m * k);
            let row = rng.below(m);
            x[row * k + rng.below(k)] = bad;
            for kernels in all_kernels() {
                let mut out = vec![0.0; m * n];
                linear(kernels, &pool, &x, &w, None, &mut out);
                let as_it_should = |(i, y): (usize, &f32)| y.is_nan() == (i / n == row);
                assert!(out.iter().enumerate().all(as_it_should), "{} {format} {bad}", kernels.isa());
            }
        }
    }
}

#[test]
fn rows_read_back_as_the_format_defines_them_and_parts_stack() {
    let (mut rng, pool) = (Rng(64), WorkerPool::new(3).unwrap());
    for format in BlockFormat::ALL {
        let (k, rows) = (512, [40, 7, 35]);
        let parts = rows.map(|n| blocks(&mut rng, format, n, k));
        let views: Vec<_> = parts.iter().map(Vec::as_slice).zip(rows).collect();
        let packed = pack(fast(format), &views, k, &pool);
        let weights = widened(format, &parts.concat(), 82, k);
        let mut row = vec![0.0; k];
        for (i, want) in weights.chunks_exact(k).enumerate() {
            packed.read_row(i, &mut row);
            assert_same(&format!("{format} row {i}"), &row, want);
        }
        let pair =
            [&parts[0], &parts[0]].map(|bytes| Weights::Blocks(BlockRef::new(40, k, format, bytes).unwrap()));
        let gated = PackedLinear::pack_gated(pair, LinearShape { n: 40, k }, fast(format), &pool).unwrap();
        gated.read_row(32, &mut row);
        assert_same("the other matrix of a gated unit", &row, &weights[..k]);
    }
}

#[test]
fn matrices_of_several_formats_compute_as_each_alone() {
    let (mut rng, pool) = (Rng(65), WorkerPool::new(2).unwrap());
    let (k, rows) = (512, 40);
    let half: Vec<f16> = rng.floats(rows * k).into_iter().map(f16::from_f32).collect();
    let formats = [BlockFormat::Q4K, BlockFormat::Q4K, BlockFormat::Q6K];
    let bytes = formats.map(|format| blocks(&mut rng, format, rows, k));
    let block = |i: usize| Weights::Blocks(BlockRef::new(rows, k, formats[i], &bytes[i]).unwrap());
    let float = (Weights::F16(&half), rows, WeightFormat::F16);
    let matrices = [
        (block(0), rows, fast(formats[0])),
        (block(1), rows, fast(formats[1])),
        float,
        (block(2), rows, fast(formats[2])),
    ];
    let stacked = StackedLinear::pack(&matrices, k, &pool).unwrap();
    let sizes = matrices.map(|(_, rows, format)| (rows, format));
    assert_eq!(stacked.bytes() as u64, StackedLinear::packed_bytes(&sizes, k));
    let bias = rng.floats(4 * rows);
    for kernels in all_kernels() {
        for m in [1, 5, 30] {
            let x = rng.floats(m * k);
            let mut out = vec![f32::NAN; m * 4 * rows];
            let mut scratch = LinearScratch::new(m, k).unwrap();
            kernels.stacked_linear(&pool, &x, &stacked, Some(&bias), &mut scratch, &mut out);
            for (i, &(weights, _, format)) in matrices.iter().enumerate() {
                let alone = PackedLinear::pack(&[(weights, rows)], k, format, &pool).unwrap();
                let mut want = vec![f32::NAN; m * rows];
                linear(kernels, &pool, &x, &alone, Some(&bias[i * rows..][..rows]), &mut want);
                for (row, want) in want.chunks_exact(rows).enumerate() {
                    let got = &out[row * 4 * rows + i * rows..][..rows];
                    assert_same(&format!("{} part {i} of m={m}", kernels.isa()), got, want);
                }
            }
        }
    }
}

#[test]
fn a_gated_unit_of_two_formats_is_the_gate_times_the_other() {
    let (mut rng, pool) = (Rng(66), WorkerPool::new(3).unwrap());
    let (k, n) = (512, 70);
    let half: Vec<f16> = rng.floats(n * k).into_iter().map(f16::from_f32).collect();
    let gate = blocks(&mut rng, BlockFormat::Q3K, n, k);
    let up = blocks(&mut rng, BlockFormat::Q5K, n, k);
    let gate = Weights::Blocks(BlockRef::new(n, k, BlockFormat::Q3K, &gate).unwrap());
    let up = Weights::Blocks(BlockRef::new(n, k, BlockFormat::Q5K, &up).unwrap());
    let (gate, up, float) = (
        (gate, fast(BlockFormat::Q3K)),
        (up, fast(BlockFormat::Q5K)),
        (Weights::F16(&half), WeightFormat::F16),
    );
    let biases = [rng.floats(n), rng.floats(n)];
    let bias = PackedLinear::gated_bias(&biases[0], &biases[1]);
    for unit in [[gate, up], [up, float], [gate, gate]] {
        let shape = LinearShape { n, k };
        let packed = StackedLinear::pack_gated(unit, shape, &pool).unwrap();
        let formats = unit.map(|(_, format)| format);
        assert_eq!(packed.bytes() as u64, StackedLinear::packed_gated_bytes(shape, formats));
        for kernels in all_kernels() {
            for m in [1, 6, 33] {
                let x = rng.floats(m * k);
                let mut scratch = LinearScratch::new(m, k * StackedLinear::scratch_rows(formats)).unwrap();
                let mut out = vec![f32::NAN; m * n];
                let unit_of = (&packed, Glu::Silu);
                kernels.stacked_gated_linear(&pool, &x, unit_of, Some(&bias), &mut scratch, &mut out);
                let stride = StackedLinear::sums(n);
                let mut all = vec![f32::NAN; m * stride];
                kernels.stacked_gated_sums(&pool, &x, &packed, Some(&bias), &mut scratch, &mut all);
                let mut parted = vec![f32::NAN; m * n];
                kernels.glu(&pool, (&all, stride), Glu::Silu, &mut parted);
                assert_same("sums and activation apart", &parted, &out);
                let mut sums = [vec![f32::NAN; m * n], vec![f32::NAN; m * n]];
                for (i, sums) in sums.iter_mut().enumerate() {
                    let format = if unit[i].1 == WeightFormat::F16 { WeightFormat::F32 } else { unit[i].1 };
                    let alone = PackedLinear::pack(&[(unit[i].0, n)], k, format, &pool).unwrap();
                    linear(kernels, &pool, &x, &alone, Some(&biases[i]), sums);
                }
                let want: Vec<f32> =
                    sums[0].iter().zip(&sums[1]).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                assert_close(&format!("{} m={m}", kernels.isa()), &out, &want, |i| {
                    1e-5 * f64::from(want[i].abs()) + 1e-6
                });
            }
        }
    }
}

#[test]
fn packed_blocks_take_about_the_bytes_of_the_file() {
    for format in BlockFormat::ALL {
        let (n, k) = (4096, 4096);
        let stored = (n * k / format.block() * format.stored_bytes()) as f64;
        let packed = PackedLinear::packed_bytes(LinearShape { n, k }, fast(format)) as f64;
        println!("{format}: {:.3} of the stored size", packed / stored);
        // A scale that is a byte in the file takes two.
        let most = if format == BlockFormat::Mxfp4 { 1.06 } else { 1.04 };
        assert!((0.99..most).contains(&(packed / stored)), "{format}: {}", packed / stored);
    }
}

#[test]
fn floats_of_four_bits_are_exact_for_every_exponent() {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let pool = WorkerPool::new(1).unwrap();
    // Codes 0 to 15 in the lower halves and backwards in the upper ones.
    let codes: Vec<u8> = (0..16).map(|code| code | (15 - code) << 4).collect();
    let value = |code: u8| if code < 8 { VALUES[usize::from(code)] } else { -VALUES[usize::from(code - 8)] };
    for exponent in 0..=u8::MAX {
        let bytes = [&[exponent], &codes[..]].concat();
        let matrix = BlockRef::new(1, 32, BlockFormat::Mxfp4, &bytes).unwrap();
        let packed = PackedLinear::pack(&[(Weights::Blocks(matrix), 1)], 32, fast(BlockFormat::Mxfp4), &pool);
        if exponent == u8::MAX {
            assert_eq!(packed.unwrap_err(), PackError::NotFinite { part: 0, row: 0, column: 0 });
            continue;
        }
        let mut row = [0.0; 32];
        packed.unwrap().read_row(0, &mut row);
        let power = 2f32.powi(i32::from(exponent) - 127);
        let want: Vec<f32> = (0..32).map(|i| value(if i < 16 { i } else { 31 - i }) * power).collect();
        assert!(row.iter().zip(&want).all(|(got, want)| got == want), "{exponent}: {row:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let pool = WorkerPool::new(1).unwrap();
    let bytes = vec![0u8; 2 * 144];
    assert!(BlockRef::new(2, 256, BlockFormat::Q4K, &bytes).is_ok());
    for (n, k) in [(2, 128), (1, 256), (2, 512), (usize::MAX, 256), (3, 256)] {
        assert!(BlockRef::new(n, k, BlockFormat::Q4K, &bytes).is_err(), "{n} {k}");
    }
    let matrix = || Weights::Blocks(BlockRef::new(2, 256, BlockFormat::Q4K, &bytes).unwrap());
    let to = fast(BlockFormat::Q5K);
    let error = PackedLinear::pack(&[(matrix(), 2)], 256, to, &pool).unwrap_err();
    assert_eq!(error, PackError::Format { part: 0, from: fast(BlockFormat::Q4K), to });
    let floats = vec![0f32; 512];
    let error = PackedLinear::pack(&[(Weights::F32(&floats), 2)], 256, to, &pool).unwrap_err();
    assert_eq!(error, PackError::Stored { part: 0, format: to });
    for format in BlockFormat::ALL {
        for at in halves(format) {
            let mut bytes = vec![0u8; 3 * 512 / format.block() * format.stored_bytes()];
            let last = bytes.len() - format.stored_bytes() + at;
            bytes[last..last + 2].copy_from_slice(&f16::INFINITY.to_le_bytes());
            let matrix = Weights::Blocks(BlockRef::new(3, 512, format, &bytes).unwrap());
            let error = PackedLinear::pack(&[(matrix, 3)], 512, fast(format), &pool).unwrap_err();
            let column = 512 - format.block();
            assert_eq!(error, PackError::NotFinite { part: 0, row: 2, column }, "{format}");
        }
        assert_eq!(format.to_string().to_uppercase().parse(), Ok(format));
        for to in both(format) {
            assert_eq!(to.to_string().parse(), Ok(to));
        }
    }
    assert!("q9_k".parse::<BlockFormat>().unwrap_err().contains("q4_k"));
}
