//! Every operation in every version that this machine runs, against the scalar one, at awkward sizes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod attention;
mod blocks;
mod common;
mod elementwise;
mod fp8;
mod groups;
mod guard;
mod kv;
mod linear;
mod low_rank;
mod pool;
mod quant;
mod stored;
