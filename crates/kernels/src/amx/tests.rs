//! The tile unit of this machine, where it has one.

use super::*;

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
