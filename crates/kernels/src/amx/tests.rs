//! The tile unit of this machine, where it has one.

use super::*;
use crate::{Activations, Bits, LinearScratch, PackedLinear, QuantFormat, Weights, WorkerPool};

#[test]
fn the_emulation_agrees_with_itself() {
    // SAFETY: the emulation needs neither a machine nor a permission.
    assert!(unsafe { probe::agrees::<SoftTiles>() });
}

#[test]
fn the_processor_agrees_with_the_emulation() {
    if kernels().is_none() {
        eprintln!("skipped: this machine does not run AMX");
        return;
    }
    // SAFETY: the tiles were detected and permitted.
    assert!(unsafe { probe::agrees::<HardTiles>() });
}

/// A unit that takes signed bytes for unsigned ones.
struct Unsigned(SoftTiles);

impl Tiles for Unsigned {
    unsafe fn configure(config: &tile::TileConfig) -> Self {
        // SAFETY: the emulation needs neither a machine nor a permission.
        Unsigned(unsafe { SoftTiles::configure(config) })
    }
    fn zero<const T: usize>(&mut self) {
        self.0.zero::<T>();
    }
    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize) {
        // SAFETY: as the caller promises.
        unsafe { self.0.load::<T>(from, stride) };
    }
    unsafe fn store<const T: usize>(&self, to: *mut u8, stride: usize) {
        // SAFETY: as the caller promises.
        unsafe { self.0.store::<T>(to, stride) };
    }
    fn dot_bf16<const C: usize, const A: usize, const B: usize>(&mut self) {
        self.0.dot_bf16::<C, A, B>();
    }
    fn dot_i8_u8<const C: usize, const A: usize, const B: usize>(&mut self) {
        self.0.dot_u8_u8::<C, A, B>();
    }
    fn dot_u8_u8<const C: usize, const A: usize, const B: usize>(&mut self) {
        self.0.dot_u8_u8::<C, A, B>();
    }
    fn prefetch(_: *const u8) {}
}

#[test]
fn a_unit_with_one_wrong_product_is_not_believed() {
    // SAFETY: the emulation needs neither a machine nor a permission.
    assert!(!unsafe { probe::agrees::<Unsigned>() });
}

/// Emulated tiles beside registers of AVX-512.
static ON_VECTORS: Kernels = Kernels { linear: linear_on_vectors, ..EMULATED };

fn linear_on_vectors(task: LinearTask<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn enter(task: LinearTask<'_>) {
        // SAFETY: the emulation needs neither a machine nor a permission.
        unsafe { linear::<SoftTiles, _>(lanes::Avx512::here(), task, &crate::scalar::KERNELS) };
    }
    // SAFETY: the caller detected AVX-512.
    unsafe { enter(task) }
}

#[test]
fn registers_do_what_plain_rust_does() {
    if crate::avx512::kernels().is_none() {
        eprintln!("skipped: this machine does not run AVX-512");
        return;
    }
    let pool = WorkerPool::new(2).unwrap();
    let (n, k) = (83, 300);
    let float = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 500.0 - 1.0;
    let weights: Vec<f32> = (0..n * k).map(float).collect();
    let zeros = QuantFormat { zero_point: true, group: 64, ..QuantFormat::INT4 };
    let bytes = QuantFormat { activations: Activations::I8, ..zeros };
    assert_eq!((zeros.bits, zeros.activations), (Bits::Four, Activations::I16));
    let quantised =
        [QuantFormat::INT8, QuantFormat::W8A8, QuantFormat::INT4, QuantFormat::W4A8, zeros, bytes];
    let formats = quantised.map(WeightFormat::Quantized).into_iter().chain([WeightFormat::Bf16]);
    for format in formats {
        let w = PackedLinear::pack(&[(Weights::F32(&weights), n)], k, format, &pool).unwrap();
        for m in [1, 5, 17, 40] {
            let x: Vec<f32> = (0..m * k).map(|i| float(i + 5)).collect();
            let run = |kernels: &Kernels| {
                let (mut scratch, mut out) = (LinearScratch::new(m, k).unwrap(), vec![f32::NAN; m * n]);
                kernels.linear(&pool, &x, &w, Some(&weights[..n]), &mut scratch, &mut out);
                out
            };
            assert_eq!(run(&ON_VECTORS), run(&EMULATED), "{format} m={m}");
        }
    }
}
