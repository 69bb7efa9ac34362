//! A thousand schemas made from seeds: every text drawn under the mask parses and satisfies its schema.
//!
//! The whole corpus, with the time that each schema takes to compile:
//!
//! ```sh
//! cargo test --release -p pagoda-grammar --test suite -- --nocapture whole_corpus
//! ```

use crate::common::{Random, compile, draw};
use crate::validator::{FORMATS, PATTERNS, is_valid};
use pagoda_grammar::Constraint;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

const CORPUS: u64 = 1000;
const TEXTS: usize = 5;
/// A text that has not ended by then counts as unfinished.
const LONGEST: usize = 6000;

struct Maker {
    random: Random,
    definitions: usize,
}

impl Maker {
    fn corpus(seed: u64) -> Value {
        let mut maker = Self { random: Random(seed.wrapping_mul(7919)), definitions: 0 };
        maker.definitions = maker.random.below(3);
        let count = maker.definitions;
        let mut root = maker.schema(0);
        let Value::Object(entries) = &mut root else { return root };
        let definitions: Map<String, Value> =
            (0..count).map(|index| (format!("d{index}"), maker.definition())).collect();
        if count > 0 {
            entries.insert("$defs".into(), Value::Object(definitions));
        }
        root
    }

    /// An object whose references are optional, so that it has finite values.
    fn definition(&mut self) -> Value {
        let count = std::mem::take(&mut self.definitions);
        let inner = self.schema(3);
        self.definitions = count;
        let mut properties = Map::new();
        properties.insert("value".into(), inner);
        properties.insert("next".into(), self.reference());
        properties.insert("more".into(), json!({"type": "array", "items": self.reference(), "maxItems": 2}));
        json!({"type": "object", "properties": properties, "required": ["value"], "additionalProperties": false})
    }

    fn reference(&mut self) -> Value {
        json!({"$ref": format!("#/$defs/d{}", self.random.below(self.definitions))})
    }

    fn schema(&mut self, depth: usize) -> Value {
        let containers = if depth < 3 { 6 } else { 0 };
        match self.random.below(9 + containers) {
            0 => self.string(),
            1 => self.integer(),
            2 => self.number(),
            3 => json!({"type": "boolean"}),
            4 => json!({"type": "null"}),
            5 => self.values(),
            6 => json!({"type": ["string", "integer", "null"], "maxLength": 6, "minimum": -5, "maximum": 5}),
            7 if self.definitions > 0 => self.reference(),
            7 => json!({"const": self.constant(0)}),
            8 => self.string(),
            9..=11 => self.object(depth),
            12 => self.array(depth),
            13 => self.tuple(depth),
            _ => self.combination(depth),
        }
    }

    fn string(&mut self) -> Value {
        let low = self.random.below(4);
        match self.random.below(6) {
            0 => json!({"type": "string"}),
            1 => json!({"type": "string", "minLength": low, "maxLength": low + self.random.below(8)}),
            2 => json!({"type": "string", "pattern": self.random.pick(&PATTERNS)}),
            3 => json!({"type": "string", "format": self.random.pick(&FORMATS)}),
            4 => json!({"type": "string", "maxLength": 12, "description": "a text"}),
            _ => {
                json!({"type": "string", "enum": ["", "a", "a b", "\"quoted\"", "new\nline", "ünï", "€", "𝄞"]})
            }
        }
    }

    fn integer(&mut self) -> Value {
        let low = self.random.below(2000) as i64 - 1000;
        let high = low + self.random.below(3000) as i64;
        match self.random.below(5) {
            0 => json!({"type": "integer", "minimum": low, "maximum": high}),
            1 => json!({"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": high + 2}),
            2 => {
                json!({"type": "integer", "minimum": 0, "maximum": 1000, "multipleOf": 1 + self.random.below(12)})
            }
            3 => json!({"type": "integer", "minimum": low, "maximum": low}),
            _ => json!({"type": "integer", "minimum": -99_999, "maximum": 99_999}),
        }
    }

