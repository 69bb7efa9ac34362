//! AMX: eight tiles of 16 rows of 64 bytes, and products of whole tiles.
//!
//! Linear operations with weights of bf16, and those with quantised weights over more than a few rows, run on tiles; all
//! the rest is AVX-512. The packed weights are tiles of B as they lie in memory; activations are arranged as tiles of A.
//! Everything that touches a tile goes through the trait [`Tiles`](tile::Tiles), which the processor ([`hard`]) and an
//! emulation ([`soft`]) implement, so that the same loops are tested on machines without tiles.

mod arrange;
mod block;
mod bytes;
mod detect;
mod float;
mod hard;
mod lanes;
pub(crate) mod peak;
mod probe;
mod rows;
mod soft;
#[cfg(test)]
mod tests;
mod tile;

use crate::format::WeightFormat;
use crate::linear::{LinearTask, PrepareTask};
use crate::packed::Panels;
use crate::rows::Blocking;
use crate::{Isa, Kernels};
use bytes::ByteTask;
use float::Bf16Task;
use hard::HardTiles;
use lanes::{Lanes, Plain};
use soft::SoftTiles;
use tile::{TILE_ROWS, Tiles};

/// Rows of quantised weights up to which vectors are used: so few rows leave most of a tile idle, and the sums are exact
/// on either unit.
const FEW_ROWS: usize = 4;

/// The table of the processor.
static KERNELS: Kernels = Kernels {
    isa: Isa::Amx,
    blocking: |format, rows| blocking(format, rows, vectors()),
    prepare: hard_prepare,
    linear: hard_linear,
    ..crate::avx512::TABLE
};

/// The table of the emulation; what does not run on tiles is plain Rust.
static EMULATED: Kernels = Kernels {
    isa: Isa::Amx,
    blocking: |format, rows| blocking(format, rows, &crate::scalar::KERNELS),
    prepare: |task| prepare(task, &crate::scalar::KERNELS),
    // SAFETY: the emulation needs neither a machine nor a permission.
    linear: |task| unsafe { linear::<SoftTiles, _>(Plain, task, &crate::scalar::KERNELS) },
    ..crate::scalar::KERNELS
};

/// The table, where the processor, the operating system and a self-test allow it; see [`detect`].
pub(crate) fn kernels() -> Option<&'static Kernels> {
    (crate::avx512::kernels().is_some() && detect::detected()).then_some(&KERNELS)
}

/// What computes on vectors beside the processor's tiles.
fn vectors() -> &'static Kernels {
    crate::avx512::kernels().expect("tiles are used only where AVX-512 is")
}

/// The table over emulated tiles.
pub(crate) fn emulated() -> &'static Kernels {
    &EMULATED
}

/// Whether a linear operation runs on tiles.
fn on_tiles(format: WeightFormat, rows: usize) -> bool {
    match format {
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Fp8 | WeightFormat::Blocks(..) => false,
        WeightFormat::Bf16 => true,
        WeightFormat::Quantized(_) => rows > FEW_ROWS,
    }
}

fn blocking(format: WeightFormat, rows: usize, vectors: &Kernels) -> Blocking {
    if on_tiles(format, rows) {
        Blocking { max: 2 * TILE_ROWS, step: TILE_ROWS }
    } else {
        (vectors.blocking)(format, rows)
    }
}

fn hard_prepare(task: PrepareTask<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn enter(task: PrepareTask<'_>) {
        prepare(task, vectors());
    }
    // SAFETY: the table was handed out after the features were detected.
    unsafe { enter(task) }
}

fn hard_linear(task: LinearTask<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn enter(task: LinearTask<'_>) {
        // SAFETY: the table was handed out after the tiles were detected and permitted.
        unsafe { linear::<HardTiles, _>(lanes::Avx512::here(), task, vectors()) };
    }
    // SAFETY: the table was handed out after the features were detected.
    unsafe { enter(task) }
}

#[inline(always)]
fn prepare(task: PrepareTask<'_>, vectors: &Kernels) {
    let format = task.w.format();
    match format {
        _ if !on_tiles(format, task.x.len() / task.w.k()) => (vectors.prepare)(task),
        WeightFormat::Quantized(format) => arrange::byte_tiles(&task, format),
        _ => arrange::bf16_tiles(&task),
    }
}

/// # Safety
///
/// As [`Tiles::configure`].
#[inline(always)]
unsafe fn linear<U: Tiles, L: Lanes>(lanes: L, task: LinearTask<'_>, vectors: &Kernels) {
    let (n, k) = (task.w.n(), task.w.k());
    if !on_tiles(task.w.format(), task.x.len() / k) {
        return (vectors.linear)(task);
    }
    let LinearTask { bias, out, units, .. } = task;
    let first_tile = task.rows.start(task.blocks.start) / TILE_ROWS;
    let rows = task.rows.rows(task.blocks);
    match task.w.panels() {
        Panels::Bf16(panels) => {
            let left = &task.prepared[first_tile * k.div_ceil(float::STEP) * float::TILE_WORDS..];
            // SAFETY: as the caller promises.
            unsafe {
                float::multiply::<U, L>(lanes, &Bf16Task { left, panels, n, k, bias, out, rows, units })
            };
        }
        Panels::Quantized(panels) => {
            let words = bytes::GroupLayout::new(panels.layout.format).words() * panels.layout.groups;
            let left = &task.prepared[first_tile * words..];
            // SAFETY: as the caller promises.
            unsafe { bytes::multiply::<U, L>(lanes, &ByteTask { left, panels, n, bias, out, rows, units }) };
        }
        Panels::F32(_) | Panels::F16(_) | Panels::Fp8(_) | Panels::Blocks(_) => {
            unreachable!("these run on vectors")
        }
    }
}
