//! How rows are cut into tiles.

use super::tile::{TILE_COUNT, TILE_ROW_BYTES, TILE_ROWS, TileConfig, TileShape};

/// Consecutive rows that go through the tiles together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowTiles {
    /// Rows.
    pub(super) rows: usize,
    /// Tiles of rows in a block: 2, or 1 where a row takes both tiles of A.
    pub(super) per_block: usize,
}

impl RowTiles {
    /// Tiles of rows.
    #[inline(always)]
    pub(super) fn tiles(self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Blocks of rows.
    #[inline(always)]
    pub(super) fn blocks(self) -> usize {
        self.tiles().div_ceil(self.per_block)
    }

    /// Whether block `index` has one tile of rows although it has room for two.
    #[inline(always)]
    pub(super) fn is_single(self, index: usize) -> bool {
        self.per_block == 2 && self.tiles() == 2 * index + 1
    }

    /// The shapes of the tiles for operands of `depth` bytes along K. One block has as many rows as there are; of several
    /// blocks all are whole, and what the last one has too many is computed in vain.
    pub(super) fn config(self, depth: usize) -> TileConfig {
        let one = self.blocks() == 1;
        let upper = if one { self.rows.min(TILE_ROWS) } else { TILE_ROWS };
        let lower = match self.per_block {
            1 => upper,
            _ if one => self.rows.saturating_sub(TILE_ROWS),
            _ => TILE_ROWS,
        };
        let c = |rows| TileShape { rows, row_bytes: TILE_ROW_BYTES };
        let a = |rows| TileShape { rows, row_bytes: depth };
        let b = TileShape { rows: depth / 4, row_bytes: TILE_ROW_BYTES };
        let shapes: [TileShape; TILE_COUNT] = if lower == 0 {
            [c(upper), c(upper), b, b, a(upper), a(upper), b, b]
        } else {
            [c(upper), c(upper), c(lower), c(lower), a(upper), a(lower), b, b]
        };
        TileConfig::new(shapes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_take_no_more_of_the_unit_than_they_are() {
        let rows = |rows, per_block, tile| RowTiles { rows, per_block }.config(64).shape(tile).rows;
        assert_eq!([0, 4, 2].map(|tile| rows(5, 2, tile)), [5, 5, 16]);
        assert_eq!([0, 2, 4, 5].map(|tile| rows(19, 2, tile)), [16, 3, 16, 3]);
        assert_eq!([0, 2, 4, 5].map(|tile| rows(5, 1, tile)), [5; 4]);
        assert_eq!([0, 2, 4, 5].map(|tile| rows(33, 2, tile)), [16; 4]);
    }

    #[test]
    fn the_last_of_an_odd_number_of_tiles_is_alone() {
        let rows = RowTiles { rows: 40, per_block: 2 };
        assert_eq!((rows.tiles(), rows.blocks()), (3, 2));
        assert!(rows.is_single(1) && !rows.is_single(0));
        assert!(!RowTiles { rows: 40, per_block: 1 }.is_single(2));
    }
}