    fn number(&mut self) -> Value {
        let low = (self.random.below(4000) as f64 - 2000.0) / 8.0;
        let high = low + self.random.below(800) as f64 / 8.0;
        match self.random.below(3) {
            0 => json!({"type": "number", "minimum": low, "maximum": high}),
            1 => json!({"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high + 1.0}),
            _ => json!({"type": "number", "minimum": 0, "maximum": 1}),
        }
    }

    fn constant(&mut self, depth: usize) -> Value {
        match self.random.below(if depth < 2 { 8 } else { 6 }) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(self.random.below(100_000)),
            3 => json!(-2.5),
            4 => json!(format!("text {}", self.random.below(100))),
            5 => json!("\\ / \" \t é"),
            6 => json!([self.constant(depth + 1), self.constant(depth + 1)]),
            _ => json!({"k": self.constant(depth + 1), "a b": self.constant(depth + 1)}),
        }
    }

    fn values(&mut self) -> Value {
        let count = 1 + self.random.below(6);
        let values: Vec<Value> = (0..count).map(|_| self.constant(0)).collect();
        json!({"enum": values})
    }

    fn object(&mut self, depth: usize) -> Value {
        let names = ["id", "name", "tags", "a b", "größe", "x/y", "~", "\"q\"", "n1", "n2"];
        let mut properties = Map::new();
        let mut required = Vec::new();
        for _ in 0..self.random.below(6) {
            let name = *self.random.pick(&names);
            let inner = self.schema(depth + 1);
            if self.random.chance(50) && !required.contains(&name) {
                required.push(name);
            }
            properties.insert(name.into(), inner);
        }
        let mut schema = json!({"type": "object", "properties": properties, "required": required});
        match self.random.below(4) {
            0 => {}
            1 => schema["additionalProperties"] = json!({"type": "integer", "minimum": 0, "maximum": 9}),
            _ => schema["additionalProperties"] = json!(false),
        }
        schema
    }

    fn array(&mut self, depth: usize) -> Value {
        let low = self.random.below(3);
        let items = self.schema(depth + 1);
        match self.random.below(3) {
            0 => json!({"type": "array", "items": items, "maxItems": 4}),
            1 => {
                json!({"type": "array", "items": items, "minItems": low, "maxItems": low + self.random.below(5)})
            }
            _ => json!({"type": "array", "items": items, "minItems": low}),
        }
    }

    fn tuple(&mut self, depth: usize) -> Value {
        let count = 1 + self.random.below(3);
        let prefix: Vec<Value> = (0..count).map(|_| self.schema(depth + 1)).collect();
        json!({"type": "array", "prefixItems": prefix, "items": false, "minItems": count})
    }

    fn combination(&mut self, depth: usize) -> Value {
        match self.random.below(4) {
            0 | 1 => {
                let count = 1 + self.random.below(4);
                json!({"anyOf": (0..count).map(|_| self.schema(depth + 1)).collect::<Vec<_>>()})
            }
            2 => {
                let of = |kind: &str, inner: Value| json!({"type": "object", "properties": {"kind": {"const": kind}, "value": inner}, "required": ["kind", "value"], "additionalProperties": false});
                json!({"oneOf": [of("one", self.schema(depth + 1)), of("two", self.schema(depth + 1))]})
            }
            _ => {
                let (one, two) = (self.schema(depth + 1), self.schema(depth + 1));
                json!({"allOf": [
                    {"type": "object", "properties": {"one": one}, "required": ["one"]},
                    {"type": "object", "properties": {"two": two}, "required": ["two"]},
                ]})
            }
        }
    }
}

/// What came of one schema.
struct Outcome {
    finished: usize,
    compiled: Duration,
}

fn run(seed: u64) -> Outcome {
    let schema = Maker::corpus(seed);
    let start = Instant::now();
    let grammar = compile(&Constraint::JsonSchema(schema.clone()));
    let compiled = start.elapsed();
    let grammar = grammar.unwrap_or_else(|error| panic!("seed {seed}: {error}: {schema}"));
    let mut random = Random(seed);
    let mut finished = 0;
    for _ in 0..TEXTS {
        let Some(text) = draw(&grammar, &mut random, LONGEST) else { continue };
        finished += 1;
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                assert!(is_valid(&schema, &schema, &value), "seed {seed}: {text} is not of {schema}")
            }
            // JSON allows numbers that no type of ours holds.
            Err(error) if error.to_string().contains("out of range") => {}
            Err(error) => panic!("seed {seed}: {error}: {text}"),
        }
    }
    Outcome { finished, compiled }
}

fn run_all(seeds: impl Iterator<Item = u64>) -> (usize, Vec<Duration>) {
    let mut finished = 0;
    let mut times: Vec<Duration> = seeds
        .map(|seed| {
            let outcome = run(seed);
            finished += outcome.finished;
            outcome.compiled
        })
        .collect();
    times.sort();
    assert!(
        finished * 100 > times.len() * TEXTS * 95,
        "only {finished} of {} texts have an end",
        times.len() * TEXTS
    );
    (finished, times)
}

#[test]
fn whole_corpus() {
    let (finished, times) = run_all(0..CORPUS);
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{} schemas, {finished} of {} texts ended, all valid; compiled in {:?} (median), {:?} (99 %), {:?} (slowest)",
        times.len(),
        times.len() * TEXTS,
        at(50),
        at(99),
        at(100)
    );
}

#[test]
fn the_checker_finds_faults() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 3}}, "required": ["a"], "additionalProperties": false});
    assert!(is_valid(&schema, &schema, &json!({"a": 3})));
    for wrong in [json!({}), json!({"a": 4}), json!({"a": "3"}), json!({"a": 1, "b": 2}), json!([])] {
        assert!(!is_valid(&schema, &schema, &wrong), "{wrong}");
    }
}
