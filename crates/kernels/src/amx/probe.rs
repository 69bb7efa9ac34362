//! Runs each instruction of a tile unit against the emulation.

use super::block::TileMemory;
use super::soft::SoftTiles;
use super::tile::{TILE_BYTES, TILE_COUNT, TileConfig, TileShape, Tiles};

/// The product that a run makes.
#[derive(Clone, Copy, Debug)]
enum Product {
    Bf16,
    SignedUnsigned,
    Unsigned,
}

/// Random operands of one run, as they lie in memory.
struct Operands {
    a: TileMemory,
    b: TileMemory,
    c: TileMemory,
}

/// Whether `U` computes what the emulation does: the same bits for bytes and for bf16 whose sums are exact in every order,
/// and nearly the same for other bf16, where a unit may sum in an order of its own.
///
/// # Safety
///
/// As [`Tiles::configure`].
pub(super) unsafe fn agrees<U: Tiles>() -> bool {
    let mut random = Random(0x7469_6c65);
    // Rows of A, columns of C, dwords along K: whole tiles and parts of them.
    let sizes = [(16, 16, 16), (16, 16, 8), (7, 16, 16), (1, 5, 3), (16, 1, 1)];
    sizes.iter().all(|&size| {
        let bytes = [Product::SignedUnsigned, Product::Unsigned].iter().all(|&product| {
            let operands = random.bytes();
            // SAFETY: as the caller promises.
            unsafe { run::<U>(&operands, product, size) == run::<SoftTiles>(&operands, product, size) }
        });
        let (whole, broken) = (random.whole_bf16(), random.bf16());
        // SAFETY: as the caller promises.
        let exact =
            unsafe { run::<U>(&whole, Product::Bf16, size) == run::<SoftTiles>(&whole, Product::Bf16, size) };
        // SAFETY: as the caller promises.
        let near = unsafe {
            near(&run::<U>(&broken, Product::Bf16, size), &run::<SoftTiles>(&broken, Product::Bf16, size))
        };
        bytes && exact && near
    })
}

/// Zeroes a tile, loads all three, adds the product twice, and stores. The tile that is zeroed stands in the result too.
///
/// # Safety
///
/// As [`Tiles::configure`].
unsafe fn run<U: Tiles>(
    operands: &Operands,
    product: Product,
    (rows, columns, depth): (usize, usize, usize),
) -> [[u8; TILE_BYTES]; 2] {
    let c = TileShape { rows, row_bytes: 4 * columns };
    let a = TileShape { rows, row_bytes: 4 * depth };
    let b = TileShape { rows: depth, row_bytes: 4 * columns };
    // Tiles 0, 3 and 4 are C, 1 and 5 are A, 2, 6 and 7 are B.
    let shapes: [TileShape; TILE_COUNT] = [c, a, b, c, c, a, b, b];
    let mut out = [TileMemory::ZERO; 2];
    // SAFETY: as the caller promises; the operands and results are as large as a tile, whose rows are at most 64 bytes.
    unsafe {
        let mut unit = U::configure(&TileConfig::new(shapes));
        unit.load::<0>(operands.c.0.as_ptr(), 64);
        unit.load::<4>(operands.c.0.as_ptr(), 64);
        unit.zero::<4>();
        unit.load::<1>(operands.a.0.as_ptr(), 64);
        unit.load::<5>(operands.a.0.as_ptr(), 64);
        unit.load::<2>(operands.b.0.as_ptr(), 64);
        unit.load::<7>(operands.b.0.as_ptr(), 64);
        match product {
            Product::Bf16 => {
                unit.dot_bf16::<0, 1, 2>();
                unit.dot_bf16::<4, 5, 7>();
            }
            Product::SignedUnsigned => {
                unit.dot_i8_u8::<0, 1, 2>();
                unit.dot_i8_u8::<4, 5, 7>();
            }
            Product::Unsigned => {
                unit.dot_u8_u8::<0, 1, 2>();
                unit.dot_u8_u8::<4, 5, 7>();
            }
        }
        unit.store::<0>(out[0].0.as_mut_ptr(), 64);
        unit.store::<4>(out[1].0.as_mut_ptr(), 64);
    }
    out.map(|memory| memory.0)
}

/// Whether all f32 of two results are nearly the same: the sums of 32 products of numbers below 1.
fn near(a: &[[u8; TILE_BYTES]; 2], b: &[[u8; TILE_BYTES]; 2]) -> bool {
    let floats = |x: &[u8]| -> Vec<f32> { x.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect() };
    floats(a.as_flattened()).iter().zip(floats(b.as_flattened())).all(|(a, b)| (a - b).abs() <= 1e-5)
}

/// A random number generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn tile<const SIZE: usize>(&mut self, mut element: impl FnMut(&mut Self) -> [u8; SIZE]) -> TileMemory {
        let mut tile = TileMemory::ZERO;
        tile.0.as_chunks_mut().0.iter_mut().for_each(|to| *to = element(self));
        tile
    }

    fn bytes(&mut self) -> Operands {
        let mut tile = || self.tile(|random| random.next().to_le_bytes());
        Operands { a: tile(), b: tile(), c: tile() }
    }

    /// Integers of at most 7 bits, whose products and sums are exact.
    fn whole_bf16(&mut self) -> Operands {
        let integer = |random: &mut Self| (random.next() % 255) as f32 - 127.0;
        let mut half = || self.tile(|random| half::bf16::from_f32(integer(random)).to_le_bytes());
        let (a, b) = (half(), half());
        Operands { a, b, c: self.tile(|random| integer(random).to_le_bytes()) }
    }

    /// Numbers between -1 and 1.
    fn bf16(&mut self) -> Operands {
        let float = |random: &mut Self| (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let mut half = || self.tile(|random| half::bf16::from_f32(float(random)).to_le_bytes());
        let (a, b) = (half(), half());
        Operands { a, b, c: self.tile(|random| float(random).to_le_bytes()) }
    }
}
