//! CPU operations of a transformer over slices, in one version per instruction set, chosen at run time.
//!
//! Nothing here knows a model or a request. The public functions are safe: they check lengths and panic on a caller's
//! mistake, and NaN in gives NaN out.
//!
//! **Invariance.** No result depends on the number of workers; the result of a row of a linear operation, a norm or an
//! activation does not depend on the other rows; the result of a query of attention depends on its position and on the
//! keys and values that it sees, not on the chunk or the batch that it is computed in. This follows from the order of
//! every sum, which is a function of the length of K, or of the position, alone; threads share out outputs, never sums.
//!
//! ```
//! use pagoda_kernels::{Kernels, LinearScratch, PackedLinear, WeightFormat, Weights, WorkerPool};
//!
//! let pool = WorkerPool::new(2)?;
//! let kernels = Kernels::best();
//! let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [n = 3, k = 2]
//! let packed = PackedLinear::pack(&[(Weights::F32(&weights), 3)], 2, WeightFormat::Bf16, &pool)?;
//! let mut out = [0.0; 3];
//! let mut scratch = LinearScratch::new(1, 2)?;
//! kernels.linear(&pool, &[10.0, 1.0], &packed, None, &mut scratch, &mut out);
//! assert_eq!(out, [12.0, 34.0, 56.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod act;
mod affinity;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod buffer;
mod chunks;
mod format;
mod fp8;
mod gated;
mod groups;
mod heads;
mod isa;
mod kv;
pub mod limits;
mod linear;
mod low_rank;
mod map;
mod norm;
mod pack_error;
mod packed;
mod panels;
mod pool;
mod quant;
mod quantize;
mod quantized;
mod rope;
mod round;
mod route;
mod rows;
mod scalar;
mod scratch;
mod shared;
mod source;
mod stacked;
mod table;
#[cfg(target_arch = "x86_64")]
mod vector;
mod weigh;

pub use act::{Glu, Map, RowStats};
pub use attention::{AttentionInput, AttentionLimits, AttentionRow, AttentionScratch};
pub use blocks::{BlockFormat, BlockRef};
pub use buffer::{Buffer, Element, OutOfMemory};
pub use format::WeightFormat;
pub use fp8::Fp8Ref;
pub use groups::{GroupScratch, GroupedInput, LinearRef, RowGroup};
pub use heads::HeadRows;
pub use isa::{Isa, IsaError};
pub use kv::{KvMut, KvRef, KvRows, KvShape};
pub use low_rank::{Columns, LowRank, LowRankFormat, LowRankInput, LowRankPart, LowRankScratch};
pub use norm::{Norm, NormKind};
pub use pack_error::PackError;
pub use packed::{LinearShape, PackedLinear};
pub use pool::{WorkerPool, partition};
pub use quant::{Activations, Bits, QuantFormat, QuantFormatError, ScaleFormat};
pub use quantized::{QuantizedMatrix, QuantizedParts, QuantizedRef, Scales};
pub use rope::{Angles, Pairing};
pub use route::{RouteWeights, RoutedRow};
pub use scratch::LinearScratch;
pub use source::Weights;
pub use stacked::StackedLinear;
pub use table::Kernels;
pub use weigh::weight;
