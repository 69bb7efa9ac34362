//! KV storage of one layer: blocks of tokens, laid out as attention reads them.
//!
//! ```text
//! f32:   keys [block][kv_head][head_dim][token]          values [block][kv_head][token][head_dim]
//! bf16:  keys [block][kv_head][head_dim/2][token][2]     values [block][kv_head][token/2][head_dim][2]
//! int8:  as bf16, and scales of keys and values [block][kv_head][token]
//! ```
//!
//! A token's key and value of each head have a scale each: the largest absolute element over 127. Keys are transposed, so that one query element times a row of keys gives the scores of many tokens. The pairs of bf16,
//! over head_dim for keys and over tokens for values, are the operand order of VDPBF16PS and AMX.

use crate::pool::{WorkerPool, partition};
use crate::round::to_bf16;
use crate::shared::SharedOut;
use half::bf16;

/// Geometry of the KV storage of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements of a head; even, at most [`KvShape::MAX_HEAD_DIM`].
    pub head_dim: usize,
    /// Tokens of a block; a multiple of 16, at most [`KvShape::MAX_BLOCK`].
    pub block_size: usize,
}

impl KvShape {
    /// Largest `head_dim`.
    pub const MAX_HEAD_DIM: usize = 1024;
    /// Largest `block_size`.
    pub const MAX_BLOCK: usize = 1024;

    /// Whether the kernels can work with this geometry.
    pub fn is_supported(&self) -> bool {
        self.kv_heads > 0
            && self.head_dim.is_multiple_of(2)
            && (2..=Self::MAX_HEAD_DIM).contains(&self.head_dim)
            && self.block_size.is_multiple_of(16)
            && (16..=Self::MAX_BLOCK).contains(&self.block_size)
    }

    /// Elements of one head of one block, in keys and in values.
    pub(crate) fn head_elements(&self) -> usize {
        self.block_size * self.head_dim
    }

    /// Elements of one block, in keys and in values.
    pub fn block_elements(&self) -> usize {
        self.kv_heads * self.head_elements()
    }

    /// Scales of one block of int8, of keys and of values.
    pub fn block_scales(&self) -> usize {
        self.kv_heads * self.block_size
    }

    /// Elements that one token has in keys and in values.
    pub fn token_elements(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(self.is_supported(), "unsupported KV geometry {self:?}");
    }
}

/// How an element is stored.
pub(crate) trait KvElement: Copy + Send + Sync {
    /// Elements that lie side by side: of keys along head_dim, of values along the tokens.
    const STEP: usize;

    /// Rounds for storage, after the division by the scale where there is one.
    fn store(x: f32) -> Self;
    /// Widens, exactly.
    fn widen(self) -> f32;

    /// Index inside one head of one block of element `dim` of the key of token `token`.
    fn key_index(shape: &KvShape, token: usize, dim: usize) -> usize {
        (dim / Self::STEP * shape.block_size + token) * Self::STEP + dim % Self::STEP
    }

    /// Index inside one head of one block of element `dim` of the value of token `token`.
    fn value_index(shape: &KvShape, token: usize, dim: usize) -> usize {
        (token / Self::STEP * shape.head_dim + dim) * Self::STEP + token % Self::STEP
    }

    /// Writes `x / scale`, the key of token `token`, to one head of one block.
    fn put_key(shape: &KvShape, token: usize, x: &[f32], inverse: f32, head: &mut [Self]) {
        let lines = head.chunks_exact_mut(shape.block_size * Self::STEP);
        for (line, x) in lines.zip(x.chunks_exact(Self::STEP)) {
            for (to, x) in line[token * Self::STEP..][..Self::STEP].iter_mut().zip(x) {
                *to = Self::store(x * inverse);
            }
        }
    }

    /// Writes `x / scale`, the value of token `token`, to one head of one block.
    fn put_value(shape: &KvShape, token: usize, x: &[f32], inverse: f32, head: &mut [Self]) {
        let start = token / Self::STEP * Self::STEP * shape.head_dim;
        for (to, x) in head[start..].chunks_exact_mut(Self::STEP).zip(x) {
            to[token % Self::STEP] = Self::store(x * inverse);
        }
    }
}

