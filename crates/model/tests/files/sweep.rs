//! Damage everywhere: any bytes give a checkpoint or an error, never a panic, and an accepted file is one
//! that the format's own crate accepts too.

use crate::tiny::{Tiny, frame};
use pagoda_model::ModelError;
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;
use std::cell::RefCell;

const FILE: &str = "model.safetensors";

/// A small deterministic generator; the damage is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Touches every tensor of an opened model, as loading it would.
fn open(folder: &crate::tiny::Folder) -> Result<f64, ModelError> {
    let model = folder.open()?;
    let sum = |(_, tensor): (_, pagoda_model::Tensor<'_>)| {
        tensor.to_f32_vec().iter().map(|x| f64::from(*x)).sum::<f64>()
    };
    Ok(model.tensors().map(sum).sum())
}

#[test]
fn truncation_at_every_byte_is_an_error_that_names_the_file() {
    let tiny = Tiny::llama();
    let good = tiny.weights();
    let folder = tiny.write();
    assert!(open(&folder).is_ok());
    for len in 0..good.len() {
        folder.write(FILE, &good[..len]);
        let message = open(&folder).expect_err("a truncated file must be refused").to_string();
        assert!(message.contains(FILE) && message.contains("truncated"), "{len}: {message}");
    }
}

#[test]
fn truncation_of_the_config_at_every_byte_is_an_error() {
    let tiny = Tiny::llama();
    let folder = tiny.write();
    let good = tiny.config.to_string();
    for len in 0..good.len() {
        folder.write("config.json", &good[..len]);
        let message = open(&folder).expect_err("a truncated config must be refused").to_string();
        assert!(message.contains("config.json"), "{len}: {message}");
    }
}

#[test]
fn flipped_bits_never_panic_and_never_pass_what_the_format_forbids() {
    let tiny = Tiny::llama();
    let good = tiny.weights();
    let header = good.len() - tiny.data().len();
    let folder = tiny.write();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..10_000 {
        let mut bytes = good.clone();
        // Damage in the header is where a reader can go wrong; one flip in eight goes anywhere.
        let area = if round % 8 == 0 { bytes.len() } else { header };
        for _ in 0..=dice.below(3) {
            let at = dice.below(area);
            bytes[at] ^= 1 << dice.below(8);
        }
        folder.write(FILE, &bytes);
        match open(&folder) {
            Ok(_) => {
                accepted += 1;
                assert!(SafeTensors::deserialize(&bytes).is_ok(), "round {round} accepts what it should not");
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(FILE), "round {round}: {error}");
            }
        }
    }
    assert!(accepted > 200 && refused > 5_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn flipped_bits_in_the_config_never_panic() {
    let tiny = Tiny::llama();
    let folder = tiny.write();
    let good = tiny.config.to_string().into_bytes();
    let mut dice = Dice(42);
    for _ in 0..5_000 {
        let mut bytes = good.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        folder.write("config.json", &bytes);
        let _ = open(&folder);
    }
}

/// Numbers at the edges where sums and products wrap.
fn hostile_number() -> impl Strategy<Value = u64> {
    const EDGES: &[u64] =
        &[0, 1, 2, 127, 128, 129, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 7, u64::MAX];
    prop_oneof![
        proptest::sample::select(EDGES),
        proptest::sample::select(EDGES).prop_map(|n: u64| n.wrapping_sub(1)),
        0..4096u64
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_entries_never_panic(
        victim in 0usize..21,
        shape in proptest::collection::vec(hostile_number(), 0..5),
        offsets in proptest::option::of((hostile_number(), hostile_number())),
        dtype in proptest::sample::select(&["BF16", "F32", "F64", "F4", "F6_E2M3", "BOOL", "C64"][..]),
    ) {
        thread_local! {
            static FOLDER: RefCell<Option<crate::tiny::Folder>> = const { RefCell::new(None) };
        }
        let tiny = Tiny::llama();
        let mut header = tiny.header();
        let entry = &mut header[&tiny.tensors[victim].name];
        entry["shape"] = shape.into();
        entry["dtype"] = dtype.into();
        if let Some((begin, end)) = offsets {
            entry["data_offsets"] = vec![begin, end].into();
        }
        let bytes = frame(&Value::Object(header).to_string(), &tiny.data());
        FOLDER.with_borrow_mut(|slot| {
            let folder = slot.get_or_insert_with(|| tiny.write());
            folder.write(FILE, &bytes);
            // The shape as stored is among those drawn only by chance.
            if open(folder).is_ok() {
                assert!(SafeTensors::deserialize(&bytes).is_ok());
            }
        });
    }
}
