//! Models of public shapes whose weights are made in memory, so that nobody needs a download to measure.
//!
//! Such a model reads like a folder: a config.json with the public values, a stand-in tokenizer.json, and tensors
//! whose elements are a function of (seed, tensor, index), made when they are asked for and kept by nobody here.

mod generator;
mod shape;
mod shapes;
mod tokenizer;
mod weights;

pub(crate) use generator::Generator;
pub use shape::{RandomShape, ShapeError};
pub(crate) use tokenizer::stand_in;
pub(crate) use weights::RandomWeights;
