//! Hostile input for everything that reads what a client or a file sends: one function per target, which takes any bytes and
//! panics where something is wrong.
//!
//! The same functions are the targets of `cargo fuzz` in `fuzz/` and run on seeds and their mutations in the tests of this crate.
#![forbid(unsafe_code)]

mod configs;
mod constraints;
mod folder;
mod gguf;
mod outputs;
mod requests;
mod safetensors;
mod served;
mod templates;
mod tokenizers;

/// A function to be fed with any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the target, and of the folder of its seeds.
    pub name: &'static str,
    /// Panics where something is wrong.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 8] = [
    // Path and, from the next line on, body of a call, to its answer.
    Target { name: "requests", run: requests::run },
    // Schema, regular expression, grammar or choices by the first byte, to masks.
    Target { name: "constraints", run: constraints::run },
    // Chat template, zero byte, messages.
    Target { name: "templates", run: templates::run },
    // tokenizer.json, zero byte, text.
    Target { name: "tokenizers", run: tokenizers::run },
    // What a model says to a call with functions; by the first byte text or token ids.
    Target { name: "outputs", run: outputs::run },
    // By the first byte config.json or generation_config.json.
    Target { name: "configs", run: configs::run },
    // By the first byte a file of safetensors, the header of one, or an index of several.
    Target { name: "safetensors", run: safetensors::run },
    // A GGUF file, with its tokenizer.
    Target { name: "gguf", run: gguf::run },
];

/// Runs the target of that name, for drivers that know names.
///
/// # Panics
/// If there is no such target, or something is wrong.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(data);
}

/// The first byte and the rest.
fn split_kind(data: &[u8]) -> Option<(usize, &[u8])> {
    data.split_first().map(|(&kind, rest)| (usize::from(kind), rest))
}

/// What stands before and after the first zero byte.
fn split_zero(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|&byte| byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}
