//! The inner loop over tiles: one or two tiles of rows times the two panels of a unit.
//!
//! Tiles 0 to 3 are C, `[2 row tiles][2 panels]`; 4 and 5 are A; 6 and 7 are B. With one tile of rows the idle tiles hold
//! operands, so that a step can be loaded while the one before is multiplied.

use super::tile::{TILE_BYTES, TILE_ROW_BYTES, TILE_ROWS, Tiles};

/// Bytes between the rows of tiles of B and C in memory.
const STRIDE: usize = TILE_ROW_BYTES;

/// A tile in memory.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct TileMemory(pub(super) [u8; TILE_BYTES]);

impl TileMemory {
    pub(super) const ZERO: TileMemory = TileMemory([0; TILE_BYTES]);

    /// Row `i` of 16 integers.
    #[inline(always)]
    pub(super) fn ints(&self, i: usize) -> &[i32; TILE_ROWS] {
        let row = &self.0.as_chunks::<TILE_ROW_BYTES>().0[i];
        // SAFETY: a row of an aligned tile is as large and as aligned as the integers; every bit pattern is a value.
        unsafe { &*row.as_ptr().cast() }
    }

    /// Row `i` of 16 floats.
    #[inline(always)]
    pub(super) fn floats(&self, i: usize) -> &[f32; TILE_ROWS] {
        let row = &self.0.as_chunks::<TILE_ROW_BYTES>().0[i];
        // SAFETY: as above.
        unsafe { &*row.as_ptr().cast() }
    }
}

/// Which products a block makes of its two tiles of A.
pub(super) trait Products {
    /// Whether the tiles of A are the two bytes of the same rows.
    const SPLIT: bool;

    fn upper<U: Tiles, const C: usize, const A: usize, const B: usize>(tiles: &mut U);
    fn lower<U: Tiles, const C: usize, const A: usize, const B: usize>(tiles: &mut U);
}

/// Pairs of bf16; the tiles of A are different rows.
pub(super) struct Bf16;

/// Signed times unsigned bytes; the tiles of A are different rows.
pub(super) struct Bytes;

/// Signed and unsigned times unsigned bytes; the tiles of A are the upper and the lower bytes of the same rows.
pub(super) struct HighLow;

macro_rules! products {
    ($kind:ty, $upper:ident, $lower:ident, $split:literal) => {
        impl Products for $kind {
            const SPLIT: bool = $split;

            #[inline(always)]
            fn upper<U: Tiles, const C: usize, const A: usize, const B: usize>(tiles: &mut U) {
                tiles.$upper::<C, A, B>();
            }
            #[inline(always)]
            fn lower<U: Tiles, const C: usize, const A: usize, const B: usize>(tiles: &mut U) {
                tiles.$lower::<C, A, B>();
            }
        }
    };
}
products!(Bf16, dot_bf16, dot_bf16, false);
products!(Bytes, dot_i8_u8, dot_i8_u8, false);
products!(HighLow, dot_i8_u8, dot_u8_u8, true);

/// The next weights, asked for a few lines at a time while the present ones are multiplied.
pub(super) struct Ahead {
    /// Two stretches of as many lines.
    starts: [*const u8; 2],
    lines: usize,
    next: usize,
    per_step: usize,
}

impl Ahead {
    /// Asks for `bytes` from each of `starts`, which may be any addresses, within `steps` steps.
    #[inline(always)]
    pub(super) fn new(starts: [*const u8; 2], bytes: usize, steps: usize) -> Self {
        let lines = bytes.div_ceil(64);
        Ahead { starts, lines, next: 0, per_step: lines.div_ceil(steps.max(1)) }
    }

    #[inline(always)]
    fn step<U: Tiles>(&mut self) {
        let until = (self.next + self.per_step).min(self.lines);
        for line in self.next..until {
            U::prefetch(self.starts[0].wrapping_add(line * 64));
            U::prefetch(self.starts[1].wrapping_add(line * 64));
        }
        self.next = until;
    }
}

