//! CPU executor: the forward pass over [`pagoda_kernels`], KV storage and the sampler.
#![forbid(unsafe_code)]

mod candidates;
mod rng;
mod sampler;
mod softmax;

pub use rng::uniform;
pub use sampler::{RowLogits, Sampler};
