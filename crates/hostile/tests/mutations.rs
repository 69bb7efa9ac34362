//! Every target over its seeds and over mutations of them, the same ones in each run:
//! `PAGODA_MUTATIONS=10000 cargo test --release -p pagoda-hostile` looks at so many of each target.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

use pagoda_hostile::TARGETS;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What mutations put in.
const PIECES: &[&[u8]] = &[
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e309",
    b"-0.0",
    b"18446744073709551616",
    b"4294967296",
    b"2147483648",
    b"\"\"",
    b"\"\\u0000\"",
    b"\"\\ud800\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b"{}",
    b"[]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"(",
    b")",
    b"*",
    b"{1,99999}",
    b"|",
    b"\n",
    b"\0",
    b"<s>",
    b"</s>",
    b"<tool_call>",
    b"</tool_call>",
    b"{%",
    b"%}",
    b"{{",
    b"}}",
    b"\xff",
    b"\xc3",
    b"\xf0\x9f\xa6\x80",
    b"\xef\xbf\xbd",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\x80",
    b"$ref",
    b"#",
    b"type",
    b"properties",
    b"items",
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One seed with up to eight changes.
fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..1 + dice.roll(8) {
        let at = dice.roll(bytes.len() + 1);
        let end = at + dice.roll((bytes.len() - at).min(32) + 1);
        match dice.roll(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, PIECES[dice.roll(PIECES.len())].iter().copied())),
            4 => drop(bytes.splice(at..end, PIECES[dice.roll(PIECES.len())].iter().copied())),
            5 => {
                let again = bytes[at..end].repeat(1 + dice.roll(20));
                drop(bytes.splice(at..at, again));
            }
            _ => {
                let other = &seeds[dice.roll(seeds.len())];
                let from = dice.roll(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Runs `name` on its seeds and `few` mutations.
fn sweep(name: &str, few: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let asked = std::env::var("PAGODA_MUTATIONS").ok();
    let count = asked.map_or(few, |count| count.parse().expect("PAGODA_MUTATIONS is a number"));
    let seeds = seeds(name);
    assert!(seeds.len() >= 5, "{name} has seeds");
    let mut dice = Dice(5);
    let mutations = (0..count).map(|_| mutated(&seeds, &mut dice));
    let mut slowest = (Duration::ZERO, Vec::new());
    for input in seeds.iter().cloned().chain(mutations) {
        let begun = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            let file = std::env::temp_dir().join(format!("pagoda-{name}-{}", std::process::id()));
            std::fs::write(&file, &input).unwrap();
            panic!("{name} on {:?}; the input is in {}", String::from_utf8_lossy(&input), file.display());
        }
        if begun.elapsed() > slowest.0 {
            slowest = (begun.elapsed(), input);
        }
    }
    let shown: String = String::from_utf8_lossy(&slowest.1).chars().take(80).collect();
    println!("{name}: {} seeds, {count} mutations; the slowest took {:?}: {shown:?}", seeds.len(), slowest.0);
}

#[test]
fn requests() {
    sweep("requests", 1500);
}

#[test]
fn constraints() {
    sweep("constraints", 150);
}

#[test]
fn templates() {
    sweep("templates", 400);
}

#[test]
fn tokenizers() {
    sweep("tokenizers", 400);
}

#[test]
fn outputs() {
    sweep("outputs", 200);
}

#[test]
fn configs() {
    sweep("configs", 100);
}

#[test]
fn safetensors() {
    sweep("safetensors", 100);
}

#[test]
fn gguf() {
    sweep("gguf", 200);
}