/// Tiles of A and of B, one after the other along K.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// Of the upper and the lower rows; one tile of rows uses the first.
    pub(super) a: [*const u8; 2],
    /// Bytes between the rows of A; tiles along K follow each other.
    pub(super) a_stride: usize,
    /// Of the two panels.
    pub(super) b: [*const u8; 2],
    /// Tiles along K.
    pub(super) steps: usize,
}

/// `C[2][2] += A · B`
///
/// # Safety
///
/// The operands are readable for `steps` tiles.
#[inline(always)]
pub(super) unsafe fn pair<U: Tiles, K: Products>(tiles: &mut U, operands: Operands, ahead: &mut Ahead) {
    let Operands { a, a_stride, b, steps } = operands;
    for at in (0..steps).map(|step| step * TILE_BYTES) {
        // SAFETY: as the caller promises.
        unsafe {
            tiles.load::<4>(a[0].add(at), a_stride);
            tiles.load::<6>(b[0].add(at), STRIDE);
            K::upper::<U, 0, 4, 6>(tiles);
            tiles.load::<7>(b[1].add(at), STRIDE);
            K::upper::<U, 1, 4, 7>(tiles);
            tiles.load::<5>(a[1].add(at), a_stride);
            K::lower::<U, 2, 5, 6>(tiles);
            K::lower::<U, 3, 5, 7>(tiles);
        }
        ahead.step::<U>();
    }
}

/// `C[0][2] += A[0] · B`; tiles 2 and 3 are whole, as B is, and their content is lost.
///
/// # Safety
///
/// The operands are readable for `steps` tiles.
#[inline(always)]
pub(super) unsafe fn single<U: Tiles, K: Products>(tiles: &mut U, operands: Operands, ahead: &mut Ahead) {
    let Operands { a: [a, _], a_stride, b, steps } = operands;
    for at in (0..steps / 2).map(|step| 2 * step * TILE_BYTES) {
        // SAFETY: as the caller promises.
        unsafe {
            tiles.load::<4>(a.add(at), a_stride);
            tiles.load::<6>(b[0].add(at), STRIDE);
            tiles.load::<7>(b[1].add(at), STRIDE);
            K::upper::<U, 0, 4, 6>(tiles);
            K::upper::<U, 1, 4, 7>(tiles);
        }
        ahead.step::<U>();
        let at = at + TILE_BYTES;
        // SAFETY: as the caller promises.
        unsafe {
            tiles.load::<5>(a.add(at), a_stride);
            tiles.load::<2>(b[0].add(at), STRIDE);
            tiles.load::<3>(b[1].add(at), STRIDE);
            K::upper::<U, 0, 5, 2>(tiles);
            K::upper::<U, 1, 5, 3>(tiles);
        }
        ahead.step::<U>();
    }
    if steps % 2 == 1 {
        let at = (steps - 1) * TILE_BYTES;
        // SAFETY: as the caller promises.
        unsafe {
            tiles.load::<4>(a.add(at), a_stride);
            tiles.load::<6>(b[0].add(at), STRIDE);
            tiles.load::<7>(b[1].add(at), STRIDE);
            K::upper::<U, 0, 4, 6>(tiles);
            K::upper::<U, 1, 4, 7>(tiles);
        }
        ahead.step::<U>();
    }
}

/// `C = 0`
#[inline(always)]
pub(super) fn zero<U: Tiles>(tiles: &mut U) {
    tiles.zero::<0>();
    tiles.zero::<1>();
    tiles.zero::<2>();
    tiles.zero::<3>();
}

/// Writes C, or its upper rows where there is `one` tile of rows.
#[inline(always)]
pub(super) fn store<U: Tiles>(tiles: &U, to: &mut [TileMemory; 4], one: bool) {
    // SAFETY: a tile in memory has room for the rows of every tile.
    unsafe {
        tiles.store::<0>(to[0].0.as_mut_ptr(), STRIDE);
        tiles.store::<1>(to[1].0.as_mut_ptr(), STRIDE);
        if !one {
            tiles.store::<2>(to[2].0.as_mut_ptr(), STRIDE);
            tiles.store::<3>(to[3].0.as_mut_ptr(), STRIDE);
        }
    }
}
