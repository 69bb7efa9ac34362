//! KV storage.

use crate::common::{Kind, Rng, Sequence, Store, scalar};
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
        Store::Int8([keys, values], [key_scales, value_scales]) => {
            let scale = (block * shape.kv_heads + head) * b + token;
            let (key, value) = (
                keys[base + (dim / 2 * b + token) * 2 + dim % 2],
                values[base + (token / 2 * d + dim) * 2 + token % 2],
            );
            (f32::from(key) * key_scales[scale], f32::from(value) * value_scales[scale])
        }
    }
}

#[test]
fn tokens_go_to_their_slots_rounded_once_and_nothing_else_changes() {
    for threads in [1, 3] {
        let pool = WorkerPool::new(threads).unwrap();
        for (kind, tokens) in
            Kind::ALL.into_iter().flat_map(|kind| [1, 70, 2000].map(|tokens| (kind, tokens)))
        {
            let mut rng = Rng(tokens as u64);
            let blocks = 2 + usize::div_ceil(tokens, 32);
            let width = SHAPE.token_elements();
            let stride = 2 * width + 5;
            let data = rng.floats(tokens * stride);
            let mut slots: Vec<u32> = (0..blocks as u32 * 32).collect();
            (1..slots.len()).rev().for_each(|i| slots.swap(i, rng.below(i + 1)));
            slots.truncate(tokens);
            let mut store = Store::new(&SHAPE, blocks, kind);
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
                    let round = |from: usize| kind.round(&data[from..from + 10])[column % 10];
                    let from = row * stride + column / 10 * 10;
                    assert_eq!((key, value), (round(from), round(from + width)), "slot {slot} {column}");
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
    for kind in Kind::ALL {
        let width = SHAPE.token_elements();
        let (keys, values) = (rng.floats(32 * width), rng.floats(32 * width));
        let sequence = Sequence { keys, values, table: vec![2] };
        let mut store = Store::new(&SHAPE, 4, kind);
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
fn zeros_have_a_scale_of_0_and_what_is_not_finite_one_of_nan() {
    let pool = WorkerPool::new(1).unwrap();
    let shape = KvShape { kv_heads: 3, head_dim: 4, block_size: 16 };
    let mut store = Store::new(&shape, 1, Kind::Int8);
    let row = [0.0, -0.0, 0.0, 1e-40, 1.0, f32::NAN, 0.0, 2.0, f32::INFINITY, 0.0, 0.0, -1.0];
    scalar().kv_write(&pool, &shape, store.write(), KvRows { keys: &row, values: &row, stride: 12 }, &[0]);
    let Store::Int8(codes, scales) = store else { unreachable!() };
    for (codes, scales) in codes.iter().zip(&scales) {
        assert_eq!(scales[0], 0.0);
        assert!(scales[16].is_nan() && scales[32].is_nan());
        assert!((0..3).all(|head| codes[head * 64] == 0));
    }
}

#[test]
#[should_panic(expected = "element")]
fn a_slot_outside_the_storage_is_refused() {
    let pool = WorkerPool::new(1).unwrap();
    let mut store = Store::new(&SHAPE, 1, Kind::Bf16);
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
