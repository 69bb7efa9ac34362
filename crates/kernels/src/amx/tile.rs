//! What the kernels need of a tile unit.
//!
//! The unit has eight tiles of at most 16 rows of 64 bytes. Every loop over tiles is generic over [`Tiles`], so that it runs
//! on the hardware and, bit by bit the same for integers, on an emulation in plain Rust; the emulation lets every
//! machine test layouts, blocking, tails and configuration.

/// Rows of a full tile.
pub(super) const TILE_ROWS: usize = 16;

/// Bytes of a row of a full tile.
pub(super) const TILE_ROW_BYTES: usize = 64;

/// Bytes of a full tile.
pub(super) const TILE_BYTES: usize = TILE_ROWS * TILE_ROW_BYTES;

/// Tiles of the unit.
pub(super) const TILE_COUNT: usize = 8;

/// The memory operand of the instruction that configures the unit, whole: it reads 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Size of one tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TileShape {
    /// Rows, 1 to 16.
    pub(super) rows: usize,
    /// Bytes of a row, 4 to 64, a multiple of 4.
    pub(super) row_bytes: usize,
}

impl TileConfig {
    /// The configuration of all eight tiles.
    pub(super) fn new(shapes: [TileShape; TILE_COUNT]) -> Self {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        for (i, shape) in shapes.into_iter().enumerate() {
            assert!((1..=TILE_ROWS).contains(&shape.rows), "tile {i} of {} rows", shape.rows);
            assert!(
                (4..=TILE_ROW_BYTES).contains(&shape.row_bytes) && shape.row_bytes.is_multiple_of(4),
                "tile {i} has rows of {} bytes",
                shape.row_bytes
            );
            row_bytes[i] = shape.row_bytes as u16;
            rows[i] = shape.rows as u8;
        }
        TileConfig { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }

    /// The shape of tile `index`.
    pub(super) fn shape(&self, index: usize) -> TileShape {
        TileShape { rows: usize::from(self.rows[index]), row_bytes: usize::from(self.row_bytes[index]) }
    }
}

/// The tile unit of this thread, configured; dropping it, on unwinding too, gives the tiles back.
///
/// Products read A, `[rows][k]`, and B, `[k / 4 bytes][columns][4 bytes]`, and add to C, `[rows][columns]` of 4 bytes. The
/// three tiles differ and their shapes agree; the processor refuses others with an illegal instruction.
pub(super) trait Tiles {
    /// Configures the unit; all tiles are 0.
    ///
    /// # Safety
    ///
    /// The machine has the unit, and the process has the operating system's permission to use it. The thread holds no
    /// other configuration.
    unsafe fn configure(config: &TileConfig) -> Self;

    /// Sets tile `T` to 0.
    fn zero<const T: usize>(&mut self);

    /// Reads tile `T`, its rows `stride` bytes apart.
    ///
    /// # Safety
    ///
    /// Every row of the tile is readable at its place.
    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize);

    /// Writes tile `T`, its rows `stride` bytes apart.
    ///
    /// # Safety
    ///
    /// Every row of the tile is writable at its place.
    unsafe fn store<const T: usize>(&self, to: *mut u8, stride: usize);

    /// `C += A · B` in f32, of pairs of bf16. The even and the odd elements are summed apart along K from 0 by fused
    /// multiply-adds, then added to each other and to C; denormal numbers count as 0, in and out.
    fn dot_bf16<const C: usize, const A: usize, const B: usize>(&mut self);

    /// `C += A · B` in i32, of quads of bytes, those of A signed, those of B unsigned.
    fn dot_i8_u8<const C: usize, const A: usize, const B: usize>(&mut self);

    /// `C += A · B` in i32, of quads of unsigned bytes.
    fn dot_u8_u8<const C: usize, const A: usize, const B: usize>(&mut self);

    /// Asks for the cache line of `address`, which may be anything, in the second-level cache.
    fn prefetch(address: *const u8);
}
