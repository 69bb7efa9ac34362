//! Every operation in every version that this machine runs, against the scalar one, at awkward sizes.

mod attention;
mod common;
mod elementwise;
mod guard;
mod kv;
mod linear;
mod pool;
