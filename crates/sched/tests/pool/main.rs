//! The block pool against a naive model, over random operations.

mod driver;
mod model;
mod rules;

use driver::{Driver, Op};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn short_runs_agree_with_the_model(
        total in 1u32..24,
        block_size in 1u32..4,
        hash_bits in prop::sample::select(vec![0u32, 1, 8, 32]),
        ops in prop::collection::vec(any::<[u8; 4]>(), 1..120),
    ) {
        let mut driver = Driver::new(total, block_size, hash_bits);
        for op in ops {
            driver.step(Op(op));
            driver.check();
        }
        driver.drain();
    }
}

#[test]
fn a_million_operations_agree_with_the_model() {
    for (run, hash_bits, faults) in [(1u64, 32, true), (2, 8, false), (3, 0, true), (4, 32, false)] {
        let mut driver = Driver::new(20, 2, hash_bits);
        let mut random = run;
        for at in 0..250_000 {
            let op = Op(next(&mut random));
            // Without poisoned blocks the invariants are stricter: no cached prefix may lose its parent.
            if faults || !op.is_fault() {
                driver.step(op);
            }
            if at % 16 == 0 {
                driver.check();
            }
        }
        driver.drain();
    }
}

/// SplitMix64, cut to an operation.
fn next(state: &mut u64) -> [u8; 4] {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) as u32).to_le_bytes()
}
