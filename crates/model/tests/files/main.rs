//! Model files, good and bad, through the public interface.

mod adapters;
mod config;
mod experts;
mod gguf;
mod gguf_file;
mod golden;
mod others;
mod quantized;
mod random;
mod sweep;
mod tiny;
mod weights;
