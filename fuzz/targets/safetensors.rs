//! `cargo fuzz run safetensors`; the target is in `crates/hostile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagoda_fuzz::run("safetensors", data));