impl KvElement for f32 {
    const STEP: usize = 1;

    fn store(x: f32) -> Self {
        x
    }

    fn widen(self) -> f32 {
        self
    }
}

impl KvElement for bf16 {
    const STEP: usize = 2;

    fn store(x: f32) -> Self {
        to_bf16(x)
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl KvElement for i8 {
    const STEP: usize = 2;

    fn store(x: f32) -> Self {
        x.round_ties_even() as i8
    }

    fn widen(self) -> f32 {
        f32::from(self)
    }
}

/// The scale of a key or value of one head in int8, and its inverse; 0 both for zeros, and a scale of NaN where an
/// element is not finite.
fn code_scale(x: &[f32]) -> (f32, f32) {
    let largest = x.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let sum: f32 = x.iter().map(|x| x * 0.0).sum();
    if sum.is_nan() {
        (f32::NAN, 0.0)
    } else if largest < 1e-30 {
        (0.0, 0.0)
    } else {
        (largest / 127.0, 127.0 / largest)
    }
}

/// The keys and values of one layer, `[blocks, block_elements]` each, to read.
#[derive(Clone, Copy, Debug)]
pub enum KvRef<'a> {
    /// 32-bit floats.
    F32 {
        /// Keys.
        keys: &'a [f32],
        /// Values.
        values: &'a [f32],
    },
    /// bfloat16.
    Bf16 {
        /// Keys.
        keys: &'a [bf16],
        /// Values.
        values: &'a [bf16],
    },
    /// Signed bytes, times a scale per token and head.
    Int8 {
        /// Keys.
        keys: &'a [i8],
        /// Values.
        values: &'a [i8],
        /// `[blocks, kv_heads, block_size]`
        key_scales: &'a [f32],
        /// `[blocks, kv_heads, block_size]`
        value_scales: &'a [f32],
    },
}

/// The keys and values of one layer, `[blocks, block_elements]` each, to write.
#[derive(Debug)]
pub enum KvMut<'a> {
    /// 32-bit floats.
    F32 {
        /// Keys.
        keys: &'a mut [f32],
        /// Values.
        values: &'a mut [f32],
    },
    /// bfloat16.
    Bf16 {
        /// Keys.
        keys: &'a mut [bf16],
        /// Values.
        values: &'a mut [bf16],
    },
    /// Signed bytes, times a scale per token and head.
    Int8 {
        /// Keys.
        keys: &'a mut [i8],
        /// Values.
        values: &'a mut [i8],
        /// `[blocks, kv_heads, block_size]`
        key_scales: &'a mut [f32],
        /// `[blocks, kv_heads, block_size]`
        value_scales: &'a mut [f32],
    },
}

impl KvRef<'_> {
    /// Whole blocks that there are.
    pub(crate) fn blocks(&self, shape: &KvShape) -> usize {
        let elements = |keys: usize, values: usize| keys.min(values) / shape.block_elements();
        match self {
            KvRef::F32 { keys, values } => elements(keys.len(), values.len()),
            KvRef::Bf16 { keys, values } => elements(keys.len(), values.len()),
            KvRef::Int8 { keys, values, key_scales, value_scales } => {
                let scales = key_scales.len().min(value_scales.len());
                elements(keys.len(), values.len()).min(scales / shape.block_scales())
            }
        }
    }
}

/// Keys and values of tokens as the linear operation made them: row `t` starts at `t * stride` and has
/// `kv_heads * head_dim` elements, head by head.
#[derive(Clone, Copy, Debug)]
pub struct KvRows<'a> {
    /// Keys of the first row and all that follows.
    pub keys: &'a [f32],
    /// Values of the first row and all that follows.
    pub values: &'a [f32],
    /// Elements from one row to the next.
    pub stride: usize,
}

