//! KV storage: one allocation for all keys and one for all values.

use crate::KvDtype;
use half::bf16;
use pagoda_kernels::{Buffer, KvMut, KvRef, KvShape, OutOfMemory};
use pagoda_sched::{BlockCopy, BlockId, KvLayout};

/// Keys and values of every block in every layer: `[layers][blocks][block elements]` each.
#[derive(Debug)]
pub(crate) struct KvStorage {
    layout: KvLayout,
    data: Data,
}

#[derive(Debug)]
enum Data {
    F32 {
        keys: Buffer<f32>,
        values: Buffer<f32>,
    },
    Bf16 {
        keys: Buffer<bf16>,
        values: Buffer<bf16>,
    },
    /// The scales are `[layers][blocks][kv_heads][block_size]` each.
    Int8 {
        keys: Buffer<i8>,
        values: Buffer<i8>,
        key_scales: Buffer<f32>,
        value_scales: Buffer<f32>,
    },
}

impl KvDtype {
    /// Bytes of one element.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Bytes of the scale of one head of one token.
    pub(crate) fn scale_bytes(self) -> u32 {
        match self {
            Self::F32 | Self::Bf16 => 0,
            Self::Int8 => 4,
        }
    }
}

impl KvStorage {
    /// Zeroed storage; memory is taken from the system when a block is first written.
    pub(crate) fn new(layout: KvLayout, dtype: KvDtype) -> Result<Self, OutOfMemory> {
        let elements = layout.layers as usize * layout.layer_elements();
        let data = match dtype {
            KvDtype::F32 => Data::F32 { keys: Buffer::zeroed(elements)?, values: Buffer::zeroed(elements)? },
            KvDtype::Bf16 => {
                Data::Bf16 { keys: Buffer::zeroed(elements)?, values: Buffer::zeroed(elements)? }
            }
            KvDtype::Int8 => Data::Int8 {
                keys: Buffer::zeroed(elements)?,
                values: Buffer::zeroed(elements)?,
                key_scales: Buffer::zeroed(elements / layout.head_dim as usize)?,
                value_scales: Buffer::zeroed(elements / layout.head_dim as usize)?,
            },
        };
        Ok(Self { layout, data })
    }

    pub(crate) fn layout(&self) -> KvLayout {
        self.layout
    }

    /// The geometry as the kernels see it.
    pub(crate) fn shape(&self) -> KvShape {
        KvShape {
            kv_heads: self.layout.kv_heads as usize,
            head_dim: self.layout.head_dim as usize,
            block_size: self.layout.block_size as usize,
        }
    }

    /// Bytes of all allocations.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.data {
            Data::F32 { keys, values } => (size_of_val(&**keys) + size_of_val(&**values)) as u64,
            Data::Bf16 { keys, values } => (size_of_val(&**keys) + size_of_val(&**values)) as u64,
            Data::Int8 { keys, values, key_scales, value_scales } => {
                (keys.len() + values.len() + size_of_val(&**key_scales) + size_of_val(&**value_scales)) as u64
            }
        }
    }

    /// One layer, to read.
    pub(crate) fn layer(&self, layer: usize) -> KvRef<'_> {
        let range = self.range(layer);
        match &self.data {
            Data::F32 { keys, values } => KvRef::F32 { keys: &keys[range.clone()], values: &values[range] },
            Data::Bf16 { keys, values } => KvRef::Bf16 { keys: &keys[range.clone()], values: &values[range] },
            Data::Int8 { keys, values, key_scales, value_scales } => {
                let scales = self.scales(&range);
                KvRef::Int8 {
                    keys: &keys[range.clone()],
                    values: &values[range],
                    key_scales: &key_scales[scales.clone()],
                    value_scales: &value_scales[scales],
                }
            }
        }
    }

    /// One layer, to write.
    pub(crate) fn layer_mut(&mut self, layer: usize) -> KvMut<'_> {
        let range = self.range(layer);
        let scales = self.scales(&range);
        match &mut self.data {
            Data::F32 { keys, values } => {
                KvMut::F32 { keys: &mut keys[range.clone()], values: &mut values[range] }
            }
            Data::Bf16 { keys, values } => {
                KvMut::Bf16 { keys: &mut keys[range.clone()], values: &mut values[range] }
            }
            Data::Int8 { keys, values, key_scales, value_scales } => KvMut::Int8 {
                keys: &mut keys[range.clone()],
                values: &mut values[range],
                key_scales: &mut key_scales[scales.clone()],
                value_scales: &mut value_scales[scales],
            },
        }
    }

    /// Copies a block in every layer.
    pub(crate) fn copy(&mut self, copy: BlockCopy) {
        for layer in 0..self.layout.layers {
            let (from, to) = (self.layout.key(layer, copy.from), self.layout.key(layer, copy.to).start);
            let scales = self.scales(&from);
            match &mut self.data {
                Data::F32 { keys, values } => {
                    keys.copy_within(from.clone(), to);
                    values.copy_within(from, to);
                }
                Data::Bf16 { keys, values } => {
                    keys.copy_within(from.clone(), to);
                    values.copy_within(from, to);
                }
                Data::Int8 { keys, values, key_scales, value_scales } => {
                    let to_scales = to / self.layout.head_dim as usize;
                    keys.copy_within(from.clone(), to);
                    values.copy_within(from, to);
                    key_scales.copy_within(scales.clone(), to_scales);
                    value_scales.copy_within(scales, to_scales);
                }
            }
        }
    }

    /// The scales of whole heads of elements.
    fn scales(&self, elements: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let dim = self.layout.head_dim as usize;
        elements.start / dim..elements.end / dim
    }

    fn range(&self, layer: usize) -> std::ops::Range<usize> {
        let start = self.layout.key(layer as u32, BlockId::NULL).start;
        start..start + self.layout.layer_elements()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_moves_one_block_in_every_layer_and_nothing_else() {
        let layout = KvLayout {
            layers: 3,
            kv_heads: 2,
            head_dim: 4,
            block_size: 16,
            element_bytes: 4,
            scale_bytes: 0,
            blocks: 5,
        };
        let mut storage = KvStorage::new(layout, KvDtype::F32).expect("little memory");
        assert_eq!(storage.bytes(), layout.total_bytes());
        for layer in 0..3 {
            let KvMut::F32 { keys, values } = storage.layer_mut(layer) else { panic!("f32") };
            for (index, (key, value)) in keys.iter_mut().zip(values).enumerate() {
                *key = (layer * 10_000 + index) as f32;
                *value = -*key;
            }
        }
        storage.copy(BlockCopy { from: BlockId(3), to: BlockId(1) });
        for layer in 0..3 {
            let KvRef::F32 { keys, values } = storage.layer(layer) else { panic!("f32") };
            for (index, (key, value)) in keys.iter().zip(values).enumerate() {
                let source = if index / 128 == 1 { index + 256 } else { index };
                assert_eq!(*key, (layer * 10_000 + source) as f32);
                assert_eq!(*value, -*key);
            }
        }
    }
}
