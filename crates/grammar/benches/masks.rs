//! Time of compiling and of masks, on the vocabulary of the embedded model and on a made-up one of 150,000 tokens:
//!
//! ```sh
//! cargo bench -p pagoda-grammar --bench masks
//! ```

use pagoda_grammar::{Constraint, GrammarCompiler, GrammarLimits, Vocabulary};
use pagoda_text::{Tokenizer, TokenizerFiles};
use serde_json::json;
use std::time::{Duration, Instant};

const TEXTS: u64 = 20;
const LONGEST: usize = 300;

fn main() {
    let tokenizer = embedded();
    let bytes = |id| if tokenizer.is_special(id) { None } else { tokenizer.token_bytes(id) };
    bench("embedded", tokenizer.vocab_size(), &bytes, tokenizer.eos_ids());
    let words = made_up(150_000);
    let bytes = |id: u32| words.get(id as usize).map(Vec::as_slice);
    bench("150,000 tokens", 150_001, &bytes, &[150_000]);
}

fn embedded() -> Tokenizer {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale/");
    let read = |name: &str| std::fs::read(format!("{folder}{name}")).expect("the embedded model is there");
    Tokenizer::from_files(&TokenizerFiles {
        origin: "folktale",
        tokenizer_json: &read("tokenizer.json"),
        tokenizer_config: Some(&read("tokenizer_config.json")),
        ..TokenizerFiles::default()
    })
    .expect("the embedded tokenizer loads")
}

/// All bytes, then words of letters with and without a space before them, as vocabularies mostly are.
fn made_up(size: usize) -> Vec<Vec<u8>> {
    let mut random = 1_u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let mut seen: std::collections::HashSet<Vec<u8>> = words.iter().cloned().collect();
    while words.len() < size {
        let mut word = Vec::new();
        if below(2) == 0 {
            word.push(b' ');
        }
        let letters: &[u8] = match below(20) {
            0 => b"0123456789",
            1 => b"{}[]\":,._-()=<>/\\\n\t ",
            2 => "àéöüßñçø".as_bytes(),
            _ => b"eeeetttaaaooiinnsshhrrdlcumwfgypbvkjxqzETAOINS",
        };
        for _ in 0..2 + below(7) {
            word.push(letters[below(letters.len() as u64) as usize]);
        }
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

fn bench<'a>(name: &str, size: u32, bytes: &dyn Fn(u32) -> Option<&'a [u8]>, eos: &[u32]) {
    let start = Instant::now();
    let vocabulary = Vocabulary::new(size, bytes, eos).expect("a vocabulary");
    let compiler = GrammarCompiler::new(vocabulary, GrammarLimits::default()).expect("a compiler");
    println!("{name}: made in {:.1?}", start.elapsed());
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"type": "string", "format": "email"},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
            "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}, "required": ["city"]},
        },
        "required": ["name", "age", "tags"],
    });
    let cases = [
        ("object", Constraint::JsonObject),
        ("schema", Constraint::JsonSchema(person)),
        ("regex", Constraint::Regex(r"(\d{3}-\d{4} [a-z]+, )*end".into())),
        ("choice", Constraint::Choice((0..100).map(|index| format!("choice {index}")).collect())),
    ];
    for (case, constraint) in cases {
        run(&compiler, case, &constraint);
    }
}

fn run(compiler: &GrammarCompiler, case: &str, constraint: &Constraint) {
    let start = Instant::now();
    let grammar = compiler.compile(constraint).expect("a grammar");
    let compiled = start.elapsed();
    let mut clones = Vec::new();
    let mut masks: Vec<Duration> = Vec::new();
    for seed in 0..TEXTS {
        let mut random = seed;
        let start = Instant::now();
        let mut matcher = grammar.matcher();
        clones.push(start.elapsed());
        let mut words = grammar.start().to_vec();
        for _ in 0..LONGEST {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let Some(token) = pick(&words, grammar.eos(), random >> 33) else { break };
            let start = Instant::now();
            if matcher.consume(token).and_then(|()| matcher.mask(&mut words)).is_err() {
                break;
            }
            masks.push(start.elapsed());
        }
    }
    masks.sort();
    clones.sort();
    let at = |part: usize| masks[(masks.len() - 1) * part / 1000].as_secs_f64() * 1e6;
    let mean = masks.iter().sum::<Duration>().as_secs_f64() * 1e6 / masks.len() as f64;
    println!(
        "  {case:8} compiled in {compiled:7.1?}; a matcher {:7.1?}; {:5} masks: {mean:6.1} us mean, {:6.1} median, \
         {:7.1} at 99 %, {:7.1} the slowest",
        clones[clones.len() / 2],
        masks.len(),
        at(500),
        at(990),
        at(1000)
    );
}

/// One of the tokens that are allowed; `None` where only the end is.
fn pick(words: &[u32], eos: &[u32], random: u64) -> Option<u32> {
    let allowed: Vec<u32> = (0..words.len() as u32 * 32)
        .filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1 && !eos.contains(id))
        .collect();
    (!allowed.is_empty()).then(|| allowed[random as usize % allowed.len()])
}
