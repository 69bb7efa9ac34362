//! Loops that keep the tile unit busy with operands that stay in tiles.

use super::block::{Bf16, Bytes, Products};
use super::detect;
use super::hard::HardTiles;
use super::tile::{TILE_COUNT, TILE_ROW_BYTES, TILE_ROWS, TileConfig, TileShape, Tiles};

/// Products of a round: two tiles of A with two of B, into four of C.
const PRODUCTS: usize = 4;

/// Multiplications and additions of a round of [`bf16`].
pub(crate) const BF16_OPERATIONS: usize = PRODUCTS * TILE_ROWS * TILE_ROWS * (TILE_ROW_BYTES / 2) * 2;

/// Multiplications and additions of a round of [`int8`].
pub(crate) const INT8_OPERATIONS: usize = 2 * BF16_OPERATIONS;

/// The loop over products of bf16; `None` where the unit cannot be used.
pub(crate) fn bf16() -> Option<fn(usize)> {
    // SAFETY: the unit was detected and permitted.
    detect::detected().then_some(|rounds| unsafe { spin::<HardTiles, Bf16>(rounds) })
}

/// The loop over products of bytes; `None` where the unit cannot be used.
pub(crate) fn int8() -> Option<fn(usize)> {
    // SAFETY: the unit was detected and permitted.
    detect::detected().then_some(|rounds| unsafe { spin::<HardTiles, Bytes>(rounds) })
}

/// # Safety
///
/// As [`Tiles::configure`].
unsafe fn spin<U: Tiles, K: Products>(rounds: usize) {
    let config = TileConfig::new([TileShape { rows: TILE_ROWS, row_bytes: TILE_ROW_BYTES }; TILE_COUNT]);
    // SAFETY: as the caller promises. All tiles are 0, and the time of a product does not depend on its operands.
    let mut tiles = unsafe { U::configure(&config) };
    for _ in 0..rounds {
        K::upper::<U, 0, 4, 6>(&mut tiles);
        K::upper::<U, 1, 4, 7>(&mut tiles);
        K::upper::<U, 2, 5, 6>(&mut tiles);
        K::upper::<U, 3, 5, 7>(&mut tiles);
    }
}

#[cfg(test)]
mod tests {
    use super::super::soft::SoftTiles;
    use super::*;

    #[test]
    fn the_loop_uses_tiles_whose_shapes_agree() {
        // SAFETY: the emulation needs neither a machine nor a permission; it panics where shapes disagree.
        unsafe {
            spin::<SoftTiles, Bf16>(2);
            spin::<SoftTiles, Bytes>(2);
        }
        assert_eq!((BF16_OPERATIONS, INT8_OPERATIONS), (4 * 2 * 16 * 16 * 32, 4 * 2 * 16 * 16 * 64));
    }
}
