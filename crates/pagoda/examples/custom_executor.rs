//! The whole engine (queue, scheduler, blocks, sessions) over a model of your own:
//! `cargo run --release --example custom_executor`.
//!
//! The model here is a Markov chain that learns from a text which byte tends to follow which.

use pagoda::sched::{ExecError, Executor, KvCapacity, KvLayout, Sampled, StepInput, StepOutput};
use pagoda::{Engine, GenerateParams, ServedModel, embedded};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

const BLOCK_SIZE: u32 = 16;
const CONTEXT: u32 = 256;

/// Answers with a token that followed the last one in the text it has seen.
struct Markov {
    followers: HashMap<u32, Vec<u32>>,
    vocab_size: u32,
}

impl Markov {
    fn learn(tokens: &[u32], vocab_size: u32) -> Self {
        let mut followers: HashMap<u32, Vec<u32>> = HashMap::new();
        for pair in tokens.windows(2) {
            followers.entry(pair[0]).or_default().push(pair[1]);
        }
        Self { followers, vocab_size }
    }

    fn next(&self, token: u32, draw: usize) -> u32 {
        self.followers.get(&token).map_or(token, |next| next[draw % next.len()])
    }
}

impl Executor for Markov {
    fn capacity(&self) -> KvCapacity {
        // One byte per token stands for the keys and values that this model does not have.
        let layout = KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            block_size: BLOCK_SIZE,
            element_bytes: 1,
            scale_bytes: 0,
            blocks: 65,
        };
        KvCapacity { layout, max_context: CONTEXT, vocab_size: self.vocab_size, window: None }
    }

    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError> {
        for row in &input.rows {
            let Some(sampling) = &row.sampling else { continue };
            let last = input.tokens[row.tokens.end as usize - 1];
            for sample in 0..sampling.count {
                // Different for each sample and position, the same at every run.
                let draw =
                    (row.context as usize).wrapping_mul(7919) + usize::from(row.sample.0 + sample) * 104_729;
                output.samples.push(Sampled { token: Ok(self.next(last, draw)), logprob: 0.0, top: 0..0 });
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let tokenizer = embedded::tokenizer()?;
    let text = include_str!("../../../models/folktale/training/held_out.txt");
    let chain = Markov::learn(&tokenizer.encode(text, pagoda::text::Special::Skip)?, tokenizer.vocab_size());
    let model = Arc::new(ServedModel::new("markov", Arc::new(tokenizer), CONTEXT));
    let engine = Engine::builder().build_with(model, chain)?;
    let params = GenerateParams { max_tokens: Some(40), n: Some(3), ..GenerateParams::default() };
    for session in engine.generate_samples("Once upon a time", params)? {
        println!("Once upon a time{}\n", session.result().await?.text);
    }
    Ok(())
}
