//! KV storage.

use crate::common::{Rng, Sequence, Store, scalar};
use half::bf16;
use pagoda_kernels::{KvRows, KvShape, WorkerPool};

const SHAPE: KvShape = KvShape { kv_heads: 3, head_dim: 10, block_size: 32 };

/// Key and value of one element as the documented layouts place them.
fn element(
    store: &Store,
    shape: &KvShape,
    (block, token, head, dim): (usize, usize, usize, usize),
) -> (f32, f32) {
    let (b, d) = (shape.block_size, shape.head_dim);
    let base = block * shape.block_elements() + head * b * d;
    match store {
        Store::F32(keys, values) => (keys[base + dim * b + token], values[base + token * d + dim]),
        Store::Bf16(keys, values) => (
            keys[base + (dim / 2 * b + token) * 2 + dim % 2].to_f32(),
            values[base + (token / 2 * d + dim) * 2 + token % 2].to_f32(),
        ),
    }
}

#[test]
fn tokens_go_to_their_slots_rounded_once_and_nothing_else_changes() {
    for threads in [1, 3] {
        let pool = WorkerPool::new(threads).unwrap();
        for (half, tokens) in [(false, 1), (true, 1), (false, 70), (true, 70), (true, 2000)] {
            let mut rng = Rng(tokens as u64);
            let blocks = 2 + usize::div_ceil(tokens, 32);
            let width = SHAPE.token_elements();
            let stride = 2 * width + 5;
            let data = rng.floats(tokens * stride);
            let mut slots: Vec<u32> = (0..blocks as u32 * 32).collect();
            (1..slots.len()).rev().for_each(|i| slots.swap(i, rng.below(i + 1)));
            slots.truncate(tokens);
            let mut store = Store::new(&SHAPE, blocks, half);
            let rows = KvRows { keys: &data, values: &data[width..], stride };
            scalar().kv_write(&pool, &SHAPE, store.write(), rows, &slots);
            let mut written = 0;
            for slot in 0..blocks * 32 {
                let row = slots.iter().position(|&s| s as usize == slot);
                for column in 0..width {
                    let place = (slot / 32, slot % 32, column / 10, column % 10);
                    let (key, value) = element(&store, &SHAPE, place);
                    let Some(row) = row else {
                        assert!(key.is_nan() && value.is_nan(), "slot {slot} was not to be written");
                        continue;
                    };
                    let round = |x: f32| if half { bf16::from_f32(x).to_f32() } else { x };
                    let from = row * stride + column;
                    assert_eq!(
                        (key, value),
                        (round(data[from]), round(data[from + width])),
                        "slot {slot} {column}"
                    );
                    written += 1;
                }
            }
            assert_eq!(written, tokens * width);
        }
    }
}

#[test]
fn a_copied_block_is_the_same_block() {
    let (mut rng, pool) = (Rng(8), WorkerPool::new(1).unwrap());
    for half in [false, true] {
        let width = SHAPE.token_elements();
        let (keys, values) = (rng.floats(32 * width), rng.floats(32 * width));
        let sequence = Sequence { keys, values, table: vec![2] };
        let mut store = Store::new(&SHAPE, 4, half);
        sequence.store(&pool, &SHAPE, &mut store, 0..32);
        scalar().kv_copy(&SHAPE, store.write(), 2, 1);
        for token in 0..32 {
            let place = |block| (block, token, 2, 7);
            assert_eq!(element(&store, &SHAPE, place(1)), element(&store, &SHAPE, place(2)));
            assert!(element(&store, &SHAPE, place(3)).0.is_nan());
        }
    }
}

#[test]
#[should_panic(expected = "element")]
fn a_slot_outside_the_storage_is_refused() {
    let pool = WorkerPool::new(1).unwrap();
    let mut store = Store::new(&SHAPE, 1, true);
    let row = vec![0.0; 30];
    let rows = KvRows { keys: &row, values: &row, stride: 30 };
    scalar().kv_write(&pool, &SHAPE, store.write(), rows, &[32]);
}

#[test]
fn unsupported_geometry_is_named() {
    let good = KvShape { kv_heads: 1, head_dim: 2, block_size: 16 };
    assert!(good.is_supported());
    for bad in [
        KvShape { kv_heads: 0, ..good },
        KvShape { head_dim: 0, ..good },
        KvShape { head_dim: 7, ..good },
        KvShape { head_dim: 1026, ..good },
        KvShape { block_size: 8, ..good },
        KvShape { block_size: 40, ..good },
        KvShape { block_size: 1040, ..good },
    ] {
        assert!(!bad.is_supported(), "{bad:?}");
    }
}
