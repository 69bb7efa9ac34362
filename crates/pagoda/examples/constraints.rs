//! What constraints cost in throughput on this machine: `cargo run --release --example constraints [MODEL [ROWS [TOKENS]]]`.
//!
//! The same number of tokens in as many requests at a time, free and as JSON of a schema, in turn. MODEL is `embedded`, a shape
//! of random weights such as `qwen2.5-0.5b`, or a number: the milliseconds of each step of a model that does nothing else.

use pagoda::sched::{ExecError, Executor, KvCapacity, KvLayout, RowFault, Sampled, StepInput, StepOutput};
use pagoda::{Constraint, ConstraintParam, Engine, GenerateParams, ServedModel, embedded};
use serde_json::json;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONTEXT: u32 = 1024;

/// A model whose steps last a time and whose tokens are the next ones, or the next that are allowed.
struct Timed {
    step: Duration,
    vocab_size: u32,
    allowed: Vec<u32>,
}

impl Executor for Timed {
    fn capacity(&self) -> KvCapacity {
        let layout = KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            block_size: 16,
            element_bytes: 1,
            scale_bytes: 0,
            blocks: 4096,
        };
        KvCapacity { layout, max_context: CONTEXT, vocab_size: self.vocab_size, window: None }
    }

    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError> {
        std::thread::sleep(self.step);
        for row in &input.rows {
            let Some(request) = &row.sampling else { continue };
            let last = input.tokens[row.tokens.end as usize - 1];
            let mut token = Ok((last + 7919) % self.vocab_size);
            if let Some(constraint) = &request.params.constraint {
                token = match constraint.allowed(row.sample, request.generated, &mut self.allowed) {
                    Ok(()) => (0..self.vocab_size)
                        .map(|step| (last + 7919 + step) % self.vocab_size)
                        .find(|id| {
                            self.allowed.get(*id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
                        })
                        .ok_or(RowFault::Constraint),
                    Err(_) => Err(RowFault::Constraint),
                };
                if let Ok(token) = token {
                    constraint.chosen(row.sample, request.generated, token);
                }
            }
            output.samples.push(Sampled { token, logprob: 0.0, top: 0..0 });
        }
        Ok(())
    }
}

fn engine(model: &str, rows: u32) -> Result<Engine, Box<dyn Error>> {
    let mut builder = Engine::builder().max_model_len(CONTEXT).max_num_seqs(rows);
    if let Ok(millis) = model.parse::<f64>() {
        let tokenizer = Arc::new(embedded::tokenizer()?);
        let step = Duration::from_secs_f64(millis / 1e3);
        let timed = Timed { step, vocab_size: tokenizer.vocab_size(), allowed: Vec::new() };
        let served = ServedModel::new("timed", tokenizer, CONTEXT);
        return Ok(builder.build_with(Arc::new(served), timed)?);
    }
    if model != "embedded" {
        builder = builder.random(model.parse()?, 1);
    }
    Ok(builder.build()?)
}

/// JSON of which there is always more.
fn schema() -> Constraint {
    let item = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 30},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "colour": {"enum": ["red", "green", "blue"]},
        },
        "required": ["name", "age", "colour"],
    });
    Constraint::JsonSchema(json!({"type": "array", "items": item, "minItems": 1000}))
}

/// Tokens per second of `rows` requests at a time.
async fn run(engine: &Engine, rows: u32, tokens: u32, constrained: bool) -> Result<f64, Box<dyn Error>> {
    let constraint = constrained.then(|| ConstraintParam { place: "constraint", constraint: schema() });
    let begun = Instant::now();
    let sessions: Vec<_> = (0..rows)
        .map(|row| {
            let params = GenerateParams {
                max_tokens: Some(tokens),
                ignore_eos: !constrained,
                temperature: Some(1.0),
                seed: Some(u64::from(row)),
                constraint: constraint.clone(),
                ..GenerateParams::default()
            };
            engine.generate(vec![3 + row, 5, 7], params)
        })
        .collect::<Result<_, _>>()?;
    let mut generated = 0;
    for session in sessions {
        generated += session.result().await?.tokens_generated;
    }
    Ok(f64::from(generated) / begun.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "embedded".to_owned());
    let rows = arguments.next().map_or(Ok(16), |rows| rows.parse())?;
    let tokens = arguments.next().map_or(Ok(256), |tokens| tokens.parse())?;
    let engine = engine(&model, rows)?;
    // Compiles the schema, and learns what steps cost.
    for constrained in [false, true] {
        run(&engine, rows, tokens.min(32), constrained).await?;
    }
    let mut ratios = Vec::new();
    for round in 0..5 {
        let free = run(&engine, rows, tokens, false).await?;
        let constrained = run(&engine, rows, tokens, true).await?;
        println!("round {round}: {free:.1} tokens/s free, {constrained:.1} constrained");
        ratios.push(constrained / free);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "{model}, {rows} rows: constraints cost {:.1} % (median of {})",
        100.0 * (1.0 - ratios[2]),
        ratios.len()
    );
    Ok(())
}