/// Rounds the keys and values of tokens and writes them to their slots; slot `s` is token `s % block_size` of block
/// `s / block_size`.
///
/// # Panics
///
/// When a slice is too short for the rows or a slot is outside the storage.
pub(crate) fn write(pool: &WorkerPool, shape: &KvShape, kv: KvMut<'_>, rows: KvRows<'_>, slots: &[u32]) {
    shape.check();
    if slots.is_empty() {
        return;
    }
    let need = (slots.len() - 1) * rows.stride + shape.token_elements();
    assert!(
        rows.keys.len() >= need && rows.values.len() >= need,
        "{} rows of KV need {need} elements",
        slots.len()
    );
    match kv {
        KvMut::F32 { keys, values } => scatter(pool, shape, (keys, None), (values, None), rows, slots),
        KvMut::Bf16 { keys, values } => scatter(pool, shape, (keys, None), (values, None), rows, slots),
        KvMut::Int8 { keys, values, key_scales, value_scales } => {
            let (keys, values) = ((keys, Some(key_scales)), (values, Some(value_scales)));
            scatter(pool, shape, keys, values, rows, slots);
        }
    }
}

/// Elements of keys or of values, and their scales where they have some.
type Part<'a, T> = (&'a mut [T], Option<&'a mut [f32]>);

/// Elements per worker below which waking it costs more than it brings.
const GRAIN: usize = 8192;

/// Workers share out the heads, not the tokens: two equal slots then still make no race.
fn scatter<T: KvElement>(
    pool: &WorkerPool,
    shape: &KvShape,
    keys: Part<'_, T>,
    values: Part<'_, T>,
    rows: KvRows<'_>,
    slots: &[u32],
) {
    type Put<T> = fn(&KvShape, usize, &[f32], f32, &mut [T]);
    let sides = [(keys, rows.keys, T::put_key as Put<T>), (values, rows.values, T::put_value as Put<T>)]
        .map(|((to, scales), from, put)| (SharedOut::new(to), scales.map(SharedOut::new), from, put));
    let (dim, size) = (shape.head_dim, shape.head_elements());
    let write_head = |row: usize, head: usize| {
        let (block, token) = (slots[row] as usize / shape.block_size, slots[row] as usize % shape.block_size);
        let place = block * shape.kv_heads + head;
        for (to, scales, from, put) in &sides {
            let x = &from[row * rows.stride + head * dim..][..dim];
            let (scale, inverse) = scales.as_ref().map_or((1.0, 1.0), |_| code_scale(x));
            if let Some(scales) = scales {
                // SAFETY: each head belongs to one worker, and no two heads share a scale.
                unsafe { scales.write(place * shape.block_size + token, scale) };
            }
            // SAFETY: as above, nor do they share an element; one part is taken at a time.
            put(shape, token, x, inverse, unsafe { to.slice(place * size..(place + 1) * size) });
        }
    };
    let parts = (slots.len() * shape.token_elements() / GRAIN).clamp(1, pool.threads()).min(shape.kv_heads);
    let part = |worker: usize| {
        let heads = partition(shape.kv_heads, parts, worker);
        (0..slots.len()).for_each(|row| heads.clone().for_each(|head| write_head(row, head)));
    };
    if parts == 1 {
        return part(0);
    }
    pool.run(&|worker| {
        if worker < parts {
            part(worker);
        }
    });
}

/// Copies block `from` over block `to`.
///
/// # Panics
///
/// When a block is outside the storage.
pub(crate) fn copy(shape: &KvShape, kv: KvMut<'_>, from: u32, to: u32) {
    shape.check();
    let blocks = (from as usize, to as usize);
    let size = shape.block_elements();
    match kv {
        KvMut::F32 { keys, values } => {
            copy_part(keys, size, blocks);
            copy_part(values, size, blocks);
        }
        KvMut::Bf16 { keys, values } => {
            copy_part(keys, size, blocks);
            copy_part(values, size, blocks);
        }
        KvMut::Int8 { keys, values, key_scales, value_scales } => {
            copy_part(keys, size, blocks);
            copy_part(values, size, blocks);
            copy_part(key_scales, shape.block_scales(), blocks);
            copy_part(value_scales, shape.block_scales(), blocks);
        }
    }
}

/// Copies one part of `size` elements over another.
fn copy_part<T: Copy>(all: &mut [T], size: usize, (from, to): (usize, usize)) {
    all.copy_within(from * size..(from + 1) * size, to * size);
}
