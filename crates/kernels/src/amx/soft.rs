//! The tile unit in plain Rust, as its documentation defines it.

use super::tile::{TILE_COUNT, TILE_ROW_BYTES, TILE_ROWS, TileConfig, Tiles};

type Row = [u8; TILE_ROW_BYTES];

/// An emulated unit.
pub(super) struct SoftTiles {
    config: TileConfig,
    tiles: [[Row; TILE_ROWS]; TILE_COUNT],
}

/// `x`, or 0 with its sign where it is denormal.
#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(x) } else { x }
}

/// Dwords `[columns]` of a row.
#[inline(always)]
fn dwords(row: &Row) -> [u32; 16] {
    std::array::from_fn(|i| u32::from_le_bytes([row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]]))
}

#[inline(always)]
fn set_dwords(row: &mut Row, values: [u32; 16], columns: usize) {
    row.fill(0);
    for (to, value) in row.as_chunks_mut::<4>().0.iter_mut().zip(values).take(columns) {
        *to = value.to_le_bytes();
    }
}

/// The lower and the upper bf16 of a dword.
#[inline(always)]
fn pair(dword: u32) -> [f32; 2] {
    [flush(f32::from_bits(dword << 16)), flush(f32::from_bits(dword & 0xffff_0000))]
}

impl SoftTiles {
    /// Calls `row(C, A, B rows)` for each row of C, of which the first columns are kept.
    #[inline(always)]
    fn product<const C: usize, const A: usize, const B: usize>(
        &mut self,
        row: impl Fn([u32; 16], &[u32], &[[u32; 16]]) -> [u32; 16],
    ) {
        const { assert!(C != A && C != B && A != B) };
        let [c, a, b] = [C, A, B].map(|tile| self.config.shape(tile));
        assert!(c.rows == a.rows && c.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows, "shapes agree");
        let right = self.tiles[B].map(|row| dwords(&row));
        for i in 0..c.rows {
            let left = dwords(&self.tiles[A][i]);
            let sums = row(dwords(&self.tiles[C][i]), &left[..b.rows], &right[..b.rows]);
            set_dwords(&mut self.tiles[C][i], sums, c.row_bytes / 4);
        }
    }

    #[inline(always)]
    fn integer<const C: usize, const A: usize, const B: usize>(&mut self, left: impl Fn(u8) -> i32) {
        self.product::<C, A, B>(|mut c, a, b| {
            for (a, b) in a.iter().zip(b) {
                let a = a.to_le_bytes().map(&left);
                for (c, b) in c.iter_mut().zip(b) {
                    let b = b.to_le_bytes().map(i32::from);
                    let dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
                    *c = c.wrapping_add(dot.cast_unsigned());
                }
            }
            c
        });
    }
}

impl Tiles for SoftTiles {
    unsafe fn configure(config: &TileConfig) -> Self {
        SoftTiles { config: *config, tiles: [[[0; TILE_ROW_BYTES]; TILE_ROWS]; TILE_COUNT] }
    }

    fn zero<const T: usize>(&mut self) {
        self.tiles[T] = [[0; TILE_ROW_BYTES]; TILE_ROWS];
    }

    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize) {
        let shape = self.config.shape(T);
        self.zero::<T>();
        for (i, row) in self.tiles[T].iter_mut().take(shape.rows).enumerate() {
            // SAFETY: the rows are readable, as the caller promises.
            let from = unsafe { std::slice::from_raw_parts(from.add(i * stride), shape.row_bytes) };
            row[..shape.row_bytes].copy_from_slice(from);
        }
    }

    unsafe fn store<const T: usize>(&self, to: *mut u8, stride: usize) {
        let shape = self.config.shape(T);
        for (i, row) in self.tiles[T].iter().take(shape.rows).enumerate() {
            // SAFETY: the rows are writable, as the caller promises.
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(i * stride), shape.row_bytes) };
            to.copy_from_slice(&row[..shape.row_bytes]);
        }
    }

    /// The product of two bf16 is exact in f32 while it neither overflows nor falls below the normal numbers, so a
    /// multiplication and an addition round like a fused one.
    fn dot_bf16<const C: usize, const A: usize, const B: usize>(&mut self) {
        self.product::<C, A, B>(|c, a, b| {
            let mut sums = [[0f32; 16]; 2];
            for (&a, b) in a.iter().zip(b) {
                let a = pair(a);
                for (n, &b) in b.iter().enumerate() {
                    let b = pair(b);
                    sums[0][n] = flush(a[0] * b[0] + sums[0][n]);
                    sums[1][n] = flush(a[1] * b[1] + sums[1][n]);
                }
            }
            std::array::from_fn(|n| {
                let both = flush(sums[0][n] + sums[1][n]);
                flush(flush(f32::from_bits(c[n])) + both).to_bits()
            })
        });
    }

    fn dot_i8_u8<const C: usize, const A: usize, const B: usize>(&mut self) {
        self.integer::<C, A, B>(|byte| i32::from(byte.cast_signed()));
    }

    fn dot_u8_u8<const C: usize, const A: usize, const B: usize>(&mut self) {
        self.integer::<C, A, B>(i32::from);
    }

    fn prefetch(_: *const u8) {}
}
